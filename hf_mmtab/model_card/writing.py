"""Run facts → the model's README.md. Numbers come from the facts, sizes from the saved config; nothing else."""

import json
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markupsafe import Markup

from ..files import whole_file
from ..metrics.names import metric_name
from ..publishing.run_files import CARD_NAME
from ..reports.facts import MASKED_LM, RunFacts
from ..reports.noted import notes_by_section
from ..reports.page import environment
from ..reports.plots_training import audit_rows
from ..reports.public_facts import public_facts
from ..reports.tables import comparison_rows, split_table
from ..training.audit.update_audit import read_records
from .markdown import code, fenced, plain
from .usage_code import usage_code

FEW_ROWS = 20  # a class with fewer test rows: its numbers say little

FAMILIES = {
    "mmbt": "mmbt", "mmbt_baseline": "mmbt", "mmbt_ensemble": "mmbt", "tabbert": "tabbert", "tabgpt2": "tabbert",
}  # fmt: skip


def write_model_card(
    facts: RunFacts,
    model_dir: str | os.PathLike,
    *,
    license: str | None = None,
    license_basis: str | None = None,
    model_id: str | None = None,
    base_models: Sequence[str] = (),
    starts: Sequence[str] = (),
    datasets: Sequence[str] = (),
    data_name: str | None = None,
    language: str | Sequence[str] | None = None,
    data: str | None = None,
    intended_use: str | None = None,
    limits: Sequence[str] = (),
    differences: Sequence[str] | None = None,
    tags: Sequence[str] = (),
    config: dict[str, Any] | None = None,
) -> Path:
    """Write `README.md` beside a saved model.

    Args:
        facts: of the run.
        model_dir: folder of the model; its `config.json` says which family it is.
        license: Hub identifier of the licence, e.g. "apache-2.0"; None: the card says that none is chosen.
        license_basis: why it is this one, or none.
        model_id: name for the code examples; default: the folder's name.
        base_models: Hub names that the weights started from.
        starts: all that they started from, in Markdown; default: `base_models`.
        datasets: Hub names of the data.
        data_name: what the data is called in the results; default: the first of `datasets`, else the title.
        language: of the texts.
        data: what the model was trained on, in Markdown.
        intended_use: what it is for; default: a sentence from the labels.
        limits: further limits, beside those that follow from the facts.
        differences: from the original method; default: the `NOTE[DIFF]` comments of the code that made the model.
        tags: further tags.
        config: of the model; None: that in the folder.

    Returns:
        The path of `README.md`.

    Raises:
        FileNotFoundError: if the folder has no `config.json`.
        ValueError: if its `model_type` is not one of this package.
    """
    folder = Path(model_dir)
    config = config or json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(
            f"Expected a model_type of {sorted(FAMILIES)} in {folder / 'config.json'}, found {model_type!r}."
        )
    facts = public_facts(facts, folder)
    family = FAMILIES[model_type]
    model_id = model_id or folder.resolve().name
    header = card_header(facts, family, license, base_models, datasets, data_name, language, tags)
    splits, recipe = split_table(facts), yaml.safe_load(facts.recipe or "{}")
    text = _environment().get_template("model_card.md.jinja").render(
        header=header.to_yaml(),
        facts=facts,
        family=family,
        model_id=model_id,
        config=defaultdict(lambda: None, config),
        starts=starts or [code(name) for name in base_models],
        data=data,
        intended_use=intended_use,
        limits=[*_limits(facts), *limits],
        splits=splits,
        notes=notes_by_section(facts.results.notes),
        has_intervals=any(splits["has_intervals"].values()),
        comparison=comparison_rows(facts),
        audit=audit_rows(read_records(facts.audit_path)) if facts.audit_path else [],
        usage=usage_code(config, model_id, task=recipe.get("task")),
        differences=collect_differences(family, _foreign(config, recipe)) if differences is None else differences,
        license=license,
        license_basis=license_basis,
        predict=f"python -m hf_mmtab predict {shlex.quote(model_id)} "
        + ("table.csv scores.parquet" if family == "tabbert" else "rows.jsonl predictions.parquet"),
        metric_name=metric_name,
    )  # fmt: skip
    path = folder / CARD_NAME
    with whole_file(path) as partial:
        ModelCard(re.sub(r"\n{3,}", "\n\n", text)).save(partial)
    return path


def _environment() -> jinja2.Environment:
    # `plain` goes over every value; what is Markdown by itself says so by `own`, `code` or `fenced`
    templates = environment(Path(__file__).parent, autoescape=False, finalize=plain)
    templates.filters |= {"code": code, "fenced": fenced, "own": Markup}
    return templates


