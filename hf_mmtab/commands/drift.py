"""`drift CHECKPOINT TABLE OUT.html`: how a table differs from the rows that a model's processor was fitted on.

For each field the population stability index, the shares of [UNK] and [MISSING], and the values that moved. With
`--scores`, a file that `predict` wrote for this table, the scores too, against those of the run's own test rows. With
`--generated`, for rows that `generate` wrote, also whether a classifier tells them from the run's test rows, whether
they are nearer to its training rows, and which pairs of fields go together as they do in test rows.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import __version__
from ..data.windows.encoded_rows import EncodedRows
from ..data.windows.sharded_rows import open_rows
from ..evaluation.decoded_histories import as_text
from ..evaluation.drift import FieldDrift, drift_notes, field_drift, score_drift
from ..evaluation.generated_pairs import FieldPair, field_pairs
from ..evaluation.generated_rows import WARNING, generated_notes
from ..evaluation.unseen_values import unseen_note, unseen_values
from ..reports.drift_page import drift_page
from ..tasks.checkpoints import is_table_checkpoint, recipe_of
from ..tasks.table import ROWS_FOLDER
from .console import counted, left_out, say, start_logging
from .damaged_files import damage_named
from .flags import parse
from .outputs import check_output, draft_of
from .runs.own_files import TABLE_FOLDER
from .runs.report import predictions_file
from .runs.table_notes import warn_each
from .tables.blocks import EncodedTable, encode_table
from .tables.scores import positive_scores, refuse_other_scores

MOST_READ, MOST_NAMED = 100_000, 5  # rows that are looked through for new values, and values of a field that are told
MARK = '<meta name="generator" content="hf_mmtab drift">'


def main(arguments: Sequence[str]) -> None:
    """Compare as the command line says."""
    start_logging()
    options = parse("drift", arguments)
    _check_page(options)
    with damage_named(options.checkpoint):
        moved, skipped = write_drift(options)
    say(f"{', '.join(moved) if moved else 'No field'} moved. Page: {options.out}{left_out(skipped)}")


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


def write_drift(options: argparse.Namespace) -> tuple[list[str], int]:
    """Write the page; return the names of what moved, and how many bad records were left out.

    Raises:
        ValueError: if the checkpoint is no TabBERT, or the table or the scores are not what they should be.
    """
    if not is_table_checkpoint(options.checkpoint):
        raise ValueError(f"Expected a TabBERT checkpoint in {options.checkpoint!r}, found another model.")
    out = Path(options.out)
    with draft_of(out) as draft:
        scratch = draft / TABLE_FOLDER
        scratch.mkdir()
        source = (options.checkpoint, options.input, scratch, options.task, options.on_bad_record)
        table = encode_table(*source, separator=options.separator)
        fields = field_drift(table.rows, table.processor)
        pairs: list[FieldPair] = []
        warnings: list[str] = []
        if options.generated:
            own = _own_rows(options.checkpoint)
            notes = generated_notes(table.rows, own)
            say("\n".join(notes))
            warnings = [note for note in notes if note.startswith(WARNING)]
            notes = notes[len(warnings) :]
            pairs = field_pairs(table.rows, own, table.processor)
        else:
            warn_each(unseen_note(unseen_values(table.rows, table.processor), "rows of this table"))
            notes = drift_notes(fields, table.rows, table.processor, "rows of this table") + _new_values(table)
        if options.scores:
            fields.insert(0, _scores(options))
            refuse_other_scores(Path(options.scores), table, Path(options.input).name)
        rows, fitted, skipped = len(table.rows), table.processor.rows_fitted, len(table.skipped)
        name = Path(options.input).name
        summary = f"{rows:,} rows of {name}, against the {fitted:,} rows of training."
        if skipped:
            summary += f" {counted(skipped, 'bad record is', 'bad records are')} left out."
        title = f"Is {name} like the training rows?" if options.generated else f"Has {name} moved?"
        page = drift_page(title, fields, summary, notes, __version__, pairs, warnings)
        (draft / out.name).write_text(page, encoding="utf-8")
    return [one.field for one in fields if one.moved], skipped


def _new_values(table: EncodedTable) -> list[str]:
    """Say which values of categories training never had, where they are more than they were in training."""
    rows, processor, plan = table.rows, table.processor, table.processor.plan
    places = {one.name: number for number, one in enumerate(plan.fields) if one.kind == "categorical"}
    names = [one.field for one in unseen_values(rows, processor) if one.field in places]
    if not names:
        return []
    read = np.arange(min(len(rows), MOST_READ))
    ids, numbers = rows.take(read), read if rows.row_numbers is None else np.array(rows.row_numbers[read])
    told = []
    for name in names:
        column = str(plan.source(plan.fields[places[name]]))
        unknown = numbers[ids[:, places[name]] == processor.unknown_ids()[places[name]]]
        values = Counter(map(as_text, table.dataset.select_columns([column])[unknown.tolist()][column]))
        told.append(f"{name} {', '.join(f'{value} ({count:,})' for value, count in values.most_common(MOST_NAMED))}")
    return [f"New values in the first {len(read):,} rows, the most frequent ones: {'; '.join(told)}."]


def _own_rows(checkpoint: str) -> EncodedRows:
    folder = Path(checkpoint) / TABLE_FOLDER / ROWS_FOLDER
    encoded = recipe_of(checkpoint).get("rows")
    if not folder.is_dir() and encoded is None:
        raise ValueError(
            f"Expected the run's own rows in {str(folder)!r}, found none. Name the output_dir of the run that "
            "trained the model, or leave --generated out."
        )
    return open_rows(encoded or folder)


def _scores(options: argparse.Namespace) -> FieldDrift:
    own = predictions_file(Path(options.checkpoint), "test")
    if not own.is_file():
        raise ValueError(
            f"Expected the predictions of the run's own test rows in {str(own)!r}, found none. Name the output_dir of "
            "the run that made the model, or leave --scores out."
        )
    theirs = positive_scores(Path(options.scores))  # first: a message names the file that was given
    return score_drift(positive_scores(own), theirs)
