"""Names of columns that look alike are told; the one that is there is named where the other is wanted."""

import re

import polars as pl
import pytest

from hf_mmtab.data.pictures.columns import find_columns
from hf_mmtab.data.reading.column_names import near_names, tell_alike
from hf_mmtab.data.shards.preparing import present_labels
from hf_mmtab.data.table import Table
from hf_mmtab.data.windows.histories import require_columns
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan

PAIRS = [
    ("amount", "Amount"),
    ("amount", " amount"),
    ("caf\u00e9", "cafe\u0301"),
    ("stra\u00dfe", "STRASSE "),
    ("\u0130d", "i\u0307d"),
]
SEEN = "differ by upper case, blanks or the form of an accent"


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_columns_that_look_alike_are_told_where_one_of_them_is_read(tmp_path, caplog, one, other):
    file = tmp_path / "t.csv"
    file.write_text(f'"{one}","{other}",rest\n1,2,3\n', encoding="utf-8")
    assert list(Table(file, cache_dir=str(tmp_path / "all")).info.features) == [one, other, "rest"]
    assert f"{SEEN} alone" in caplog.text and ascii(one) in caplog.text and ascii(other) in caplog.text
    caplog.clear()
    tell_alike([one, other, "rest"], ["rest"], str(file))
    tell_alike([one, other + "s"], [one], str(file))
    assert not caplog.text


@pytest.mark.parametrize(("wanted", "given"), [*PAIRS, *(pair[::-1] for pair in PAIRS)])
def test_a_column_under_another_spelling_is_named_beside_the_one_that_is_wanted(tmp_path, caplog, wanted, given):
    both = re.compile(
        f"{re.escape(ascii(wanted))}.* is not .*{re.escape(ascii(given))}.*upper case, blanks or the form"
    )
    processor = TabBertProcessor({"fields": {wanted: {}}}).fit({wanted: ["a"]})
    (tmp_path / "1.csv").write_text(f'"{wanted}",b\n1,2\n', encoding="utf-8")
    (tmp_path / "2.csv").write_text(f'"{given}",b\n1,2\n', encoding="utf-8")
    two = Table(tmp_path, cache_dir=str(tmp_path / "cache"))
    for refused in (
        lambda: require_columns([given, "b"], [wanted]),
        lambda: find_columns([given, "img", "label"], "x.csv", text=wanted),
        lambda: processor.encode({given: ["a"]}),
        lambda: infer_plan(pl.DataFrame({given: ["a"], "b": [1]}), entity=[wanted]),
        lambda: list(two.read(two.pieces()[1], two._bad)),
        lambda: Table(tmp_path / "2.csv", types={wanted: "int"}, cache_dir=str(tmp_path / "cache")),
    ):
        with pytest.raises(ValueError, match=both):
            refused()
    assert present_labels([given], [wanted]) == [] and both.search(caplog.text)


def test_other_columns_are_not_named():
    assert near_names(["amount"], ["amounts", "a mount", "x"]) == ""
