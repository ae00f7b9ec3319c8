"""The schedule, the plan, and what frozen means in a run."""

import json

import pytest
import torch
from toy import ToyRows, largest_difference, moved, toy_model, toy_trainer, weights
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

from hf_mmtab.training import FreezeSchedule
from hf_mmtab.training.moments import Moment, parse_windows
from hf_mmtab.training.parts import find_part, part_layers, partition_parameters


def tiny_bert(layers=3):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32
    )
    return BertForSequenceClassification(config)


@pytest.mark.parametrize(
    "text, step",
    [
        ("3 epochs", 30),
        ("1 epoch", 10),
        ("0.25 epochs", 3),
        ("500 steps", 500),
        (0.5, 100),
        ("0.5", 100),
        ("50%", 100),
        ("forever", float("inf")),
        (True, float("inf")),
        (0, 0),
        (False, 0),
    ],
)
def test_moment_is_read_as_steps(text, step):
    assert Moment.parse(text).to_step(steps_per_epoch=10, total_steps=200) == step


@pytest.mark.parametrize("text", ["3", 3, "soon", "120%", "-1 epochs", None])
def test_unclear_moment_is_an_error(text):
    with pytest.raises(ValueError, match="Expected a moment such as '3 epochs'"):
        Moment.parse(text)


def test_windows_can_freeze_again():
    windows = parse_windows(["1 epoch", "2 epochs to 30 steps", "from 80%"])
    steps = [(start.to_step(10, 100), end.to_step(10, 100)) for start, end in windows]
    assert steps == [(0, 10), (20, 30), (80, float("inf"))]


def test_unknown_part_names_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown part 'text'.*image_encoder, text_encoder.*classifier"):
        FreezeSchedule({"text": "1 epoch"}).plan(toy_model(), 8, 24)


def test_unknown_layers_name_those_there_are():
    with pytest.raises(ValueError, match=r"layers: bert\.encoder\.layer\.N with N from 0 to 2 \(for example 'bert"):
        find_part(tiny_bert(), "bert.encoder.layer.[7-9]")


def test_part_can_be_a_pattern_of_module_paths():
    assert find_part(tiny_bert(), "bert.encoder.layer.[01]") == ("bert.encoder.layer.0", "bert.encoder.layer.1")
    assert find_part(tiny_bert(), "bert.enc*") == ("bert.encoder",)


def test_layers_of_a_part_take_embedder_below_and_pooler_above():
    layers = part_layers(tiny_bert(2), ("bert",))
    assert layers[0][0] == ("bert.encoder.layer.0", "bert.embeddings")
    assert layers[1][0] == ("bert.encoder.layer.1", "bert.pooler")


def test_every_parameter_belongs_to_one_part():
    model = tiny_bert()
    partition = partition_parameters(model, {"text_encoder": ("bert.encoder.layer",)})
    assert list(partition) == ["text_encoder", "bert.embeddings", "bert.pooler", "classifier"]
    owned = [name for names in partition.values() for name in names]
    assert sorted(owned) == sorted(name for name, _ in model.named_parameters())


def test_schedule_that_never_lets_anything_train_is_an_error():
    with pytest.raises(ValueError, match="lets nothing train in the whole run"):
        FreezeSchedule({"*": "forever"}).plan(toy_model(), 8, 24)
    with pytest.raises(ValueError, match="lets nothing train from step 0 to 8"):
        FreezeSchedule({"*": "1 epoch"}).plan(toy_model(), 8, 24)


def test_schedule_that_outlives_the_run_warns():
    plan = FreezeSchedule({"text_encoder": "5 epochs"}).plan(toy_model(), 8, 24)
    assert plan.warnings() == [
        "text_encoder is frozen until step 40 (5 epochs), but the run ends after step 24: it will never "
        "train. "
        "Train longer, thaw earlier or write 'forever'."
    ]


