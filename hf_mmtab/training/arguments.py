"""Arguments of `MMTabTrainer`: transformers' own, and what freezing, audit and feature cache need."""

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import SchedulerType, TrainingArguments

from ..hardware import allowed_cores
from ..typed_values import key
from .argument_values import check_values
from .freezing import FreezeSchedule
from .moments import Moment, told_of
from .parts import check_names

# Fields that map parts to values.
PART_ARGUMENTS = ("freeze", "gradual_unfreezing", "part_learning_rates", "layerwise_lr_decay", "thaw_warmup")
MOST_WORKERS = 512
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


def parse_size(size: str | int | float) -> int:
    """Return a size such as `"20GB"` in bytes (powers of 1024).

    Raises:
        ValueError: if it is not a number with an optional unit.
    """
    match = _SIZE.fullmatch(str(size).strip())
    if not match:
        raise ValueError(f"Expected a size such as '20GB' or '500MB', found {size!r}. Correct it.")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


@dataclass
class MMTabTrainingArguments(TrainingArguments):
    """`TrainingArguments` with a freeze schedule, per-part learning rates, update audit and feature cache.

    Every field can be written in YAML, in Python and on the command line, where a mapping is a JSON text:
    `--freeze '{"text_encoder": "3 epochs"}'`.

    `max_grad_norm` clips each parameter on its own under `optim_preset: bertadam`, all together otherwise.

    Example:
        >>> args = MMTabTrainingArguments("run", freeze={"image_encoder": "3 epochs", "text_encoder": "5 epochs"})
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, *PART_ARGUMENTS, "class_weights", "pos_weight"]

    output_dir: str = key(  # type: ignore[assignment]
        "trainer_output", "Folder of checkpoints, schedule and audit."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto",
        "Number format of the computation (weights stay float32). 'auto': bf16 where it is faster, by the "
        "GPU's units or, on a CPU, by measuring one product of the model's size at the start. A resumed run keeps "
        "what it began with.",
    )
    bf16: bool | None = key(  # type: ignore[assignment]
        None, "The same as precision: bf16; false: never bf16."
    )
    fp16: bool | None = key(None, "The same as precision: fp16.")  # type: ignore[assignment]
    channels_last: bool | None = key(
        None,
        "Store convolution kernels channels last: the same numbers up to rounding. Default: where it is "
        "faster, measured at the start on a CPU.",
    )
    dataloader_num_workers: str = key(  # type: ignore[assignment]  # an int once it is settled
        "auto",
        "Processes that prepare batches. 'auto': 0 on a CPU, where they would take the model's cores; "
        "beside a GPU one for every second core of a process, at most 4.",
    )
    freeze: dict | str | None = key(
        None,
        "Part → until when it is frozen: '3 epochs', '500 steps', 0.5, '50%', 'forever', "
        "'from 4 epochs', '2 epochs to 4 epochs', or a list of these.",
    )
    gradual_unfreezing: dict | str | None = key(
        None, "Part → time between the thaw of one layer and of the layer below: {'text_encoder': '1 epoch'}."
    )
    frozen_mode: Literal["eval", "train"] = key(
        "eval",
        "'eval': batch-norm statistics and dropout of a frozen part are still; "
        "'train': they run, as in the original MMBT code.",
    )
    part_learning_rates: dict | str | None = key(None, "Part (or module-path pattern) → learning rate.")
    layerwise_lr_decay: dict | str | None = key(
        None, "Part → factor in (0, 1] on the learning rate from each layer to the layer below."
    )
    thaw_warmup: dict | str | None = key(
        None, "Part → linear warm-up of its learning rate right after it thaws, e.g. {'text_encoder': '100 steps'}."
    )
    optim_preset: Literal["bertadam"] | None = key(
        None,
        "'bertadam': the original MMBT optimizer (no bias correction; clipping, step count and "
        "linear warm-up and decay per parameter). Overrides `optim`.",
    )
    plateau_factor: float = key(0.5, "Factor on the learning rate when the metric stalls (plateau).")
    plateau_patience: int = key(2, "Evaluations without improvement before the learning rate falls.")
    early_stopping_patience: int | None = key(None, "Evaluations without improvement until training stops.")
    early_stopping_threshold: float = key(0.0, "Improvement of the metric that counts as one.")
    collapse_factor: float | None = key(
        1.5,
        "An evaluation whose metric is worse than the best before by this factor is a collapse: the run goes back to "
        "the best checkpoint and learns at a quarter of the rate. null: it goes on.",
    )
    loss: str = key(
        "model",
        "'model': the loss the model computes. The others replace it and do not depend on "
        "accumulation or the number of processes.",
    )
    class_weights: dict | str | None = key(None, "'balanced', or class → weight (one class per example).")
    pos_weight: dict | str | None = key(
        None,
        "'total_over_positives' (original MMBT), 'negatives_over_positives', or label name → "
        "weight (several labels per example).",
    )
    focal_gamma: float = key(2.0, "Exponent of the focal loss.")
    audit: bool = key(True, "Record per part whether, and by how much, it moves.")
    audit_steps: int = key(10, "Optimizer steps between two records; each thaw and the first are recorded.")
    audit_samples: int = key(16384, "Weights of each part that are compared (evenly spaced).")
    audit_plot: bool = key(True, "Draw the audit as `update_audit.png` at the end.")
    show_freeze_report: bool = key(True, "Show the timeline before training and the audit table after it.")
    feature_cache: bool = key(True, "Compute outputs of a frozen part once and reuse them until it thaws.")
    feature_cache_dir: str | None = key(
        None, "Folder of the feature cache, which is in the run's number format; default: output_dir/_feature_cache."
    )
    feature_cache_budget: str = key("20GB", "Largest size of that folder; the rest is computed every time.")

    feature_cache_dtype: Literal["float16", "bfloat16", "float32"] | None = key(
        None, "Store features in fewer bits than they are computed in; default: exactly as computed."
    )

    def __post_init__(self):
        for item in dataclasses.fields(self):  # YAML reads 5e-5 as text
            value = getattr(self, item.name)
            if item.type in (float, "float") and isinstance(value, str):
                setattr(self, item.name, float(value))
        check_values(self)
        if self.optim_preset not in (None, "bertadam"):
            raise ValueError(f"optim_preset must be 'bertadam' or unset, got {self.optim_preset!r}")
        if self.audit_steps < 1 or self.audit_samples < 1:
            raise ValueError(
                f"audit_steps and audit_samples must be at least 1, got {self.audit_steps} and "
                f"{self.audit_samples}; write audit: false to switch the audit off"
            )
        if self.collapse_factor is not None and self.collapse_factor <= 1:
            raise ValueError(
                f"collapse_factor must be above 1 (or null: no collapse is looked for), got {self.collapse_factor}"
            )
        with told_of("feature_cache_budget"):
            parse_size(self.feature_cache_budget)
        if not 0 <= self.label_smoothing_factor < 1:
            raise ValueError(
                f"label_smoothing_factor must be at least 0 and below 1, the share of a label that goes to all classes "
                f"alike, got {self.label_smoothing_factor}"
            )
        if self.optim_preset == "bertadam" and not self.weight_decay:
            self.weight_decay = 0.01  # of the original; also spared: biases and LayerNorm
        if not torch.accelerator.is_available():
            self.use_cpu = True  # Trainer refuses bf16 on a machine without an accelerator unless told so
        self.name_precision()
        workers: Any = number_of_workers(self.dataloader_num_workers, bool(self.use_cpu))
        self.dataloader_num_workers = workers
        super().__post_init__()
        if self.precision == "auto" and self.mixed_precision != "no":  # of `accelerate launch`
            self.precision = self.mixed_precision  # type: ignore[assignment]
        for name in PART_ARGUMENTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, dict):
                raise ValueError(f"{name} must map parts to values, e.g. {{'text_encoder': ...}}, got {value!r}")
            check_names(name, self.mapping(name))
        FreezeSchedule(self.mapping("freeze"), self.mapping("gradual_unfreezing"), self.frozen_mode)  # checks them
        for part, length in self.mapping("thaw_warmup").items():
            with told_of(f"thaw_warmup of {part!r}"):
                moment = Moment.parse(length)
            if moment.unit == "forever":
                raise ValueError(
                    f"thaw_warmup of {part!r} must end, got {length!r}: the part would never train. "
                    "Write for example '100 steps'."
                )
        for name, most in (("part_learning_rates", math.inf), ("layerwise_lr_decay", 1.0)):
            given = self.mapping(name).items()
            setattr(self, name, {part: _number(x, f"{name} of {part!r}", most) for part, x in given} or None)
        watches = self.metric_for_best_model is not None and self.eval_strategy != "no"
        if self.early_stopping_patience is not None and not watches:
            raise ValueError(
                "early_stopping_patience needs an evaluation to watch: set eval_strategy to 'epoch' or 'steps' and "
                "metric_for_best_model"
            )
        stackable = ("linear", "constant", "reduce_lr_on_plateau")  # the first two add nothing
        if self.optim_preset == "bertadam" and self.lr_scheduler_type not in stackable:
            raise ValueError(
                "optim_preset 'bertadam' brings its own linear warm-up and decay, found lr_scheduler_type "
                f"'{SchedulerType(self.lr_scheduler_type).value}'. Leave it out, or use "
                f"'reduce_lr_on_plateau' to stack that on top."
            )

    def name_precision(self) -> None:
        """Bring `precision` and transformers' `bf16` and `fp16` together.

        Raises:
            ValueError: if they contradict each other.
        """
        switches = [name for name in ("bf16", "fp16") if getattr(self, name)]
        known = ("auto", "fp32", "bf16", "fp16")
        if self.precision not in known:
            raise ValueError(f"precision must be one of {', '.join(known)}, got {self.precision!r}")
        if self.precision == "auto":
            if switches:
                self.precision = switches[0]  # type: ignore[assignment]
            elif self.bf16 is False:
                self.precision = "fp32"
        elif switches and switches != [self.precision]:
            raise ValueError(
                f"Expected one precision, found precision: {self.precision} beside {switches[0]}: true. Remove one of "
                "them."
            )
        if self.precision != "auto":
            self.bf16, self.fp16 = self.precision == "bf16", self.precision == "fp16" or bool(self.fp16)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return one of the fields that map parts to values, empty if it is unset."""
        return dict(getattr(self, name) or {})


def number_of_workers(asked: int | str, on_cpu: bool) -> int:
    """Return the number of loader processes: as asked, or for "auto" as the device lets them help.

    Raises:
        ValueError: if it is neither "auto" nor a whole number.
    """
    if str(asked) == "auto":
        processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        return 0 if on_cpu else min(4, allowed_cores() // processes // 2)
    if not str(asked).isdecimal() or int(asked) > MOST_WORKERS:
        raise ValueError(
            f"dataloader_num_workers must be 'auto' or a whole number from 0 to {MOST_WORKERS}, got {asked!r}"
        )
    return int(asked)


def _number(value: object, what: str, most: float) -> float:
    """Return `value` as a float above 0 and at most `most`."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a number, got {value!r}") from None
    if not 0.0 < number <= most or math.isinf(number):
        limit = "finite" if math.isinf(most) else f"at most {most:g}"
        raise ValueError(f"{what} must be above 0 and {limit}, got {number:g}")
    return number
