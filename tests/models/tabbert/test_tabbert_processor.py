"""The processor: ids, unknown and missing values, merging parts, saving, messages."""

import datetime
import json
import logging
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoProcessor

import hf_mmtab  # noqa: F401 registers with the Auto classes
from hf_mmtab import TabBertCollator, Table
from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.models.tabbert.configuration_tabbert import TabBertConfig
from hf_mmtab.models.tabbert.processing.fitting import TabBertStatistics
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.models.tabbert.processing.quantiles import elapsed_text, number_text
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

MIDNIGHT = datetime.datetime(2024, 2, 28, 23, 0)  # a Wednesday in a leap year


@pytest.fixture(scope="module")
def cards(fixtures, tmp_path_factory):
    builder = CardTransactions(fixtures / "cards_400.csv", cache_dir=str(tmp_path_factory.mktemp("cards")))
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


@pytest.fixture(scope="module")
def processor(cards):
    return TabBertProcessor("card").fit(cards)


def _table(**columns):
    hours = [0, 1, 30, 2, 2]
    rows = {
        "who": [1, 1, 1, 2, 2],
        "when": [MIDNIGHT + datetime.timedelta(hours=h) for h in hours],
        "price": [1.0, -2.0, 0.0, 4.0, 8.0],
        "shop": ["a", "b", "a", "c", "a"],
    }
    return pa.table(rows | columns)


PLAN = {
    "entity": "who",
    "time": "when",
    "fields": {
        "when.weekday": {"kind": "time_part", "part": "weekday"},
        "when.month": {"kind": "time_part", "part": "month"},
        "when.day": {"kind": "time_part", "part": "day"},
        "when.hour": {"kind": "time_part", "part": "hour"},
        "gap": {"kind": "time_gap", "num_bins": 2},
        "price": {"kind": "numeric", "num_bins": 2},
        "sign": {"kind": "sign", "column": "price"},
        "shop": {},
    },
}


def test_rows_become_words_and_words_come_back():
    processor = TabBertProcessor(PLAN).fit(_table())
    words = processor.decode(processor.encode(_table())).to_pydict()

    assert words["when.weekday"] == ["2", "3", "4", "3", "3"]  # Monday is 0
    assert words["when.month"] == ["2", "2", "3", "2", "2"]
    assert words["when.day"] == ["28", "29", "1", "29", "29"]
    assert words["when.hour"] == ["23", "0", "5", "1", "1"]
    # the gaps 1 h, 29 h and 0 h; a first row has none
    assert words["gap"] == ["[MISSING]", "[30 min, 29 h]", "[30 min, 29 h]", "[MISSING]", "[0 s, 30 min)"]
    assert words["price"] == ["[0.5, 8]", "[-2, 0.5)", "[-2, 0.5)", "[0.5, 8]", "[0.5, 8]"]
    assert words["sign"] == ["positive", "negative", "zero", "positive", "positive"]
    assert words["shop"] == ["a", "b", "a", "c", "a"]


def test_ids_are_specials_then_one_range_per_field():
    processor = TabBertProcessor(PLAN).fit(_table())
    ranges = processor.field_ranges

    assert [processor.pad_token_id, processor.cls_token_id] == [0, 1]
    assert [processor.sep_token_id, processor.mask_token_id] == [2, 3]
    assert ranges[0] == [4, 4 + 2 + 3]  # the weekdays that were met
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert processor.vocab_size == ranges[-1][1]
    ids = processor.encode(_table())
    for (start, end), name in zip(ranges, processor.fields, strict=True):
        assert all(start <= i < end for i in ids[name].to_pylist())
    # most frequent value first
    assert processor.decode(np.array([[r[0] + 2 for r in ranges]]))["shop"].to_pylist() == ["a"]


