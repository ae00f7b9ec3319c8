"""Readers of files from strangers: random files end in values, or soon in an error that says what is wrong."""

import csv
import io
import os
import pickle
import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_mmtab.commands.console import FOR_A_PERSON
from hf_mmtab.commands.runs.recipe import HeadRecipe, ImageTextRecipe, PretrainingRecipe
from hf_mmtab.converting.original_files import read_args, read_encoders, read_vocabulary
from hf_mmtab.converting.pickles import read_pickle
from hf_mmtab.converting.stand_ins import RefusedFileError
from hf_mmtab.converting.torch_files import read_state_dict, read_torch_file
from hf_mmtab.data.reading.cell_types import guess_types
from hf_mmtab.data.reading.csv_text import read_text_blocks
from hf_mmtab.data.reading.records import BadRecords
from hf_mmtab.models.tabbert.processing.column_plan import ColumnPlan
from hf_mmtab.recipes import field_types, parse_recipe
from hf_mmtab.typed_values import typed_value

BOUNDED = settings(
    derandomize=True,
    database=None,
    max_examples=150,
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# -- CSV

PIECES = [
    b"a",
    b"1",
    b",",
    b'"',
    b'""',
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xa9",
    b"\xe2\x80\xa8",
]
PIECES += [b"\xef\xbb\xbf", b"x" * 40, b'","', b'"\n"', b"\x1a", b"'", b"\\"]  # fmt: skip
RAW = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SIZES = st.sampled_from([1, 2, 3, 5, 8, 64, 2**24])


def _read(content: bytes, block_bytes: int):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        bad = BadRecords("skip")
        blocks = list(read_text_blocks(path, ",", bad, block_bytes))
    rows = [tuple(row.values()) for block in blocks for row in block.table.to_pylist()]
    bad.check_count(len(rows))
    return (
        rows,
        [line for one in blocks for line in one.lines.tolist()],
        [(one.line, one.expected) for one in bad.records],
    )


@BOUNDED
@given(body=RAW, block_bytes=SIZES)
def test_every_row_of_any_csv_is_returned_or_reported_whatever_the_blocks(body, block_bytes):
    whole = _read(b"a,b\n" + body, 2**24)
    assert _read(b"a,b\n" + body, block_bytes) == whole
    assert all(len(row) == 2 and "\0" not in "".join(row).replace("\0", "") for row in whole[0])


@BOUNDED
@given(head=RAW)
def test_any_first_line_of_a_csv_is_a_header_or_an_error(head):
    try:
        _read(head, 64)
    except ValueError as error:
        assert str(error).startswith(("Expected", "A "))


@BOUNDED
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), max_size=8),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    block_bytes=SIZES,
)
def test_cells_come_out_of_a_csv_as_they_were_written(rows, ending, block_bytes):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows([("a", "b", "c"), *rows])
    assert _read(text.getvalue().encode(), block_bytes)[::2] == (rows, [])


LIKE_NUMBERS = st.one_of(
    st.from_regex(r"[+-]?0{0,2}[0-9]{1,4}(\.[0-9]{0,2})?", fullmatch=True),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["true", "True", "TRUE", "false", "1e5", "-0", "nan", "inf", " 1", "1_0", "0x1", "", "2020-01-01"]),
    st.sampled_from(["2020-01-1", "01/02/2020", "10:00", "10:00:00", "2020-01-01 10:00", "2020-01-01T10:00:00Z"]),
    st.text("0123456789-/: .eE+", max_size=8),
)


@BOUNDED
@given(cells=st.lists(LIKE_NUMBERS, min_size=1, max_size=6))
def test_different_names_stay_different_in_every_guessed_type_that_is_no_decimal(cells):
    column = pl.DataFrame({"a": [cell or None for cell in cells]})
    guess = guess_types(column)["a"]
    if guess.is_integer():
        read = [int(cell) for cell in cells if cell]
        assert len(set(read)) == len(set(cells) - {""}) and all(-(2**63) <= one < 2**63 for one in read)
    elif guess == pl.Boolean:
        assert len(set(cells) - {""}) <= 2
    else:
        assert guess == pl.String or guess.is_float() or guess.is_temporal()


# -- recipes

RECIPES = (ImageTextRecipe, HeadRecipe, PretrainingRecipe)
KEYS = sorted({name for recipe in RECIPES for kind in recipe.types for name in field_types(kind)})
# they would write, start or send something, or are the machine's
LEFT_OUT = ("output_dir", "deepspeed", "fsdp", "fsdp_config", "push_to_hub", "local_rank", "ddp_backend")
OPTIONS = st.sampled_from([f"--{key}" for key in KEYS if key not in LEFT_OUT])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.dates(),
    st.sampled_from(["auto", "1 epoch", "forever", "5e-5", "no", "epoch", "{a: 1}", "[a", "{", "[1, 2]", "-1", "card"]),
)  # fmt: skip
MAPPING_KEYS = SCALARS.filter(lambda key: key == key)  # no NaN
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MAPPING_KEYS, inner, max_size=3), max_leaves=6
)
GOOD = {"data": "d", "output_dir": "out", "report_to": "none"}


