"""The update audit names the reason when a part does not move; each reason is planted here."""

import runpy
import sys
import warnings

import pytest
import torch
from toy import ToyModel, ToyRows, toy_model, toy_trainer
from transformers import TrainerCallback

from hf_mmtab.training.audit import answers, main
from hf_mmtab.training.audit.compare import compare_checkpoints, compare_states
from hf_mmtab.training.audit.part_samples import stuck_share
from hf_mmtab.training.audit.report import _in_lines, frozen_bands
from hf_mmtab.training.audit.update_audit import UpdateAudit, read_records, truncate_records
from hf_mmtab.training.freezing import FreezePlan
from hf_mmtab.training.parts import partition_parameters


def trained(folder, model=None, **changes):
    trainer = toy_trainer(folder, model, **changes)
    trainer.train()
    return trainer


class Ask(TrainerCallback):
    """Asks the audit about a part at one step (before it) or inside its accumulation window."""

    def __init__(self, trainer, part, step=None, micro_batch=None):
        self.trainer, self.part, self.step, self.micro_batch = trainer, part, step, micro_batch
        self.answer = None
        trainer.add_callback(self)

    def on_step_begin(self, args, state, control, **kwargs):
        if self.step == state.global_step:
            self.answer = self.trainer.audit.explain(self.part)

    def on_substep_end(self, args, state, control, **kwargs):
        if self.micro_batch == self.trainer.audit.position.micro_batches and self.answer is None:
            self.answer = self.trainer.audit.explain(self.part)


def test_part_that_trains_says_since_when_and_how_far(tmp_path):
    answer = trained(tmp_path, freeze={"text_encoder": "1 epoch"}).audit.explain("text_encoder")
    assert answer.startswith("text_encoder has trained since step 8 and has moved by ")
    assert "of its norm since the start; at the last record it moved by" in answer


def test_reason_frozen_until(tmp_path):
    trainer = toy_trainer(tmp_path, freeze={"text_encoder": "2 epochs"})
    ask = Ask(trainer, "text_encoder", step=10)
    trainer.train()
    assert ask.answer == ("text_encoder has not moved in 10 optimizer steps: frozen until step 16 (2 epochs).")


def test_reason_frozen_forever(tmp_path):
    answer = trained(tmp_path, freeze={"text_encoder": "forever"}).audit.explain("text_encoder")
    assert answer == "text_encoder has not moved in 24 optimizer steps: frozen forever."


def test_reason_frozen_outside_of_the_schedule(tmp_path):
    model = toy_model()
    model.pooler.requires_grad_(False)
    answer = trained(tmp_path, model).audit.explain("pooler")
    assert "requires_grad is False, and not by the freeze schedule" in answer


def test_reason_inside_an_accumulation_window(tmp_path):
    trainer = toy_trainer(tmp_path, gradient_accumulation_steps=4)
    ask = Ask(trainer, "classifier", micro_batch=3)
    trainer.train()
    assert ask.answer == (
        "classifier has not moved in 0 optimizer steps: inside an accumulation window: batch 3 of 4, weights "
        "move "
        "once per 4 batches."
    )


def test_reason_learning_rate_still_0(tmp_path):
    trainer = toy_trainer(tmp_path, lr_scheduler_type="linear", warmup_steps=10)
    ask = Ask(trainer, "classifier", step=1)
    trainer.train()
    assert ask.answer == ("classifier has not moved in 1 optimizer steps: the learning rate is still 0 (warm-up).")


def test_reason_not_in_the_optimizer(tmp_path):
    model = toy_model()
    options = {"optimizers": (torch.optim.SGD(model.encoder.parameters(), lr=0.1), None)}
    answer = trained(tmp_path, model, trainer_options=options).audit.explain("classifier")
    assert answer == ("classifier has not moved in 24 optimizer steps: none of its parameters are in the optimizer.")


class CutGraph(ToyModel):
    def get_image_features(self, pixel_values):
        return super().get_image_features(pixel_values).detach()


def test_reason_gradient_none(tmp_path):
    torch.manual_seed(0)
    answer = trained(tmp_path, CutGraph(toy_model().config)).audit.explain("image_encoder")
    assert "its gradient is None: no path leads from the loss to it (cut graph: detach or no_grad)" in answer


class ZeroGradient(ToyModel):
    def get_image_features(self, pixel_values):
        return super().get_image_features(pixel_values) * 0.0


