"""Rows in shards are the rows of one machine: the same ids, windows, labels and order, read shard by shard."""

import json
import pickle

import numpy as np
import pytest
import torch
from sharding import in_shards
from test_windows_and_splits import PLAN, _events
from torch.utils.data import DataLoader

from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows import sharded_rows
from hf_mmtab.data.windows.shard_sampling import ShardSampler
from hf_mmtab.data.windows.sharded_rows import KEPT, ShardedRows
from hf_mmtab.data.windows.shifted_windows import shifted
from hf_mmtab.data.windows.splits import Split, leak_check, windows
from hf_mmtab.evaluation.cell_baselines import guess_masked_cells, most_frequent_ids
from hf_mmtab.evaluation.scored_rows import judged_rows, judging_window, labels_of, scored_rows
from hf_mmtab.evaluation.unseen_values import missing_cells_note, unseen_values
from hf_mmtab.models.tabbert.collating_tabbert import TabBertCollator
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor
from hf_mmtab.training.sampling import ImbalanceSampler

LENGTHS = (80, 1, 1, 63, 2, 55, 1, 90, 9, 9, 44, 1)


def cuts_of(rows):
    """Cut before and after each history of one row, so that shards of one row and empty ones come about."""
    lengths = np.diff(np.append(rows.entity_starts, len(rows)))
    alone = np.flatnonzero(lengths == 1)
    return sorted([*alone.tolist(), *(alone + 1).tolist(), len(lengths)])


@pytest.fixture(scope="module")
def processor():
    return TabBertProcessor(PLAN)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, processor):
    table = _events(LENGTHS, shuffle=0)
    return prepare_rows(table, processor, tmp_path_factory.mktemp("whole") / "rows", Split("time", (0.5, 0.2, 0.3)))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, whole, processor):
    return in_shards(whole, processor, tmp_path_factory.mktemp("sharded") / "rows", cuts_of(whole))


def test_all_that_is_known_of_a_row_is_as_on_one_machine(whole, sharded):
    assert len(sharded) == len(whole) and sharded.num_shards == 10 and sharded.num_entities == len(LENGTHS)
    lengths = [len(part) for part in sharded.parts()]
    assert 0 in lengths and 1 in lengths and max(lengths) > 50
    assert any(len(part) and not (part.split == 2).any() for part in sharded.parts())  # none of its rows is a test's
    some = np.random.default_rng(0).permutation(len(whole))
    assert (sharded.take(some) == whole.take(some)).all()
    assert (sharded.entity_starts == whole.entity_starts).all()
    for name in ("time", "split", "labels", "row_numbers"):
        ours, theirs = getattr(sharded, name), getattr(whole, name)
        assert ours.dtype == theirs.dtype and (np.array(ours) == theirs).all(), name
        assert (ours[some] == theirs[some]).all() and ours[7] == theirs[7] and ours[-1] == theirs[-1], name
        for piece in (slice(0, 0), slice(79, 82), slice(5, 9), slice(None, -3), slice(81, 82), slice(2, 190, 7)):
            assert (ours[piece] == theirs[piece]).all(), (name, piece)
    assert sharded.entity_names.equals(whole.entity_names) and sharded.time_bounds == whole.time_bounds
    assert (sharded.entity_of(some) == whole.entity_of(some)).all()
    assert all(sharded.names_of(place) == whole.names_of(place) for place in (0, 80, 81, 82, len(whole) - 1))


