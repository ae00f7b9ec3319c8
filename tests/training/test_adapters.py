"""LoRA adapters of peft under the freeze schedule, the audit and the checkpoints."""

import polars as pl
import pytest
import torch
from transformers import BertConfig, ResNetConfig

from hf_mmtab import (
    MMBTConfig,
    MMBTForClassification,
    MMTabTrainer,
    MMTabTrainingArguments,
    TabBertConfig,
    TabBertLstmForSequenceClassification,
    TabBertProcessor,
)
from hf_mmtab.commands.predict import main as predict
from hf_mmtab.training.adapters import merged, refuse_frozen_adapters, with_lora
from hf_mmtab.training.parts import freezable_modules

peft = pytest.importorskip("peft")


def mmbt():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    image = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    text = BertConfig(vocab_size=32, **sizes)
    ids = {"cls_token_id": 2, "sep_token_id": 3}
    config = MMBTConfig(text_config=text.to_dict(), image_config=image.to_dict(), num_labels=2, **ids)
    return MMBTForClassification(config)


def tabbert():
    torch.manual_seed(0)
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "lstm_hidden_size": 8, "num_labels": 2}
    plan = {"entity": "who", "fields": {"a": {}, "b": {}}}
    table = pl.DataFrame({"who": [1] * 12, "a": list("abcdefghabcd"), "b": list("abababababab")})
    fields = TabBertProcessor(plan).fit(table).config_kwargs()
    return TabBertLstmForSequenceClassification(TabBertConfig(**fields, **sizes, window_label="last"))


def pictures():
    torch.manual_seed(1)
    ids, mask = [torch.tensor([2, 5 + i % 7, 6, 3]) for i in range(32)], torch.ones(4, dtype=torch.long)
    return [
        {"input_ids": ids[i], "attention_mask": mask, "pixel_values": torch.randn(3, 32, 32) + i % 2, "labels": i % 2}
        for i in range(32)
    ]


def histories(model):
    torch.manual_seed(1)
    ranges = model.config.field_ranges
    columns = [torch.randint(low, high, (32, 5)) for low, high in ranges]
    ids, mask = torch.stack(columns, 2), torch.ones(5, dtype=torch.long)
    return [{"input_ids": ids[i], "attention_mask": mask, "labels": i % 2} for i in range(32)]


FAMILIES = {"mmbt": (mmbt, "text_encoder"), "tabbert": (tabbert, "row_encoder")}


def trained(folder, family, resume=None, epochs=3, **changes):
    build, part = FAMILIES[family]
    model = build()
    rows = pictures() if family == "mmbt" else histories(model)
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True, "audit_plot": False}
    options |= {"freeze": {part: "1 epoch"}, "learning_rate": 1e-2, "report_to": "none", "disable_tqdm": True}
    args = MMTabTrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=8, **(options | changes)
    )
    trainer = MMTabTrainer(with_lora(model, {"r": 2}), args, train_dataset=rows, eval_dataset=rows)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logits(model, family):
    rows = pictures() if family == "mmbt" else histories(FAMILIES[family][0]())
    batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows[:8]]) for name in rows[0]}
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_train_after_the_thaw_and_the_frozen_weights_never_move(tmp_path, family):
    before = {name: value.clone() for name, value in FAMILIES[family][0]().state_dict().items()}
    trainer, part = trained(tmp_path, family, load_best_model_at_end=False), FAMILIES[family][1]
    assert f"{part} has trained since step 4" in trainer.audit.explain(part)
    computed = {id(p) for names in trainer.audit.parts.values() for p in names}
    copies = [p for name, p in trainer.model.named_parameters() if ".modules_to_save." in name]
    aside = [p for name, p in trainer.model.named_parameters() if ".original_module." in name]
    assert copies and all(id(p) in computed for p in copies) and not any(id(p) in computed for p in aside)
    if family == "mmbt":
        assert "frozen by peft: it has no adapter" in trainer.audit.explain("image_encoder")
    plain = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): value
        for name, value in trainer.model.state_dict().items()
        if "lora_" not in name and "modules_to_save" not in name and ".original_module" not in name
    }
    common = before.keys() & plain.keys()
    assert len(common) > 10
    assert [name for name in common if not torch.equal(before[name], plain[name])] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_best_and_merged_models_answer_alike(tmp_path, family):
    trainer, build = trained(tmp_path / "run", family), FAMILIES[family][0]
    expected = logits(trainer.model, family)
    assert not torch.equal(expected, logits(build(), family))
    best = peft.PeftModel.from_pretrained(build(), trainer.state.best_model_checkpoint)
    torch.testing.assert_close(logits(best, family), expected, rtol=1e-6, atol=1e-7)
    merged(trainer.model).save_pretrained(tmp_path / "merged")
    plain = type(build()).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(plain, family), expected, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_of_adapters_ends_as_one_without_a_stop(tmp_path):
    whole = trained(tmp_path / "whole", "mmbt", load_best_model_at_end=False)
    resumed = trained(
        tmp_path / "resumed", "mmbt", str(tmp_path / "whole" / "checkpoint-8"), load_best_model_at_end=False
    )
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_frozen_parts_alone_are_refused(family):
    build, part = FAMILIES[family]
    model = with_lora(
        build(), {"r": 2, "target_modules": rf".*{freezable_modules(build())[part]}\..*(query|key|value).*"}
    )
    refuse_frozen_adapters(model, {part: "1 epoch"})
    for until in ("forever", True):
        with pytest.raises(ValueError, match=f"Expected a part that trains for the adapters .* all of them in {part}"):
            refuse_frozen_adapters(model, {part: until})


@pytest.mark.parametrize(
    "settings",
    [{"rank": 8}, {"task_type": "CAUSAL_LM"}, {"modules_to_save": ["nosuch"]}, {"bias": "nope"}, {"rank_pattern": 5}],
)
def test_settings_that_do_not_fit_are_told(settings):
    with pytest.raises(ValueError, match=r"Expected `lora` to hold settings of peft's LoraConfig"):
        with_lora(mmbt(), settings)


def test_a_part_that_holds_others_is_explained_with_all_of_them(tmp_path):
    trainer = trained(tmp_path, "tabbert", load_best_model_at_end=False, freeze={"encoder": "1 epoch"})
    told = trainer.audit.explain("encoder")
    assert "row_encoder has trained since step 4" in told
    assert "The rest of encoder has not moved" in told and ". encoder has" not in told


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_adapters_alone_is_told_with_what_to_do(tmp_path, family):
    with_lora(FAMILIES[family][0](), {"r": 2}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found adapters of peft without the model .*merge_and_unload"):
        type(FAMILIES[family][0]()).from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"found adapters of peft without the model .*merge_and_unload"):
        predict([str(tmp_path), "rows.csv", str(tmp_path.parent / "out.csv")])
    with pytest.raises(ValueError, match=r"that fit MMBTForClassification"):
        with_lora(mmbt(), {"target_modules": ["nowhere"]})
