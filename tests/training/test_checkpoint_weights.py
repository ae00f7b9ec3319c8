"""The best model and a resumed run hold a checkpoint's weights, whatever names transformers saves them under."""

import sys
from pathlib import Path

import pytest
import torch
import transformers as t
from test_resuming import Interrupt
from toy import toy_arguments, weights

from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification
from hf_mmtab.training import MMTabTrainer
from hf_mmtab.training.audit.compare import compare_checkpoints
from hf_mmtab.training.checkpoint_weights import CheckpointWeights, load_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "mmbt"))
from tiny_backbones import IMAGE_CONFIGS, VOCABULARY, tiny_mmbt

VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


class Rows(torch.utils.data.Dataset):
    """A few pictures with a label, with words for MMBT."""

    def __init__(self, names, side):
        generator = torch.Generator().manual_seed(0)
        self.columns = {
            "pixel_values": torch.randn(8, 3, side, side, generator=generator),
            "input_ids": torch.randint(5, VOCABULARY, (8, 4), generator=generator),
            "token_type_ids": torch.ones(8, 4, dtype=torch.long),
            "labels": torch.arange(8) % 3,
        }
        self.names = names

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {name: self.columns[name][index] for name in self.names}


class FirstIsBest:
    """A metric that falls with each evaluation, so that the best model is not the last."""

    def __init__(self):
        self.score = 1.0

    def __call__(self, prediction):
        self.score -= 0.1
        return {"score": self.score}


def vit_classifier():
    torch.manual_seed(0)
    return t.ViTForImageClassification(t.ViTConfig(**VIT, image_size=16, patch_size=8, num_labels=3))


def model_of(kind):
    return vit_classifier() if kind == "ViTForImageClassification" else tiny_mmbt(image=kind).train()


def trainer_of(folder, kind, stop=None, **changes):
    model = model_of(kind)
    names = ["pixel_values", "labels"]
    if isinstance(model, MMBTForClassification):
        names += ["input_ids", "token_type_ids"]
    side = 64 if kind == "swin" else 16 if kind == "ViTForImageClassification" else 32
    settings = {"num_train_epochs": 2, "eval_strategy": "epoch", "save_strategy": "epoch", "audit": False}
    settings |= {"metric_for_best_model": "score", "greater_is_better": True, **changes}
    return MMTabTrainer(
        model,
        toy_arguments(folder, **settings),
        train_dataset=Rows(names, side),
        eval_dataset=Rows(names, side),
        compute_metrics=FirstIsBest(),
        callbacks=[Interrupt(stop)] if stop is not None else None,
    )


def assert_equal_weights(model, other):
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


KINDS = ["ViTForImageClassification", "resnet", "vit", "deit", "dinov2", "swin", "clip_vision_model"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_model_equals_its_checkpoint(tmp_path, kind):
    trainer = trainer_of(tmp_path, kind, load_best_model_at_end=True)
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    saved = type(trainer.model).from_pretrained(tmp_path / "checkpoint-2", dtype="float32")
    assert_equal_weights(trainer.model, saved)
    last = type(trainer.model).from_pretrained(tmp_path / "checkpoint-4", dtype="float32")
    assert any(not torch.equal(a, b) for a, b in zip(saved.parameters(), last.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, kind):
    whole = trainer_of(tmp_path / "whole", kind)
    whole.train()
    cut = trainer_of(tmp_path / "cut", kind, stop=3)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = trainer_of(tmp_path / "cut", kind)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(whole.model, resumed.model)


@pytest.mark.parametrize("kind", IMAGE_CONFIGS)
def test_loading_keeps_the_parameters_and_takes_every_weight(tmp_path, kind):
    saved, model = tiny_mmbt(image=kind), tiny_mmbt(image=kind)
    with torch.no_grad():
        for tensor in saved.state_dict().values():
            tensor.copy_(torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 3)
    saved.save_pretrained(tmp_path)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    load_weights(model, tmp_path)
    assert_equal_weights(saved, model)
    assert before == {name: id(parameter) for name, parameter in model.named_parameters()}


def test_a_wide_model_loads_without_rounding_and_keeps_its_types(tmp_path):
    saved = vit_classifier()
    saved.classifier.double()
    saved.save_pretrained(tmp_path)
    model = vit_classifier()
    model.classifier.double()
    torch.nn.init.zeros_(model.classifier.weight)
    load_weights(model, tmp_path)
    assert_equal_weights(saved, model)
    assert model.classifier.weight.dtype == torch.float64
    assert model.vit.embeddings.cls_token.dtype == torch.float32


def test_tied_weights_are_not_absent(tmp_path):
    config = t.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    saved, model = t.BertForMaskedLM(config), t.BertForMaskedLM(config)
    saved.save_pretrained(tmp_path)
    load_weights(model, tmp_path)
    assert_equal_weights(saved, model)


def test_a_checkpoint_in_several_files_is_read_whole(tmp_path):
    saved, model = vit_classifier(), vit_classifier()
    torch.nn.init.ones_(saved.classifier.weight)
    saved.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    load_weights(model, tmp_path)
    assert_equal_weights(saved, model)


def test_a_plain_module_loads_too(tmp_path):
    saved, model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save(saved.state_dict(), tmp_path / "pytorch_model.bin")
    load_weights(model, tmp_path)
    assert_equal_weights(saved, model)


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
    torch.save({"weight": torch.ones(2, 2), "gain": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"do not fit Linear: 1 are absent .*\(bias\), 1 do not belong .*\(gain\)"):
        load_weights(torch.nn.Linear(2, 2), tmp_path)
    t.ViTModel(t.ViTConfig(**VIT, image_size=16, patch_size=8)).save_pretrained(tmp_path / "no_head")
    with pytest.raises(ValueError, match=r"do not fit ViTForImageClassification: 2 are absent .*classifier.bias"):
        load_weights(vit_classifier(), tmp_path / "no_head")


@pytest.mark.parametrize("kind", ["vit", "dinov2", "swin", "ViTForImageClassification"])
def test_the_comparer_reads_names_as_in_the_model(tmp_path, kind):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "a")
    read = CheckpointWeights(tmp_path / "a")
    assert set(read) != set(model.state_dict())
    read.rename_as_in_the_model()
    assert set(read) == set(weights(model))
    assert all(torch.equal(read[name], value) for name, value in weights(model).items())
    model.save_pretrained(tmp_path / "b", save_original_format=False)  # as transformers before 5.24 wrote it
    text = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    assert text.startswith("Moved: nothing.") and "only in" not in text


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_damaged_checkpoint_is_named(tmp_path, kind):
    model = model_of(kind)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read as weights: it is cut off"):
        load_weights(model, tmp_path)


def mixtral():
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    return t.MixtralForCausalLM(t.MixtralConfig(**sizes, **heads))


def test_weights_that_saving_splits_are_joined_again_and_stay_in_their_layer(tmp_path):
    saved, model = mixtral(), mixtral()
    with torch.no_grad():
        saved.model.layers[1].mlp.experts.down_proj.add_(1.0)
    saved.save_pretrained(tmp_path / "after")
    model.save_pretrained(tmp_path / "before")
    (tmp_path / "freeze_schedule.json").write_text(
        '{"parts": {"first": ["model.layers.0"], "last": ["model.layers.1"]}}'
    )
    text = compare_checkpoints(tmp_path / "before", tmp_path / "after")
    assert text.startswith("Moved: last. Unchanged: ") and "only in" not in text
    load_weights(model, tmp_path / "after")
    assert_equal_weights(saved, model)
