"""`results.json`: what a run or an evaluation came to, as one typed record with a JSON form."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..data.reading.records import BadRecord
from ..files import json_text
from ..metrics import Interval
from .ablation import AblationRow
from .cell_baselines import FieldScore
from .cell_errors import CellError
from .unseen_values import UnseenValues

RESULT_FILE = "results.json"


@dataclass
class RunResults:
    """The numbers of a run and what is needed to understand them. What does not apply is empty or None.

    Args:
        architecture: that was trained or judged.
        data: as the recipe or the command line names it.
        split: the main one, on which models are compared.
        metrics: split → metric → value.
        headline: metrics of the closing words, the main one first.
        intervals: split → metric → its 95 % interval.
        resampled_by: what the intervals draw: "row", "entity" or "day".
        thresholds: decision thresholds, chosen on validation.
        judged: split → number of judged `rows`, and of `positives` among two classes.
        ablation: without one input each.
        fields: of pretraining, split → how often the masked cells of each field are recovered.
        cell_errors: of pretraining: wrong cells of the main split.
        problem_type: as in the model's config; None: pretraining.
        num_labels: labels or targets.
        inputs: of pictures with texts: which a row has.
        seq_len: rows of a window.
        window_label: which rows a window is judged on.
        windows: split → number of windows.
        leaks: split → what it shares with training, see `hf_mmtab.data.windows.splits.leak_check`.
        unseen: fields that are [UNK] more often in the main split than in training.
        row_inputs: what the head reads of a row, where validation chose it: `chosen`, `metric`, `validation`.
        notes: what a reader of the numbers must know.
        soup: of `soup: true`: which checkpoints were averaged, see `hf_mmtab.training.soup.Soup`.
        details: name → text for the head of the report.
        skipped: records that could not be read.
        left_out: a sentence if they are many, see `hf_mmtab.data.reading.records.many_left_out`.
        checkpoint: of an evaluation: the model that was judged.
        pretrained: the checkpoint that training started from.
        task: of the recipe.
        seed: of training.
        data_digest: of names, sizes and times of the files that were read.
        minutes: wall time, of evaluation too.
        training_minutes: of training alone, since it was last resumed; None: nothing was trained, or not known.
        summary: the closing words.
    """

    architecture: str
    data: str
    split: str
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    headline: list[str] = field(default_factory=list)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    resampled_by: str = "row"
    thresholds: list[float] | None = None
    judged: dict[str, dict[str, int]] = field(default_factory=dict)
    ablation: list[AblationRow] = field(default_factory=list)
    fields: dict[str, list[FieldScore]] = field(default_factory=dict)
    cell_errors: list[CellError] = field(default_factory=list)
    problem_type: str | None = None
    num_labels: int = 0
    inputs: list[str] = field(default_factory=list)
    seq_len: int | None = None
    window_label: str | None = None
    windows: dict[str, int] = field(default_factory=dict)
    leaks: dict[str, dict[str, Any]] = field(default_factory=dict)
    unseen: list[UnseenValues] = field(default_factory=list)
    row_inputs: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    soup: dict[str, Any] | None = None
    details: dict[str, str] = field(default_factory=dict)
    skipped: list[BadRecord] = field(default_factory=list)
    left_out: str = ""
    checkpoint: str | None = None
    pretrained: str | None = None
    task: str | None = None
    seed: int | None = None
    data_digest: str | None = None
    minutes: float = 0.0
    training_minutes: float | None = None
    summary: str = ""

    def to_json(self) -> str:
        """Return the record as JSON; an interval is the list of its numbers."""
        values = dataclasses.asdict(self)
        values["intervals"] = {
            split: {name: dataclasses.astuple(interval) for name, interval in found.items()}
            for split, found in self.intervals.items()
        }
        return json_text(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunResults":
        """Read what `to_json` wrote, in this version or an earlier one.

        Raises:
            ValueError: if it is no such record.
        """
        values = json.loads(text)
        if not isinstance(values, Mapping) or not {"architecture", "data", "split"} <= set(values):
            raise ValueError("no record of a run")
        hints = get_type_hints(cls)
        return cls(**{name: _typed(value, hints[name]) for name, value in values.items() if name in hints})

    @classmethod
    def read(cls, folder: Path) -> "RunResults | None":
        """Read the results of a run folder; None: it has none, so the run is not finished.

        Raises:
            ValueError: if the file is damaged.
        """
        file = folder / RESULT_FILE
        if not file.exists():
            return None
        try:
            return cls.from_json(file.read_text(encoding="utf-8"))
        except (ValueError, TypeError, AttributeError, IsADirectoryError) as error:
            raise ValueError(
                f"Expected the results of a finished run in {str(file)!r}, found a damaged file ({error}). Delete it "
                "and run the same command again: training goes on from the last checkpoint, and the results are "
                "written anew."
            ) from error


def _typed(value: Any, kind: Any) -> Any:
    """Return a JSON value as a type: lists, mappings and dataclasses item by item, anything else as it is."""
    if kind is float and value is None:  # JSON has no NaN
        return math.nan
    if get_origin(kind) is list:
        return [_typed(one, get_args(kind)[0]) for one in value]
    if get_origin(kind) is dict:
        return {name: _typed(one, get_args(kind)[1]) for name, one in value.items()}
    if not dataclasses.is_dataclass(kind):
        return value
    if isinstance(value, list):  # an interval
        return kind(*value)  # type: ignore[operator]
    hints = get_type_hints(kind)
    return kind(**{name: _typed(one, hints.get(name)) for name, one in value.items()})  # type: ignore[operator]