def test_a_config_is_built_from_the_processor_and_names_it():
    processor = TabBertProcessor(PLAN).fit(_table())
    config = TabBertConfig(**processor.config_kwargs())

    assert config.fields == processor.fields
    assert config.numeric_ranges == {"gap": [26, 28], "price": [30, 32]}
    assert config.processor_fingerprint == processor.fingerprint
    other = TabBertProcessor(PLAN).fit(_table(shop=["x", "y", "x", "z", "x"]))
    assert other.fingerprint != processor.fingerprint


def test_a_calendar_part_or_sign_that_training_never_had_is_unk():
    processor = TabBertProcessor(PLAN).fit(_table(price=[1.0, 2.0, 3.0, 4.0, 8.0]))
    later = [MIDNIGHT + datetime.timedelta(days=days) for days in (0, 40, 80, 120, 160)]
    words = processor.decode(processor.encode(_table(when=later, price=[1.0, -1.0, 0.0, 5.0, None]))).to_pydict()

    assert words["when.month"] == ["2", "[UNK]", "[UNK]", "[UNK]", "[UNK]"]
    assert words["when.day"] == ["28", "[UNK]", "[UNK]", "[UNK]", "[UNK]"]
    assert words["sign"] == ["positive", "[UNK]", "[UNK]", "positive", "[MISSING]"]
    assert processor.decode(np.array([[start for start, _ in processor.field_ranges]]))["sign"][0].as_py() == "[UNK]"


