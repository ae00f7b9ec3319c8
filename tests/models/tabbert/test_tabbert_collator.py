"""The collator: padding, who may be masked, by what it is replaced, how often."""

import numpy as np
import pytest
import torch

from hf_mmtab.models.tabbert.collating_tabbert import TabBertCollator, counted_uniforms
from hf_mmtab.models.tabbert.processing.column_plan import ColumnPlan
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

ROWS = {
    "owner": ["p", "q"] * 20,
    "shop": [f"s{i % 8}" for i in range(40)],
    "town": [None if i % 4 == 0 else f"t{i % 3}" for i in range(40)],
}
PLAN = {"fields": {"owner": {"static": True}, "shop": {}, "town": {}}, "sep_column": True}


@pytest.fixture(scope="module")
def processor():
    return TabBertProcessor(PLAN).fit(ROWS)


@pytest.fixture(scope="module")
def window(processor):
    encoded = processor.encode(ROWS)
    return np.stack([encoded[n].to_numpy() for n in processor.fields], axis=1).astype(np.int64)


def _examples(window, count=200, rows=10, **more):
    return [{"input_ids": window[:rows], **more} for _ in range(count)]


def test_short_windows_are_padded_and_masked(processor, window):
    batch = TabBertCollator(processor)([{"input_ids": window[:3]}, {"input_ids": window[:1]}])

    assert batch["input_ids"].shape == (2, 3, 4)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch["input_ids"][1, 1:] == processor.pad_token_id).all()
    assert set(batch) == {"input_ids", "attention_mask"}
    fixed = TabBertCollator(processor, pad_to_rows=5)([{"input_ids": window[:3]}])
    assert fixed["input_ids"].shape == (1, 5, 4)


def test_labels_are_kept_where_cells_were_chosen_and_nowhere_else(processor, window):
    batch = TabBertCollator(processor, mlm=True, seed=0)(_examples(window))
    labels, original = batch["labels"], torch.as_tensor(window[:10])[None]
    chosen = labels != -100

    assert torch.equal(labels[chosen], original.expand_as(labels)[chosen])
    assert torch.equal(batch["input_ids"][~chosen], original.expand_as(labels)[~chosen])


def test_specials_padding_and_the_sep_column_are_never_masked(processor, window):
    examples = [{"input_ids": window[:10]}, {"input_ids": window[:2]}]
    batch = TabBertCollator(processor, mlm=True, mlm_probability=1.0, row_probability=1.0)(examples)
    chosen = batch["labels"] != -100

    assert not chosen[..., 3].any()
    assert not chosen[1, 2:].any()
    assert chosen[0, :, :3].all()  # [MISSING] is something to predict
    assert (batch["input_ids"][..., 3][batch["attention_mask"].bool()] == processor.sep_token_id).all()


def test_unknown_values_are_not_predicted_unless_asked_for(processor, window):
    ids = window[:4].copy()
    ids[:, 1] = processor.unknown_ids()[1]

    def chosen(**options):
        collator = TabBertCollator(processor, mlm=True, mlm_probability=1.0, **options)
        return (collator([{"input_ids": ids}])["labels"] != -100)[0, :, 1]

    assert not chosen().any()
    assert chosen(mask_unknown=True).all()


def test_a_plan_with_one_unk_for_all_fields_never_masks_it():
    plan = ColumnPlan.from_dict(PLAN).edit(
        field_specials=False, special_tokens=["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    )
    processor = TabBertProcessor(plan).fit(ROWS)
    ids = np.array([[processor.field_ranges[0][0], 0, 0, processor.sep_token_id]])
    batch = TabBertCollator(processor, mlm=True, mlm_probability=1.0, mask_unknown=True)([{"input_ids": ids}])

    assert (batch["labels"] != -100).tolist() == [[[True, False, False, False]]]


def test_shares_are_80_10_10_and_replacement_stays_inside_the_field(processor, window):
    torch.manual_seed(0)
    examples = _examples(window, count=2000)
    batch = TabBertCollator(processor, mlm=True)(examples)
    ids, labels = batch["input_ids"][..., 1], batch["labels"][..., 1]
    chosen = labels != -100
    masked = ids[chosen] == processor.mask_token_id
    changed = (ids[chosen] != labels[chosen]) & ~masked

    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert masked.float().mean().item() == pytest.approx(0.80, abs=0.02)
    # a random value is the old one in one of eight cases
    assert changed.float().mean().item() == pytest.approx(0.10 * 7 / 8, abs=0.015)
    start, end = processor.value_ranges()[1]
    replaced = ids[chosen][changed]
    assert set(replaced.tolist()) == set(range(start, end))


def test_a_static_field_is_masked_in_all_rows_of_a_window_or_in_none(processor, window):
    torch.manual_seed(1)
    chosen = TabBertCollator(processor, mlm=True)(_examples(window, 500))["labels"][..., 0] != -100

    assert torch.equal(chosen.all(dim=1), chosen.any(dim=1))
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.05)


def test_whole_rows_can_be_masked(processor, window):
    torch.manual_seed(2)
    collator = TabBertCollator(processor, mlm=True, mlm_probability=0.0, row_probability=0.3)
    batch = collator(_examples(window, 500))
    chosen = batch["labels"][..., 1:3] != -100

    assert torch.equal(chosen.all(dim=-1), chosen.any(dim=-1))
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.03)
    # one fate for the whole row: all [MASK], or none
    masked = batch["input_ids"][..., 1:3] == processor.mask_token_id
    assert torch.equal(masked.all(dim=-1), masked.any(dim=-1))


