"""Baselines on the windows of a model: the same rows, learned from what training windows show, and what they refuse."""

import builtins
import datetime
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.evaluation.scored_rows import judged_rows, scored_rows
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.statistics import RowStatistics
from hf_mmtab.statistics.reading import read_columns
from hf_mmtab.table_baselines import BASELINES, TableBaselines, boosting, running
from hf_mmtab.table_baselines.amount import AmountTrees
from hf_mmtab.table_baselines.boosting import PARAMETERS, Features, fit_trees

START = datetime.datetime(2021, 3, 1)
PLAN = {
    "entity": ["user", "card"],
    "time": "when",
    "label": "bad",
    "fields": {
        "when.hour": {"kind": "time_part", "part": "hour"},
        "when.gap": {"kind": "time_gap", "num_bins": 4},
        "amount": {"kind": "money", "num_bins": 4},
        "amount.sign": {"kind": "sign", "column": "amount"},
        "shop": {"min_count": 2},
    },
}


def run_baseline(name, table, dataset, windows, threads=None):
    table = SimpleNamespace(rows=table.rows, processor=table.processor, dataset=dataset)
    return TableBaselines(table, windows, threads).run(name)


def events(rows=1500, seed=0, **columns):
    """A row is bad where its holder was never before at the shop: only the history tells."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 12, rows)
    shop = (user * 3 + rng.integers(0, 4, rows)) % 37
    odd = rng.random(rows) < 0.1
    shop[odd] = rng.integers(0, 37, odd.sum())
    met, bad = set(), []
    for one in zip(user.tolist(), shop.tolist(), strict=True):
        bad.append(int(one not in met))
        met.add(one)
    return datasets.Dataset.from_dict(
        {
            "user": user,
            "card": ["a"] * rows,
            "when": [START + datetime.timedelta(hours=int(i)) for i in range(rows)],
            "amount": [f"${a:.2f}" for a in rng.lognormal(3, 1, rows)],
            "shop": [f"s{i}" for i in shop],
            "bad": bad,
        }
        | columns
    )


def prepared(dataset, folder, plan=PLAN, split="time"):
    rows = prepare_rows(dataset, processor := TabBertProcessor(plan), folder / "rows", split)
    return SimpleNamespace(rows=rows, processor=processor, dataset=dataset)


def windows_of(table, label, stride=1, **more):
    splits = ("train", "validation", "test")
    return {s: windows(table.rows, s, seq_len=5, stride=stride, label=label, **more) for s in splits}


@pytest.fixture(scope="module")
def dataset():
    return events()


@pytest.fixture(scope="module")
def table(dataset, tmp_path_factory):
    return prepared(dataset, tmp_path_factory.mktemp("events"))


def test_columns_are_read_as_values_in_the_order_of_the_encoded_rows(dataset, table):
    columns = read_columns(dataset, table.rows, table.processor)
    source = dataset.with_format("numpy")
    order = np.lexsort((np.arange(len(dataset)), source["user"][:]))
    user = np.array(dataset["user"])
    for place in (0, 7, 900, 1499):
        raw = dataset[int(table.rows.row_numbers[place])]
        assert columns.numbers["amount"][place] == float(raw["amount"].strip("$"))
        assert columns.categories["when.hour"][place] == raw["when"].hour
        assert columns.time[place] == (raw["when"] - datetime.datetime(1970, 1, 1)) // datetime.timedelta(
            microseconds=1
        )
    names = np.array(dataset["shop"])[table.rows.row_numbers]
    codes = columns.categories["shop"]
    assert all(len(set(names[codes == code])) == 1 for code in np.unique(codes))  # also values met once
    assert list(columns.histories) == ["user/card", "user"]
    assert (np.diff(columns.histories["user"]) == np.diff(user[table.rows.row_numbers])).all() or len(order)
    assert columns.money == ["amount"]
    assert list(columns.numbers) == ["amount"]  # the sign says nothing that the amount does not


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("label", ["last", "every"])
def test_a_baseline_judges_the_rows_that_a_model_is_judged_on(dataset, table, name, label):
    cut = windows_of(table, label, stride=2)
    found = run_baseline(name, table, dataset, cut, threads=1)
    assert list(found) == ["validation", "test"]
    for split, scored in found.items():
        shape = (len(cut[split]), 5, 2) if label == "every" else (len(cut[split]), 2)
        model = scored_rows(cut[split], np.zeros(shape), "single_label_classification")
        for part in ("rows", "labels", "entities", "times"):
            assert np.array_equal(getattr(scored, part), getattr(model, part)), part
        assert ((scored.scores >= 0) & (scored.scores <= 1)).all()


def test_features_of_the_history_find_what_only_the_history_tells(dataset, table):
    cut = windows_of(table, "last")
    both = TableBaselines(table, cut, threads=1)
    rows, history = both.run("boosted_rows")["test"], both.run("boosted_history")["test"]
    assert average_precision_score(history.labels, history.scores) > 0.95
    assert average_precision_score(rows.labels, rows.scores) < 0.7


def test_a_seed_repeats_and_another_one_differs(dataset, table):
    both = TableBaselines(table, windows_of(table, "last"), threads=1)
    first = both.run("boosted_history", seed=1)["test"].scores
    assert np.array_equal(first, both.run("boosted_history", seed=1)["test"].scores)
    assert not np.array_equal(first, both.run("boosted_history", seed=2)["test"].scores)


def test_any_row_of_a_window_is_positive_with_the_probability_that_not_all_are_negative(dataset, table):
    every = windows_of(table, "every", stride=5)
    any_row = windows_of(table, "any", stride=5)
    per_row = run_baseline("amount", table, dataset, every)["test"]
    per_window = run_baseline("amount", table, dataset, any_row)["test"]
    by_row = dict(zip(per_row.rows.tolist(), per_row.scores.tolist(), strict=True))
    index = any_row["test"].index
    for i in range(len(index)):
        span = range(index.start[i] + index.label_start[i], index.start[i] + index.length[i])
        assert per_window.scores[i] == pytest.approx(1 - np.prod([1 - by_row[row] for row in span]))
    assert per_window.labels.tolist() == any_row["test"].window_labels().tolist()
    assert per_window.rows.tolist() == judged_rows(any_row["test"]).row.tolist()


def test_of_very_many_training_rows_all_positive_ones_are_kept_and_the_others_weighted(dataset, table, monkeypatch):
    cut = windows_of(table, "last")
    whole = TableBaselines(table, cut, threads=1)
    monkeypatch.setattr(running, "MOST_TRAINING_ROWS", 500)
    monkeypatch.setattr(running, "SCORED_AT_ONCE", 64)
    part = TableBaselines(table, cut, threads=1)
    labels = np.array(table.rows.labels)
    assert whole.weights is None
    assert len(part.fitted) == 500
    assert labels[part.fitted].sum() == labels[whole.fitted].sum()  # all positive rows
    assert part.weights.sum() == pytest.approx(len(whole.fitted))
    assert set(part.weights[labels[part.fitted] == 1]) == {1.0}
    scored = part.run("boosted_history")["test"]
    assert len(scored) == len(cut["test"])
    assert average_precision_score(scored.labels, scored.scores) > 0.9


def test_the_amount_is_judged_as_a_number_far_into_its_tail():
    amounts = np.sort(np.random.default_rng(0).lognormal(3, 1, 20_000))
    labels = np.zeros(20_000)
    labels[-60:-20] = 1  # a band within the topmost of 32 equal bins, 625 rows
    scores = AmountTrees(amounts, labels).predict(amounts)
    assert average_precision_score(labels, scores) > 0.75
    missing = np.where(np.arange(20_000) % 10 == 0, np.nan, 5.0)
    found = AmountTrees(missing, np.isnan(missing)).predict(np.array([np.nan, 5.0, np.inf]))
    assert found[0] == found[2] > 0.9 > 0.1 > found[1]


def test_rows_give_numbers_as_they_are_also_where_the_model_has_categories_or_bins(tmp_path):
    codes = np.arange(300) * 7 % 100
    data = events(300).add_column("code", codes).add_column("name", codes + 2**40)
    fields = PLAN["fields"] | {"code": {}, "name": {}}
    table = prepared(data, tmp_path / "codes", PLAN | {"fields": fields})
    columns = read_columns(data, table.rows, table.processor)
    statistics = RowStatistics.fit(columns, np.ones(300, dtype=bool), ["row"])
    made = dict(statistics.features(columns))
    order = np.arange(300) if table.rows.row_numbers is None else np.array(table.rows.row_numbers)
    assert made["code as a number"].tolist() == codes[order].tolist()
    assert made["amount"].tolist() == [float(data["amount"][int(i)][1:]) for i in order]
    assert "name as a number" not in made  # float32 would not tell such names apart


def test_more_than_two_classes_and_several_targets_have_a_column_each(tmp_path):
    data = events(300)
    kinds = data.add_column("kind", [("a", "b", "c")[i % 3] for i in range(300)])
    table = prepared(kinds, tmp_path / "kinds", PLAN | {"label": "kind"})
    scores = run_baseline("boosted_rows", table, kinds, windows_of(table, "last"), threads=1)["test"].scores
    assert scores.shape[1] == 3
    assert scores.sum(axis=1) == pytest.approx(1)
    numbers = data.add_column("x", np.arange(300.0)).add_column("y", [*np.arange(299.0), None])
    table = prepared(numbers, tmp_path / "numbers", PLAN | {"label": ["x", "y"]})
    found = run_baseline("boosted_history", table, numbers, windows_of(table, "every"), threads=1)["test"]
    assert found.scores.shape == found.labels.shape == (len(found), 2)


def test_of_few_positive_rows_two_boosters_of_other_shapes_are_averaged(monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 4)).astype(np.float32)
    features = Features(["a", "b", "c", "d"], values, [])
    labels = (values[:, 0] + values[:, 1] * values[:, 2] > 1).astype(np.int64)
    stops = features.select(np.arange(400, 600)), labels[400:]
    train = features.select(np.arange(400)), labels[:400]
    both = fit_trees(*train, stops, 2)
    leaves = [max(tree["num_leaves"] for tree in one.dump_model()["tree_info"]) for one in both.boosters]
    assert len(leaves) == 2 and leaves[1] <= 8 < leaves[0]
    odds = [one.predict(values, raw_score=True) for one in both.boosters]
    np.testing.assert_allclose(both.log_odds(features), (odds[0] + odds[1]) / 2)
    again = fit_trees(*train, both.rounds, 2)  # as a fusion fits them on a part of the rows
    np.testing.assert_allclose(again.predict(features), both.predict(features))
    monkeypatch.setattr(boosting, "FEW_POSITIVES", 0)
    one = fit_trees(*train, stops, 2)
    assert len(one.boosters) == 1
    np.testing.assert_allclose(one.log_odds(features), odds[0])


def test_without_lightgbm_the_message_says_how_to_install_it(dataset, table, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "lightgbm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install lightgbm"):
        run_baseline("boosted_rows", table, dataset, windows_of(table, "last"))


def test_a_plan_without_anything_to_make_features_of_is_refused(dataset, tmp_path):
    bare = prepared(dataset, tmp_path, PLAN | {"fields": {"when.gap": {"kind": "time_gap", "num_bins": 4}}})
    with pytest.raises(ValueError, match="found no number, category or calendar part"):
        run_baseline("boosted_rows", bare, dataset, windows_of(bare, "last"))


def test_what_a_baseline_cannot_do_is_named(dataset, table, tmp_path):
    cut = windows_of(table, "last")
    with pytest.raises(ValueError, match="Expected a baseline among amount, boosted_rows, boosted_history, found 'x'"):
        run_baseline("x", table, dataset, cut)
    with pytest.raises(ValueError, match=r"found train\. Add validation"):
        run_baseline("amount", table, dataset, {"train": cut["train"]})
    with pytest.raises(ValueError, match="Expected the 1500 rows that were encoded, found a table of 9"):
        run_baseline("amount", table, dataset.select(range(9)), cut)
    plan = PLAN | {"fields": {"shop": {}, "when.gap": {"kind": "time_gap", "num_bins": 4}}}
    poor = prepared(dataset, tmp_path / "poor", plan)
    with pytest.raises(ValueError, match=r"Expected a field of kind money .*found shop \(categorical\)"):
        run_baseline("amount", poor, dataset, windows_of(poor, "last"))
    kind = dataset.add_column("kind", [("a", "b", "c")[i % 3] for i in range(1500)])
    three = prepared(kind, tmp_path / "three", PLAN | {"label": "kind"})
    with pytest.raises(ValueError, match="two classes for the baseline amount, found 3 classes"):
        run_baseline("amount", three, kind, windows_of(three, "last"))
    same = dataset.remove_columns("bad").add_column("bad", [0] * 1499 + [1])
    one = prepared(same, tmp_path / "one")
    with pytest.raises(ValueError, match=r"at least two classes, found only class \[0\]"):
        run_baseline("boosted_rows", one, same, windows_of(one, "last"), threads=1)
    bare = prepared(dataset.remove_columns("bad"), tmp_path / "bare")
    with pytest.raises(ValueError, match="found a table without a label column"):
        run_baseline("amount", bare, dataset, {"train": None, "validation": None})
    unknown = dataset.remove_columns("bad").add_column("bad", [0, 1] * 400 + [None] * 700)
    half = prepared(unknown, tmp_path / "half")
    with pytest.raises(ValueError, match="Expected validation rows with a label to fit baselines on, found none"):
        run_baseline("boosted_rows", half, unknown, windows_of(half, "last"), threads=1)


def test_trees_read_rows_block_by_block_and_are_those_of_a_table_in_memory(monkeypatch):
    lightgbm = pytest.importorskip("lightgbm")
    monkeypatch.setattr("hf_mmtab.table_baselines.boosting.READ_AT_ONCE", 70)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(900, 4)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 3] = rng.integers(0, 5, 900)
    labels = (np.nan_to_num(values[:, 0]) + (values[:, 3] == 2) > 0.8).astype(np.float64)
    features, fitted = Features(["a", "b", "c", "d"], values, [3]), rng.permutation(900)[:500]
    trees = fit_trees(features.select(fitted), labels[fitted], [12], 2, threads=1)

    settings = {**PARAMETERS, "seed": 0, "num_threads": 1, "objective": "binary", "metric": "binary_logloss"}
    whole = lightgbm.Dataset(values[fitted], label=labels[fitted], categorical_feature=[3], params={"verbosity": -1})
    expected = lightgbm.train(settings, whole, num_boost_round=12)
    np.testing.assert_array_equal(trees.log_odds(features), expected.predict(values, raw_score=True))
    assert trees.log_odds(features).std() > 0.1