def _dated(days):
    return pa.table({"when": [MIDNIGHT + datetime.timedelta(hours=7 * i) for i in range(days * 24 // 7)]})


COVERED = {
    "time": "when",
    "fields": {
        f"when.{part}": {"kind": "time_part", "part": part, "keep": "covered"} for part in ("month", "weekday", "hour")
    },
}


@pytest.mark.parametrize(("days", "kept"), [(200, ["weekday", "hour"]), (400, ["month", "weekday", "hour"])])
def test_a_month_stays_out_where_training_does_not_go_through_the_year(days, kept, caplog):
    logging.getLogger("hf_mmtab").addHandler(caplog.handler)
    parts = [TabBertProcessor(COVERED).fit_part(piece) for piece in (_dated(days).slice(0, 99), _dated(days).slice(99))]
    processor = TabBertProcessor(COVERED).finish(parts[1].merge(parts[0]))
    logging.getLogger("hf_mmtab").removeHandler(caplog.handler)

    assert processor.fields == [f"when.{part}" for part in kept]
    assert [field.name for field in processor.plan.fields] == processor.fields
    told = "Field 'when.month' is left out: the training rows have no January, October, November and 1 more"
    assert (told in caplog.text) == ("month" not in kept)
    assert processor.fingerprint == TabBertProcessor(COVERED).fit(_dated(days)).fingerprint


def test_an_hour_that_never_occurs_is_no_gap_in_the_training_period():
    noon = [datetime.datetime(2024, 1, 1 + day, hour) for day in range(20) for hour in (9, 12, 17)]
    processor = TabBertProcessor(COVERED).fit(pa.table({"when": noon}))

    assert processor.fields == ["when.weekday", "when.hour"]  # twenty days go through the clock, not the year
    always = {**COVERED["fields"]["when.month"], "keep": "always"}
    kept = TabBertProcessor({**COVERED, "fields": {**COVERED["fields"], "when.month": always}})
    assert "when.month" in kept.fit(pa.table({"when": noon})).fields


def test_a_tail_that_matters_keeps_its_amounts_apart_however_the_rows_were_cut():
    amounts = np.random.default_rng(0).lognormal(3, 1, 20_000)
    plan = {"fields": {"amount": {"kind": "money", "binning": "tails"}}}
    whole = TabBertProcessor(plan).fit({"amount": amounts})
    parts = [TabBertProcessor(plan).fit_part({"amount": piece}) for piece in np.array_split(amounts[::-1], 5)]
    for part in parts[1:]:
        parts[0].merge(part)

    assert TabBertProcessor(plan).finish(parts[0]).fingerprint == whole.fingerprint
    large = whole.encode({"amount": np.quantile(amounts, [0.97, 0.985, 0.995, 0.9985])})["amount"].to_pylist()
    assert len(set(large)) == 4
    plain = TabBertProcessor({"fields": {"amount": {"kind": "money"}}}).fit({"amount": amounts})
    assert len(set(plain.encode({"amount": np.quantile(amounts, [0.97, 0.985, 0.995])})["amount"].to_pylist())) == 1


def test_unseen_value_becomes_unk_and_missing_value_missing():
    processor = TabBertProcessor(PLAN).fit(_table())
    later = _table(shop=["new", None, "", "a", "b"], price=[None, float("nan"), 1e9, -1e9, 2.0])
    words = processor.decode(processor.encode(later)).to_pydict()

    assert words["shop"] == ["[UNK]", "[MISSING]", "[MISSING]", "a", "b"]
    assert words["price"] == ["[MISSING]", "[MISSING]", "[0.5, 8]", "[-2, 0.5)", "[0.5, 8]"]
    assert words["sign"] == ["[MISSING]", "[MISSING]", "positive", "negative", "positive"]


def test_rare_values_become_unk():
    plan = {"fields": {"shop": {"min_count": 2}, "town": {"max_values": 1}}}
    rows = {"shop": ["a", "a", "b"], "town": ["x", "y", "y"]}
    processor = TabBertProcessor(plan).fit(rows)

    assert processor.decode(processor.encode(rows)).to_pydict() == {
        "shop": ["a", "a", "[UNK]"],
        "town": ["[UNK]", "y", "y"],
    }


@pytest.mark.parametrize("kind", [pl.String, pl.Int64])
def test_a_field_of_too_many_values_is_hashed_alike_in_one_pass_in_batches_and_in_parts(kind, caplog):
    rows = pl.DataFrame({"shop": pl.Series(range(300)).cast(kind)})
    plan = {"fields": {"shop": {}}, "hash_above": 100}
    whole = TabBertProcessor(plan).fit(rows)
    assert "hashed into 65536 ids" in caplog.text
    parts = [TabBertStatistics(whole.plan) for _ in range(2)]
    parts[0].add(rows[:130])
    parts[1].add(rows[130:])
    others = [TabBertProcessor(plan).fit(iter([rows[:50], rows[50:]])), TabBertProcessor(plan)]
    others[1].finish(parts[0].merge(parts[1]))
    for other in others:
        assert other.fingerprint == whole.fingerprint
    ids = whole.encode(rows)["shop"].to_numpy()
    unknown = whole.field_ranges[0][0]
    assert (ids > unknown + 1).all() and len(set(ids.tolist())) > 290


def test_huge_fields_are_hashed_stably():
    plan = {"fields": {"shop": {"hash_buckets": 16}}}
    processor = TabBertProcessor(plan).fit({"shop": [f"s{i}" for i in range(100)]})
    ids = processor.encode({"shop": ["s1", "never met", None]})["shop"].to_pylist()

    assert processor.field_ranges == [[4, 22]]
    assert 6 <= ids[0] < 22 and 6 <= ids[1] < 22 and ids[2] == 5
    assert processor.decode([[ids[0]]])["shop"].to_pylist() == [f"[HASH {ids[0] - 6}]"]


def test_infinite_numbers_lie_in_the_outer_bins_and_take_no_part_in_fitting(caplog):
    plan = {"fields": {"x": {"kind": "numeric", "num_bins": 2}}}
    infinite = float("inf")
    processor = TabBertProcessor(plan).fit({"x": [1.0, 2.0, 3.0, infinite]})

    words = processor.decode(processor.encode({"x": [-infinite, infinite]}))["x"].to_pylist()
    assert words == ["[1, 1.5)", "[1.5, 3]"]


def test_column_types_may_differ_between_tables():
    processor = TabBertProcessor({"fields": {"mcc": {}, "zip": {}}}).fit({"mcc": [5411, 12], "zip": ["07", "8"]})
    # pandas turns whole numbers with gaps into floats, CSV readers numbers into text
    as_floats = processor.encode({"mcc": [5411.0, None, 0.5], "zip": [8.0, 7.0, None]})
    as_text = processor.encode({"mcc": ["12", "12.0", "twelve"], "zip": ["07", "8", ""]})

    assert processor.decode(as_floats).to_pydict() == {
        "mcc": ["5411", "[MISSING]", "[UNK]"],
        "zip": ["8", "[UNK]", "[MISSING]"],
    }
    assert processor.decode(as_text).to_pydict() == {"mcc": ["12", "12", "[UNK]"], "zip": ["07", "8", "[MISSING]"]}


@pytest.mark.parametrize("cuts", [[57, 200, 311], [1, 2, 3, 399], list(range(10, 400, 10))])
def test_parts_fitted_apart_merge_to_what_one_pass_gives(cards, processor, cuts, tmp_path):
    table = cards.with_format("arrow")[:]
    bounds = [0, *cuts, len(cards)]
    fresh = TabBertProcessor("card")
    merged = None
    for number, (first, last) in enumerate(pairwise(bounds)):
        part = fresh.fit_part(table.slice(first, last - first))
        if number % 2:  # some parts come from another machine
            part.save(tmp_path / str(number))
            part = TabBertStatistics.load(tmp_path / str(number))
        merged = part if merged is None else merged.merge(part)
    fresh.finish(merged)

    assert fresh.fingerprint == processor.fingerprint
    assert fresh.encode(table).equals(processor.encode(table))


def test_batches_of_a_table_get_the_ids_of_the_whole(cards, processor):
    table = cards.with_format("arrow")[:]
    whole = processor.encode(table)
    pieces = list(processor.encode_batches(table.slice(i, 37) for i in range(0, len(cards), 37)))

    assert pa.concat_tables(pieces).equals(whole)
    # rows of different entities may be interleaved
    shuffled = np.random.default_rng(0).permutation(len(cards))
    assert processor.encode(table.take(shuffled)).equals(whole.take(shuffled))


def test_an_entity_that_goes_back_in_time_between_batches_is_an_error():
    processor = TabBertProcessor(PLAN).fit(_table())

    with pytest.raises(ValueError, match=r"rows of who 1 go back in time between two batches .column 'when'"):
        list(processor.encode_batches([_table(), _table()]))


@pytest.mark.parametrize("auto", [TabBertProcessor, AutoProcessor, AutoFeatureExtractor])
def test_saved_processor_comes_back_equal(auto, processor, cards, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    table = cards.with_format("arrow")[:]

    assert type(loaded) is TabBertProcessor
    assert loaded.fingerprint == processor.fingerprint
    assert loaded.encode(table).equals(processor.encode(table))
    assert loaded.config_kwargs() == processor.config_kwargs()
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".json", ".py", ".safetensors"]
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["plan"]["time"] == "Timestamp"


def test_values_of_another_processor_are_refused(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    path = tmp_path / "tabbert_values.json"
    path.write_text(path.read_text().replace("Swipe Transaction", "Swipe"))

    with pytest.raises(ValueError, match=r"The files come from different processors or were changed"):
        TabBertProcessor.from_pretrained(tmp_path)


def test_an_unfitted_processor_can_be_saved_and_says_what_is_missing(tmp_path):
    TabBertProcessor(PLAN).save_pretrained(tmp_path)
    loaded = TabBertProcessor.from_pretrained(tmp_path)

    assert not loaded.is_fitted
    with pytest.raises(ValueError, match=r"is not fitted yet. Call `fit"):
        loaded.encode(_table())


def test_a_processor_travels_as_remote_code(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(TabBertProcessor, "_stands_alone", False)  # forgotten afterwards
    processor.register_for_auto_class("AutoProcessor")
    processor.save_pretrained(tmp_path)

    names = {p.name for p in tmp_path.glob("*.py")}
    assert {"hf_mmtab_processing_tabbert.py", "hf_mmtab_field_kinds.py", "hf_mmtab_travelling.py"} <= names
    loaded = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.fingerprint == processor.fingerprint


@pytest.mark.parametrize(
    "who", [["a", "b", "a"], ["a", None, "a"], [1.5, 2.5, 1.5], [datetime.date(2024, 1, d) for d in (1, 2, 1)]]
)
def test_a_history_of_two_entities_is_refused_whatever_names_them(who):
    rows = pa.table({"who": who, "shop": ["x", "y", "x"]})
    processor = TabBertProcessor({"entity": "who", "fields": {"shop": {}}}).fit(rows)

    with pytest.raises(ValueError, match=r"Expected the rows of one entity .who., found 2 in the table"):
        processor(rows)


def test_an_entity_column_that_changes_its_type_between_batches_is_refused():
    processor = TabBertProcessor(PLAN).fit(_table())

    with pytest.raises(ValueError, match=r"'who' names the entity and changed from int .1. to str .'1'."):
        list(processor.encode_batches([_table(), _table(who=["1", "1", "1", "2", "2"])]))


def test_missing_text_is_filled_with_a_number():
    plan = {"fields": {"zip": {"fill": 0}}}
    processor = TabBertProcessor(plan).fit({"zip": [0, 12, None]})

    assert processor.encode({"zip": ["0", "12", ""]}).equals(processor.encode({"zip": [0, 12, None]}))


def test_calling_gives_padded_tensors_of_histories():
    processor = TabBertProcessor(PLAN).fit(_table())
    table = _table()
    batch = processor([table.slice(0, 3), table.slice(3)], return_tensors="pt")
    last = processor(table.slice(0, 3), max_rows=1, return_tensors="pt")

    assert batch["input_ids"].shape == (2, 3, 8)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (batch["input_ids"][1, 2] == 0).all()
    assert torch.equal(last["input_ids"][0, 0], batch["input_ids"][0, 2])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"shop": None}, r"Expected columns \['shop'\], found \['who', 'when', 'price'\]"),
        ({"price": ["1", "2", "three", "4", "5"]}, "'price': expected numbers or amounts, found 'three' in row 2"),
        ({"price": [[1]] * 5}, "Expected single values in column 'price', found list"),
        ({"when": ["now"] * 5}, "dates or numbers in the time column 'when', found text, such as now"),
        ({"when": [MIDNIGHT, None, MIDNIGHT, None, MIDNIGHT]}, r"'when' orders the rows and is missing in 2 rows"),
        ({"who": [1, 1, None, 2, 2]}, r"'who' names the entity and is missing in 1 rows of a batch .first: row 2"),
        ({"price": [None] * 5}, "'price': no number to fit bins on, all 5 rows are missing or infinite"),
    ],
)
def test_a_table_that_does_not_fit_the_plan_says_why(columns, message):
    table = _table(**{k: v for k, v in columns.items() if v is not None})
    absent = [k for k, v in columns.items() if v is None]

    with pytest.raises(ValueError, match=message):
        TabBertProcessor(PLAN).fit(table.drop_columns(absent))


def test_fitting_on_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"at least one row to fit on, found none. Is the training split empty"):
        TabBertProcessor(PLAN).fit(_table().slice(0, 0))


def test_statistics_of_another_plan_are_refused():
    part = TabBertProcessor(PLAN).fit_part(_table())

    with pytest.raises(ValueError, match="found those of another plan"):
        TabBertProcessor("card").finish(part)
    with pytest.raises(ValueError, match="found two different plans"):
        part.merge(TabBertStatistics(TabBertProcessor("card").plan))


def test_ids_of_another_processor_are_refused_in_decoding():
    processor = TabBertProcessor({"fields": {"a": {}, "b": {}}}).fit({"a": ["x"], "b": ["y"]})

    with pytest.raises(ValueError, match=r"Field 'a' has the ids 4 to 6, found \[9\]"):
        processor.decode([[9, 9]])
    with pytest.raises(ValueError, match=r"Expected ids of shape \(rows, 2\), found \(1, 3\)"):
        processor.decode([[4, 7, 7]])


def test_rows_of_a_wrong_kind_are_refused():
    with pytest.raises(TypeError, match=r"Expected rows as a pyarrow Table .* found int"):
        TabBertProcessor(PLAN).fit([3])
    with pytest.raises(TypeError, match=r"found str in 'y', as of one row\. Pass a history as a list of such rows"):
        TabBertProcessor(PLAN).fit({"x": 7.0, "y": "only"} | {"x": [7.0]})


def test_one_row_and_one_value_are_enough():
    plan = {"fields": {"x": {"kind": "numeric"}, "y": {}}}
    processor = TabBertProcessor(plan).fit({"x": [7.0], "y": ["only"]})

    assert processor.decode(processor.encode({"x": [7.0], "y": ["only"]})).to_pydict() == {
        "x": ["[7, 7]"],
        "y": ["only"],
    }


def test_a_table_of_several_entities_or_out_of_order_is_no_window():
    table = _table()
    processor = TabBertProcessor(PLAN).fit(table)
    with pytest.raises(ValueError, match=r"the rows of one entity \(who\), found 2 in the table.*partition_by"):
        processor(table)
    back = table.take([0, 2, 1])
    with pytest.raises(
        ValueError, match=r"order of 'when', found row 2 of table 1 \(who .*\) before the row above it\. Sort"
    ):
        processor([table.slice(3), back])
    ids = processor(pl.DataFrame(pl.from_arrow(table)).partition_by(["who"]))["input_ids"]
    assert ids.shape == (2, 3, len(PLAN["fields"]))
    without = {name: value for name, value in PLAN["fields"].items() if name != "gap" and "when" not in name}
    free = TabBertProcessor({**PLAN, "fields": without}).fit(table)
    assert free(table.drop_columns(["who", "when"]))["input_ids"].shape == (1, 5, 3)


def test_one_window_is_decoded_as_its_rows_are():
    table = _table().slice(0, 3)
    processor = TabBertProcessor(PLAN).fit(_table())
    window = processor(table)["input_ids"]
    assert processor.decode(window).to_pydict() == processor.decode(window[0]).to_pydict()
    with pytest.raises(ValueError, match=r"Expected ids of shape \(rows, 8\), found \(2, 3, 8\)"):
        processor.decode(np.concatenate([window, window]))


def test_bins_of_logarithms_are_decoded_to_the_numbers_they_are_of():
    fields = {
        "gap": {"kind": "time_gap", "num_bins": 2, "transform": "log1p"},
        "price": {"kind": "numeric", "num_bins": 2, "transform": "log1p"},
    }
    table = _table()
    processor = TabBertProcessor({**PLAN, "fields": fields}).fit(table)
    words = processor.decode(processor.encode(table)).to_pydict()
    assert words["gap"] == [
        "[MISSING]",
        "[59.0083 s, 29 h]",
        "[59.0083 s, 29 h]",
        "[MISSING]",
        "[0 s, 59.0083 s)",
    ]  # seconds
    assert words["price"][1].startswith("[-2, ") and words["price"][4].endswith(", 8]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (119.0, "119 s"), (150.0, "2.5 min"), (3 * 3600.0, "3 h"), (47.5 * 3600, "47.5 h"), (1e6, "11.6 d")],
)
def test_times_between_rows_are_written_in_a_unit(seconds, text):
    assert elapsed_text(seconds, 3) == text


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [(1234567.0, 3, "1230000"), (32.235, 3, "32.2"), (-0.5, 6, "-0.5"), (3e-9, 3, "3e-09"), (0.0, 6, "0")],
)
def test_edges_of_bins_are_written_without_exponents_where_they_are_readable(number, digits, text):
    assert number_text(number, digits) == text


