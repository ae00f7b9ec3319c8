"""Windows, splits, leaks, and the whole way from a table to rows on disk."""

import datetime
import io

import datasets
import numpy as np
import polars
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from hf_mmtab.commands.tables.window_blocks import WindowCut
from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.data.shards import preparing
from hf_mmtab.data.shards.preparing import prepare_rows, read_labels
from hf_mmtab.data.simulated_cards import N_DAYS, before_the_end, draw_chunk, fraud_plan, write_csv
from hf_mmtab.data.simulated_world import World
from hf_mmtab.data.windows.cutting import WindowDataset
from hf_mmtab.data.windows.encoded_rows import SPLITS, EncodedRows
from hf_mmtab.data.windows.histories import iter_tables, read_histories
from hf_mmtab.data.windows.splits import Split, leak_check, windows
from hf_mmtab.data.windows.window_index import cut_growing, cut_windows
from hf_mmtab.evaluation.scored_rows import judged_rows
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

START = datetime.datetime(2024, 1, 1)
PLAN = {
    "entity": "who",
    "time": "when",
    "label": "bad",
    "fields": {"shop": {}, "gap": {"kind": "time_gap", "num_bins": 4}},
}


def _events(lengths=(12, 3, 1, 30), shuffle=None, **columns):
    """Rows of several entities, one a day each; the value of `shop` says which row it is."""
    who = np.repeat(np.arange(len(lengths)), lengths)
    day = np.concatenate([np.arange(n) for n in lengths])
    table = pa.table(
        {
            "who": [f"w{i}" for i in who],
            "when": [START + datetime.timedelta(days=int(d)) for d in day],
            "shop": [f"{i}-{d}" for i, d in zip(who, day, strict=True)],
            "bad": [bool(d % 7 == 6) for d in day],
        }
        | columns
    )
    if shuffle is not None:
        table = table.take(pa.array(np.random.default_rng(shuffle).permutation(len(who))))
    return datasets.Dataset(table)


def _words(dataset, processor, i):
    words = processor.decode(dataset[i]["input_ids"])
    return words["shop"].to_pylist()


def test_windows_by_starts_cover_every_row_and_never_two_segments():
    index = cut_windows(np.array([0, 12, 15, 16]), np.array([12, 15, 16, 46]), seq_len=10, stride=5)
    spans = list(zip(index.start.tolist(), (index.start + index.length).tolist(), strict=True))

    assert spans[:2] == [(0, 10), (2, 12)]  # two rows were left over
    assert spans[2:4] == [(12, 15), (15, 16)]  # short histories
    assert spans[4:] == [(16, 26), (21, 31), (26, 36), (31, 41), (36, 46)]
    assert (index.label_start == 0).all()


def test_the_originals_windows_leave_out_what_is_short_or_left_over():
    index = cut_windows(np.array([0, 12]), np.array([12, 15]), seq_len=10, stride=5, pad=False)

    assert index.start.tolist() == [0]