def test_counts_over_all_rows_are_the_same(whole, sharded, processor):
    assert (sharded.count_ids(0, processor.vocab_size) == whole.count_ids(0, processor.vocab_size)).all()
    for places in ("test", slice(None), np.array([3, 41, 150])):
        assert unseen_values(sharded, processor, places) == unseen_values(whole, processor, places)
    assert unseen_values(whole, processor, "test")  # there is something to compare
    told = missing_cells_note(whole, processor, "test", "test rows")
    assert told == missing_cells_note(sharded, processor, "test", "test rows")
    unknown = [-1] * len(processor.fields)
    found = [most_frequent_ids(rows, processor.field_ranges, unknown) for rows in (whole, sharded)]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("label", [None, "last", "any", "every"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_windows_are_the_same(whole, sharded, processor, label, split):
    one = windows(whole, split, seq_len=6, stride=3, label=label)
    many = windows(sharded, split, seq_len=6, stride=3, label=label)
    numbers = np.random.default_rng(1).permutation(len(one))

    assert len(many) == len(one) > 10 and many.fingerprint == one.fingerprint
    for place in ("start", "length", "label_start"):
        assert (getattr(many.index, place) == getattr(one.index, place)).all()
        assert (getattr(many.at(numbers), place) == getattr(one.at(numbers), place)).all()
    assert (many.entities() == one.entities()).all()
    for ours, theirs in zip(many.__getitems__(numbers.tolist()), one.__getitems__(numbers.tolist()), strict=True):
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    collator = TabBertCollator(processor, row_labels=label == "every", mlm=label is None, mask_unknown=True, seed=3)
    batches = [collator(found.__getitems__(numbers[:9].tolist())) for found in (one, many)]
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
    if label is None:
        usual = most_frequent_ids(whole, processor.field_ranges, [-1] * len(processor.fields))
        guesses = [guess_masked_cells(found, collator, usual) for found in (one, many)]
        assert (guesses[0] == guesses[1]).all() and guesses[0][2].sum() > 0
        return
    assert (many.class_counts() == one.class_counts()).all()
    assert all((ours == theirs).all() for ours, theirs in zip(many.known_labels(), one.known_labels(), strict=True))
    if label != "every":
        assert (many.window_labels() == one.window_labels()).all()
        assert (many.window_labels(numbers) == one.window_labels(numbers)).all()
    judged = judged_rows(one), judged_rows(many)
    assert (judged[0].row == judged[1].row).all() and (judged[0].window == judged[1].window).all()
    assert (judged[0].place == judged[1].place).all()
    assert (labels_of(many) == labels_of(one)).all()
    for found, known in zip((one, many), judged, strict=True):
        first = {row: place for place, row in reversed([*enumerate(known.row.tolist())])}  # of a row's windows
        for row, place in [*first.items()][::7]:
            assert judging_window(found, row) == (known.window[place], known.place[place])
    drawn = np.random.default_rng(2).normal(size=(len(one), 6, 2)).astype(np.float32)
    scored = [
        scored_rows(cut, drawn if label == "every" else drawn[:, 0], "single_label_classification")
        for cut in (one, many)
    ]
    for name in ("scores", "labels", "rows", "entities", "times"):
        assert np.array_equal(getattr(scored[0], name), getattr(scored[1], name)), name
    for chosen in (np.arange(len(one)) % 3 > 0, np.arange(0, len(one), 2), numbers[:5]):
        some, same = many.select(chosen), one.select(chosen)
        assert some.fingerprint == same.fingerprint and (some[2]["labels"] == same[2]["labels"]).all()
    assert "input_ids" not in many.without(["input_ids"])[3]
    nested = many.select(np.arange(len(one)) % 3 > 0).select(np.arange(4, 6))
    assert nested.fingerprint == one.select(np.arange(len(one)) % 3 > 0).select(np.arange(4, 6)).fingerprint


def test_what_leaks_is_counted_as_on_one_machine(whole, sharded):
    found = []
    for rows in (whole, sharded):
        train, test = (windows(rows, split, seq_len=6, stride=2, label="last") for split in ("train", "validation"))
        found.append(leak_check(train, test))
    assert found[0] == found[1] and found[0]["sharing_rows"] > 0


def test_windows_shift_with_the_epoch_inside_their_history_and_one_shard_shifts_as_the_table(
    tmp_path, whole, sharded, processor
):
    one = in_shards(whole, processor, tmp_path / "one", [])
    plain, alone, many = (
        shifted(windows(rows, "train", seq_len=6, stride=6), 6, None, 5) for rows in (whole, one, sharded)
    )
    everything = list(range(len(plain)))
    moved = []
    for epoch in (0, 1, 0):
        for cut in (plain, alone, many):
            cut.set_epoch(epoch)
        ids = [[item["input_ids"] for item in cut.__getitems__(everything)] for cut in (plain, alone, many)]
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*ids[:2], strict=True))
        index = many.index
        ends = index.start + index.length - 1
        assert (sharded.entity_of(index.start) == sharded.entity_of(ends)).all()
        assert (many.entities() == plain.entities()).all()
        moved.append(index.start)
    assert (moved[0] != moved[1]).any() and (moved[0] == moved[2]).all()


def test_only_a_few_shards_are_open_and_only_their_windows_worked_out(tmp_path, processor):
    table = _events((4,) * 60)
    whole = prepare_rows(table, processor, tmp_path / "whole", Split("time", (0.5, 0.25, 0.25)))
    rows = in_shards(whole, processor, tmp_path / "sharded", list(range(2, 60, 2)))
    cut = shifted(windows(rows, "train", seq_len=2, stride=1), 1, None, 0)

    assert rows.num_shards == 30 > KEPT
    for number in ShardSampler(cut.starts, seed=1):
        cut[number]
    assert len(rows._opened) == KEPT and len(cut._cache) == KEPT
    assert "entity_starts" not in rows.__dict__ and "entity_names" not in rows.__dict__
    opened = []
    rows.shard, before = (lambda number: opened.append(number) or before(number)), rows.shard
    for number in ShardSampler(cut.starts, seed=2):
        cut[number]
    assert len(opened) == 60 and opened[::2] == opened[1::2]  # each shard is cut into windows once an epoch
    assert sorted(opened[::2]) == list(range(30))