def _parse(text: str, recipe, arguments=()):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            parse_recipe(recipe.types, [str(path), *arguments], "finetune")
        except FOR_A_PERSON as error:
            assert str(error).strip() and len(str(error)) < 5000


@settings(BOUNDED, max_examples=300)
@given(
    values=st.dictionaries(st.sampled_from([key for key in KEYS if key not in LEFT_OUT]), VALUES, max_size=2),
    recipe=st.sampled_from(RECIPES),
)
def test_any_value_of_any_key_is_a_recipe_or_an_error(values, recipe):
    _parse(yaml.safe_dump({**GOOD, **values}), recipe)


@BOUNDED
@given(text=st.text("ab:-[]{}#&*!|>%@`'\",?~ \n\t0123.\x00\u2028é<", max_size=60), recipe=st.sampled_from(RECIPES))
def test_any_text_is_a_recipe_or_an_error(text, recipe):
    _parse(text, recipe)


@BOUNDED
@given(arguments=st.lists(st.one_of(OPTIONS, SCALARS.map(str)), max_size=4), recipe=st.sampled_from(RECIPES))
def test_any_command_line_behind_a_recipe_is_read_or_an_error(arguments, recipe):
    _parse(yaml.safe_dump(GOOD), recipe, [one for one in arguments if one not in ("-h", "--help")])


@BOUNDED
@given(plan=VALUES, fields=VALUES)
def test_any_mapping_is_a_column_plan_or_an_error(plan, fields):
    given_plan = {"fields": fields, **plan} if isinstance(plan, dict) else {"fields": {"a": plan}}
    try:
        ColumnPlan.from_dict(typed_value(given_plan, dict, "plan"))
    except ValueError as error:
        assert str(error).strip()


# -- files of the originals

READERS = (read_torch_file, read_state_dict, read_pickle, read_args, read_encoders, read_vocabulary)


class _Runs:
    def __reduce__(self):
        return os.mkdir, (os.environ["HF_MMTAB_FUZZ_CANARY"],)


def _seeds() -> list[bytes]:
    values = [{"a": torch.ones(2, 3)}, {"labels": ["x", "y"], "n": 3, "nested": [(1, 2.5, None, True)]}]
    written = []
    for value in values:
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
            written.append(buffer.getvalue())
    return [*written, *(pickle.dumps(values[1], protocol) for protocol in range(6))]


SEEDS = _seeds()
EDITS = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "repeat"]), st.integers(0, 2**20), st.binary(max_size=6)),
    max_size=6,
)


def _mutated(content: bytes, edits) -> bytes:
    for kind, place, piece in edits:
        at = place % (len(content) + 1)
        if kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "cut":
            content = content[:at] + content[at + len(piece) * 7 :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        else:
            content = content[:at] + content[at : at + 40] * 3 + content[at + 40 :]
    return content


def _refuses_or_reads(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.pt"
        path.write_bytes(content)
        for reader in READERS:
            try:
                reader(path)
            except (RefusedFileError, ValueError) as error:
                assert len(str(error)) < 2000 + len(str(path))
        assert os.listdir(folder) == ["f.pt"]


@BOUNDED
@given(
    content=st.binary(max_size=200), head=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", b"(", b"}"])
)
def test_random_bytes_are_refused_or_read(content, head):
    _refuses_or_reads(head + content)


@settings(BOUNDED, max_examples=300)
@given(seed=st.sampled_from(SEEDS), edits=EDITS)
def test_damaged_checkpoints_are_refused_or_read(seed, edits):
    _refuses_or_reads(_mutated(seed, edits))


@BOUNDED
@given(
    before=st.lists(st.sampled_from([1, "a", 2.5, None, (1,), []]), max_size=3),
    protocol=st.integers(0, 5), zipped=st.sampled_from([True, False, None]), edits=EDITS.map(lambda edits: edits[:2]),
)  # fmt: skip
def test_nothing_in_a_mutated_pickle_runs(before, protocol, zipped, edits):
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        os.environ["HF_MMTAB_FUZZ_CANARY"] = str(canary)
        value = [*before, {"a": _Runs()}]
        if zipped is None:
            content = pickle.dumps(value, protocol)
        else:
            buffer = io.BytesIO()
            torch.save(value, buffer, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=zipped)
            content = buffer.getvalue()
        del os.environ["HF_MMTAB_FUZZ_CANARY"]
        _refuses_or_reads(content)
        _refuses_or_reads(_mutated(content, edits))
        assert not canary.exists()