def test_windows_by_ends_judge_every_row_once():
    index = cut_windows(np.array([5]), np.array([9]), seq_len=4, stride=1, context_start=np.array([3]), align="end")

    assert (index.start + index.length - 1).tolist() == [5, 6, 7, 8]
    assert index.start.tolist() == [3, 3, 4, 5]  # back into the context, not beyond it
    assert index.label_start.tolist() == [2, 2, 1, 0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("align", ["start", "end"])
def test_windows_equal_a_plain_loop(seed, align):
    random = np.random.default_rng(seed)
    rows = random.integers(1, 25, 40)
    start = np.concatenate([[0], np.cumsum(rows)[:-1]])
    stop = start + rows
    seq_len, stride = int(random.integers(1, 9)), int(random.integers(1, 9))
    expected = []
    for first, last in zip(start.tolist(), stop.tolist(), strict=True):
        if align == "end":
            ends = sorted(range(last, first, -stride))
            expected += [(max(first, e - seq_len), e) for e in ends]
        else:
            begins = list(range(first, last - seq_len + 1, stride))
            spans = [(b, b + seq_len) for b in begins]
            if not spans or spans[-1][1] < last:
                spans.append((max(first, last - seq_len), last))
            expected += spans
    index = cut_windows(start, stop, seq_len, stride, align=align)

    assert list(zip(index.start.tolist(), (index.start + index.length).tolist(), strict=True)) == expected


def test_a_window_needs_rows_and_steps():
    with pytest.raises(ValueError, match="seq_len and stride must be at least 1, got seq_len 0 and stride 5"):
        cut_windows(np.array([0]), np.array([5]), 0, 5)


def test_time_split_trains_on_earlier_rows_and_fits_on_nothing_else(tmp_path):
    processor = TabBertProcessor(PLAN)
    rows = prepare_rows(_events(), processor, tmp_path / "rows", Split("time", (0.5, 0.2, 0.3)))
    split = np.array(rows.split)

    for earlier, later in ((0, 1), (1, 2)):
        assert rows.time[split == earlier].max() < rows.time[split == later].min()
    assert processor.rows_fitted == (split == 0).sum()
    # values of later rows were not met in fitting
    unknown = processor.field_ranges[0][0]
    ids = rows.take(np.arange(len(rows)))[:, 0]
    assert (ids[split > 0] == unknown).all() and (ids[split == 0] != unknown).all()


def test_later_windows_may_look_back_but_are_not_judged_on_it(tmp_path):
    rows = prepare_rows(_events(), TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (0.5, 0.2, 0.3)))
    train = windows(rows, "train", seq_len=10, stride=5, label="every")
    test = windows(rows, "test", seq_len=10, stride=1, label="last")

    assert len(test) == int((np.array(rows.split) == SPLITS.index("test")).sum())  # each row judged once
    assert (np.array(rows.split)[test.index.start + test.index.length - 1] == SPLITS.index("test")).all()
    assert test.index.label_start.max() > 0
    assert (test.index.length[:1] == 10).all()
    leak = leak_check(train, test)
    assert leak["sharing_labelled_rows"] == 0 and leak["sharing_entities"] == leak["windows"]
    alone = windows(rows, "test", seq_len=10, stride=1, label="last", context=False)
    assert (alone.index.label_start == 0).all() and leak_check(train, alone)["sharing_rows"] == 0
    validation = windows(rows, "validation", seq_len=10, stride=10, label="every")
    for item in validation:
        assert (item["labels"][: item["label_start"]] == -100).all()


@pytest.mark.parametrize("stride", [3, 5, 8])
def test_evaluation_and_predict_give_each_row_the_same_rows_before_it(tmp_path, stride):
    rows = prepare_rows(_events(), TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (0.5, 0.2, 0.3)))
    read = {}
    for found, judged, _ in WindowCut(10, "row", every=True, stride=stride).blocks(rows):
        read |= dict(zip(judged.row.tolist(), found.index.start[judged.window].tolist(), strict=True))
    for split in ("validation", "test"):
        cut = windows(rows, split, seq_len=10, stride=stride, label="every")
        judged = judged_rows(cut)
        mine = dict(zip(judged.row.tolist(), cut.index.start[judged.window].tolist(), strict=True))
        assert sorted(mine) == np.flatnonzero(np.array(rows.split) == SPLITS.index(split)).tolist()
        assert mine == {row: read[row] for row in mine}


def test_entity_split_shares_no_entity(tmp_path):
    rows = prepare_rows(_events([5] * 40), TabBertProcessor(PLAN), tmp_path / "rows", Split("entity", seed=1))
    parts = {name: windows(rows, name, 4, 2) for name in SPLITS}
    leak = leak_check(parts["train"], parts["test"])

    assert (leak["sharing_rows"], leak["sharing_entities"]) == (0, 0)
    shares = np.bincount(np.array(rows.split), minlength=3) / len(rows)
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.03)


