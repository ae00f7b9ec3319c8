"""Mergeable statistics: exact counts, quantiles with a stated error, the same however rows were cut."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mmtab.models.tabbert.processing.category_counts import CategoryCounts
from hf_mmtab.models.tabbert.processing.quantiles import QuantileSketch, bin_edges, count_edges_below
from hf_mmtab.models.tabbert.processing.text_numbers import parse_money
from hf_mmtab.models.tabbert.processing.values import stable_hash
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor


def _sketch(parts, limit):
    merged = QuantileSketch(limit)
    for part in parts:
        one = QuantileSketch(limit)
        for piece in np.array_split(part, 3):
            one.add(piece)
        merged.merge(one)
    return merged


@pytest.mark.parametrize("shares", [np.linspace(0, 1, 11), np.arange(51) * (1 / 50)])
def test_quantiles_are_numpys_to_the_last_bit_while_exact(shares):
    values = np.round(np.random.default_rng(0).lognormal(3, 1, 5000), 2)
    sketch = _sketch(np.array_split(values, 4), limit=2**18)

    assert sketch.error == 0.0
    assert np.array_equal(sketch.quantiles(shares), np.quantile(values, shares))


def test_quantiles_of_many_values_stay_within_the_stated_error():
    values = np.random.default_rng(1).lognormal(3, 2, 200_000) * np.random.default_rng(2).choice([-1, 1], 200_000)
    sketch = _sketch([values], limit=2**12)
    shares = np.linspace(0, 1, 33)

    assert 0 < sketch.error < 0.01
    assert len(sketch.values_and_counts()[0]) <= 2**12
    assert sketch.total == 200_000
    # an edge may also lie between two neighbouring values: compare where neighbours are close
    np.testing.assert_allclose(sketch.quantiles(shares), np.quantile(values, shares), rtol=2 * sketch.error)


@pytest.mark.parametrize("draw", ["lognormal", "normal", "uniform"])
def test_edges_of_many_values_stay_within_the_stated_error(draw):
    values = getattr(np.random.default_rng(4), draw)(size=200_000)
    whole, sketch = QuantileSketch(None), _sketch(np.array_split(values, 3), limit=2**12)
    whole.add(values)
    exact, found = (bin_edges(*one.middles_and_counts(), 32) for one in (whole, sketch))

    assert 0 < sketch.edge_error < 0.01 and whole.edge_error == 0
    np.testing.assert_allclose(found[1:-1], exact[1:-1], rtol=sketch.edge_error)
    assert np.array_equal(found[[0, -1]], exact[[0, -1]])


@pytest.mark.parametrize("limit", [2**8, 2**12, None])
def test_a_sketch_depends_on_the_values_not_on_how_they_were_cut(limit):
    values = np.random.default_rng(3).normal(100, 30, 20_000)
    whole = _sketch([values], limit)
    parts = _sketch(np.array_split(values[::-1], 7), limit)

    assert whole.bits == parts.bits
    for one, other in zip(whole.values_and_counts(), parts.values_and_counts(), strict=True):
        assert np.array_equal(one, other)


def test_counts_are_exact_and_merge_in_any_order():
    words = pa.array(["b", "a", None, "a", "c", "b", "a"])
    whole, left, right = (CategoryCounts("x") for _ in range(3))
    whole.add(words)
    left.add(words.slice(0, 3))
    right.add(words.slice(3))
    right.merge(left)

    assert whole.ranked().rows() == [("a", 3), ("b", 2), ("c", 1)]
    assert right.ranked().rows() == whole.ranked().rows()


def test_too_many_values_turn_into_hash_buckets_whatever_the_parts():
    words = pa.array([f"value {i % 500}" for i in range(2000)])
    whole, left, right = (CategoryCounts("x", buckets=None, limit=300) for _ in range(3))
    whole.add(words)
    left.add(words.slice(0, 250))  # below the limit by itself
    right.add(words.slice(250))
    left.merge(right)

    assert whole.ranked()["count"].sum() == 2000  # counted before it was hashed, then summed by bucket
    assert whole.hashed and left.hashed
    assert left.ranked().rows() == whole.ranked().rows()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=120), st.integers(1, 8), st.integers(1, 70), st.randoms())
def test_bounded_parts_merged_as_a_tree_count_as_one_pass_does(values, pieces, limit, random):
    def counted(part):
        counts = CategoryCounts("x", limit=limit)
        counts.add(pa.array(part, pa.int64()))
        return counts

    parts = [counted(part) for part in np.array_split(values, pieces)]
    random.shuffle(parts)
    while len(parts) > 1:
        for one, other in zip(parts[::2], parts[1::2], strict=False):
            one.merge(other)
        parts = parts[::2]
    whole = counted(values)

    assert parts[0].hashed == whole.hashed == (len(set(values)) > limit)
    assert parts[0].ranked().rows() == whole.ranked().rows()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["1", "1.0", "2", "3", ".5", "007", "a"]), min_size=1),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_parts_know_as_one_pass_does_whether_all_that_they_hashed_are_numbers(values, pieces, limit):
    def counted(part):
        counts = CategoryCounts("x", limit=limit)
        counts.add(pa.array(part.tolist(), pa.string()))
        again = CategoryCounts("x")
        again.load_state(*counts.state())  # as a part that was saved
        return again

    whole = counted(np.array(values, object))
    first, *others = map(counted, np.array_split(np.array(values, object), pieces))
    for one in others:
        first.merge(one)
    numbers = not {"007", "a"} & set(values)
    assert first.hashed == whole.hashed and (not whole.hashed or first.numbers == whole.numbers == numbers)


def test_the_user_is_told_of_sketched_edges_and_of_values_that_share_an_id(caplog):
    rng = np.random.default_rng(5)
    plan = {"hash_above": 200_000, "fields": {"shop": {}, "price": {"kind": "numeric"}, "few": {"kind": "numeric"}}}
    rows = pa.table({"shop": range(300_000), "price": rng.random(300_000), "few": rng.integers(0, 9, 300_000)})
    with caplog.at_level("INFO", "hf_mmtab"):
        processor = TabBertProcessor(plan).fit(rows)

    assert "hashed into 65536 ids, so that 95.3% of the values or more share an id with another." in caplog.text
    part = processor.__class__(plan)
    parts = [part.fit_part(rows.slice(first, 100_000)) for first in (0, 100_000, 200_000)]
    assert part.finish(parts[0].merge(parts[1]).merge(parts[2])).fingerprint == processor.fingerprint
    summary = {one["field"]: one["edge_error"] for one in processor.summary().rows(named=True)}
    assert 0 < summary["price"] < 1e-3 and summary["few"] == 0
    words = "has more than 262,144 different numbers: the edges of its bins are within"
    told = f"Field 'price' {words} {summary['price']:.1g}"
    assert told in caplog.text and "Field 'few'" not in caplog.text


def test_a_column_that_changes_its_type_is_an_error():
    counts = CategoryCounts("code")
    counts.add(pa.array([1, 2]))

    with pytest.raises(ValueError, match="Column 'code' changed its type from int64 to string between batches"):
        counts.add(pa.array(["1"]))


def test_hashes_are_the_published_ones_and_spread():
    # FNV-1a of "" and "a", from the algorithm's page, finalised as MurmurHash3 does without its second product
    def final(h):
        h ^= h >> 33
        h = h * 0xFF51AFD7ED558CCD % 2**64
        return h ^ (h >> 33)

    hashes = stable_hash(pa.array(["", "a", "foobar", None]))
    expected = [0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8, 0xCBF29CE484222325]
    assert hashes.tolist() == [final(h) for h in expected]
    spread = np.bincount((stable_hash(pa.array(range(100_000))) % np.uint64(64)).astype(int), minlength=64)
    assert spread.min() > 1400 and spread.max() < 1750
    assert np.array_equal(stable_hash(pa.array(["x", "a", "b"]).slice(1)), stable_hash(pa.array(["a", "b"])))


def test_amounts_are_read_in_the_ways_people_write_them():
    text = pa.array(["$12.30", "$-99.00", "-$1,234.5", "(7.00)", " 5 ", "€3", "", None, "about 4"])
    values, wrong = parse_money(text)

    assert values[:6].tolist() == [12.3, -99.0, -1234.5, -7.0, 5.0, 3.0]
    assert np.isnan(values[6:]).all()
    assert wrong.tolist() == [8]


def test_a_comma_that_does_not_part_thousands_is_no_amount():
    texts = ["9,66", "1.234,56", "2.000,00", "1,23,456", "12,345.5", "1,234,567", "-12,345", "1234,567"]
    values, wrong = parse_money(pa.array(texts))
    assert wrong.tolist() == [0, 1, 2, 3, 7]
    assert values[4:7].tolist() == [12345.5, 1234567.0, -12345.0]


def test_counting_edges_is_a_search_from_the_right():
    edges = np.array([0.0, 1.0, 1.0, 2.5])
    values = np.array([-np.inf, -1, 0, 0.5, 1, 2.5, 9, np.inf])

    assert np.array_equal(count_edges_below(edges, values), np.searchsorted(edges, values, side="right"))
    many = np.linspace(0, 1, 500)
    assert np.array_equal(count_edges_below(many, values), np.searchsorted(many, values, side="right"))


def numbers_in_bins(numbers, num_bins):
    """Return how many of the numbers lie in each bin, after checking the edges."""
    edges = bin_edges(*np.unique(numbers, return_counts=True), num_bins)
    assert edges[0] == min(numbers) and edges[-1] == max(numbers) and (np.diff(edges[:-1]) > 0).all()
    counts = np.bincount(count_edges_below(edges[1:-1], np.asarray(numbers, float)), minlength=len(edges) - 1)
    assert len(counts) <= num_bins and counts.all()
    return counts.tolist()


def test_few_different_numbers_get_a_bin_each():
    assert numbers_in_bins([0] * 97 + [1] * 3, 32) == [97, 3]
    assert numbers_in_bins(list(range(9)) * 10, 9) == [10] * 9
    assert numbers_in_bins([7.0], 32) == [1]


def test_a_dominant_number_is_told_from_the_rest_which_still_get_the_other_bins():
    rest = np.random.default_rng(0).uniform(1, 100, 320)
    zeros = numbers_in_bins([*np.zeros(10_000), *rest], 32)
    assert zeros[0] == 10_000 and len(zeros) == 32 and max(zeros[1:]) <= 12
    highest = numbers_in_bins([*rest, *np.full(10_000, 100)], 32)
    assert highest[-1] == 10_000 and len(highest) == 32
    between = numbers_in_bins([*rest, *np.full(10_000, 50)], 32)
    assert max(between) == 10_000 and len(between) >= 31


def test_bins_of_many_different_numbers_are_equally_full():
    assert set(numbers_in_bins(np.random.default_rng(0).normal(size=3200), 32)) <= {99, 100, 101}


def test_no_bin_is_empty_whatever_repeats():
    rng = np.random.default_rng(1)
    for _ in range(300):
        numbers = np.round(rng.exponential(size=int(rng.integers(1, 60))) * rng.integers(1, 9))
        repeated = np.repeat(numbers[: int(rng.integers(0, 3))], int(rng.integers(0, 60)))
        numbers_in_bins([*numbers, *repeated], int(rng.integers(1, 12)))


def _edges(values, **options):
    return bin_edges(*np.unique(values, return_counts=True), 32, **options)


def test_tails_have_bins_of_their_own_beside_the_equal_ones():
    values = np.random.default_rng(0).lognormal(3, 1, 50_000)
    plain, tails = _edges(values), _edges(values, tail_rows=20)
    counts = np.histogram(values, tails)[0]

    assert np.isin(plain, tails).all() and len(plain) == 33
    assert counts.min() >= 20 and len(tails) == 33 + 2 * 6  # 1562 rows, halved to 24
    upper = counts[-7:].astype(float)
    np.testing.assert_allclose(upper[1:-1] / upper[:-2], 0.5, atol=0.05)
    assert (values > tails[-2]).sum() < 60  # of 50,000; without tails the last bin has 1,562
    assert np.array_equal(_edges(-values, tail_rows=20), -tails[::-1]) or np.allclose(
        _edges(-values, tail_rows=20), -tails[::-1], rtol=0.02
    )


def test_a_frequent_outer_number_is_not_cut_and_few_rows_make_no_tail():
    zeros = np.concatenate([np.zeros(5000), np.random.default_rng(1).exponential(10, 2000)])
    assert (_edges(zeros, tail_rows=20) < 0.01).sum() <= 2  # the bin of zeros alone stays whole
    assert np.array_equal(_edges(np.arange(300.0), tail_rows=20), _edges(np.arange(300.0)))
    assert np.array_equal(_edges(np.array([1.0, 1.0, 2.0]), tail_rows=20), [1.0, 1.5, 2.0])


NUMBERS = pa.array(["5411", "1", "-2", "0.5"])
SPELLINGS = (
    pa.array(["5411.0", "1.00", "-2.", ".5"]),
    pa.array([5411, 1, -2, 0.5]),
    pa.array(["5411", "1e0", "-2", "5e-1"]),
)


@pytest.mark.parametrize("learned", [NUMBERS, *SPELLINGS])
@pytest.mark.parametrize("plan", [{"hash_buckets": 10_000}, {}])
def test_a_hashed_number_has_one_bucket_however_it_is_spelled(learned, plan, tmp_path):
    made = TabBertProcessor({"fields": {"code": plan}, "hash_above": 2})
    parts = [made.fit_part(pa.table({"code": learned[first : first + 2]})) for first in (0, 2)]
    processor = made.finish(parts[0].merge(parts[1]))
    ids = [processor.encode(pa.table({"code": one}))["code"].to_pylist() for one in (NUMBERS, *SPELLINGS)]
    assert len(set(ids[0])) == 4 and all(one == ids[0] for one in ids)
    processor.save_pretrained(tmp_path)
    loaded = TabBertProcessor.from_pretrained(tmp_path)
    assert loaded.fingerprint == processor.fingerprint
    assert loaded.encode(pa.table({"code": SPELLINGS[0]}))["code"].to_pylist() == ids[0]


@pytest.mark.parametrize("others", [["007"], ["a"], ["12345678901234567890"]])
def test_hashed_texts_that_are_not_all_numbers_keep_their_spelling(others):
    processor = TabBertProcessor({"fields": {"code": {"hash_buckets": 10_000}}})
    processor.fit(pa.table({"code": ["1", "1.0", "1e3", *others]}))
    ids = processor.encode(pa.table({"code": ["1", "1.0", "1e3", "1000"]}))["code"].to_pylist()
    assert len(set(ids)) == 4