def test_context_rows_are_neither_masked_nor_judged(processor, window):
    examples = _examples(window, 50, label_start=7)
    chosen = TabBertCollator(processor, mlm=True, mlm_probability=1.0)(examples)["labels"] != -100

    assert not chosen[:, :7].any()
    assert chosen[:, 7:, :3].all()


def test_a_seed_masks_a_window_alike_in_any_batch_and_beside_any_padding(processor, window):
    collator = TabBertCollator(processor, mlm=True, seed=3, row_probability=0.1)
    examples = [{"input_ids": window[i : i + 3 + i % 5]} for i in range(20)]
    together = collator(examples)

    for i, example in enumerate(examples):
        alone, rows = collator([example]), len(example["input_ids"])
        assert torch.equal(together["labels"][i, :rows], alone["labels"][0])
        assert torch.equal(together["input_ids"][i, :rows], alone["input_ids"][0])


def test_each_epoch_masks_other_cells(processor, window):
    collator = TabBertCollator(processor, mlm=True, seed=3)
    chosen = []
    for epoch in (0, 1, 0):
        collator.set_epoch(epoch)
        chosen.append(collator([{"input_ids": window[i : i + 10]} for i in range(30)])["labels"] != -100)

    assert torch.equal(chosen[0], chosen[2])
    assert (chosen[0] & chosen[1]).sum() < 0.3 * chosen[0].sum()


def test_numbers_counted_from_keys_are_uniform_and_independent():
    keys = np.arange(2000, dtype=np.uint64)
    first, second = counted_uniforms(keys, (2000, 5, 4)), counted_uniforms(keys, (2000, 5, 4))

    for drawn in (first, second):
        assert drawn.min() >= 0 and drawn.max() < 1
        counts = torch.histc(drawn, 20, 0, 1)
        assert (counts / 2000 - 1).abs().max() < 0.12  # 5.4 standard deviations of 2,000 per bin
    pairs = torch.stack([first.flatten(), second.flatten(), first.roll(1, 0).flatten(), first.roll(1, 1).flatten()])
    assert (torch.corrcoef(pairs) - torch.eye(4)).abs().max() < 0.03


def test_a_seed_masks_the_same_cells_in_every_evaluation(processor, window):
    examples = _examples(window, 4)
    collator = TabBertCollator(processor, mlm=True, seed=3)
    first, second = collator(examples), collator(examples)
    other = TabBertCollator(processor, mlm=True, seed=4)(examples)

    assert torch.equal(first["labels"], second["labels"])
    assert not torch.equal(first["labels"], other["labels"])
    free = TabBertCollator(processor, mlm=True)
    assert not torch.equal(free(examples)["labels"], free(examples)["labels"])
    torch.manual_seed(5)
    again = free(examples)["labels"]
    torch.manual_seed(5)
    assert torch.equal(free(examples)["labels"], again)


def test_labels_of_windows_rows_and_targets(processor, window):
    collator = TabBertCollator(processor)
    classes = collator([{"input_ids": window[:2], "labels": 1}, {"input_ids": window[:2], "labels": np.int64(0)}])
    targets = collator([{"input_ids": window[:2], "labels": np.array([1.5, 2.0], dtype=np.float32)}])
    by_row = TabBertCollator(processor, row_labels=True)(
        [{"input_ids": window[:2], "labels": np.array([0, 1])}, {"input_ids": window[:1], "labels": np.array([1])}]
    )

    assert classes["labels"].tolist() == [1, 0] and classes["labels"].dtype == torch.long
    assert targets["labels"].tolist() == [[1.5, 2.0]] and targets["labels"].dtype == torch.float
    assert by_row["labels"].tolist() == [[0, 1], [1, -100]]