@pytest.mark.parametrize("drawn", [False, True])
def test_an_epoch_draws_each_window_and_reads_few_shards_at_a_time(drawn):
    starts = np.array([0, 30, 30, 70, 71, 100, 140, 190, 200, 260, 300])
    positive = np.arange(300) % 50 == 0
    inner = ImbalanceSampler(positive, positive_share=0.2, seed=3) if drawn else None
    sampler, again = ShardSampler(starts, 7, inner), ShardSampler(starts, 7, inner)
    sampler.set_epoch(2)
    first = list(sampler)

    assert len(first) == len(sampler)
    assert sorted(first) == (sorted(inner) if drawn else list(range(300)))
    again.set_epoch(2)
    assert list(again) == first
    again.set_epoch(3)
    assert list(again) != first and (drawn or sorted(again) == sorted(first))
    owner = np.searchsorted(starts, first, side="right") - 1
    last_seen = {shard: np.flatnonzero(owner == shard)[-1] for shard in set(owner.tolist())}
    begins = {shard: np.flatnonzero(owner == shard)[0] for shard in set(owner.tolist())}
    at_once = [sum(begins[s] <= place <= last_seen[s] for s in begins) for place in range(len(first))]
    assert max(at_once) <= sharded_rows.MIXED
    assert (np.diff(owner) != 0).mean() > 0.4  # they are mixed, not read one by one


@pytest.mark.slow
def test_rows_travel_to_another_process_as_their_folder(sharded):
    cut = windows(sharded, "train", seq_len=6, stride=3, label="last")
    found = pickle.loads(pickle.dumps(cut))
    assert len(pickle.dumps(cut)) < 20_000
    assert (found[5]["input_ids"] == cut[5]["input_ids"]).all()
    loader = DataLoader(cut, batch_size=4, num_workers=1, collate_fn=list, multiprocessing_context="spawn")
    loaded = [item["labels"] for batch in loader for item in batch]
    assert loaded == cut.window_labels().tolist()


def test_the_papers_split_is_refused_for_several_shards(sharded, monkeypatch):
    monkeypatch.setitem(sharded.facts, "split", {"kind": "paper", "fractions": [0.6, 0.2, 0.2], "seed": 0})
    with pytest.raises(ValueError, match=r"Expected split: time or entity of rows in 10 shards, found 'paper'"):
        windows(sharded, "train")


def _cut_off(path):
    path.write_bytes(path.read_bytes()[:-10])


def _overwrite(path):
    path.write_bytes(b"x" * path.stat().st_size)


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(path):
    other = path.with_name(path.name.replace("00003", "00004"))
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_cut_off, r"bytes in .* found \d"),
        (lambda path: path.unlink(), "found no such file: it is missing"),
        (lambda path: (path.unlink(), path.mkdir()), "found a folder of this name"),
        (_overwrite, "content with the hash"),
        (_flip_a_bit, "content with the hash"),
        (_swap, "bytes|content with the hash"),
    ],
)
@pytest.mark.parametrize("name", ["00003.arrow", "00003.entities.arrow"])
def test_a_damaged_shard_is_named_with_what_to_do(tmp_path, whole, processor, damage, found, name):
    folder = tmp_path / "rows"
    in_shards(whole, processor, folder, cuts_of(whole))
    damage(folder / "shards" / name)

    with pytest.raises(ValueError, match=found) as refused:
        len(windows(ShardedRows(folder), "train"))
    assert str(folder / "shards" / name) in str(refused.value)
    assert "Copy it anew from where it was made, or: delete the folder" in str(refused.value)
    assert "`hf-mmtab prepare` encodes the table anew" in str(refused.value)


def test_shards_of_before_hashes_are_read_and_a_file_that_is_none_is_named(tmp_path, whole, processor):
    folder = tmp_path / "rows"
    in_shards(whole, processor, folder, cuts_of(whole))
    facts = json.loads((folder / "rows.json").read_text())
    for shard in facts["shards"]:
        del shard["digests"]
    (folder / "rows.json").write_text(json.dumps(facts))
    assert len(windows(ShardedRows(folder), "train"))
    _overwrite(folder / "shards" / "00003.arrow")
    with pytest.raises(ValueError, match=r"Expected an Arrow file in .*00003.arrow"):
        len(windows(ShardedRows(folder), "train"))


def test_a_list_of_shards_that_lacks_what_it_must_say_is_refused(tmp_path, whole, processor):
    folder = tmp_path / "rows"
    in_shards(whole, processor, folder, cuts_of(whole))
    facts = json.loads((folder / "rows.json").read_text())
    (folder / "rows.json").write_text(json.dumps(facts | {"shards": [{}]}))
    with pytest.raises(ValueError, match=r"Expected rows, entities, times and bytes of each shard in .*rows.json"):
        ShardedRows(folder)


@pytest.mark.parametrize("label", ["last", "every"])
def test_windows_of_rows_with_other_labels_have_these(whole, sharded, label):
    labels = np.array(whole.labels[::-1])
    cut = {"split": "train", "seq_len": 6, "stride": 3, "label": label}
    expected = windows(whole.relabelled(labels), **cut)
    other = sharded.relabelled(labels)
    for found in (windows(other, **cut), windows(sharded, **cut).with_rows(other), windows(whole, **cut)):
        assert len(found) == len(expected)
        same = [(found[i]["labels"] == expected[i]["labels"]).all() for i in range(len(found))]
        assert all(same) == (found.rows is not whole)
    again = pickle.loads(pickle.dumps(other))  # as a worker of a loader gets it
    assert (np.concatenate([part.labels for part in again.parts()]) == labels).all()
    assert (np.array(sharded.labels) == whole.labels).all()
