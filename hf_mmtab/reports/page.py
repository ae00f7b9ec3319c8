"""Run facts → `report.html`, one page that needs nothing else, and `figures/*.png`."""

import base64
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure
from transformers.utils.logging import get_logger

from ..files import remove_file, write_whole
from ..metrics.names import glossary, metric_name
from ..publishing.run_files import FIGURE_NAMES, FIGURES_FOLDER, PAGE_NAME, PUBLIC_PAGE_NAME
from ..training.audit.report import plot_audit, short_change
from ..training.audit.update_audit import read_records
from .examples import cell_examples, worst_errors
from .facts import MASKED_LM, RunFacts
from .figures import ResultFigures, result_figures
from .noted import is_information
from .plots_models import ablation_bars, comparison_plot, field_accuracies
from .plots_training import audit_rows, boundaries, learning_curves, thaw_epochs
from .public_facts import public_facts
from .reasons import EXPLAINED, add_reasons, highest_alerts
from .tables import class_rows, comparison_rows, headline, split_table
from .worth import constant_answer, harmful_inputs, warnings_of_worth

logger = get_logger(__name__)

FEW_HISTORIES = 4  # wrong predictions of tables that are shown at once; the others unfold


@dataclass
class Picture:
    """A figure of the page: file name without ending, what it shows in words, and the PNG."""

    name: str
    alt: str
    png: bytes

    @property
    def uri(self) -> str:
        """The PNG as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def width(self) -> int:
        """Pixels on the page: half of the file's, so that it is sharp on fine screens."""
        return round(int.from_bytes(self.png[16:20], "big") / 1.45)  # IHDR of the PNG format


@dataclass
class Page:
    """The figures of a page, collected as they are drawn."""

    pictures: dict[str, Picture] = field(default_factory=dict)

    def draw(self, name: str, alt: str, plot: Callable[..., Figure | None], *args: Any) -> None:
        """Draw a figure and keep it, unless there is nothing to draw; one that cannot be drawn ends no run."""
        assert name in FIGURE_NAMES, name
        try:
            figure = plot(*args)
            drawn = None if figure is None else picture_of(name, alt, figure)
        except (ArithmeticError, ValueError):  # of numbers beyond what matplotlib can place
            logger.warning(f"The figure {name} was not drawn; its numbers are in the run's files.", exc_info=True)
            return
        if drawn is not None:
            self.pictures[name] = drawn


