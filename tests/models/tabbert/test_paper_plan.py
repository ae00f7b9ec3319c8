"""The `paper` plan against windows that IBM/TabFormer (ebb7cd6) made of the same file."""

import json
import pickle

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.splits import Split, windows
from hf_mmtab.models.tabbert.processing.plan_presets import resolve_plan
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

VARIANTS = ["stride5", "stride10", "seq4_stride3", "bins4", "skip_user", "gpt2", "nrows500", "users_0_4"]


class _OnlyOrderedDict(pickle.Unpickler):
    """Opens the original's token table; anything but an OrderedDict is refused."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")


@pytest.fixture(scope="module")
def prep2k(golden):
    return golden / "tabformer" / "prep2k"


@pytest.fixture(scope="module")
def card2k(prep2k, tmp_path_factory):
    builder = CardTransactions(prep2k / "card2k.csv", cache_dir=str(tmp_path_factory.mktemp("card")))
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


def _label_encoded(raw):
    """Return field -> (our text -> the original's token): its LabelEncoder numbers sorted values."""
    fill = {"Errors?": "None", "Zip": 0.0, "Merchant State": "None", "Use Chip": "None"}
    tokens = {}
    for name in ("Errors?", "MCC", "Zip", "Merchant State", "Merchant City", "Merchant Name", "Use Chip"):
        column = raw[name].fill_null(fill[name]) if name in fill else raw[name]
        texts = [str(int(v)) if name == "Zip" else str(v).strip(" ,") for v in column.unique().sort()]
        tokens[name] = {text: str(number) for number, text in enumerate(texts)}
    return tokens


@pytest.mark.parametrize("variant", VARIANTS)
def test_paper_plan_gives_the_originals_windows_up_to_ids_inside_a_field(variant, prep2k, card2k, tmp_path):
    info = json.loads((prep2k / "info.json").read_text())[variant]
    arguments = info["args"]
    with open(prep2k / f"vocab_token2id.{variant}.bin", "rb") as file:
        token2id = _OnlyOrderedDict(file).load()
    golden_windows = load_file(prep2k / "windows.safetensors")

    rows, raw = card2k, pl.read_csv(prep2k / "card2k.csv")
    if "nrows" in arguments:
        rows, raw = rows.select(range(arguments["nrows"])), raw.head(arguments["nrows"])
    if "user_ids" in arguments:
        users = [int(u) for u in arguments["user_ids"]]
        rows = rows.select(np.flatnonzero(np.isin(rows["User"], users)))
        raw = raw.filter(pl.col("User").is_in(users))
    gpt2 = not arguments.get("mlm", True)
    edits = {name: {"num_bins": arguments.get("num_bins", 10)} for name in ("Timestamp", "Amount")}
    edits |= {"User": None} if arguments.get("skip_user", False) else {}
    plan = resolve_plan("paper_card").edit(sep_column=not gpt2, fields=edits)
    processor = TabBertProcessor(plan)
    encoded = prepare_rows(rows, processor, tmp_path / "rows", Split("paper", (1.0, 0.0, 0.0)))
    ours = windows(encoded, "train", arguments.get("seq_len", 10), arguments["stride"], label="every", pad=False)
    items = ours.__getitems__(list(range(len(ours))))
    ids = np.stack([item["input_ids"] for item in items])

    assert len(ours) == info["windows"]
    assert processor.vocab_size == info["vocab_size"]
    assert len(processor.fields) == info["ncols"]
    # each field's range holds as many ids, at the same place
    mine, theirs = processor.field_ranges, []
    for name in [f.name for f in plan.fields]:
        of_field = sorted(entry[0] for entry in token2id[name].values())
        theirs.append([of_field[0], of_field[-1] + 1])
        assert len(of_field) == info["field_sizes"][name]
    assert mine[: len(theirs)] == theirs
    # bin edges
    amount = next(f for f in processor._fitted if f.plan.name == "Amount")
    moment = next(f for f in processor._fitted if f.plan.name == "Timestamp")
    np.testing.assert_allclose(amount.edges, info["amount_bin_edges"], rtol=1e-14)
    np.testing.assert_allclose(moment.edges, info["timestamp_bin_edges"], rtol=1e-14)
    # ids, through the tokens behind them
    encoders = _label_encoded(raw)
    to_original = np.arange(processor.vocab_size)
    for one in processor._fitted:
        name = one.plan.name
        if one.edges is not None:
            tokens = [str(float(b)) for b in one.bins]
        else:
            tokens = [encoders[name][t] if name in encoders else t for t in one.tokens()]
        known = {str(token): entry[0] for token, entry in token2id[name].items()}
        for place, token in enumerate(tokens, one.first_value_id):
            to_original[place] = known[token]
    assert sorted(to_original) == list(range(processor.vocab_size))
    flat = to_original[ids].reshape(len(ids), -1)
    if gpt2:  # the original puts [BOS] before and [EOS] after each window
        first, last = (plan.special_tokens.index(token) for token in ("[BOS]", "[EOS]"))
        flat = np.pad(flat, ((0, 0), (1, 1)), constant_values=((0, 0), (first, last)))
    assert np.array_equal(flat, golden_windows[f"{variant}.input_ids"])
    # labels
    labels = np.stack([item["labels"] for item in items])
    assert np.array_equal(labels, golden_windows[f"{variant}.labels"])
    any_row = windows(encoded, "train", arguments.get("seq_len", 10), arguments["stride"], label="any", pad=False)
    assert np.array_equal(any_row.window_labels(), golden_windows[f"{variant}.window_label"])
    assert int(any_row.window_labels().sum()) == info["positive_windows"]
