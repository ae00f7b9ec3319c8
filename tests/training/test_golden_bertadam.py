"""BertAdam, freezing included, against five steps of the original MMBT code."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toy import toy_arguments
from transformers import TrainerCallback

from hf_mmtab.converting.mmbt_weights import config_from_original, from_original, to_original
from hf_mmtab.models.mmbt.configuration_mmbt import MMBTConfig
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification
from hf_mmtab.training import BertAdam, MMTabTrainer
from hf_mmtab.training.optimizers import warmup_linear

MEAN, STD = (0.46777044, 0.44531429, 0.40661017), (0.12221994, 0.12145835, 0.14380469)


class FiveSteps(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 5
        return control


@pytest.fixture
def train_five_steps(golden, tmp_path):
    folder = golden / "mmbt"
    expected = json.loads((folder / "expected.json").read_text())
    settings, inputs = expected["settings"], load_file(folder / "inputs.safetensors")
    init = load_file(folder / "mmbt_init.safetensors")
    pos_weight = [settings["train_data_len"] / count for count in settings["label_freqs"].values()]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    pixels = (inputs["image_uint8"].float() / 255 - mean) / std
    rows = [
        {
            "input_ids": inputs["input_txt"][row],
            "attention_mask": inputs["attention_mask"][row],
            "token_type_ids": inputs["segment_mmbt"][row],
            "pixel_values": pixels[row],
            "labels": inputs["target_multilabel"][row],
        }
        for row in range(4)
    ]

    def train(**freezing):
        special = {"cls_token_id": 2, "sep_token_id": 3, "problem_type": "multi_label_classification"}
        config = config_from_original(
            "mmbt", init, num_attention_heads=settings["heads"], dropout=0.0, pos_weight=pos_weight, **special
        )
        model = MMBTForClassification(MMBTConfig(**config))
        model.load_state_dict(from_original("mmbt", init)[0])
        args = toy_arguments(
            tmp_path,
            optim_preset="bertadam",
            lr_scheduler_type="linear",
            learning_rate=5e-5,
            warmup_steps=0.1,
            num_train_epochs=100,
            train_sampling_strategy="sequential",
            logging_strategy="steps",
            logging_steps=1,
            frozen_mode="train",
            **freezing,
        )
        trainer = MMTabTrainer(model, args, train_dataset=rows, callbacks=[FiveSteps()])
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return model, losses, init, expected["mmbt"], folder

    return train


def test_five_steps_of_bertadam_equal_the_original(train_five_steps):
    model, losses, init, expected, folder = train_five_steps()
    changed = load_file(folder / "mmbt_step5_changed.safetensors")
    after = from_original("mmbt", {**init, **changed})[0]
    ours = model.state_dict()
    for name, value in after.items():
        assert (ours[name].double() - value.double()).abs().max().item() < 1e-6, name
    assert losses == pytest.approx(expected["train0_losses_5steps"], abs=1e-6)


@pytest.mark.parametrize(
    "case, parts",
    [
        ("freeze_encoder", ["text_encoder"]),
        ("freeze_img_encoder", ["image_encoder"]),
        ("freeze_encoder+img_encoder", ["text_encoder", "image_encoder"]),
    ],
)
def test_five_steps_with_frozen_parts_equal_the_original(train_five_steps, case, parts):
    model, losses, init, expected, _ = train_five_steps(freeze=dict.fromkeys(parts, "forever"))
    assert losses == pytest.approx(expected[case]["losses"], abs=1e-6)
    ours, checked = to_original("mmbt", model.state_dict()), 0
    for name, value in ours.items():
        norm = (value.double() - init[name].double()).norm().item()
        if name in expected[case]["delta_norm"]:
            assert norm == pytest.approx(expected[case]["delta_norm"][name], abs=1e-6), name
            checked += 1
        elif not name.startswith("enc.clf."):  # a classifier that the original never calls and we do not have
            assert norm == 0.0, name
    assert checked > 20


def test_schedule_of_bertadam_rises_and_falls_linearly():
    assert [warmup_linear(x, 0.1) for x in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2)] == pytest.approx(
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    )


def test_one_step_of_bertadam_equals_its_formula():
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    p.grad = torch.tensor([3.0, 4.0])  # norm 5, clipped to 1
    BertAdam([p], lr=0.1, weight_decay=0.01).step()
    gradient = torch.tensor([0.6, 0.8])
    update = 0.1 * gradient / ((0.001 * gradient**2).sqrt() + 1e-6) + 0.01 * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(p.data, torch.tensor([1.0, -2.0]) - 0.1 * update, rtol=1e-5, atol=1e-6)


def test_parameter_that_starts_late_has_its_own_warmup():
    early, late = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = BertAdam([early, late], lr=1.0, warmup=0.5, total_steps=4, weight_decay=0.0)
    for step in range(3):
        early.grad = torch.ones(2)
        late.grad = torch.ones(2) if step == 2 else None
        optimizer.step()
    assert optimizer.state[early]["step"] == 3 and optimizer.state[late]["step"] == 1
    assert torch.equal(late.data, torch.ones(2))  # its first step has learning rate 0
    assert not torch.equal(early.data, torch.ones(2))


def test_warmup_of_bertadam_must_be_a_share():
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got 1.5"):
        BertAdam([torch.nn.Parameter(torch.ones(1))], lr=1.0, warmup=1.5)


def test_sparse_gradients_are_an_error():
    table = torch.nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not take sparse gradients"):
        BertAdam(table.parameters(), lr=0.1).step()