def test_paper_split_leaks_as_much_as_published(tmp_path, caplog):
    rows = prepare_rows(_events([400] * 5), TabBertProcessor(PLAN), tmp_path / "rows", "paper")
    parts = {name: windows(rows, name, 10, 5, label="any", pad=False) for name in SPLITS}
    leak = leak_check(parts["train"], parts["test"])
    leak_check(parts["train"], parts["test"], "validation")
    assert " test windows (" in caplog.text and " validation windows (" in caplog.text

    assert [len(parts[name]) for name in SPLITS] == [237, 79, 79]
    # a window shares rows with its two neighbours, each of which trains with probability 0.6: 1 - 0.4² = 0.84
    assert leak["sharing_rows_share"] == pytest.approx(0.84, abs=0.08)


@pytest.mark.parametrize("plan_order", ["grouped", "interleaved", "backwards"])
def test_order_is_established_whatever_the_order_of_the_file(plan_order, tmp_path):
    dataset = _events()
    expected = prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "expected", Split("entity"))
    table = dataset.data.table
    if plan_order == "interleaved":
        table = table.take(pa.array(np.argsort(np.array(table["when"]), kind="stable")))
    elif plan_order == "backwards":
        table = table.take(pa.array(np.arange(len(table))[::-1]))
    processor = TabBertProcessor(PLAN)
    rows = prepare_rows(datasets.Dataset(table), processor, tmp_path / "rows", Split("paper"))

    assert rows.entity_starts.tolist() == np.cumsum([0, *np.diff([*rows.entity_starts, len(rows)])[:-1]]).tolist()
    assert len(rows.entity_names) == 4
    data = windows(rows, "train", 50, 50)
    found = {}
    for i in range(len(windows(rows, "train", 50, 50, pad=True))):
        words = _words(data, processor, i)
        found[words[0].split("-")[0]] = [int(w.split("-")[1]) for w in words]
    for split in ("validation", "test"):
        more = windows(rows, split, 50, 50)
        for i in range(len(more)):
            words = _words(more, processor, i)
            found[words[0].split("-")[0]] = [int(w.split("-")[1]) for w in words]
    assert found == {str(i): list(range(n)) for i, n in enumerate((12, 3, 1, 30))}
    # the way back to the rows of the file
    numbers = np.arange(len(rows)) if rows.row_numbers is None else np.array(rows.row_numbers)
    assert sorted(numbers) == list(range(len(rows)))
    shops = np.array(table["shop"].to_pylist())[numbers]
    decoded = processor.decode(rows.take(np.arange(len(rows))))["shop"].to_pylist()
    assert shops.tolist() == decoded
    assert len(expected) == len(rows)


def test_rows_out_of_order_are_sorted_and_counted(tmp_path, caplog, monkeypatch):
    import hf_mmtab.data.windows.histories as histories

    said = []
    monkeypatch.setattr(histories.logger, "warning", said.append)
    prepare_rows(_events(shuffle=0), TabBertProcessor(PLAN), tmp_path / "rows", "paper")

    assert len(said) == 1
    assert "of 46 rows come after a later row of the same history (" in said[0]
    assert " more); the table is put in order by entity and time." in said[0]


def test_a_folder_may_be_called_like_a_pattern(tmp_path):
    rows = datasets.Dataset.from_dict({"user": [7, 8], "shop": ["a", "b"]})
    processor = TabBertProcessor({"entity": "user", "fields": {"shop": {}}}).fit(rows)
    prepare_rows(rows, processor, tmp_path / "run[1]*" / "rows", "paper")
    found = EncodedRows(tmp_path / "run[1]*" / "rows")
    assert found.entity_names["user"].to_list() == [7, 8]