def test_decoded_intervals_have_as_many_digits_as_asked_for():
    rows = {"when": pl.Series([0, 100_000, 300_000], dtype=pl.Int64).cast(pl.Datetime("ms")), "x": [1.23456, 2.0, 9.0]}
    fields = {"x": {"kind": "numeric", "num_bins": 2}, "gap": {"kind": "time_gap", "column": "when", "num_bins": 2}}
    processor = TabBertProcessor({"time": "when", "fields": fields}).fit(pl.DataFrame(rows))
    decoded = processor.decode(processor.encode(pl.DataFrame(rows)), digits=3).to_pydict()
    assert decoded == {
        "x": ["[1.23, 1.62)", "[1.62, 9]", "[1.62, 9]"],
        "gap": ["[MISSING]", "[100 s, 2.5 min)", "[2.5 min, 3.33 min]"],
    }


def test_a_guessed_plan_reads_durations_times_of_day_and_columns_that_are_now_and_then_missing(caplog):
    hours = [datetime.time(i % 24, 5) for i in range(40)]
    rows = pl.DataFrame(
        {
            "when": [MIDNIGHT + datetime.timedelta(hours=i) for i in range(40)],
            "open": hours,
            "took": [datetime.timedelta(seconds=90 * i) for i in range(39)] + [None],
            "note": ["ok", None] * 20,
            "same": ["x"] * 40,
            "empty": pl.Series([None] * 40, dtype=pl.String),
            "tags": [["a"], ["b"]] * 20,
        }
    )
    plan = infer_plan(rows)
    assert plan.time == "when"
    kinds = {field.name: field.kind for field in plan.fields if not field.name.startswith("when")}
    assert kinds == {"open.hour": "time_part", "took": "numeric", "note": "categorical"}
    for said in (
        "all rows of the sample hold the same value: column 'same'",
        "no row of the sample has a value: column 'empty'",
        "no field can read List(String): column 'tags'",
    ):
        assert said in caplog.text
    processor = TabBertProcessor(plan).fit(rows)
    words = processor.decode(processor.encode(rows)).to_pydict()
    assert words["open.hour"][:3] == ["0", "1", "2"] and words["note"][:2] == ["ok", "[MISSING]"]
    assert words["took"][0].startswith("[0, ") and words["took"][-1] == "[MISSING]"
    assert float(words["took"][38].split(", ")[1].rstrip("]")) == 90 * 38