def test_schedule_that_outlives_the_patience_warns():
    plan = FreezeSchedule({"text_encoder": "5 epochs"}).plan(toy_model(), 8, 80)
    (message,) = plan.warnings(steps_per_evaluation=8, patience=3)
    assert "early stopping with patience 3 may end the run at step 32, before it trains" in message
    assert plan.warnings(steps_per_evaluation=8, patience=5) == []


def test_forever_does_not_warn():
    assert FreezeSchedule({"text_encoder": "forever"}).plan(toy_model(), 8, 24).warnings(8, 1) == []


def test_timeline_shows_part_by_epoch():
    plan = FreezeSchedule({"image_encoder": "1 epoch", "text_encoder": "2 epochs"}).plan(toy_model(), 8, 24)
    lines = plan.timeline(width=12).splitlines()
    assert lines[1] == "epoch            1   2   3"
    assert lines[2] == "image_encoder    ░░░░████████  thaws at step 8 (1 epoch)"
    assert lines[3] == "text_encoder     ░░░░░░░░████  thaws at step 16 (2 epochs)"
    assert lines[4] == "everything else  ████████████  trains: embeddings, projection, pooler, classifier"


def test_gradual_unfreezing_goes_from_the_top_down():
    schedule = FreezeSchedule({"text_encoder": "1 epoch"}, {"text_encoder": "1 epoch"})
    plan = schedule.plan(toy_model(), 8, 48)
    assert [(unit.name, unit.next_thaw(0)) for unit in plan.units] == [
        ("text_encoder.0", 24),
        ("text_encoder.1", 16),
        ("text_encoder.2", 8),
    ]


@pytest.mark.parametrize(
    "value", ["4 epochs to 2 epochs", "2 epochs to 2 epochs", "from forever", ["1 epoch", "30 steps to 20 steps"]]
)
def test_stretch_that_freezes_nothing_is_an_error(value):
    with pytest.raises(ValueError, match="freezes nothing: a stretch must end after it begins"):
        FreezeSchedule({"text_encoder": value})


def test_empty_list_of_stretches_is_an_error():
    with pytest.raises(ValueError, match="An empty list freezes nothing"):
        FreezeSchedule({"text_encoder": []})


def test_stretch_that_the_length_of_the_run_reverses_is_an_error():
    schedule = FreezeSchedule({"text_encoder": "2 epochs to 10 steps"})
    with pytest.raises(ValueError, match="In this run it goes from step 16 to step 10"):
        schedule.plan(toy_model(), 8, 24)


def test_stretch_after_the_end_of_the_run_warns():
    plan = FreezeSchedule({"text_encoder": "from 5 epochs"}).plan(toy_model(), 8, 24)
    assert plan.warnings() == [
        "text_encoder is to be frozen from step 40 (5 epochs) on, but the run ends after step 24: that never happens."
    ]


def test_timeline_of_a_gradual_thaw_names_each_thaw_once():
    schedule = FreezeSchedule({"text_encoder": "1 epoch"}, {"text_encoder": "1 epoch"})
    lines = schedule.plan(toy_model(), 8, 48).timeline().splitlines()
    assert [line.split("  ")[-1] for line in lines[2:5]] == [
        "thaws at step 24 (3 epochs)",
        "thaws at step 16 (2 epochs)",
        "thaws at step 8 (1 epoch)",
    ]


class Watch(TrainerCallback):
    """Keeps the weights after each optimizer step."""

    def __init__(self, model):
        self.model, self.history = model, [weights(model)]

    def on_step_end(self, args, state, control, **kwargs):
        self.history.append(weights(self.model))


def run_watched(folder, **changes):
    trainer = toy_trainer(folder, **changes)
    watch = Watch(trainer.model)
    trainer.add_callback(watch)
    trainer.train()
    return trainer, watch.history


