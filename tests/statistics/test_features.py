"""Features of a row's past: against slow, obvious loops, and never from a later row."""

import itertools
import json
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from hf_mmtab.statistics import GROUPS, OldLabels, RowStatistics, TableColumns, seconds_of
from hf_mmtab.statistics.earlier import Earlier, FixedPoint, together
from hf_mmtab.statistics.row_statistics import _places

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


def in_time(columns, history):
    """Yield each row and its earlier rows of the same history, by the obvious loop.

    Of rows of the same time, those of the same card that stand before are earlier, and none for the user.
    """
    group, time = columns.histories[history], columns.time
    past = {}
    for row in np.argsort(time, kind="stable"):
        yield row, [r for r in past.get(group[row], []) if history == "user/card" or time[r] < time[row]]
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


def test_sums_are_exact_in_any_order_and_from_any_parts():
    rng = np.random.default_rng(3)
    values = np.round(rng.lognormal(3, 4, 5000) * 2**20) / 2**20 * rng.choice([-1, 1], 5000)
    values[::97], values[::89] = np.nan, np.inf
    exact = [Fraction(0), *itertools.accumulate(map(Fraction, np.where(np.isfinite(values), values, 0).tolist()))]
    fixed, moment = FixedPoint.of(values), np.zeros(5000, dtype=np.int64)
    words = fixed.words(values)
    for order in (np.arange(5000), rng.permutation(5000)):
        total = [word[order].sum() for word in words]
        assert fixed.numbers([np.array([one]) for one in total])[0] == float(exact[-1])
    past = Earlier(moment, moment)
    np.testing.assert_array_equal(past.total(values), [float(one) for one in exact[:-1]])
    late = Earlier(moment[3000:], moment[3000:])
    before = np.stack([np.full(2000, word[:3000].sum()) for word in words])
    np.testing.assert_array_equal(late.total(values[3000:], before=before), past.total(values)[3000:])


def test_what_rounding_leaves_of_a_sum_is_0():
    past = Earlier(np.zeros(4, int), np.arange(4))
    assert past.total(np.array([0.1, 0.2, -0.3, 5.0])).tolist() == [0, 0.1, 0.1 + 0.2, 0]
    assert past.total(np.array([1.0, -1.0, 1e-9, 5.0])).tolist() == [0, 1, 0, pytest.approx(1e-9, rel=1e-7)]


@pytest.mark.parametrize("later", [1e12, -1e17, 1e40, 1e300, np.inf])
def test_a_sum_is_the_same_however_large_later_numbers_are(later):
    values = np.random.default_rng(5).lognormal(0, 5, 1000) * np.resize([1, -1, -1], 1000)
    few = Earlier(np.arange(1000) % 3, np.arange(1000))
    more = Earlier(np.arange(1001) % 3, np.arange(1001))
    for made in ("total", "mean", "deviation"):
        found = getattr(more, made)(np.append(values, later))[:1000]
        np.testing.assert_array_equal(found, getattr(few, made)(values))


@pytest.mark.parametrize(("offset", "unit"), [(1e9, 1), (0, 1e-5), (5e21, 1e18), (0, 1e30)])
def test_the_spread_of_numbers_of_any_size_is_that_of_their_differences(offset, unit):
    values = offset + unit * np.array([0.0, 1, 2, 3])
    assert Earlier(np.zeros(4, int), np.arange(4)).deviation(values)[3] == pytest.approx(unit, rel=1e-5)


def test_combined_codes_differ_where_any_code_does():
    joint = together(np.array([0, 0, 1, 1]), np.array([-1, 0, -1, -1]))
    assert len(set(joint.tolist())) == 3
    assert joint[2] == joint[3]


@pytest.mark.parametrize("history", ["user/card", "user"])
def test_features_of_the_history_are_those_of_an_obvious_loop(columns, history):
    training = np.arange(len(columns)) % 3 > 0
    found = all_features(columns, training)
    shop = columns.categories["shop"]
    amount = columns.numbers["amount"]
    size = np.sign(amount) * np.log1p(np.abs(amount))
    share = np.array([max((shop[training] == value).sum(), 0.5) / training.sum() for value in shop])
    seconds = columns.time / 1e6
    surprise, new = np.empty(len(columns)), np.zeros(len(columns))
    for row, past in in_time(columns, history):
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


@pytest.mark.parametrize("factor", [1, 1e12, -1e17, 1e200])
@pytest.mark.parametrize("logarithmic", [{"amount"}, set()])
def test_changing_later_rows_changes_no_feature_of_earlier_ones(columns, factor, logarithmic):
    columns = replace(columns, logarithmic=logarithmic)
    now = np.median(columns.time)
    early = columns.time < now
    other = table_of(len(columns), seed=1)
    other.numbers["amount"] *= factor
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
        np.testing.assert_array_equal(before[name][early], after[name][early], name)
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
        np.testing.assert_array_equal(whole[name][early], part[name], name)