def card_header(
    facts: RunFacts,
    family: str,
    license: str | None = None,
    base_models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    data_name: str | None = None,
    language: str | Sequence[str] | None = None,
    tags: Sequence[str] = (),
) -> ModelCardData:
    """Return the card's YAML, with the results of the headline's split as a model index; see `write_model_card`.

    Args:
        family: "mmbt" or "tabbert".
    """
    kind = "regression" if facts.problem_type == "regression" else "classification"
    # The Hub has no task of pictures with texts, and takes fill-mask and text-generation for those of texts.
    is_pretrained = facts.problem_type == MASKED_LM
    task = f"tabular-{kind}" if family == "tabbert" and not is_pretrained else "other"
    other_task = "prediction of table cells" if is_pretrained else f"image-text {kind}"
    scores = facts.scores
    intervals = facts.intervals
    data_name = " ".join((data_name or (datasets[0] if datasets else facts.title)).split())
    skipped = ["threshold", "positive_rate", "classes_without_positive"]
    if "accuracy" in scores:
        skipped.append("micro_f1")  # the same number
    if facts.is_binary:
        # of both classes: says little
        skipped += ["macro_average_precision", "macro_f1", "micro_f1", "weighted_f1"]
    ranked = sorted(scores.items(), key=lambda item: item[0] != facts.main_metric)
    shared: dict[str, Any] = {"task_type": task, "dataset_name": data_name, "dataset_split": facts.results.split}
    shared["task_name"] = other_task if task == "other" else None
    shared["dataset_type"] = re.sub(r"[^\w./-]+", "-", data_name).strip("-").lower()
    ends = {name: [round(one.low, 4), round(one.high, 4)] for name, one in intervals.items()}
    results = [
        EvalResult(
            **shared,
            metric_type=name,
            metric_name=metric_name(name),
            metric_value=round(value, 4),
            metric_args={"interval_95": ends[name]} if name in ends else None,
        )
        for name, value in ranked
        if "/" not in name and name not in skipped
    ]
    return ModelCardData(
        license=license,
        language=list(language) if language is not None and not isinstance(language, str) else language,
        base_model=list(base_models) or None,
        datasets=list(datasets) or None,
        library_name="transformers",
        pipeline_tag=None if task == "other" else task,
        tags=["hf_mmtab", family, *tags],
        metrics=[results[0].metric_type.partition(" of ")[0]] if results else None,
        model_name=" ".join(facts.title.split()) if results else None,
        eval_results=results or None,
    )


def _limits(facts: RunFacts) -> list[str]:
    """What follows from the facts alone."""
    limits = []
    if facts.problem_type == "single_label_classification":
        limits.append("It always answers with one of its labels, also for an input that belongs to none.")
    predictions = facts.main_predictions
    if predictions is None or facts.problem_type == "regression":
        return limits
    labels = np.asarray(predictions.labels)
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(facts.id2label))
    few = [f"{plain(facts.id2label[i])} ({int(n)})" for i, n in enumerate(counts) if n < FEW_ROWS]
    limits.append(f"Measured on {len(labels):,} rows of split “{plain(facts.results.split)}”.")
    if few:
        shown = ", ".join(few[:15]) + (f" and {len(few) - 15} more" if len(few) > 15 else "")
        limits.append(f"Labels with fewer than {FEW_ROWS} rows there, whose numbers say little: {shown}.")
    return limits


def _foreign(config: dict[str, Any], recipe: dict[str, Any]) -> set[str]:
    """Return the modules of a family that have no part in a model of this configuration."""
    concerns = {
        "modeling_tabgpt": config["model_type"] == "tabgpt2",
        "plan_presets": recipe.get("task") in ("card_transactions", "prsa"),
        "modeling_baselines": config["model_type"] != "mmbt",
        "beside_columns": config.get("number_columns") or config.get("category_columns"),
    }
    return {module for module, has_part in concerns.items() if not has_part}


def collect_differences(family: str, without: Collection[str] = ()) -> list[str]:
    """The `NOTE[DIFF]` comments in the package's code of one family and of training, as sentences.

    Args:
        family: "mmbt" or "tabbert".
        without: modules that are passed over.
    """
    package = Path(__file__).parent.parent
    found = []
    for folder in (package / "models" / family, package / "training"):
        for path in sorted(folder.glob("*.py")):
            found += [] if path.stem in without else _notes(path.read_text(encoding="utf-8").splitlines())
    return found


def _notes(lines: Sequence[str]) -> list[str]:
    """Each note runs to the end of its comment, or of its paragraph in a docstring."""
    notes = []
    for i, line in enumerate(lines):
        before, mark, rest = line.partition("NOTE[DIFF]")
        if not mark:
            continue
        words = [rest]
        is_comment = before.strip() == "#"
        for following in lines[i + 1 :]:
            text = following.strip()
            if is_comment != text.startswith("#") or not text or text.startswith('"""'):
                break
            words.append(text.lstrip("# "))
        notes.append(" ".join(" ".join(words).split('"""')[0].split()))
    return notes