def test_late_rows_are_counted_and_the_first_are_named_those_of_earlier_calls_are_not(tmp_path, caplog):
    at = [datetime.datetime(2024, 1, day) for day in (5, 6, 1, 4, 3, 2, 1)]
    rows = datasets.Dataset.from_dict({"user": [7, 8, 7, 8, 7, 8, 8], "at": at, "shop": list("abababa")})
    plan = {"entity": "user", "time": "at", "fields": {"shop": {}}}
    processor = TabBertProcessor(plan).fit(rows)

    prepare_rows(rows, processor, tmp_path / "all", "paper")
    assert (
        "4 of 7 rows come after a later row of the same history (user 7 at 2024-01-01 00:00:00, user 8" in caplog.text
    )
    assert "user 8 at 2024-01-02 00:00:00 and 1 more); the table is put in order by entity and time." in caplog.text
    caplog.clear()
    prepare_rows(rows, processor, tmp_path / "state", "paper", earlier=6)
    assert "1 of 1 new rows come after a later row of the same history (user 8 at 2024-01-01 00:00:00);" in caplog.text
    assert "Scores of earlier calls did not know them." in caplog.text
    caplog.clear()
    prepare_rows(rows, processor, tmp_path / "told", "paper", earlier=7)
    assert "come after a later row" not in caplog.text


def test_repeated_rows_of_earlier_calls_are_not_told_again(tmp_path, caplog):
    at = [datetime.datetime(2024, 1, 1)] * 5
    rows = datasets.Dataset.from_dict({"user": [7] * 5, "at": at, "shop": list("aabab")})
    processor = TabBertProcessor({"entity": "user", "time": "at", "fields": {"shop": {}}}).fit(rows)
    for earlier, told in ((0, "3 of 5 rows repeat"), (3, "2 of 2 rows repeat"), (4, "1 of 1 rows repeat")):
        prepare_rows(rows, processor, tmp_path / str(earlier), "paper", earlier=earlier)
        assert told in caplog.text
    caplog.clear()
    prepare_rows(rows, processor, tmp_path / "5", "paper", earlier=5)
    assert "repeat" not in caplog.text


def test_a_gap_does_not_slip_into_a_window(tmp_path):
    days = [0, 1, 2, 40, 41, 42, 43]
    dataset = _events([7], when=[START + datetime.timedelta(days=d) for d in days])
    rows = prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (1.0, 0.0, 0.0)))

    assert windows(rows, "train", 10, 10).index.length.tolist() == [7]
    cut = windows(rows, "train", 10, 10, max_gap=7 * 86_400)
    assert (cut.index.start.tolist(), cut.index.length.tolist()) == ([0, 3], [3, 4])


@pytest.mark.parametrize("shuffle", [None, 0])
def test_duplicate_rows_are_kept_and_counted_wherever_they_stand(shuffle, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(preparing.logger, "warning", said.append)
    when = [START] * 5 + [START + datetime.timedelta(days=1)] * 2 + [START] * 2
    shop = ["a", "a", "a", "b", "a", "a", "c", "a", "a"]
    size = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5]  # one bin holds them all
    dataset = _events([7, 2], shuffle, when=when, shop=shop, size=size, bad=[False] * 9)
    bins = {"kind": "numeric", "num_bins": 2}
    plan = {**PLAN, "fields": {**PLAN["fields"], "size": bins}}
    rows = prepare_rows(dataset, TabBertProcessor(plan), tmp_path / "rows", "paper")

    assert len(rows) == 9
    assert said == [
        "3 of 9 rows repeat an earlier row of the same history and time in every column. They are kept; if they are "
        "copies, remove them from the table."
    ]


def test_labels_that_are_missing_are_counted_per_window(tmp_path):
    bad = [None, True, None, None, False, True, None, None]
    dataset = _events([8], bad=bad)
    rows = prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (1.0, 0, 0)))

    def counted(label, stride):
        return [a.tolist() for a in windows(rows, "train", 2, stride, label=label, align="start").known_labels()]

    assert counted("last", 2) == [[1, 0, 1, 0], [1, 1, 1, 1]]
    assert counted("any", 2) == [[1, 0, 1, 0], [1, 1, 1, 1]]
    assert counted("every", 2) == [[1, 0, 2, 0], [2, 2, 2, 2]]
    with pytest.raises(ValueError, match="Expected windows with labels, found label=None"):
        windows(rows, "train", 2, 2).known_labels()


