"""Heads over windows on a small table of our own."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from hf_mmtab.models.tabbert import (
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from hf_mmtab.models.tabbert.modeling_tabbert_losses import focal_loss, rmse_one_hot, window_loss
from hf_mmtab.models.tabbert.modeling_tabbert_windows import last_real_row
from hf_mmtab.training.parts import find_part, part_layers, partition_parameters

HEADS = {
    "lstm": (TabBertLstmForSequenceClassification, {}),
    "lstm_flat": (TabBertLstmForSequenceClassification, {"flatten": True}),
    "lstm_both_ways": (
        TabBertLstmForSequenceClassification,
        {"lstm_bidirectional": True, "lstm_num_layers": 2, "lstm_dropout": 0.1},
    ),
    "members": (TabBertLstmForSequenceClassification, {"lstm_members": 3}),
    "mlp": (TabBertMlpForSequenceClassification, {"mlp_hidden_sizes": [12, 6]}),
    "pooled": (TabBertPooledForSequenceClassification, {}),
    "pooled_mean_flat": (TabBertPooledForSequenceClassification, {"pooling": "mean", "flatten": True}),
    "raw_lstm": (TabBertRawLstmForSequenceClassification, {}),
}
ENCODER_HEADS = [name for name in HEADS if name != "raw_lstm"]


def build(name, small_config, **changes):
    torch.manual_seed(0)
    kind, settings = HEADS[name]
    return kind(small_config(**{**settings, **changes})).eval()


def test_members_are_no_layers_of_each_other(small_config):
    """`layerwise_lr_decay` and `gradual_unfreezing` would train the first LSTM otherwise than the last."""
    model = TabBertLstmForSequenceClassification(small_config(lstm_members=3))
    paths = find_part(model, "lstm")
    assert part_layers(model, paths) == [(paths, ())] and len(paths) == 3


@pytest.mark.parametrize("name", ["lstm", "members"])
@pytest.mark.parametrize("part", ["lstm", "classifier"])
def test_a_part_of_the_head_is_that_of_all_members(name, part, small_config):
    model = build(name, small_config)
    paths = find_part(model, part)
    assert paths == (part, *([f"members.{i}.{part}" for i in range(2)] if name == "members" else []))
    found = partition_parameters(model, {part: paths})
    assert found[part] == [key for key, _ in model.named_parameters() if part in key.split(".")]
    assert "members" not in partition_parameters(model, {one: find_part(model, one) for one in ("lstm", "classifier")})


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("level", ["window", "row"])
def test_padding_changes_no_score(name, level, small_config, small_batch):
    model = build(name, small_config, label_level=level)
    ids, mask = small_batch["input_ids"], small_batch["attention_mask"]
    with torch.no_grad():
        padded, alone = model(ids, mask).logits[1], model(ids[1:, :3]).logits[0]
    padded = padded[:3] if level == "row" else padded
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_window_of_padding_gives_finite_scores_and_gradients(name, small_config):
    model = build(name, small_config).train()
    ids = torch.zeros(1, 4, 3, dtype=torch.long)
    loss = model(ids, labels=torch.tensor([1])).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("level", ["window", "row"])
def test_untrained_linear_of_zero_costs_log_2(name, level, small_config, small_batch):
    model = build(name, small_config, label_level=level)
    for head in (model, *getattr(model, "members", ())):
        torch.nn.init.zeros_(head.classifier.weight)
    labels = torch.tensor([1, 0]) if level == "window" else torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, -100, -100]])
    outputs = model(small_batch["input_ids"], labels=labels)
    assert outputs.logits.shape == (*labels.shape, 2)
    assert outputs.loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", HEADS)
def test_saved_and_loaded_model_is_bit_equal_and_of_its_own_class(name, small_config, small_batch, tmp_path):
    model = build(name, small_config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    for (key, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    with torch.no_grad():
        ids = small_batch["input_ids"]
        assert torch.equal(model(ids).logits, loaded.eval()(ids).logits)


def heads_on_one_encoder(small_config, **changes):
    first = build("lstm", small_config, **changes)
    others = [build("lstm", small_config, **changes) for _ in range(2)]
    for seed, other in enumerate(others, start=1):
        torch.manual_seed(seed)
        for name, weight in other.state_dict().items():
            if not name.startswith("model.") and name != "numbers.quantiles":
                weight.normal_(std=0.5)
    return first, others


@pytest.mark.parametrize("level", ["window", "row"])
@pytest.mark.parametrize("inputs", [{}, {"row_inputs": ["states", "statistics"], "statistics": ["a", "b"]}])
def test_the_mean_of_members_scores_and_is_saved(level, inputs, small_config, small_batch, tmp_path):
    first, others = heads_on_one_encoder(small_config, label_level=level, **inputs)
    given = {key: small_batch[key] for key in ("input_ids", "attention_mask")}
    if inputs:
        given["statistics"] = torch.randn(*given["input_ids"].shape[:2], 2)
    with torch.no_grad():
        each = torch.stack([head(**given).logits for head in (first, *others)])
        assert (each[0] - each[1]).abs().max() > 1e-3
        first.add_members(*others)
        torch.testing.assert_close(first(**given).logits, each.mean(dim=0))
        first.save_pretrained(tmp_path)
        loaded = TabBertLstmForSequenceClassification.from_pretrained(tmp_path)
        assert loaded.config.lstm_members == 3
        assert torch.equal(loaded(**given).logits, first(**given).logits)
    first.train()(**given, labels=torch.ones(each.shape[1:-1], dtype=torch.long)).loss.backward()
    assert all(member.classifier.weight.grad.abs().max() > 0 for member in first.members)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"lstm_hidden_size": 5}, "lstm_hidden_size"),
        ({"lstm_num_layers": 2}, "lstm_num_layers"),
        ({"num_labels": 3}, "num_labels"),
        ({"problem_type": "regression"}, "problem_type"),
        ({"id2label": {0: "yes", 1: "no"}, "label2id": {"yes": 0, "no": 1}}, "id2label"),
        ({"label_level": "row"}, "label_level"),
        ({"row_inputs": ["states", "statistics"], "statistics": ["a"]}, "row_parts"),
    ],
)
def test_members_of_other_settings_are_refused(changes, found, small_config):
    first, (other, _) = heads_on_one_encoder(small_config)
    with pytest.raises(ValueError, match=rf"found {found} that differs\. Train all members"):
        first.add_members(other, build("lstm", small_config, **changes))
    assert len(first.members) == 0 and first.config.lstm_members == 1


def test_what_is_no_head_on_the_same_encoder_is_refused(small_config):
    first, (other, _) = heads_on_one_encoder(small_config)
    for wrong, found in [(first, "itself"), ([other], "a list"), (build("mlp", small_config), "a TabBertMlpFor")]:
        with pytest.raises(ValueError, match=f"without members, each by itself, found {found}"):
            first.add_members(wrong)
    other.model.embeddings.word_embeddings.weight.data[5] += 1
    with pytest.raises(ValueError, match=r"found model\.embeddings\.word_embeddings\.weight that differs"):
        first.add_members(other)
    statistics = {"row_inputs": ["states", "statistics"], "statistics": ["a", "b"]}
    first, (other, third) = heads_on_one_encoder(small_config, **statistics)
    other.numbers.quantiles += 1
    with pytest.raises(ValueError, match=r"found numbers\.quantiles that differs"):
        first.add_members(other)
    first.add_members(third)
    with pytest.raises(ValueError, match="without members, each by itself, found one of 2"):
        build("lstm", small_config, **statistics).add_members(first)


@pytest.mark.parametrize("name", ENCODER_HEADS)
def test_cached_states_give_the_same_scores(name, small_config, small_batch):
    model = build(name, small_config)
    feature = model.cacheable_features["encoder"]
    with torch.no_grad():
        states = getattr(model, feature["method"])(**{key: small_batch[key] for key in feature["inputs"]})
        cached = model(**{feature["output"]: states}, attention_mask=small_batch["attention_mask"]).logits
        assert torch.equal(cached, model(small_batch["input_ids"]).logits)
        whole = model(row_states=states[:1]).logits  # no mask: no padding
    torch.testing.assert_close(whole, cached[:1])


@pytest.mark.parametrize("name", ENCODER_HEADS)
def test_head_on_a_pretrained_encoder_keeps_every_encoder_weight(name, small_config, tmp_path):
    kind, settings = HEADS[name]
    encoder = {"flatten": settings.get("flatten", False), "processor_fingerprint": "abc"}
    pretrained = TabBertForMaskedLM(small_config(**encoder))
    pretrained.save_pretrained(tmp_path)
    head = {key: value for key, value in settings.items() if key != "flatten"}
    model = kind.from_pretrained_encoder(tmp_path, processor_fingerprint="abc", num_labels=3, **head)
    for key, value in pretrained.model.state_dict().items():
        assert torch.equal(value, model.model.state_dict()[key]), key
    assert model.classifier.out_features == 3 and model.config.num_labels == 3
    with pytest.raises(ValueError, match="Expected the processor with fingerprint abc"):
        kind.from_pretrained_encoder(tmp_path, processor_fingerprint="xyz")
    with pytest.raises(ValueError, match=r"Expected settings of a head .* found \['hidden_size'\]"):
        kind.from_pretrained_encoder(tmp_path, hidden_size=32)
    with pytest.raises(ValueError, match="with from_pretrained_encoder"):
        kind.from_pretrained(tmp_path)


def test_checkpoint_without_some_encoder_weight_is_refused(small_config, tmp_path):
    from safetensors.torch import load_file, save_file

    TabBertForMaskedLM(small_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.row_encoder.encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"keys are missing.*layer\.1\.output\.dense\.weight"):
        TabBertLstmForSequenceClassification.from_pretrained_encoder(tmp_path)


def test_last_real_row_is_read():
    rows = torch.arange(12.0).view(3, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert last_real_row(rows, mask).squeeze(1).tolist() == [3, 5, 8]


def test_both_ways_reads_the_end_of_each_way(small_config, small_batch):
    model = build("lstm_both_ways", small_config, lstm_num_layers=1, lstm_dropout=0.0)
    with torch.no_grad():
        states = model.get_row_states(small_batch["input_ids"])[1:, :3]
        read = model.read(states, torch.ones(1, 3))
        _, (final, _) = model.lstm(states)
    torch.testing.assert_close(read, torch.cat([final[0], final[1]], dim=-1))


def test_regression_is_the_root_of_the_mean_square_over_known_targets(small_config, small_batch):
    model = build("lstm", small_config, problem_type="regression", num_labels=2)
    targets = torch.tensor([[0.5, float("nan")], [-1.0, 2.0]])
    outputs = model(small_batch["input_ids"], labels=targets)
    known = ~targets.isnan()
    expected = (outputs.logits - targets)[known].square().mean().sqrt()
    assert outputs.loss.item() == pytest.approx(expected.item())
    outputs.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.lstm.parameters())


def test_losses_follow_their_formulas(small_config):
    logits, labels = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), torch.tensor([1, 1, 0])
    one_hot = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert rmse_one_hot(logits, labels) == pytest.approx((logits - one_hot).square().mean().sqrt().item())
    weight = torch.tensor([1.0, 4.0])
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), F.cross_entropy(logits, labels))
    torch.testing.assert_close(focal_loss(logits, labels, 0.0, weight), F.cross_entropy(logits, labels, weight=weight))
    p = logits.softmax(-1).gather(1, labels[:, None]).squeeze(1)
    torch.testing.assert_close(focal_loss(logits, labels, 2.0), ((1 - p) ** 2 * -p.log()).mean())
    for name in ("cross_entropy", "focal", "rmse_one_hot"):
        config = small_config(classification_loss=name)
        ignored = torch.tensor([1, -100, 0])
        kept = window_loss(logits[[0, 2]], labels[[0, 2]], config)
        torch.testing.assert_close(window_loss(logits, ignored, config), kept)
        nothing = window_loss(logits.requires_grad_(), torch.full((3,), -100), config)
        assert nothing.item() == pytest.approx(0.0, abs=1e-9)
    weighted = small_config(class_weights=[1.0, 4.0])
    expected = F.cross_entropy(logits, labels, weight=weight)
    torch.testing.assert_close(window_loss(logits, labels, weighted), expected)


def test_perfect_fit_has_finite_gradients(small_config):
    logits = torch.tensor([[0.0, 1.0]], requires_grad=True)
    window_loss(logits, torch.tensor([1]), small_config(classification_loss="rmse_one_hot")).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1, 2]), r"class numbers from 0 to 1 \(num_labels=2\), found 2"),
        (torch.tensor([[1, 0], [0, 1]]), r"class numbers of shape \(2,\) \(label_level='window'\)"),
        (torch.tensor([1.0, 0.0]), "found torch.float32 of shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(small_config, small_batch, labels, message):
    with pytest.raises(ValueError, match=message):
        build("lstm", small_config)(small_batch["input_ids"], labels=labels)


def test_targets_that_do_not_fit_are_refused(small_config, small_batch):
    model = build("lstm", small_config, problem_type="regression", num_labels=2)
    with pytest.raises(ValueError, match=r"Expected targets of shape \(2, 2\), found \(2,\)"):
        model(small_batch["input_ids"], labels=torch.zeros(2))


def test_exactly_one_kind_of_input_is_needed(small_config, small_batch):
    model = build("lstm", small_config)
    with pytest.raises(ValueError, match="Expected either input_ids or row_states"):
        model()
    with pytest.raises(ValueError, match="Expected either input_ids or row_states"):
        model(small_batch["input_ids"], row_states=torch.zeros(2, 5, 16))


def test_parts_are_modules(small_config):
    model = build("lstm", small_config)
    assert list(model.freezable_modules) == ["encoder", "embeddings", "row_encoder", "field_encoder"]
    assert all(model.get_submodule(path) for path in model.freezable_modules.values())
    assert model.default_frozen_parts == ("encoder",)
    assert build("raw_lstm", small_config).freezable_modules == {"embeddings": "embeddings"}


@pytest.mark.parametrize("name", HEADS)
def test_bfloat16_is_close_to_float32(name, small_config, small_batch):
    model = build(name, small_config)
    with torch.no_grad():
        expected = model(small_batch["input_ids"]).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(small_batch["input_ids"]).logits
    torch.testing.assert_close(mixed.float(), expected, rtol=0.05, atol=0.05)


def test_a_row_is_judged_by_its_past_alone_and_by_how_unexpected_it_was(small_config, small_batch, tmp_path):
    torch.manual_seed(0)
    pretrained = TabBertForMaskedLM(small_config(next_row=True, numeric_ranges={"amount": [11, 19]})).eval()
    pretrained.save_pretrained(tmp_path)
    model = TabBertLstmForSequenceClassification.from_pretrained_encoder(
        tmp_path, label_level="row", row_inputs="both"
    ).eval()
    counts = torch.zeros(39)
    counts[19:39] = 1.0
    model.model.surprise.learn_rarity(counts)
    ids, mask = small_batch["input_ids"], small_batch["attention_mask"]
    with torch.no_grad():
        states, later = model.get_row_states(ids, mask), ids.clone()
        later[:, 3] = torch.tensor([5, 12, 20])
        torch.testing.assert_close(model.get_row_states(later, mask)[:, :3], states[:, :3])
        assert not torch.allclose(model.get_row_states(later, mask)[:, 3], states[:, 3])
        # row 2 of the first window by hand: log-probabilities of its cells where only the rows before are seen
        logits = pretrained(ids[:1, :3]).field_logits
    for field, (start, _) in enumerate(pretrained.config.field_ranges):
        target = ids[0, 2, field] - start
        loss, blind = (F.cross_entropy(logits[field][0, row], target) for row in (2, 0))
        torch.testing.assert_close(states[0, 2, 16 + field], 0.5 * loss)
        # eight rows before there was no history: as for a first row
        torch.testing.assert_close(states[0, 2, 19 + field], 0.5 * blind)
    rank = (ids[0, 2, 1].item() - 11 + 0.5) / 8
    assert states[0, 2, 24].item() == pytest.approx(0.5 * math.log(20))  # 20 shops, all alike
    assert states[0, 2, 25].item() == pytest.approx(0.5 * math.log(rank / (1 - rank)))
    assert states.shape == (2, 5, 16 + 10) and not states[1, 3:, 16:].any()
    model.save_pretrained(tmp_path / "head")
    again = TabBertLstmForSequenceClassification.from_pretrained(tmp_path / "head").eval()
    torch.testing.assert_close(again(ids, mask).logits, model(ids, mask).logits)
    for inputs, columns in (("both", slice(None)), ("states", slice(16)), ("surprise", slice(16, None))):
        anew = TabBertPooledForSequenceClassification.from_pretrained_encoder(
            tmp_path / "head", row_inputs=inputs
        ).eval()
        torch.testing.assert_close(anew.get_row_states(ids, mask), states[:, :, columns])
