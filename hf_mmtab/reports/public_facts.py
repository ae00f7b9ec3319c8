"""Run facts → those that others may read: no row, no path."""

import dataclasses
from pathlib import Path

import yaml

from ..publishing.local_paths import LocalPaths
from .facts import RunFacts


def public_facts(facts: RunFacts, folder: str | Path) -> RunFacts:
    """Return the facts without rows of the data and without paths of this machine.

    Args:
        facts: of the run.
        folder: of the run.
    """
    values = yaml.safe_load(facts.recipe or "")
    paths = LocalPaths(values if isinstance(values, dict) else None, folder)
    return dataclasses.replace(
        facts,
        title=paths.text(facts.title),
        task=facts.task and paths.text(facts.task),
        command=facts.command and paths.command(facts.command),
        recipe=facts.recipe and paths.recipe_text(facts.recipe),
        bad_records={paths.text(reason): count for reason, count in facts.bad_records.items()},
        results=dataclasses.replace(
            facts.results,
            left_out=paths.text(facts.results.left_out),
            notes=[paths.text(note) for note in facts.results.notes],
            details={name: paths.text(value) for name, value in facts.results.details.items()},
            skipped=[],
            cell_errors=[],
        ),
        predictions={
            split: dataclasses.replace(one, rows=None, groups=None, explain=None)
            for split, one in facts.predictions.items()
        },
    )