@pytest.mark.parametrize("accumulation", [1, 2])
def test_part_is_still_until_its_thaw_and_moves_after(tmp_path, accumulation):
    rows = 32 * accumulation
    _, history = run_watched(
        tmp_path,
        rows=rows,
        gradient_accumulation_steps=accumulation,
        weight_decay=0.1,
        freeze={"image_encoder": "1 epoch", "text_encoder": "2 epochs"},
    )
    assert moved(history[0], history[8], "image_model") == 0.0  # statistics too
    assert moved(history[8], history[9], "image_model") > 0
    assert moved(history[0], history[16], "encoder") == 0.0
    assert moved(history[16], history[17], "encoder") > 0
    assert moved(history[0], history[1], "projection") > 0  # the gradient passes through the frozen layers


def test_frozen_again_means_still_again_without_momentum_or_decay(tmp_path):
    _, history = run_watched(tmp_path, weight_decay=0.1, freeze={"text_encoder": ["1 epoch", "from 2 epochs"]})
    assert moved(history[0], history[8], "encoder") == 0.0
    assert moved(history[8], history[16], "encoder") > 0
    assert moved(history[16], history[24], "encoder") == 0.0


def test_frozen_mode_train_lets_statistics_drift_but_not_weights(tmp_path):
    _, history = run_watched(tmp_path, freeze={"image_encoder": "forever"}, frozen_mode="train")
    names = [name for name in history[0] if name.startswith("image_model")]
    for name in names:
        difference = (history[-1][name].double() - history[0][name].double()).abs().max().item()
        assert (difference > 0) == ("running" in name or "num_batches" in name), name