def test_reason_gradient_exactly_zero(tmp_path):
    torch.manual_seed(0)
    answer = trained(tmp_path, ZeroGradient(toy_model().config), optim="sgd").audit.explain("image_encoder")
    assert "image_encoder has not moved in 24 optimizer steps: its gradient is exactly zero." in answer


def test_reason_change_below_float_resolution(tmp_path):
    answer = trained(
        tmp_path,
        toy_model().bfloat16(),
        learning_rate=1e-9,
        trainer_options={"train_dataset": HalfRows(), "eval_dataset": None},
    ).audit.explain("embeddings")
    assert "the change is below the resolution of bfloat16: learning rate 1.0e-09" in answer


class HalfRows(ToyRows):
    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "pixel_values": row["pixel_values"].bfloat16()}


def test_weights_that_cannot_move_are_counted_although_some_do(tmp_path):
    model = toy_model().bfloat16()
    model.pooler.bias.data.zero_()  # from 0, every step is above the resolution
    options = {"train_dataset": HalfRows(), "eval_dataset": None}
    audit = trained(tmp_path, model, learning_rate=1e-7, trainer_options=options).audit
    status = audit.position.statuses["pooler"]
    assert status.change_since_start > 0 and 0.5 < status.stuck_share < 1
    note = "of the weights cannot move at this learning rate: the change is below the resolution of bfloat16"
    assert note in audit.explain("pooler") and note in audit.table()


def test_weights_that_all_move_are_not_said_to_be_stuck(tmp_path):
    audit = trained(tmp_path, num_train_epochs=1).audit
    assert "cannot move" not in audit.table()
    assert all(status.stuck_share < 0.01 for status in audit.position.statuses.values())


def test_the_end_of_a_schedule_is_no_fault(tmp_path, monkeypatch):
    audit = trained(tmp_path, learning_rate=1e-6, lr_scheduler_type="cosine").audit
    assert audit.position.statuses["image_encoder"].learning_rate < 1e-8
    told = audit.table() + audit.explain("image_encoder")
    assert "cannot move" not in told and "resolution" not in told
    monkeypatch.setattr(answers, "NEARLY_ENDED", 0.0)
    assert "cannot move" in audit.table()


def test_share_of_stuck_weights_counts_those_with_a_gradient():
    before, after = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.5, 3.0, 4.0])
    assert stuck_share(before, after, torch.tensor([True, True, True, False])) == pytest.approx(2 / 3)
    assert stuck_share(before, after, torch.zeros(4, dtype=torch.bool)) == 0.0


def test_part_that_is_partly_in_the_optimizer_says_so(tmp_path):
    model = toy_model()
    some = [*model.classifier.parameters(), *model.encoder[0].parameters()]
    options = {"optimizers": (torch.optim.SGD(some, lr=0.1), None)}
    audit = trained(tmp_path, model, trainer_options=options, num_train_epochs=1).audit
    assert "only 33.3% of its trainable weights are in the optimizer" in audit.explain("text_encoder")
    assert "only 33.3% of its trainable weights are in the optimizer" in audit.table()
    assert "in the optimizer" not in audit.explain("classifier")


def test_zero_gradient_with_weight_decay_is_not_training(tmp_path):
    torch.manual_seed(0)
    trainer = trained(tmp_path, ZeroGradient(toy_model().config), weight_decay=0.1, num_train_epochs=1)
    assert trainer.audit.position.statuses["image_encoder"].change_since_start > 0
    answer = trainer.audit.explain("image_encoder")
    assert answer.endswith("; its gradient is exactly zero; only weight decay moves it.")


def test_a_run_that_is_all_warm_up_says_so(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="hf_mmtab"):
        trainer = trained(tmp_path, max_steps=1, warmup_steps=1, lr_scheduler_type="linear")
    assert trainer.audit.explain("classifier") == (
        "classifier has not moved in 1 optimizer steps: the learning rate was 0 at each of its steps, all of them "
        "warm-up: train longer."
    )
    assert "This run trained nothing. text_encoder has not moved in 1 optimizer steps" in caplog.text


