"""`drift CHECKPOINT TABLE OUT.html`: how a table differs from the rows that a model's processor was fitted on.

For each field the population stability index, the shares of [UNK] and [MISSING], and the values that moved. With
`--scores`, a file that `predict` wrote for this table, the scores too, against those of the run's own test rows.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..evaluation.drift import FieldDrift, drift_notes, field_drift, score_drift
from ..files import write_whole
from ..reports.drift_page import drift_page
from ..tasks.checkpoints import is_table_checkpoint
from .console import say, start_logging
from .damaged_files import damage_named
from .outputs import check_output
from .runs.report import predictions_file
from .tables.blocks import encode_table
from .tables.scores import positive_scores

MARK = '<meta name="generator" content="hf_mmtab drift">'


def main(arguments: Sequence[str]) -> None:
    """Compare as the command line says."""
    start_logging()
    options = _parser().parse_args(arguments)
    _check_page(options)
    with damage_named(options.checkpoint):
        moved = write_drift(options)
    say(f"{', '.join(moved) if moved else 'No field'} moved. Page: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf_mmtab drift", description=__doc__)
    parser.add_argument("checkpoint", help="folder or Hub name of a TabBERT with its processor")
    parser.add_argument("input", help="CSV, TSV, Parquet or Arrow file, or a folder of them")
    parser.add_argument("out", help="page to write: .html")
    parser.add_argument("--scores", help="file of predictions for this table")
    parser.add_argument("--task", help="which reader; default: that of the checkpoint's recipe, else table")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise")
    return parser


def _check_page(options: argparse.Namespace) -> None:
    """Raise a ValueError unless the page may be written there."""
    out = Path(options.out)
    if out.suffix != ".html":
        raise ValueError(f"Expected a page that ends in .html, found {out.name!r}.")
    check_output(out, [options.input, options.checkpoint, *([options.scores] if options.scores else [])])
    if out.is_dir() or (out.is_file() and MARK not in out.read_text(encoding="utf-8", errors="replace")):
        raise ValueError(
            f"Expected a new page, or one of an earlier call, found another file: {options.out!r}. Take another name."
        )


def write_drift(options: argparse.Namespace) -> list[str]:
    """Write the page; return the names of what moved.

    Raises:
        ValueError: if the checkpoint is no TabBERT, or the table or the scores are not what they should be.
    """
    if not is_table_checkpoint(options.checkpoint):
        raise ValueError(f"Expected a TabBERT checkpoint in {options.checkpoint!r}, found another model.")
    with tempfile.TemporaryDirectory() as folder:
        table = encode_table(
            options.checkpoint, options.input, Path(folder), options.task, options.on_bad_record
        )
        fields = field_drift(table.rows, table.processor)
        notes = drift_notes(fields, table.rows, table.processor, "rows of this table")
        rows, fitted = len(table.rows), table.processor.rows_fitted
    if options.scores:
        fields.insert(0, _scores(options))
    summary = f"{rows:,} rows of {Path(options.input).name}, against the {fitted:,} rows of training."
    title = f"Has {Path(options.input).name} moved?"
    write_whole(Path(options.out), drift_page(title, fields, summary, notes, __version__))
    return [one.field for one in fields if one.moved]


def _scores(options: argparse.Namespace) -> FieldDrift:
    own = predictions_file(Path(options.checkpoint), "test")
    if not own.is_file():
        raise ValueError(
            f"Expected the predictions of the run's own test rows in {str(own)!r}, found none. Name the output_dir of "
            "the run that made the model, or leave --scores out."
        )
    return score_drift(*(positive_scores(Path(path)) for path in (own, options.scores)))