def test_states_of_a_frozen_encoder_are_padded_and_passed_through(processor, window):
    examples = [{"input_ids": window[:2], "row_states": np.ones((2, 3), dtype=np.float32)}]
    examples += [{"input_ids": window[:1], "row_states": np.ones((1, 3), dtype=np.float32)}]

    assert TabBertCollator(processor)(examples)["row_states"].sum(dim=-1).tolist() == [[3, 3], [3, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlm_probability": 1.5}, "mlm_probability must be between 0 and 1, got 1.5"),
        ({"mask_share": 0.8, "random_share": 0.3}, r"at most 1, got 0.8 \+ 0.3"),
    ],
)
def test_wrong_options_are_refused(processor, options, message):
    with pytest.raises(ValueError, match=message):
        TabBertCollator(processor, **options)


def test_wrong_windows_are_refused(processor, window):
    with pytest.raises(ValueError, match=r"windows of shape \(rows, 4\), found \(2, 3\)"):
        TabBertCollator(processor)([{"input_ids": window[:2, :3]}])
    with pytest.raises(ValueError, match="at most pad_to_rows=2 rows, found a window of 3"):
        TabBertCollator(processor, pad_to_rows=2)([{"input_ids": window[:3]}])


def test_nothing_is_masked_where_the_next_row_is_predicted(processor, window):
    examples = [{"input_ids": window[:3], "label_start": 1}]
    batch = TabBertCollator(processor, mlm=True, next_row=True, mask_unknown=True)(examples)
    assert batch["input_ids"].tolist() == [window[:3].tolist()]
    labels, ids = batch["labels"][0], batch["input_ids"][0]
    assert (labels[0] == -100).all() and (labels[1:] != -100).any()
    assert torch.equal(labels[labels != -100], ids[labels != -100])


# ---- Cells that become [UNK] while training ----


def test_some_cells_become_unknown_and_none_of_them_is_a_target(processor, window):
    plain = TabBertCollator(processor, mlm=True, seed=3)
    hiding = TabBertCollator(processor, mlm=True, seed=3, unknown_probability=0.2)
    before, after = plain(_examples(window)), hiding(_examples(window))
    assert torch.equal(before["labels"], after["labels"])  # masking is what it was

    changed = before["input_ids"] != after["input_ids"]
    assert not (changed & (after["labels"] != -100)).any()
    assert not changed[..., 3].any()  # the [SEP] column
    unknown, missing = torch.tensor(processor.unknown_ids()), torch.tensor(processor.ids_without_rows())
    assert ((after["input_ids"] == unknown) | (after["input_ids"] == missing))[changed].all()
    # towns are missing in training, so that their [MISSING] is trained already; shops never are
    assert missing[2] == unknown[2] and missing[1] == unknown[1] + 1


def test_a_share_of_cells_and_of_whole_fields_becomes_unknown(processor):
    encoded = processor.encode(ROWS)
    ids = np.stack([encoded[n].to_numpy() for n in processor.fields], axis=1).astype(np.int64)
    examples = [{"input_ids": np.roll(ids, shift, axis=0)[:10]} for shift in range(40)] * 30
    collator = TabBertCollator(processor, seed=None, unknown_probability=0.1)
    torch.manual_seed(0)
    hidden = collator(examples)["input_ids"] != TabBertCollator(processor)(examples)["input_ids"]

    assert hidden[..., 1].float().mean() == pytest.approx(0.0975, abs=0.012)  # shops
    whole = hidden.all(dim=1)[:, :3].float().mean(dim=0)
    assert (whole > 0.03).all() and (whole < 0.07).all()
    assert torch.equal(hidden[..., 0], hidden[:, :1, 0].expand(-1, 10))  # a static field stays the same in all rows


def test_next_rows_are_predicted_from_hidden_cells_but_are_never_unknown_themselves(processor, window):
    collator = TabBertCollator(processor, mlm=True, next_row=True, seed=1, unknown_probability=0.5)
    examples = [{"input_ids": np.roll(window, shift, axis=0)[:10]} for shift in range(20)]
    batch = collator(examples)
    same = collator(examples)
    collator.set_epoch(1)
    other = collator(examples)

    original = torch.as_tensor(np.stack([one["input_ids"] for one in examples]))[..., :3]
    assert torch.equal(batch["labels"][..., :3], original)
    assert (batch["input_ids"][..., :3] != original).float().mean() > 0.2
    assert torch.equal(batch["input_ids"], same["input_ids"])
    assert not torch.equal(batch["input_ids"], other["input_ids"])
