"""Features of a row's past: against slow, obvious loops, and never from a later row."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hf_mmtab.statistics import GROUPS, RowStatistics, TableColumns
from hf_mmtab.statistics.earlier import Earlier, together

HOUR = 3_600_000_000  # microseconds


@pytest.fixture(scope="module")
def columns():
    return table_of(400)


def table_of(rows, seed=0):
    """Rows of 5 users with up to 2 cards, some of the same time, some cells missing."""
    rng = np.random.default_rng(seed)
    user, card = rng.integers(0, 5, rows), rng.integers(0, 2, rows)
    time = np.sort(rng.integers(0, rows // 2, rows)) * (HOUR // 3)
    history = together(user, card)
    order = np.lexsort((time, history))
    amount = np.round(rng.lognormal(3, 1, rows) * rng.choice([1, -1], rows, p=[0.9, 0.1]), 2)
    return TableColumns(
        {"amount": np.where(rng.random(rows) < 0.05, np.nan, amount)[order]},
        {"amount"},
        {
            "hour": (time // HOUR % 24)[order],
            "shop": np.where(rng.random(rows) < 0.05, -1, rng.integers(0, 12, rows))[order],
        },
        {"hour": 24},
        {"user/card": history[order], "user": user[order]},
        time[order],
    )


def all_features(columns, training):
    return dict(RowStatistics.fit(columns, training).features(columns))


def in_time(columns, group):
    """Yield each row and its earlier rows of the same group, by the obvious loop."""
    order = np.argsort(columns.time, kind="stable")
    past = {}
    for row in order:
        yield row, past.get(group[row], [])
        past.setdefault(group[row], []).append(row)


def test_counts_sums_and_means_of_the_past_are_those_of_a_loop():
    group = np.array([0, 1, 0, 0, 1, 0])
    time = np.array([0, 1, 2, 2, 5, 9]) * 1_000_000
    values = np.array([1.0, 10.0, np.nan, 4.0, 20.0, 6.0])
    past = Earlier(group, time)
    assert past.count().tolist() == [0, 0, 1, 2, 1, 3]
    assert past.count(seconds=4).tolist() == [0, 0, 1, 2, 0, 0]  # exactly 4 s ago is out
    assert past.count(rows=2).tolist() == [0, 0, 1, 2, 1, 2]
    assert past.total(values).tolist() == pytest.approx([0, 0, 1, 1, 10, 5])
    assert past.total(values, inclusive=True).tolist() == pytest.approx([1, 10, 1, 5, 30, 11])
    assert past.mean(values)[[2, 3, 4, 5]].tolist() == pytest.approx([1, 1, 10, 2.5])
    assert np.isnan(past.mean(values)[[0, 1]]).all()
    assert past.deviation(values)[5] == pytest.approx(np.std([1, 4], ddof=1))
    assert past.nth(values)[[3, 5]].tolist() == pytest.approx([np.nan, 4.0], nan_ok=True)
    assert past.nth(values, 3)[5] == 1.0


def test_between_histories_rows_of_the_same_time_are_not_earlier():
    past = Earlier(np.zeros(4, int), np.array([0, 1, 1, 2]) * 1_000_000, ties=False)
    assert past.count().tolist() == [0, 1, 1, 3]
    assert past.count(seconds=1.5).tolist() == [0, 1, 1, 2]
    assert past.mean(np.array([1.0, 2, 3, 4])).tolist() == pytest.approx([np.nan, 1, 1, 2], nan_ok=True)


def test_combined_codes_differ_where_any_code_does():
    joint = together(np.array([0, 0, 1, 1]), np.array([-1, 0, -1, -1]))
    assert len(set(joint.tolist())) == 3
    assert joint[2] == joint[3]


@pytest.mark.parametrize("history", ["user/card", "user"])
def test_features_of_the_history_are_those_of_an_obvious_loop(columns, history):
    training = np.arange(len(columns)) % 3 > 0
    found = all_features(columns, training)
    group, shop = columns.histories[history], columns.categories["shop"]
    amount = columns.numbers["amount"]
    size = np.sign(amount) * np.log1p(np.abs(amount))
    share = np.array([max((shop[training] == value).sum(), 0.5) / training.sum() for value in shop])
    seconds = columns.time / 1e6
    surprise, new = np.empty(len(columns)), np.zeros(len(columns))
    for row, past in in_time(columns, group):
        same = [r for r in past if shop[r] == shop[row]]
        surprise[row] = -np.log((len(same) + share[row]) / (len(past) + 1))
        new[row] = bool(past) and not same
        known = [size[r] for r in past if np.isfinite(size[r])]
        here = [size[r] for r in same if np.isfinite(size[r])]
        lately = [r for r in past if seconds[row] - seconds[r] < 86_400]
        expected = {
            "rows before": min(len(past), 100),
            "log seconds since row -3": np.log1p(seconds[row] - seconds[past[-3]]) if len(past) > 2 else np.nan,
            "rows of the last day": len(lately),
            "shop: rows before with this value": len(same),
            "shop: surprise": surprise[row],
            "shop: log seconds since this value": np.log1p(seconds[row] - seconds[same[-1]]) if same else np.nan,
            "shop: mean surprise of 3 rows": np.mean([surprise[r] for r in [*past[-2:], row]]),
            "shop: new values in 10 rows": sum(new[r] for r in [*past[-9:], row]),
            "shop: new values of the last day": sum(new[r] for r in [*lately, row]),
            "shop: rows of the last day with this value": len([r for r in lately if shop[r] == shop[row]]),
            "amount: beyond the mean before": size[row] - np.mean(known) if known else np.nan,
            "amount: deviations from the mean before": (
                (size[row] - np.mean(known)) / (np.std(known, ddof=1) + 1e-3) if len(known) > 1 else np.nan
            ),
            "amount: of the row before": size[past[-1]] if past else np.nan,
            "amount: sum of the last day": np.nansum([amount[r] for r in [*lately, row]]),
            "amount: beyond the mean before at this shop": size[row] - np.mean(here) if here else np.nan,
        }
        for name, value in expected.items():
            assert found[f"{history}: {name}"][row] == pytest.approx(value, abs=1e-6, nan_ok=True), (row, name)


def test_the_distance_of_an_hour_from_the_usual_goes_around_midnight(columns):
    hours = np.array([23, 1, 12, 0])
    night = TableColumns({}, set(), {"hour": hours}, {"hour": 24}, {"": np.zeros(4, int)}, np.arange(4) * HOUR)
    found = all_features(night, np.ones(4, bool))["hour: distance from the usual"]
    assert found[1] == pytest.approx(2.0)
    assert found[2] == pytest.approx(12.0)  # usual is midnight


def test_what_all_histories_had_lately_is_that_of_a_loop(columns):
    found = all_features(columns, np.ones(len(columns), bool))
    shop, time = columns.categories["shop"], columns.time
    amount = columns.numbers["amount"]
    size = np.sign(amount) * np.log1p(np.abs(amount))
    for row in range(len(columns)):
        before = np.flatnonzero((time < time[row]) & (shop == shop[row]))
        lately = before[time[row] - time[before] < 3 * HOUR]
        assert found["rows of the last 3 hours at this shop"][row] == len(lately)
        means = [np.nanmean(size[r]) if np.isfinite(size[r]).any() else np.nan for r in (lately, before)]
        assert found["amount: mean of the last 3 hours at this shop"][row] == pytest.approx(means[0], nan_ok=True)
        assert found["amount: beyond everybody's mean at this shop"][row] == pytest.approx(
            size[row] - means[1], nan_ok=True
        )


def test_changing_later_rows_changes_no_feature_of_earlier_ones(columns):
    now = np.median(columns.time)
    early = columns.time < now
    other = table_of(len(columns), seed=1)
    changed = TableColumns(
        {k: np.where(early, v, other.numbers[k]) for k, v in columns.numbers.items()},
        columns.logarithmic,
        {k: np.where(early, v, other.categories[k]) for k, v in columns.categories.items()},
        columns.periods,
        columns.histories,
        columns.time,
    )
    before, after = all_features(columns, early), all_features(changed, early)
    assert list(before) == list(after)
    assert len(before) > 80
    differ = 0
    for name in before:
        # beyond the rounding of long sums
        assert np.allclose(before[name][early], after[name][early], rtol=0, atol=1e-9, equal_nan=True), name
        differ += not np.array_equal(before[name][~early], after[name][~early], equal_nan=True)
    assert differ > 0.8 * len(before)  # what was changed is seen by the later rows


def test_leaving_out_later_rows_changes_no_feature_of_earlier_ones(columns):
    early = columns.time < np.median(columns.time)
    cut = TableColumns(
        {k: v[early] for k, v in columns.numbers.items()},
        columns.logarithmic,
        {k: v[early] for k, v in columns.categories.items()},
        columns.periods,
        {k: v[early] for k, v in columns.histories.items()},
        columns.time[early],
    )
    whole, part = all_features(columns, early), all_features(cut, early[early])
    for name in whole:
        assert np.allclose(whole[name][early], part[name], rtol=0, atol=1e-9, equal_nan=True), name


def test_a_value_that_training_never_met_counts_half_a_row_and_is_no_category_of_its_own():
    codes = np.array([0, 0, 1, 2, -1])
    columns = TableColumns({}, set(), {"shop": codes}, {}, {"": np.zeros(5, int)}, np.arange(5))
    training = np.array([True, True, True, False, False])
    known = RowStatistics.fit(columns, training).complete(columns)
    assert known.shares["shop"].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0.5 / 3, 0.5 / 3])
    assert known.native["shop"].tolist() == pytest.approx([0, 0, 1, np.nan, np.nan], nan_ok=True)


def test_a_later_table_has_the_statistics_that_training_would_give_its_rows(columns):
    """By value and not by rank: the later table lacks values, has others, and starts its histories anew."""
    training = columns.time < np.median(columns.time)
    columns = replace(columns, values={"shop": [f"s{i:02d}" for i in range(12)]})
    fitted = RowStatistics.from_dict(json.loads(json.dumps(RowStatistics.fit(columns, training).to_dict())))
    whole = fitted.table(columns)
    kept = np.flatnonzero(columns.histories["user"] < 3)
    shops = sorted({*columns.categories["shop"][kept]} - {-1})
    later = columns.take(kept)
    later = replace(
        later,
        values={"shop": ["before all", *(f"s{i:02d}" for i in shops)]},
        categories=later.categories
        | {"shop": np.array([-1 if c < 0 else shops.index(c) + 1 for c in later.categories["shop"]])},
    )
    found = fitted.table(later)
    of_all = [i for i, name in enumerate(fitted.names) if "at this" in name or "residual" in name]
    alone = [i for i in range(len(fitted.names)) if i not in of_all]
    assert len(alone) > 50
    assert np.allclose(found[:, alone], whole[kept][:, alone], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_statistics_are_chosen_by_group_name_and_pattern(columns):
    training = np.ones(len(columns), bool)

    def names(chosen):
        return RowStatistics.fit(columns, training, chosen).names

    everything = names("auto")
    assert names(["rhythm"])[:2] == ["user/card: rows before", "user/card: log seconds since row -1"]
    assert names("*: shop: surprise") == ["user/card: shop: surprise", "user: shop: surprise"]
    assert names(["amount", "*: shop: surprise"])[0] == "amount"
    assert names(list(GROUPS)) == everything
    few = RowStatistics.fit(columns, training, ["*: shop: surprise"])
    whole = dict(RowStatistics.fit(columns, training).features(columns))
    assert np.array_equal(few.table(columns)[:, 0], whole[few.names[0]].astype(np.float32))
    with pytest.raises(ValueError, match="found 'shops', which fits none"):
        names(["shops"])


def test_a_table_without_a_column_of_training_is_refused(columns):
    fitted = RowStatistics.fit(columns, np.ones(len(columns), bool))
    with pytest.raises(ValueError, match=r"statistics of training, found 78: without amount"):
        fitted.table(replace(columns, numbers={}))


def test_rows_out_of_the_order_of_time_are_refused():
    with pytest.raises(ValueError, match="found row 2 before row 1"):
        Earlier(np.zeros(3, int), np.array([0, 5, 4]))