def test_dropout_of_a_frozen_part_is_off_and_of_the_others_on(tmp_path):
    trainer = toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"})
    seen = []

    class Modes(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            seen.append((model.encoder[0].dropout.training, model.image_model.training))

    trainer.add_callback(Modes())
    trainer.train()
    assert seen[:8] == [(False, True)] * 8
    assert seen[8:] == [(True, True)] * 16


def test_part_frozen_by_the_user_before_the_trainer_still_thaws(tmp_path):
    model = toy_model()
    model.encoder.requires_grad_(False)
    before = weights(model)
    toy_trainer(tmp_path, model, freeze={"text_encoder": "1 epoch"}).train()
    assert moved(before, weights(model), "encoder") > 0


def test_unscheduled_parameter_that_the_user_froze_stays_frozen(tmp_path):
    model = toy_model()
    model.embeddings.requires_grad_(False)
    before = weights(model)
    toy_trainer(tmp_path, model, freeze={"text_encoder": "1 epoch"}).train()
    assert moved(before, weights(model), "embeddings") == 0.0


def test_what_the_user_froze_inside_a_scheduled_part_stays_frozen(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_mmtab.training.callbacks.logger.warning", said.append)
    model = toy_model()
    model.encoder[0].requires_grad_(False)
    before = weights(model)
    trainer = toy_trainer(tmp_path, model, freeze={"text_encoder": "1 epoch"}, weight_decay=0.1)
    trainer.train()
    assert moved(before, weights(model), "encoder.0") == 0.0
    assert moved(before, weights(model), "encoder.1") > 0
    assert "4 parameters of scheduled parts did not require gradients before training, e.g. encoder.0" in said[0]
    # The second run reads what the user wanted, not what the first run's schedule left behind.
    toy_trainer(tmp_path, model, freeze={"text_encoder": "1 epoch"}).train()
    assert moved(before, weights(model), "encoder.0") == 0.0


def test_second_run_thaws_what_the_schedule_of_the_first_left_frozen(tmp_path):
    model = toy_model()
    first = toy_trainer(tmp_path, model, freeze={"encoder.0": "forever", "encoder.1": "forever"})
    first.train()
    before = weights(model)
    toy_trainer(tmp_path, model, freeze={"text_encoder": "1 epoch"}).train()
    assert moved(before, weights(model), "encoder.0") > 0


def test_schedule_that_only_lets_train_what_the_user_froze_is_an_error():
    model = toy_model()
    model.requires_grad_(False)
    model.encoder[1:].requires_grad_(True)
    with pytest.raises(ValueError, match="lets nothing train from step 0 to 8"):
        FreezeSchedule({"text_encoder": "1 epoch"}).plan(model, 8, 24)


def test_part_that_never_trains_is_not_in_the_optimizer(tmp_path):
    trainer = toy_trainer(tmp_path, freeze={"image_encoder": "forever"})
    trainer.train()
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in trainer.model.image_model.parameters()}


def test_gradual_unfreezing_moves_layers_one_by_one(tmp_path):
    _, history = run_watched(tmp_path, gradual_unfreezing={"text_encoder": "1 epoch"})
    for layer, thaw in ((2, 0), (1, 8), (0, 16)):
        assert moved(history[0], history[thaw], f"encoder.{layer}") == 0.0
        assert moved(history[thaw], history[thaw + 1], f"encoder.{layer}") > 0


def test_pattern_freezes_any_model_of_transformers(tmp_path):
    model = tiny_bert()

    class Words(ToyRows):
        def __getitem__(self, index):
            return {"input_ids": self.words[index], "labels": self.labels[index] % 2}

    before = weights(model)
    trainer = toy_trainer(
        tmp_path,
        model,
        trainer_options={"train_dataset": Words(16), "eval_dataset": None},
        freeze={"bert.encoder.layer.[01]": "forever", "bert.embeddings": "1 epoch"},
    )
    trainer.train()
    after = weights(model)
    assert moved(before, after, "bert.encoder.layer.0") == moved(before, after, "bert.encoder.layer.1") == 0.0
    assert moved(before, after, "bert.encoder.layer.2") > 0 and moved(before, after, "bert.embeddings") > 0


def test_freezing_equals_a_plain_loop_that_freezes_by_hand(tmp_path):
    trainer = toy_trainer(
        tmp_path, toy_model(dropout=0.0), freeze={"text_encoder": "1 epoch", "image_encoder": "2 epochs"}
    )
    batches, step_of = [], trainer.training_step

    def keep_batch(model, inputs, num_items_in_batch=None):
        batches.append(dict(inputs))
        return step_of(model, inputs, num_items_in_batch)

    trainer.training_step = keep_batch
    trainer.train()
    model = toy_model(dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step, batch in enumerate(batches):
        model.encoder.requires_grad_(step >= 8)
        model.image_model.requires_grad_(step >= 16)
        model.image_model.train(step >= 16)
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert len(batches) == 24
    assert largest_difference(weights(trainer.model), weights(model)) < 1e-6


def test_schedule_is_saved_with_the_run(tmp_path):
    toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"}, save_strategy="epoch").train()
    for folder in (tmp_path, tmp_path / "checkpoint-8"):
        saved = json.loads((folder / "freeze_schedule.json").read_text())
        assert saved["freeze"] == {"text_encoder": "1 epoch"}
        assert saved["parts"]["text_encoder"] == ["encoder"]


def test_timeline_and_table_are_shown(tmp_path, capsys):
    toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"}, show_freeze_report=True).train()
    shown = capsys.readouterr().out
    assert "Freeze schedule: 24 steps, 8 per epoch" in shown
    assert "Update audit" in shown and "trains since" in shown


def test_missing_parameters_in_the_optimizer_are_an_error_at_step_0(tmp_path):
    model = toy_model()
    optimizer = torch.optim.AdamW(model.classifier.parameters())
    options = {"optimizers": (optimizer, None)}
    trainer = toy_trainer(tmp_path, model, trainer_options=options, freeze={"text_encoder": "1 epoch"})
    with pytest.raises(RuntimeError, match=r"text_encoder trains from step 8 \(1 epoch\) on, but 12 of its 12"):
        trainer.train()


def test_plain_training_arguments_are_an_error():
    from transformers import TrainingArguments

    from hf_mmtab.training import MMTabTrainer

    with pytest.raises(TypeError, match="expects MMTabTrainingArguments, found TrainingArguments"):
        MMTabTrainer(toy_model(), TrainingArguments("run"))