def test_a_row_sees_no_row_of_the_same_time_of_another_card_of_its_user(columns):
    """A file may name cards in any order, and rows of one second may come in two batches."""
    everything = np.ones(len(columns), dtype=bool)
    fitted = RowStatistics.fit(columns, everything)
    whole, seen = dict(fitted.features(columns)), 0
    for row in range(0, len(columns), 7):
        same_time = columns.time == columns.time[row]
        others = same_time & (columns.histories["user/card"] != columns.histories["user/card"][row])
        seen += (others & (columns.histories["user"] == columns.histories["user"][row])).any()
        part = dict(fitted.features(columns.take(np.flatnonzero(~others))))
        for name, values in whole.items():
            np.testing.assert_array_equal(part[name][row - others[:row].sum()], values[row], name)
    assert seen > 5


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


def test_without_a_time_nothing_is_counted_by_hours(columns):
    training = np.ones(len(columns), bool)
    timeless = replace(columns, time=np.arange(len(columns)), has_time=False)
    fitted = RowStatistics.fit(timeless, training)
    of_time = re.compile(r"of the last (hour|3 hours|day|week)|seconds")
    assert not [name for name in fitted.names if of_time.search(name)]
    # the others are all there, and those of rows come out as with a time in the same order
    timed = RowStatistics.fit(replace(timeless, has_time=True), training)
    assert fitted.names == [name for name in timed.names if not of_time.search(name)]
    again = RowStatistics.from_dict(json.loads(json.dumps(fitted.to_dict())))
    kept = [timed.names.index(name) for name in fitted.names]
    assert np.array_equal(again.table(timeless), timed.table(timeless)[:, kept], equal_nan=True)
    with pytest.raises(ValueError, match=r"statistics that a table without a time column has, found \['lately'\]"):
        RowStatistics.fit(timeless, training, ["lately"])
    with pytest.raises(ValueError, match="'\\*last hour\\*', which fits none"):
        RowStatistics.fit(timeless, training, ["*last hour*"])
    # statistics of version 0.1 have what they were fitted with
    old = {name: value for name, value in timed.to_dict().items() if name != "has_time"}
    assert RowStatistics.from_dict(old).table(timeless).shape[1] == len(timed.names)


def test_a_table_without_a_column_of_training_is_refused(columns):
    fitted = RowStatistics.fit(columns, np.ones(len(columns), bool))
    with pytest.raises(ValueError, match=r"statistics of training, found 78: without amount"):
        fitted.table(replace(columns, numbers={}))


def test_rows_out_of_the_order_of_time_are_refused():
    with pytest.raises(ValueError, match="found row 2 before row 1"):
        Earlier(np.zeros(3, int), np.array([0, 5, 4]))


