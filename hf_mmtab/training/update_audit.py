"""Update audit: which part of a model moved at which step, by how much, or why it did not."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging

from .freezing import FreezePlan
from .parts import plain_name
from .reporting import count, format_table, quantity
from .sampling import PartSample, local_tensor, relative_change, sum_over_ranks

logger = logging.get_logger(__name__)

RECORDS_NAME = "update_audit.jsonl"
STATE_NAME = "update_audit_{rank}.safetensors"


@dataclass
class PartStatus:
    """What the audit last saw of one part; saved with each checkpoint."""

    step: int = 0  # optimizer steps done at the last record
    frozen: bool = False
    trainable_share: float = 0.0  # of its weights
    in_optimizer: float = 0.0  # share of its weights
    missing_gradients: float = 0.0  # share of its trainable weights whose gradient is None
    gradient_norm: float | None = None
    learning_rate: float = 0.0
    change: float = 0.0  # relative, of the last recorded step
    change_since_start: float = 0.0
    statistics_since_start: float | None = None  # batch-norm statistics and other buffers
    first_moved: int | None = None  # first record with a change
    trains_since: int | None = None  # first step with a gradient allowed and a learning rate above 0
    learning_rate_seen: bool = False  # ever above 0 while trainable
    zero_rate_since: int | None = None


@dataclass
class RunPosition:
    """Where the run is: optimizer steps done, micro-batches done in the open accumulation window, whether it
    ended.
    """

    step: int = 0
    micro_batches: int = 0
    accumulation: int = 1
    ended: bool = False
    statuses: dict[str, PartStatus] = field(default_factory=dict)


class UpdateAudit:
    """Records what each part of a model does, as JSON lines, and explains it in a sentence.

    Weights are compared on a fixed sample of each part, gradient norms are exact. Everything is recorded
    every `every` optimizer steps, at the first two steps (a warm-up's first has learning rate 0), at the
    first step after each thaw, and at the last.

    Args:
        model: the unwrapped model, after wrapping (sharding replaces parameters).
        partition: part → parameter names, see `partition_parameters`.
        plan: the freeze plan of the run.
        optimizer: any torch optimizer.
        path: the JSON-lines file, or None where this process writes nothing.
        every: optimizer steps between two records.
        samples: weights compared per part.
        accumulation: micro-batches per optimizer step.
        learning_rate: group → the learning rate that the coming step applies.
    """

    def __init__(
        self,
        model: nn.Module,
        partition: dict[str, list[str]],
        plan: FreezePlan,
        optimizer: torch.optim.Optimizer,
        path: str | os.PathLike | None,
        every: int = 10,
        samples: int = 16384,
        accumulation: int = 1,
        learning_rate: Callable[[dict[str, Any]], float] = lambda group: group["lr"],
    ):
        named = {plain_name(name): p for name, p in model.named_parameters()}
        self.parts = {part: [named[name] for name in names] for part, names in partition.items()}
        self.plan, self.every, self.learning_rate = plan, every, learning_rate
        self.path = None if path is None else Path(path)
        self.position = RunPosition(accumulation=accumulation)
        self.position.statuses = {part: PartStatus() for part in self.parts}
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._groups = {
            part: list({id(group_of[id(p)]): group_of[id(p)] for p in params if id(p) in group_of}.values())
            for part, params in self.parts.items()
        }
        self._in_optimizer = {
            part: _share(params, [id(p) in group_of for p in params]) for part, params in self.parts.items()
        }
        self._samples = {part: PartSample(params, samples) for part, params in self.parts.items()}
        self._statistics = {
            part: PartSample(_buffers_of(model, names), samples) for part, names in partition.items()
        }
        self._start = {part: sample.read() for part, sample in self._samples.items()}
        self._start_statistics = {part: sample.read() for part, sample in self._statistics.items()}
        self._before: dict[str, torch.Tensor] | None = None
        self._record_at = {0, 1, plan.total_steps - 1, *plan.boundaries()}

    # ---- During training ----

    def micro_batch(self) -> None:
        """Note that a micro-batch is done without an optimizer step."""
        self.position.micro_batches += 1

    def before_step(self, step: int) -> None:
        """Look at gradients and weights just before an optimizer step.

        Args:
            step: optimizer steps done so far.
        """
        self.position.micro_batches = 0
        record = step % self.every == 0 or step in self._record_at
        norms = self._gradient_norms() if record else {}
        for part, params in self.parts.items():
            status = self.position.statuses[part]
            trainable = [p.requires_grad for p in params]
            rate = max((self.learning_rate(group) for group in self._groups[part]), default=0.0)
            if any(trainable) and rate > 0:
                status.learning_rate_seen, status.zero_rate_since = True, None
                if status.trains_since is None and self._in_optimizer[part] > 0:
                    status.trains_since = step
            elif rate == 0 and status.zero_rate_since is None:
                status.zero_rate_since = step
            status.learning_rate = rate
            if record:
                status.frozen = not any(trainable)
                status.trainable_share = _share(params, trainable)
                status.in_optimizer = self._in_optimizer[part]
                active = [p for p in params if p.requires_grad]
                status.missing_gradients = _share(active, [p.grad is None for p in active])
                status.gradient_norm = norms[part]
        self._before = {part: sample.read() for part, sample in self._samples.items()} if record else None

    def after_step(self, step: int, epoch: float) -> None:
        """Compare the weights just after the optimizer step that `before_step` announced, and write the
        record.
        """
        self.position.step = step + 1
        if self._before is None:
            return
        before, self._before = self._before, None
        for part, status in self.position.statuses.items():
            status.change = relative_change(before[part], self._samples[part].read())
        self._measure_since_start(step + 1)
        self._write(epoch)

    def end(self, epoch: float) -> None:
        """Take the last measure when training has ended."""
        self.position.ended = True
        self._measure_since_start(self.position.step)

    def _measure_since_start(self, step: int) -> None:
        """Measure every part against the start of the run."""
        for part, status in self.position.statuses.items():
            status.step = step
            status.change_since_start = relative_change(self._start[part], self._samples[part].read())
            if self._statistics[part]:
                status.statistics_since_start = relative_change(
                    self._start_statistics[part], self._statistics[part].read()
                )
            if status.first_moved is None and status.change_since_start > 0:
                status.first_moved = step

    def _gradient_norms(self) -> dict[str, float | None]:
        """Return the norm of each part's gradient as the optimizer gets it, None where there is no
        gradient.
        """
        squares = []
        for params in self.parts.values():
            grads = [local_tensor(p.grad) for p in params if p.grad is not None]
            norms = torch._foreach_norm(grads) if grads else []
            squares.append(
                torch.stack([n.float() for n in norms]).square().sum() if norms else torch.tensor(-1.0)
            )
        sharded = any(type(p).__name__ == "DTensor" for params in self.parts.values() for p in params)
        totals = torch.stack([square.cpu() for square in squares])
        if sharded:
            totals = sum_over_ranks(totals)
        return {
            part: (None if total < 0 else math.sqrt(total))
            for part, total in zip(self.parts, totals.tolist(), strict=True)
        }

    def _write(self, epoch: float) -> None:
        if self.path is None:
            return
        keys = ["step", "frozen", "trainable_share", "in_optimizer", "missing_gradients", "gradient_norm"]
        keys += ["learning_rate", "change", "change_since_start", "statistics_since_start"]
        with self.path.open("a", encoding="utf-8") as file:
            for part, status in self.position.statuses.items():
                values = asdict(status)
                row = {"part": part, "epoch": round(epoch, 6), **{key: values[key] for key in keys}}
                row["reason"] = self.reason(part) if status.change == 0 else None
                file.write(json.dumps(row) + "\n")

    # ---- Answers ----

    def reason(self, part: str) -> str:
        """Return what kept a part still at the last record."""
        status, position = self.position.statuses[part], self.position
        params = self.parts[part]
        units = [unit for unit in self.plan.units if unit.part == part or unit.name == part]
        units = units or self._units_around(params)
        if not any(p.requires_grad for p in params):
            thaw = min((unit.next_thaw(position.step) for unit in units), default=None)
            if thaw is None:
                return "requires_grad is False, and not by the freeze schedule: it was frozen elsewhere"
            if math.isinf(thaw):
                return "frozen forever"
            if position.ended or thaw >= self.plan.total_steps:
                return (
                    f"the run ended at step {position.step if position.ended else self.plan.total_steps}, "
                    f"before its "
                    f"thaw at {self.plan.describe(thaw)}"
                )
            return f"frozen until {self.plan.describe(thaw)}"
        if position.step == 0 and position.micro_batches:
            return self._window()
        if self._in_optimizer[part] == 0:
            return "none of its parameters are in the optimizer"
        if status.learning_rate == 0:
            if status.learning_rate_seen or (
                self.plan.total_steps and position.step >= self.plan.total_steps
            ):
                return (
                    f"the learning rate is 0 since step {status.zero_rate_since}: its schedule is at its end"
                )
            return "the learning rate is still 0 (warm-up)"
        if status.gradient_norm is None:
            return "its gradient is None: no path leads from the loss to it (cut graph: detach or no_grad)"
        if status.gradient_norm == 0:
            return "its gradient is exactly zero"
        dtype = str(params[0].dtype).removeprefix("torch.")
        size = float(self._samples[part].read().abs().mean())
        step_size = torch.finfo(params[0].dtype).eps * size
        return (
            f"the change is below the resolution of {dtype}: learning rate {status.learning_rate:.1e}, while "
            f"weights "
            f"around {size:.1e} move in steps of {step_size:.1e}"
        )

    def _units_around(self, params: Sequence[nn.Parameter]) -> list[Any]:
        """Return the scheduled units that hold all of these parameters: those of a part inside a scheduled one."""
        held = {id(p) for p in params}
        return [unit for unit in self.plan.units if held <= {id(p) for p in self.plan.parameters(unit)}]

    def _window(self) -> str:
        position = self.position
        return (
            f"inside an accumulation window: batch {position.micro_batches} of {position.accumulation}, "
            f"weights move "
            f"once per {position.accumulation} batches"
        )

    def explain(self, part: str) -> str:
        """Answer in a sentence: since when a part trains and how far it moved, or which reason keeps it
        still.

        Raises:
            ValueError: if there is no such part.
        """
        if part not in self.parts:
            raise ValueError(f"Unknown part {part!r}. The audit knows: {', '.join(self.parts)}.")
        status, position = self.position.statuses[part], self.position
        if status.change_since_start == 0:
            if position.step == 0 and not position.micro_batches:
                return f"{part}: no optimizer step has been made yet."
            return f"{part} has not moved in {position.step} optimizer steps: {self.reason(part)}."
        since = (
            f"{part} has trained since step {status.trains_since if status.trains_since is not None else 0}"
        )
        if 0 < status.trainable_share < 1 and not status.frozen:
            since += f" ({status.trainable_share:.0%} of its weights now)"
        text = f"{since} and has moved by {quantity(status.change_since_start)} of its norm since the start"
        if status.change_since_start < 1e-5:
            text += " (less than torch.allclose notices: its default tolerance is 1e-5)"
        if status.change == 0:
            return f"{text}; it does not move now: {self.reason(part)}."
        norm = "none" if status.gradient_norm is None else f"{status.gradient_norm:.2e}"
        text += (
            f"; at the last record it moved by {quantity(status.change)} (gradient norm {norm}, learning "
            f"rate "
            f"{status.learning_rate:.1e})"
        )
        if position.micro_batches:
            text += f"; now {self._window()}"
        return f"{text}."

    def table(self) -> str:
        """Return one row per part: what it does, how far it moved, and why not if it did not."""
        rows = [("part", "weights", "trains since", "moved since start", "statistics", "last gradient", "")]
        for part, status in self.position.statuses.items():
            moved = status.change_since_start
            rows.append(
                (
                    part,
                    count(sum(p.numel() for p in self.parts[part])),
                    "never" if moved == 0 else f"step {status.trains_since or 0}",
                    quantity(moved) if moved else "0",
                    "" if status.statistics_since_start is None else quantity(status.statistics_since_start),
                    "none" if status.gradient_norm is None else f"{status.gradient_norm:.1e}",
                    self.reason(part) if status.change == 0 or moved == 0 else "",
                )
            )
        return format_table(rows)

    # ---- Checkpoints ----

    def save(self, folder: str | os.PathLike, rank: int = 0) -> None:
        """Write what a resumed run needs into a checkpoint folder; each rank its own where weights are sharded."""
        tensors = {f"start/{part}": value for part, value in self._start.items()}
        tensors |= {f"statistics/{part}": value for part, value in self._start_statistics.items()}
        statuses = {part: asdict(status) for part, status in self.position.statuses.items()}
        metadata = {"step": str(self.position.step), "statuses": json.dumps(statuses)}
        save_file(tensors, str(Path(folder) / STATE_NAME.format(rank=rank)), metadata=metadata)

    def resume(self, folder: str | os.PathLike, step: int, rank: int = 0) -> None:
        """Continue the audit of a checkpoint: its start weights, and its records up to `step`."""
        state = Path(folder) / STATE_NAME.format(rank=rank)
        if state.is_file():
            with safe_open(str(state), framework="pt") as file:
                saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
                statuses = json.loads(file.metadata()["statuses"])
            for part, start in self._start.items():
                other = saved.get(f"start/{part}")
                if other is not None and other.shape == start.shape:
                    self._start[part] = other
                    self._start_statistics[part] = saved[f"statistics/{part}"]
                    self.position.statuses[part] = PartStatus(**statuses[part])
                else:
                    logger.warning(
                        f"The checkpoint's audit does not know part {part!r}: it is compared from here on."
                    )
        self.position.step = step
        if self.path is not None and self.path.is_file():
            truncate_records(self.path, step)


def truncate_records(path: Path, step: int) -> None:
    """Drop the records after `step`, and a last line that was cut off when the run was killed."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > step:
            break
        kept.append(line)
    part_file = path.with_suffix(".tmp")
    part_file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    part_file.replace(path)


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the records of an audit file, in order."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _buffers_of(model: nn.Module, parameter_names: list[str]) -> list[torch.Tensor]:
    """Return the floating-point buffers of the modules that own these parameters (batch-norm statistics)."""
    modules = {plain_name(name): module for name, module in model.named_modules()}
    owners = dict.fromkeys(name.rpartition(".")[0] for name in parameter_names)
    buffers = [buffer for name in owners for buffer in modules[name].buffers(recurse=False)]
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def _share(params: list[nn.Parameter], flags: list[bool]) -> float:
    total = sum(p.numel() for p in params)
    return sum(p.numel() for p, flag in zip(params, flags, strict=True) if flag) / total if total else 0.0