def test_one_history_is_a_list_of_its_rows_in_fitting_and_encoding():
    columns = {"who": [1, 1, 1], "shop": ["a", "b", "a"]}
    rows = pl.DataFrame(columns).to_dicts()
    plan = {"entity": "who", "fields": {"shop": {}}}
    expected = TabBertProcessor(plan).fit(columns)
    for given in (rows, pl.LazyFrame(columns), pl.DataFrame(columns)):
        assert TabBertProcessor(plan).fit(given).fingerprint == expected.fingerprint
        assert expected(given)["input_ids"].tolist() == expected(columns)["input_ids"].tolist()
    assert expected([rows, rows[:1]])["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_what_is_no_plan_and_no_window_is_told():
    with pytest.raises(TypeError, match="Expected a column plan: a name, a YAML file, a dict or a ColumnPlan, found 5"):
        TabBertProcessor(5)
    with pytest.raises(TypeError, match="Expected the path of a file or folder, found DataFrame"):
        Table(pl.DataFrame({"a": [1]}))
    processor = TabBertProcessor({"fields": {"shop": {}}}).fit({"shop": ["a", "b"]})
    with pytest.raises(TypeError, match=r"Expected rows as a pyarrow Table .*, found Series"):
        processor.encode(pl.Series("shop", ["a"]).to_pandas())
    with pytest.raises(ValueError, match="Expected encoded windows with input_ids, found shop"):
        TabBertCollator(processor)([{"shop": "a"}])


def test_times_as_text_are_told_with_their_column_and_what_to_do():
    plan = {"entity": "who", "time": "when", "fields": {"when.gap": {"kind": "time_gap", "num_bins": 2}}}
    rows = {"who": [1, 1, 1], "when": ["2024-01-01 10:00", "2024-01-02 10:00", "2024-01-02 11:00"]}
    with pytest.raises(ValueError, match=r"in the time column 'when', found text, such as 2024-01-01 10:00\. Parse it"):
        TabBertProcessor(plan).fit(rows)