def test_window_labels_of_any_last_and_every_row(tmp_path):
    rows = prepare_rows(_events([14]), TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (1.0, 0, 0)))

    def labels(label):
        return [item["labels"] for item in windows(rows, "train", 7, 7, label=label, align="start")]

    assert labels("any") == [1, 1] and labels("last") == [1, 1]
    assert [x.tolist() for x in labels("every")] == [[0, 0, 0, 0, 0, 0, 1]] * 2
    five = windows(rows, "train", 5, 5, label="any", align="start")
    assert five.window_labels().tolist() == [0, 1, 1]
    assert rows.label_names == ["False", "True"]


def test_missing_labels_are_ignored(tmp_path):
    dataset = _events([4], bad=[None, None, True, None])
    rows = prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "rows", "paper")
    index = cut_windows(np.array([0]), np.array([4]), 2, 2)

    assert WindowDataset(rows, index, "any").window_labels().tolist() == [-100, 0]
    assert WindowDataset(rows, index, "last").window_labels().tolist() == [-100, -100]


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([True, None, False], [1, -100, 0], ["False", "True"]),
        (["no", "yes", "no"], [0, 1, 0], ["no", "yes"]),
        ([3, 5, None], [0, 1, -100], ["3", "5"]),
        ([0.5, None, 2.0], [[0.5], [np.nan], [2.0]], []),
    ],
)
def test_labels_are_classes_or_numbers(values, labels, names):
    found, found_names = read_labels(datasets.Dataset(pa.table({"y": values})), ["y"])

    np.testing.assert_array_equal(found, labels)
    assert found_names == names


def test_several_targets_are_numbers_per_row(tmp_path):
    plan = {"label": ["a", "b"], "fields": {"x": {}}}
    table = pa.table({"a": [1.0, 2.0, 3.0], "b": [4, None, 6], "x": ["u", "v", "u"]})
    rows = prepare_rows(datasets.Dataset(table), TabBertProcessor(plan), tmp_path / "rows", Split("time", (1.0, 0, 0)))

    assert windows(rows, "train", 2, 1, label="last")[1]["labels"].tolist()[0] == 2.0
    assert windows(rows, "train", 3, 3, label="every")[0]["labels"].shape == (3, 2)
    with pytest.raises(ValueError, match="only if the label is yes or no"):
        windows(rows, "train", 2, 1, label="any")
    with pytest.raises(ValueError, match="Expected numbers in the label column 'x', found string"):
        read_labels(datasets.Dataset(table), ["a", "x"])


def test_rows_without_labels_give_windows_without_labels(tmp_path):
    dataset = _events().remove_columns("bad")
    rows = prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "rows")

    assert set(windows(rows, "train")[0]) == {"input_ids", "label_start"}
    with pytest.raises(ValueError, match="Expected rows with a label column, found none"):
        windows(rows, "train", label="any")


def test_rows_are_opened_again_only_for_the_same_table_processor_and_split(tmp_path):
    dataset, processor = _events(), TabBertProcessor(PLAN)
    first = prepare_rows(dataset, processor, tmp_path / "rows")
    stamp = (tmp_path / "rows" / "rows.json").stat().st_mtime_ns

    again = prepare_rows(dataset, processor, tmp_path / "rows")
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "rows" / "rows.json").stat().st_mtime_ns == stamp
    other = prepare_rows(dataset, processor, tmp_path / "rows", Split("entity"))
    assert other.fingerprint != first.fingerprint
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("rows-*"))


def test_a_failure_leaves_no_half_written_rows(tmp_path):
    dataset, processor = _events(), TabBertProcessor(PLAN).fit(_events())

    def broken(tables):
        yield from ()
        raise OSError("No space left on device")

    processor.encode_batches = broken
    with pytest.raises(OSError, match="No space left"):
        prepare_rows(dataset, processor, tmp_path / "rows")
    assert list(tmp_path.iterdir()) == []