def test_a_part_that_only_the_best_model_takes_back_is_not_said_never_to_have_trained(tmp_path):
    class FirstIsBest(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs):
            metrics["eval_rank"] = state.epoch

    changes = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    changes |= {"metric_for_best_model": "rank", "greater_is_better": False}
    trainer = toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"}, **changes)
    trainer.add_callback(FirstIsBest())
    trainer.train()
    assert trainer.state.best_global_step == 8
    assert trainer.audit.explain("text_encoder") == (
        "text_encoder is as it was at the start: it trained from step 8 on, but the best model, which was kept, is "
        "older."
    )
    row = next(line for line in trainer.audit.table().splitlines() if line.startswith("text_encoder"))
    assert "step 8" in row and "never" not in row


def test_learning_rate_of_0_is_told_from_a_schedule_at_its_end(tmp_path):
    answer = trained(tmp_path, learning_rate=0.0, num_train_epochs=1).audit.explain("classifier")
    assert answer == "classifier has not moved in 8 optimizer steps: its learning rate is set to 0."


class Break(TrainerCallback):
    """Fills one bias with a value before the optimizer step 3."""

    def __init__(self, value):
        self.value = value

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            model.pooler.bias.data.fill_(self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), pytest.param(float("-inf"), marks=pytest.mark.slow)])
@pytest.mark.parametrize("interval", [1, 100])
def test_the_part_that_went_non_finite_first_is_named_at_its_step(tmp_path, monkeypatch, value, interval):
    warned = []
    monkeypatch.setattr("hf_mmtab.training.audit.update_audit.logger.warning", warned.append)
    settings = {"audit_steps": interval, "audit_plot": interval == 1, "num_train_epochs": 1, "logging_steps": 1}
    trainer = toy_trainer(tmp_path, **settings, logging_strategy="steps")
    trainer.add_callback(Break(value))
    trainer.train()
    if value == value:  # tanh makes infinity finite again, so the loss says nothing: the next record does
        assert "weights of pooler are NaN or infinite" in warned[0]
    else:
        assert warned[0].startswith("Step 3: weights of pooler are NaN or infinite. Resume from an earlier checkpoint")
        assert warned[1].startswith("Step 4: weights of text_encoder, image_encoder, ")
        answer = "its weights hold NaN or infinite values since step 3"
        assert trainer.audit.explain("pooler").endswith(f"{answer}.") and answer in trainer.audit.table()
    assert interval != 1 or (tmp_path / "update_audit.png").stat().st_size > 10_000


def test_gradients_that_are_not_finite_are_named(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr("hf_mmtab.training.audit.update_audit.logger.warning", warned.append)
    rows = ToyRows(8)
    rows.pictures[:] = float("inf")
    options = {"train_dataset": rows}
    toy_trainer(tmp_path, trainer_options=options, num_train_epochs=1, audit_steps=100).train()
    assert warned[0].startswith("Step 0: the loss and gradients of ") and "image_encoder" in warned[0]


def test_a_plot_that_fails_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("hf_mmtab.training.callbacks.plot_audit", fail)
    trained(tmp_path, audit_plot=True, num_train_epochs=1)
    assert (tmp_path / "update_audit.txt").is_file() and not (tmp_path / "update_audit.png").exists()
    assert "update_audit.png was not drawn" in caplog.text and "no fonts" in caplog.text


def test_part_that_froze_again_says_since_when(tmp_path):
    audit = trained(tmp_path, freeze={"text_encoder": ["1 epoch", "from 2 epochs"]}).audit
    answer = audit.explain("text_encoder")
    assert answer.startswith("text_encoder trained from step 8 on and has moved by")
    assert answer.endswith("; it does not move now: frozen again since step 16 (2 epochs).")
    assert "frozen again since step 16" in audit.table() and "forever" not in audit.table()


def test_what_the_user_froze_in_a_scheduled_part_is_not_laid_on_the_schedule(tmp_path):
    model = toy_model()
    model.encoder[0].requires_grad_(False)
    audit = trained(tmp_path, model, freeze={"text_encoder": "1 epoch"}).audit
    assert "requires_grad is False, and not by the freeze schedule" in audit.explain("encoder.0")


def test_any_module_path_or_pattern_is_explained(tmp_path):
    audit = trained(tmp_path, freeze={"text_encoder": "2 epochs", "encoder.0": "forever"}).audit
    assert audit.explain("encoder.0") == "encoder.0 has not moved in 24 optimizer steps: frozen forever."
    piece = audit.explain("encoder.2.dense")
    assert piece.startswith("encoder.2.dense has moved by ")
    assert " as a piece of text_encoder. text_encoder has trained since step 16" in piece
    both = audit.explain("*er")  # pooler, classifier and the encoder
    assert all(f"{part} has trained since step" in both for part in ("pooler", "classifier", "text_encoder"))


def test_reason_schedule_of_the_learning_rate_at_its_end(tmp_path):
    model = toy_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    short = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 4))
    trainer = trained(
        tmp_path, model, freeze={"text_encoder": "1 epoch"}, trainer_options={"optimizers": (optimizer, short)}
    )
    assert trainer.audit.explain("text_encoder") == (
        "text_encoder has not moved in 24 optimizer steps: the learning rate is 0 since step 4: its schedule "
        "is at "
        "its end."
    )
    assert "it does not move now: the learning rate is 0 since step 4" in trainer.audit.explain("classifier")