def picture_of(name: str, alt: str, figure: Figure) -> Picture:
    """Draw a figure; see `Picture`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(name, alt, buffer.getvalue())


def write_report(facts: RunFacts, out_dir: str | os.PathLike, examples: int = 24) -> Path:
    """Write the report of a run, and beside it the page that others may read.

    Sections without facts are left out.

    Args:
        facts: of the run.
        out_dir: made if needed; `report.html`, `report_public.html` and `figures/*.png` in it are replaced.
        examples: at most so many wrong predictions are shown; the public page shows none.

    Raises:
        FileNotFoundError: if `facts.audit_path` is given but does not exist.

    Returns:
        The path of `report.html`.
    """
    folder = Path(out_dir)
    (folder / FIGURES_FOLDER).mkdir(parents=True, exist_ok=True)
    records = read_records(facts.audit_path) if facts.audit_path else []
    results = result_figures(facts)
    pictures = _draw(facts, results, records)
    predictions = facts.main_predictions
    wrong = cell_examples(facts.results.cell_errors)
    if predictions is not None and examples:
        wrong = worst_errors(facts, predictions, examples)
    wrong, alerts, reasons = wrong[:examples], [], ""
    if predictions is not None and examples:
        alerts = highest_alerts(facts, predictions) if predictions.explain else []
        reasons = add_reasons(predictions, [*alerts, *wrong[:EXPLAINED]])
    shown: dict[str, Any] = {"constant": constant_answer(facts), "classes": class_rows(facts)}
    shown |= {"examples": wrong, "alerts": alerts, "reasons": reasons}
    html = _render(facts, results, records, pictures, shown)
    shown |= {"examples": [], "alerts": [], "reasons": ""}
    public = _render(public_facts(facts, folder.resolve().parent), results, records, pictures, shown)
    for name in FIGURE_NAMES:
        remove_file(folder / FIGURES_FOLDER / f"{name}.png")
    for picture in pictures.values():
        write_whole(folder / FIGURES_FOLDER / f"{picture.name}.png", picture.png)
    write_whole(folder / PUBLIC_PAGE_NAME, public)
    path = folder / PAGE_NAME
    write_whole(path, html)
    logger.info(f"Report written to {path}")
    return path


def _main_metric(facts: RunFacts) -> str:
    """Pretraining keeps the checkpoint with the lowest loss, and shows the accuracy of each field further down."""
    return "masked_loss" if facts.problem_type == MASKED_LM else str(facts.main_metric)


def _draw(facts: RunFacts, results: ResultFigures, records: list[dict[str, Any]]) -> dict[str, Picture]:
    page, metric = Page(), _main_metric(facts)
    curve = "The loss and the metric over the epochs, with the points at which parts thaw"
    of = " of the LSTM" if facts.results.architecture == "fusion" else ""  # whose trees have no epochs
    logged = (facts.log_history, metric, thaw_epochs(records), facts.kept_step, of)
    page.draw("learning_curves", curve, learning_curves, *logged)
    if records:
        alt = "When each part was frozen, how far it moved, its gradient norm and its learning rate"
        drawn = _audit_png(Path(str(facts.audit_path)), records)
        page.pictures["update_audit"] = Picture("update_audit", alt, drawn)
    page.draw("comparison", f"{metric_name(metric)} of each model", comparison_plot, facts.comparison, metric)
    page.draw("ablation", "The metric without each input", ablation_bars, facts.results.ablation, metric)
    for name, (alt, plot, *args) in results.figures.items():
        page.draw(name, alt, plot, *args)
    page.draw("fields", "Accuracy of each field beside the two guesses", field_accuracies, facts.fields)
    return page.pictures


def _render(
    facts: RunFacts,
    results: ResultFigures,
    records: list[dict[str, Any]],
    pictures: dict[str, Picture],
    shown: dict[str, Any],
) -> str:
    examples, constant = shown["examples"], shown["constant"]
    splits = split_table(facts, constant)
    # What an input does to a model that is no better than a constant is noise.
    warnings = warnings_of_worth(facts, constant) or harmful_inputs(facts)
    told = [note for note in facts.results.notes if is_information(note)]
    num_rows = 0 if facts.main_predictions is None else len(facts.main_predictions.probabilities)
    return environment().get_template("report.html.jinja").render(
        facts=facts,
        pictures=pictures,
        headline=headline(facts),
        splits=splits,
        told=told,  # of what is in order, and how the run was done
        notes=[note for note in facts.results.notes if note not in told],
        warnings=warnings,
        glossary=glossary(
            [row["metric"] for row in splits["rows"]],
            interval=bool(facts.intervals),
            table=facts.results.window_label is not None,
            audit=bool(records),
            reasons=any(one.reasons for one in [*shown["examples"], *shown["alerts"]]),
            episodes=bool(results.episodes),
        ),
        most_shown=FEW_HISTORIES if any(one.history for one in examples) else len(examples),
        most_explained=EXPLAINED if len(examples) > EXPLAINED and any(one.reasons for one in examples) else 0,
        comparison=comparison_rows(facts),
        audit=audit_rows(records),
        confused=results.confused_pairs,
        episodes=results.episodes,
        alerts_in_words=results.alerts,
        **shown,
        summary=_summary(facts, num_rows),
        num_wrong=results.num_wrong,
        num_rows=num_rows,
        versions=", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        style=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        metric_name=metric_name,
    )  # fmt: skip


def _audit_png(audit_path: Path, records: list[dict[str, Any]]) -> bytes:
    """The audit's plot: as training drew it beside the records, or drawn now."""
    drawn = audit_path.with_suffix(".png")
    if drawn.is_file() and drawn.stat().st_mtime >= audit_path.stat().st_mtime:
        return drawn.read_bytes()
    buffer = io.BytesIO()
    plot_audit(records, buffer, boundaries(records))
    return buffer.getvalue()


@cache  # a template is compiled once in a process: both pages of a run, and all runs of a comparison
def environment(folder: Path = Path(__file__).parent, **options: Any) -> jinja2.Environment:
    """The templates of a folder. On a page texts and label names are data, never markup: they are escaped."""
    given: dict[str, Any] = {"loader": jinja2.FileSystemLoader(folder), "autoescape": True, **options}
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(undefined=strict, trim_blocks=True, lstrip_blocks=True, **given)
    environment.filters |= FILTERS
    return environment


def _summary(facts: RunFacts, num_rows: int) -> str:
    """What the headline's numbers are of, in a few sentences."""
    rows = f"{num_rows:,} rows of " if num_rows else ""
    sentences = [f"On {rows}split “{facts.results.split}”."]
    if facts.intervals:
        sentences.append(f"Ranges are 95 % bootstrap intervals over its {facts.drawn}.")
    if facts.results.training_minutes is not None:
        whole = f"; the whole run took {duration(60 * facts.results.minutes)}" if facts.results.minutes else ""
        sentences.append(f"Trained in {duration(60 * facts.results.training_minutes)}{whole}.")
    sentences += [f"{name[:1].upper()}{name[1:]}: {value}." for name, value in facts.results.details.items()]
    return " ".join(sentences)


def signed(value: float) -> str:
    """A difference, with a true minus sign."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # + 0.0: never −0.000


LEAST = 5e-6  # below it a number is 0


def number(value: float | None, like: float | None = None) -> str:
    """A metric for a table: about three digits that matter, thousands separated, a dash for what is not defined.

    Args:
        value: the number; an int is a count.
        like: the number beside it, whose decimals it takes (a spread those of its mean).
    """
    if value is None or value != value:
        return "–"
    value = 0.0 if 0 < abs(value) < LEAST else value  # never -0.00000
    size = abs(value if like is None else like)
    if isinstance(value, int) or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.01 or size == 0 else 5}f}"


def quantity(value: float | None) -> str:
    """A relative change, in percent."""
    return "–" if value is None else short_change(value)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that a person would use."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


FILTERS = {"number": number, "signed": signed, "quantity": quantity, "duration": duration}