def test_items_batches_and_subsets_agree(tmp_path):
    rows = prepare_rows(_events(), TabBertProcessor(PLAN), tmp_path / "rows", Split("time", (1.0, 0, 0)))
    data = windows(rows, "train", 10, 5, label="any")
    batch = data.__getitems__([3, 0])

    assert np.array_equal(batch[0]["input_ids"], data[3]["input_ids"])
    assert batch[1]["labels"] == data[0]["labels"]
    assert batch[0]["input_ids"].dtype == np.int64
    without = data.without({"input_ids"})
    assert set(without[0]) == {"label_start", "labels"}
    assert without.fingerprint == data.fingerprint
    assert data.select([1]).fingerprint != data.fingerprint
    assert data.entities().tolist() == [0, 0, 1, 2, 3, 3, 3, 3, 3]
    assert rows.entity_names["who"].to_list() == ["w0", "w1", "w2", "w3"]


def test_a_split_that_leaves_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="time split of 4 rows leaves no row to train on: too few different times"):
        Split("time").rows(np.zeros(4, dtype=int), np.zeros(4, dtype=int))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("random",), "split must be one of time, entity, paper, got 'random'"),
        (("time", (0.5, 0.2, 0.2)), r"sum to 1, the first above 0, got \(0.5, 0.2, 0.2\)"),
    ],
)
def test_a_wrong_split_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Split(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"who": None}, r"Expected columns \['who'\], found"),
        ({"who": ["a"] * 45 + [None]}, "'who' names the entity and is missing in 1 rows of a batch .first: row 45"),
        ({"when": [None] + [START] * 45}, "'when' orders the rows and is missing in 1 rows of a batch .first: row 0"),
        ({"when": ["monday"] * 46}, "expected timestamps, dates or numbers, found string"),
    ],
)
def test_a_table_without_usable_keys_says_which_row(change, message, tmp_path):
    absent = [k for k, v in change.items() if v is None]
    dataset = _events(**{k: v for k, v in change.items() if v is not None}).remove_columns(absent)

    with pytest.raises(ValueError, match=message):
        prepare_rows(dataset, TabBertProcessor(PLAN), tmp_path / "rows")


def test_a_saved_slice_of_a_dataset_is_read_as_the_slice(tmp_path):
    _events().save_to_disk(str(tmp_path / "saved"))
    saved = datasets.load_from_disk(str(tmp_path / "saved"))
    parts = [saved, saved.select(range(5, 9)), saved.filter(lambda bad: bad, input_columns="bad")]

    for part in parts:
        read = pa.concat_tables(list(iter_tables(part, ["shop"])))
        assert read["shop"].to_pylist() == part["shop"][:]
    renamed = saved.rename_column("shop", "store")
    assert next(iter_tables(renamed, ["store"])).num_rows == 46


def test_interleaved_entities_are_numbered_by_first_appearance():
    found = read_histories(datasets.Dataset(pa.table({"a": [2, 1, 2, 3], "t": [1, 2, 3, 0]})), ["a"], "t")

    assert found.entity.tolist() == [0, 1, 0, 2]
    assert (found.grouped, found.late.tolist()) == (False, [])
    assert found.names["a"].to_list() == [2, 1, 3]


def test_simulated_cards_are_the_same_for_the_same_seed(fixtures, tmp_path):
    path = tmp_path / "again.csv"
    with open(path, "w", encoding="utf-8", newline="") as out:
        assert write_csv(World(6, 400, 0.02, seed=1), out) == (400, 8)

    assert path.read_bytes() == (fixtures / "cards_400.csv").read_bytes()
    with pytest.raises(ValueError, match="users must be between 1 and rows=3, got 5"):
        World(5, 3, 0.0, 0)