def test_reason_run_ended_before_thawing(tmp_path):
    answer = trained(tmp_path, freeze={"text_encoder": "5 epochs"}).audit.explain("text_encoder")
    assert answer == (
        "text_encoder has not moved in 24 optimizer steps: the run ended at step 24, before its thaw at step "
        "40 "
        "(5 epochs)."
    )


def test_reason_stopped_early_before_thawing(tmp_path):
    class Worse(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 12
            return control

    trainer = toy_trainer(tmp_path, freeze={"text_encoder": "2 epochs"})
    trainer.add_callback(Worse())
    trainer.train()
    assert "the run ended at step 12, before its thaw at step 16" in trainer.audit.explain("text_encoder")


def test_reason_weights_compared_by_reference():
    model = toy_model()
    kept = model.state_dict()  # not a copy
    differences = compare_states(kept, model.state_dict(), {"text_encoder": ["encoder"]})
    assert differences["text_encoder"].note() == (
        "the same tensor was saved twice: 12 share memory, clone() before training"
    )


def test_change_that_allclose_misses_is_named(tmp_path):
    answer = trained(tmp_path, learning_rate=1e-7, num_train_epochs=1).audit.explain("classifier")
    assert "(less than torch.allclose notices: its default tolerance is 1e-5)" in answer


def test_no_step_yet(tmp_path):
    trainer = toy_trainer(tmp_path)
    ask = Ask(trainer, "classifier", step=0)
    trainer.train()
    assert ask.answer == "classifier: no optimizer step has been made yet."


def test_unknown_part_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown part 'bert'\. The audit knows: text_encoder, image_encoder"):
        trained(tmp_path, num_train_epochs=1).audit.explain("bert")


def test_statistics_are_counted_apart_from_weights(tmp_path):
    trainer = trained(tmp_path, freeze={"image_encoder": "forever"}, frozen_mode="train")
    status = trainer.audit.position.statuses["image_encoder"]
    assert status.change_since_start == 0 and status.statistics_since_start > 0


def test_records_follow_sampling_first_step_and_thaw(tmp_path):
    trained(tmp_path, freeze={"text_encoder": "1 epoch"}, audit_steps=10)
    records = read_records(tmp_path / "update_audit.jsonl")
    assert sorted({record["step"] for record in records}) == [1, 2, 9, 11, 21, 24]
    first = next(record for record in records if record["part"] == "text_encoder")
    assert first["frozen"] and first["in_optimizer"] == 1.0 and first["gradient_norm"] is None
    assert first["reason"] == "frozen until step 8 (1 epoch)"


def test_gradient_norms_and_changes_equal_a_closed_form():
    layer = torch.nn.Linear(3, 1, bias=False)
    layer.weight.data.fill_(2.0)
    model = torch.nn.ModuleDict({"head": layer})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    plan = FreezePlan(model, [], "eval", 1, 10)
    audit = UpdateAudit(model, partition_parameters(model, {}), plan, optimizer, path=None)
    layer.weight.grad = torch.tensor([[2.0, 1.0, 2.0]])
    audit.before_step(0)
    optimizer.step()
    audit.after_step(0, epoch=1.0)
    status = audit.position.statuses["head"]
    assert status.gradient_norm == pytest.approx(3.0)
    assert status.learning_rate == 0.5
    assert status.change == pytest.approx(1.5 / 12**0.5)


def test_cut_off_last_record_is_dropped_on_resume(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    truncate_records(path, 2)
    assert read_records(path) == [{"step": 1}, {"step": 2}]


def test_frozen_bands_follow_the_boundaries_between_records():
    records = [{"step": step, "frozen": step <= 8 or step > 16} for step in (1, 5, 9, 13, 17, 21)]
    assert frozen_bands(records, [8, 16], 24) == [(0, 8), (16, 24)]


def test_table_and_plot_are_written(tmp_path):
    trainer = trained(tmp_path, audit_plot=True, freeze={"text_encoder": "1 epoch", "image_encoder": "forever"})
    table = (tmp_path / "update_audit.txt").read_text()
    assert table.strip() == trainer.audit.table()
    assert [line.split()[0] for line in table.splitlines()[2:4]] == ["text_encoder", "image_encoder"]
    assert (tmp_path / "update_audit.png").stat().st_size > 10_000


# ---- The standalone check ----


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trained(
        folder,
        freeze={"text_encoder": "2 epochs", "image_encoder": "forever"},
        frozen_mode="train",
        save_strategy="epoch",
    )
    return folder


def test_comparison_names_what_moved_between_two_checkpoints(run_folder):
    text = compare_checkpoints(run_folder / "checkpoint-8", run_folder / "checkpoint-16")
    lines = text.splitlines()
    assert lines[0] == ("Moved: classifier, embeddings, pooler, projection. Unchanged: text_encoder, image_encoder.")
    rows = {line.split("  ")[0]: line for line in lines}
    assert rows["text_encoder"].endswith("unchanged, bit for bit")
    assert rows["image_encoder (statistics)"].endswith("changed")
    later = compare_checkpoints(run_folder / "checkpoint-16", run_folder / "checkpoint-24")
    assert "text_encoder" in later.splitlines()[0].split("Unchanged")[0]


def test_comparison_without_a_schedule_groups_by_name(run_folder, tmp_path):
    toy_model().save_pretrained(tmp_path / "start")
    weights = run_folder / "checkpoint-24" / "model.safetensors"
    text = compare_checkpoints(tmp_path / "start" / "model.safetensors", weights, depth=1)
    assert "\nclassifier " in text


def test_comparison_of_a_file_with_itself_says_so(run_folder):
    checkpoint = run_folder / "checkpoint-8"
    assert compare_checkpoints(checkpoint, checkpoint).startswith("Both paths lead to the same file")


def test_comparison_reads_torch_checkpoints(run_folder, tmp_path):
    torch.save(toy_model().state_dict(), tmp_path / "pytorch_model.bin")
    assert "Moved:" in compare_checkpoints(tmp_path, run_folder / "checkpoint-8")


def test_comparison_of_other_models_is_an_error(run_folder, tmp_path):
    torch.save({"other.weight": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no weight in common"):
        compare_checkpoints(tmp_path, run_folder / "checkpoint-8")


def test_missing_checkpoint_is_an_error_without_a_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path), str(tmp_path)])
    assert exit_info.value.code == 2
    assert "error: No model.safetensors or pytorch_model.bin" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_corrupt_checkpoint_is_an_error_without_a_traceback(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"\x10\x00\x00 cut off")
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path), str(tmp_path)])
    assert exit_info.value.code == 2
    assert f"{name} cannot be read as weights: it is cut off, or not a checkpoint" in capsys.readouterr().err


