"""A file of statistics that a person changed is refused with the key."""

import json

import numpy as np
import pyarrow as pa
import pytest

from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.field_ids import VALUES_NAME
from hf_mmtab.statistics import OldLabels, RowStatistics
from hf_mmtab.statistics.columns import columns_of_history

ROWS = pa.table({"shop": ["a", "b"] * 4, "amount": np.arange(8.0), "odd": ["no", "yes"] * 4})


@pytest.fixture(scope="module")
def processor() -> TabBertProcessor:
    made = TabBertProcessor({"fields": {"shop": {}, "amount": {"kind": "numeric", "num_bins": 2}}}).fit(ROWS)
    made.statistics = RowStatistics.fit(columns_of_history(ROWS, made), np.ones(8, bool)).to_dict()
    return made


KEYS = [
    "rows", "counts", "missing", "numbered", "crowded", "names", "groups", "categorical", "old_labels", "orderings",
    "has_time",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["two", -1, [1], {"a": "b"}, {"shop": [["a"]]}, 2.5, float("nan")], ids=str)
def test_a_value_of_another_kind_is_refused_with_its_key(processor, key, value):
    saved = json.loads(json.dumps(processor.statistics))
    assert RowStatistics.from_dict(saved).names == processor.statistics["names"]
    with pytest.raises(ValueError, match=rf"Expected .* for {key} in the statistics of .*tabbert_statistics.json"):
        RowStatistics.from_dict({**saved, key: value})


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_gone_is_named(processor, key):
    saved = {name: value for name, value in processor.statistics.items() if name != key}
    if key in ("old_labels", "orderings", "has_time"):
        assert RowStatistics.from_dict(saved).names == processor.statistics["names"]
    else:
        with pytest.raises(ValueError, match=rf"in the statistics of .*, found no {key}. Copy the file again"):
            RowStatistics.from_dict(saved)
    with pytest.raises(ValueError, match="found more beside them"):
        RowStatistics.from_dict({**processor.statistics, "more": 1})


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved["counts"]["shop"].reverse(),
        lambda saved: saved["counts"]["shop"].pop(),
        lambda saved: saved.update(rows=1),
        lambda saved: saved["names"].reverse(),
        lambda saved: saved["counts"].clear(),
    ],
)
def test_statistics_that_a_person_changed_are_no_longer_those_of_the_processor(processor, change, tmp_path):
    processor.save_pretrained(tmp_path)
    file = tmp_path / "tabbert_statistics.json"
    assert TabBertProcessor.from_pretrained(tmp_path).statistics == json.loads(file.read_text())
    saved = json.loads(file.read_text())
    change(saved)
    file.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"Expected the statistics \w{16} in tabbert_statistics.json, found \w{16}"):
        TabBertProcessor.from_pretrained(tmp_path)
    config = tmp_path / "preprocessor_config.json"  # as an older version saved it
    old = json.loads(config.read_text())
    del old["statistics_fingerprint"]
    config.write_text(json.dumps(old))
    assert TabBertProcessor.from_pretrained(tmp_path).statistics == saved


def test_statistics_with_labels_come_back(processor):
    old = OldLabels(3600.0, ["odd"], ["no", "yes"])
    fitted = RowStatistics.fit(columns_of_history(ROWS, processor, old), np.ones(8, bool), "auto", old)
    assert RowStatistics.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


PLANS = [None, 5, [1], "nix", {"a": 1}, {"fields": {"shop": {"kind": "nix"}}}]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *[("plan", plan, "Expected a column plan in '{file}', found another") for plan in PLANS],
        *[("fitted", fitted, "{file}|" + VALUES_NAME) for fitted in (None, [], {}, 0, "two", [1], 2.5)],
    ],
)
def test_a_processor_whose_plan_or_fields_are_lost_is_not_taken_for_a_new_one(processor, key, value, message, tmp_path):
    processor.save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message.format(file=file)):
        TabBertProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("codes", [[1.5, float("inf"), float("-inf"), 1.5], ["a", "inf", "-inf", "a"]], ids=str)
def test_statistics_of_infinite_categories_are_json_that_others_read(codes):
    rows = pa.table({"code": codes, "amount": np.arange(4.0)})
    made = TabBertProcessor({"fields": {"code": {}, "amount": {"kind": "numeric", "num_bins": 2}}}).fit(rows)
    fitted = RowStatistics.fit(columns_of_history(rows, made), np.ones(4, bool))

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    saved = json.loads(json.dumps(fitted.to_dict()), parse_constant=refuse)
    assert RowStatistics.from_dict(saved) == fitted