def test_in_version_2_a_popular_shop_does_not_give_the_first_payment_of_a_fraud_away():
    def told(version):
        """How well a shop's popularity tells the first payment of a fraud among payments at shops new to the user."""
        out = io.StringIO()
        write_csv(World(60, 60_000, 0.01, seed=5, version=version), out)
        out.seek(0)
        table = polars.read_csv(out, infer_schema_length=0).with_row_index()
        counts = table.group_by("Merchant Name").agg(popular=polars.len())
        table = table.join(counts, on="Merchant Name").sort("index")
        fraud = table["Is Fraud?"] == "Yes"
        first = fraud & ~fraud.shift(1, fill_value=False)
        new = table.select(polars.struct("User", "Merchant Name").is_first_distinct()).to_series()
        old_user = polars.Series(table.with_columns(n=polars.int_range(polars.len()).over("User"))["n"] > 300)
        kept = table.filter(new & old_user & (first | ~fraud))
        return roc_auc_score(first.filter(new & old_user & (first | ~fraud)), kept["popular"])

    assert told(1) > 0.75
    assert 0.4 < told(2) < 0.65  # purchases abroad and hotels stay rare
    with pytest.raises(ValueError, match="version must be one of 1, 2, 3, got 4"):
        World(5, 10, 0.0, 0, version=4)


def test_in_version_3_no_payments_are_heaped_on_the_last_minute_of_a_day():
    def drawn(version):
        world = World(300, 60_000, 0.01, seed=5, version=version)
        chunks = [draw_chunk(world, first, last, fraud_plan(world)) for first, last in world.chunks()]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in ("minute", "user", "fraud")}

    heaped, mended = drawn(2), drawn(3)
    assert (heaped["minute"] % 1440 == 1439).mean() > 0.003
    assert (mended["minute"] % 1440 == 1439).mean() < 0.001
    assert mended["minute"].min() >= 0
    assert mended["minute"].max() < N_DAYS * 1440
    assert mended["fraud"].sum() == heaped["fraud"].sum() == 600

    trips = np.array([N_DAYS * 1440 - 5, N_DAYS * 1440 + 2000, 700, 900])
    of_trip = np.array([0, 0, 1, 1])
    moved = before_the_end(World(5, 10, 0.0, 0, version=3), trips, of_trip)
    assert moved.tolist() == [N_DAYS * 1440 - 5 - 2880, N_DAYS * 1440 + 2000 - 2880, 700, 900]
    assert before_the_end(World(5, 10, 0.0, 0, version=2), trips, of_trip).tolist() == trips.tolist()


def test_card_table_to_windows(fixtures, tmp_path):
    builder = CardTransactions(fixtures / "cards_400.csv", cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    processor = TabBertProcessor("card")
    rows = prepare_rows(builder.as_dataset(split="train"), processor, tmp_path / "rows")
    train, test = (windows(rows, name, label="any") for name in ("train", "test"))

    assert len(rows) == 400 and rows.processor_fingerprint == processor.fingerprint
    assert min(np.diff([*rows.entity_starts, 400])) < 10  # short histories have a window, too
    covered = np.zeros(400, dtype=bool)
    for data in (train, windows(rows, "validation"), test):
        for start, length in zip(data.index.start, data.index.length, strict=True):
            covered[start : start + length] = True
    assert covered.all()
    assert isinstance(rows, EncodedRows) and np.array(rows.labels).sum() == 8


@pytest.mark.parametrize(("seq_len", "stride"), [(8, 4), (7, 3), (1, 1), (5, 5)])
def test_windows_of_a_growing_history_stay_where_they_are(seq_len, stride):
    def judged(pieces):
        """Row → where the window begins that judges it; each row once."""
        found = {}
        for start, stop in pieces:
            index = cut_growing(*(np.array([x]) for x in (start, stop)), seq_len, stride, np.array([100]))
            for begin, length, first in zip(index.start, index.length, index.label_start, strict=True):
                assert first < length <= seq_len and begin >= 100 and begin + length <= stop
                for row in range(begin + first, begin + length):
                    assert row not in found
                    found[row] = int(begin)
        return found

    longest = judged([(100, 150)])
    assert list(longest) == list(range(100, 150))
    for stop in (101, 107, 108, 109, 133):
        assert judged([(100, stop)]) == {row: begin for row, begin in longest.items() if row < stop}
        assert judged([(100, stop), (stop, 150)]) == longest
    assert all(row - begin >= min(seq_len - stride, row - 100) for row, begin in longest.items())