def test_comparison_runs_as_a_module(run_folder, monkeypatch, capfd):
    paths = [str(run_folder / "checkpoint-8"), str(run_folder / "checkpoint-16")]
    monkeypatch.setattr(sys, "argv", ["audit", *paths])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of a module that its package imports
        runpy.run_module("hf_mmtab.training.audit", run_name="__main__", alter_sys=True)
    out, err = capfd.readouterr()
    assert out.startswith("Moved: classifier") and not err.strip()


def test_layers_that_thaw_one_by_one_are_told_apart(tmp_path):
    trainer = trained(tmp_path, gradual_unfreezing={"text_encoder": "2 epochs"})
    layers = [part for part in trainer.audit.parts if part.startswith("text_encoder.")]
    assert len(layers) > 1
    assert "has moved" in trainer.audit.explain(layers[-1])  # the last one thaws first
    table = trainer.audit.table()
    assert all(layer in table for layer in layers)
    assert "has moved" in trainer.audit.explain("text_encoder")


def test_long_names_of_parts_are_broken_into_lines_that_fit_beside_a_panel():
    assert _in_lines("classifier") == "classifier"
    lines = _in_lines("model.text_model.embeddings.position_embeddings").split("\n")
    assert lines == ["model.text_model.", "embeddings.", "position_", "embeddings"]