def labelled(columns, seed=0, lag=9 * HOUR / 1e6, classes=("no", "yes")):
    """The columns with labels of which some are unknown, and what is read of them."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(len(columns)) < 0.2, np.nan, rng.random(len(columns)) < 0.4)
    return replace(columns, labels={"yes": labels}), OldLabels(lag, ["odd"], list(classes))


def of_labels(columns, old):
    return dict(RowStatistics.fit(columns, np.ones(len(columns), bool), ["labels"], old).features(columns))


def test_rates_of_labels_are_those_of_rows_that_are_old_enough(columns):
    columns, old = labelled(columns)
    found = of_labels(columns, old)
    labels, time = columns.labels["yes"], columns.time
    groups = {
        "user: yes: {}": columns.histories["user"],
        "user/card: yes: {}": columns.histories["user/card"],
        "yes: {} at this shop": columns.categories["shop"],
    }
    assert set(found) == {name.format(kind) for name in groups for kind in ("known labels", "mean of known labels")}
    for row in range(len(columns)):
        known = np.flatnonzero((time <= time[row] - 9 * HOUR) & np.isfinite(labels))
        usual = labels[known].mean() if len(known) else np.nan
        for name, group in groups.items():
            same = labels[known[group[known] == group[row]]]
            assert found[name.format("known labels")][row] == min(len(same), 100)
            expected = (same.sum() + usual) / (len(same) + 1)
            assert found[name.format("mean of known labels")][row] == pytest.approx(expected, nan_ok=True)


def test_recent_labels_and_later_rows_move_no_statistic(columns):
    """For every moment of a few: labels younger than the lag are permuted, and rows after the moment cut off."""
    columns, old = labelled(columns)
    whole = dict(RowStatistics.fit(columns, np.ones(len(columns), bool), "auto", old).features(columns))
    assert any("known labels" in name for name in whole)
    moved = 0
    for now in np.quantile(columns.time, [0.3, 0.6, 0.9]).astype(np.int64):
        recent = np.flatnonzero(columns.time > now - 9 * HOUR)
        shuffled = columns.labels["yes"].copy()
        shuffled[recent] = shuffled[np.random.default_rng(1).permutation(recent)] * 1e18
        other = replace(columns, labels={"yes": shuffled})
        kept = columns.time <= now
        fitted = RowStatistics.fit(columns, np.ones(len(columns), bool), "auto", old)
        part = dict(fitted.features(other.take(np.flatnonzero(kept))))
        for name, values in whole.items():
            np.testing.assert_array_equal(values[kept], part[name], name)
        after = dict(fitted.features(other))
        moved += sum(not np.allclose(whole[name], after[name], equal_nan=True) for name in whole)
    assert moved  # later rows do see the labels that were permuted


def test_a_label_counts_from_the_lag_on_and_not_before():
    hours = np.array([0, 1, 2, 10])
    columns = TableColumns(
        {"amount": np.arange(4.0)}, set(), {}, {}, {"": np.zeros(4, int)}, hours * HOUR, labels={"yes": np.ones(4)}
    )
    found = of_labels(columns, OldLabels(2 * 3600.0, ["odd"], ["no", "yes"]))
    assert found["yes: known labels"].tolist() == [0, 0, 1, 3]


def test_without_a_lag_no_label_is_a_statistic_and_a_saved_lag_comes_back(columns):
    with_labels, old = labelled(columns)
    training = np.ones(len(columns), bool)
    assert not any("labels" in name for name in RowStatistics.fit(with_labels, training).names)
    fitted = RowStatistics.fit(with_labels, training, "auto", old)
    again = RowStatistics.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again.old_labels == old
    assert np.array_equal(again.table(with_labels), fitted.table(with_labels), equal_nan=True)


@pytest.mark.parametrize(("text", "seconds"), [("7 days", 604_800), ("12 hours", 43_200), ("0.5 week", 302_400)])
def test_a_lag_is_a_number_and_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["7", "days", "0 days", "-1 day", "a week"])
def test_what_is_no_lag_is_refused(text):
    with pytest.raises(ValueError, match=r"Expected label_lag as a number above 0 and a unit .* such as 7 days"):
        seconds_of(text)


def test_labels_are_read_by_their_names():
    old = OldLabels(1.0, ["odd"], ["0", "1"])

    def read(values):
        return old.read(lambda _: pa.array(values), ["odd"], len(values))["1"].tolist()

    assert read(["1", "", None, "0"]) == pytest.approx([1, np.nan, np.nan, 0], nan_ok=True)
    assert read([1.0, None, 0.0]) == pytest.approx([1, np.nan, 0], nan_ok=True)
    assert np.isnan(read([None, None])).all()
    with pytest.raises(ValueError, match=r"labels that the model knows \(0, 1\) in column 'odd', found maybe"):
        read(["maybe", "1"])
    several = OldLabels(1.0, ["kind"], ["a", "b", "c"])
    found = several.read(lambda _: pa.array(["c", "a", None]), ["kind"], 3)
    assert {name: values[:2].tolist() for name, values in found.items()} == {"a": [0, 1], "b": [0, 0], "c": [1, 0]}
    coded = several.read(lambda _: pa.array([2, 0, None, -1]), ["kind"], 4)  # as a ClassLabel is held
    assert [values[:2].tolist() for values in coded.values()] == [[0, 1], [0, 0], [1, 0]]
    assert np.isnan(coded["a"][2:]).all()
    with pytest.raises(ValueError, match=r"labels that the model knows \(a, b, c\) in column 'kind', found 3"):
        several.read(lambda _: pa.array([3]), ["kind"], 1)
    numbers = OldLabels(1.0, ["heat"], []).read(lambda _: pa.array([3, None]), ["heat"], 2)["heat"]
    assert numbers.tolist() == pytest.approx([3, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("known", "given", "places"),
    [
        (["0.0", "1.5", "2"], ["0", "-0.0", "1.50", "2.0", "3", "x"], [0, 0, 1, 2, -1, -1]),
        (["0.0", "1.5", "x"], ["0", "1.50", "x"], [-1, -1, 2]),  # where one is a name, all are
        (["7", "007"], ["7.0", "007"], [-1, 1]),
        ([0.0, 1.5], ["0", "1.50", 1.5], [0, 1, 1]),
    ],
)
def test_a_value_that_training_met_is_found_in_another_spelling(known, given, places):
    assert _places(given, known).tolist() == places
