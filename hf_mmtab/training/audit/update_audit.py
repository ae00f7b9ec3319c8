"""Records at which step each part of a model moved, and by how much."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging

from ...files import json_text
from ..freezing import FreezePlan
from ..parts import plain_name
from .answers import AuditAnswers, PartStatus, RunPosition, share
from .part_samples import PartSample, local_tensor, relative_change, stuck_share, sum_over_ranks

logger = logging.get_logger(__name__)

RECORDS_NAME = "update_audit.jsonl"
STATE_NAME = "update_audit_{rank}.safetensors"


class UpdateAudit(AuditAnswers):
    """Records gradients and changes of each part of a model as JSON lines, and explains them in sentences.

    Weights are compared on a fixed sample of each part, gradient norms are exact. Records are made every `every`
    optimizer steps, at the first two steps (a warm-up's first has learning rate 0), at each freeze and thaw, and at
    the last step.

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
        self.model, self.names = model, partition
        self.plan, self.every, self.learning_rate = plan, every, learning_rate
        self.path = None if path is None else Path(path)
        self.position = RunPosition(accumulation=accumulation)
        self.position.statuses = {part: PartStatus() for part in self.parts}
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._groups = {
            part: list({id(group_of[id(p)]): group_of[id(p)] for p in params if id(p) in group_of}.values())
            for part, params in self.parts.items()
        }
        self._optimized = frozenset(group_of)
        self._in_optimizer = {
            part: share(params, [id(p) in group_of for p in params]) for part, params in self.parts.items()
        }
        self._samples = {part: PartSample(params, samples) for part, params in self.parts.items()}
        self._statistics = {part: PartSample(_buffers_of(model, names), samples) for part, names in partition.items()}
        self._start = {part: sample.read() for part, sample in self._samples.items()}
        self._start_statistics = {part: sample.read() for part, sample in self._statistics.items()}
        self._before: dict[str, torch.Tensor] | None = None
        self._has_gradient: dict[str, torch.Tensor] = {}
        self._suspect: int | None = None  # a step whose loss was NaN or infinite
        self._record_at = {0, 1, plan.total_steps - 1, *plan.boundaries()}

    # ---- During training ----

    def micro_batch(self) -> None:
        """Count a micro-batch without an optimizer step."""
        self.position.micro_batches += 1

    def look_closely(self, step: int) -> None:
        """Record the coming step, whose loss is NaN or infinite, and name the parts that are not finite either."""
        if all(status.not_finite_since is None for status in self.position.statuses.values()):
            self._record_at.add(step)
            self._suspect = step

    def before_step(self, step: int) -> None:
        """Read gradients and weights just before an optimizer step.

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
            status.peak_learning_rate = max(rate, status.peak_learning_rate)
            if record:
                status.frozen = not any(trainable)
                status.trainable_share = share(params, trainable)
                status.in_optimizer = self._in_optimizer[part]
                active = [p for p in params if p.requires_grad]
                status.missing_gradients = share(active, [p.grad is None for p in active])
                status.gradient_norm = norms[part]
                status.gradient_seen |= bool(norms[part])
                decays = [float(group.get("weight_decay", 0.0)) for group in self._groups[part]]
                status.weight_decay = max(decays, default=0.0)
        self._before = {part: sample.read() for part, sample in self._samples.items()} if record else None
        if step == self._suspect:
            self._examine_suspect(step)
        if record:
            self._has_gradient = {
                part: sample.read_has_gradient(self._optimized) for part, sample in self._samples.items()
            }

    def after_step(self, step: int, epoch: float) -> bool:
        """Compare the weights just after the optimizer step with those of `before_step`, and write the record.

        Returns:
            Whether there is a record of this step.
        """
        self.position.step = step + 1
        if self._before is None:
            return False
        before, self._before = self._before, None
        after = {part: sample.read() for part, sample in self._samples.items()}
        for part, status in self.position.statuses.items():
            status.change = relative_change(before[part], after[part])
            stuck = stuck_share(before[part], after[part], self._has_gradient[part])
            status.stuck_share = stuck if status.learning_rate > 0 else 0.0
        self._measure_since_start(step + 1, after)
        self._write(epoch)
        return True

    def end(self, epoch: float) -> None:
        """Measure all parts when training has ended."""
        self.position.ended = True
        after = {part: sample.read() for part, sample in self._samples.items()}
        self._measure_since_start(self.position.step, after)

    def _measure_since_start(self, step: int, after: dict[str, torch.Tensor]) -> None:
        """Compare each part's sample of weights (`after`) with the start of the run."""
        for part, status in self.position.statuses.items():
            status.step = step
            status.change_since_start = relative_change(self._start[part], after[part])
            if self._statistics[part]:
                now = self._statistics[part].read()
                status.statistics_since_start = relative_change(self._start_statistics[part], now)
            if status.first_moved is None and status.change_since_start > 0:
                status.first_moved = step
        changes = {part: status.change_since_start for part, status in self.position.statuses.items()}
        self._note_not_finite([part for part, change in changes.items() if not math.isfinite(change)], step)

    def _examine_suspect(self, step: int) -> None:
        """Warn which parts hold NaN or infinite weights before a step, or else which have such gradients."""
        weights = {part: [local_tensor(p.detach()) for p in params] for part, params in self.parts.items()}
        broken = [part for part, held in weights.items() if not all(torch.isfinite(w).all() for w in held)]
        norms = {part: status.gradient_norm for part, status in self.position.statuses.items()}
        graded = [part for part, norm in norms.items() if norm is not None and not math.isfinite(norm)]
        self._note_not_finite(broken, step)
        if graded and not broken:
            logger.warning(f"Step {step}: the loss and gradients of {', '.join(graded)} are NaN or infinite.")

    def _note_not_finite(self, parts: Sequence[str], step: int) -> None:
        """Note and warn, once per part, that weights are NaN or infinite after `step` optimizer steps."""
        statuses = self.position.statuses
        first = all(status.not_finite_since is None for status in statuses.values())
        parts = [part for part in parts if statuses[part].not_finite_since is None]
        for part in parts:
            statuses[part].not_finite_since = step
        if parts:
            remedy = " Resume from an earlier checkpoint with a lower learning rate or max_grad_norm, or a wider dtype."
            spread = f".{remedy if first else ''}"
            logger.warning(f"Step {step}: weights of {', '.join(parts)} are NaN or infinite{spread}")

    def _gradient_norms(self) -> dict[str, float | None]:
        """Return the norm of each part's gradient as the optimizer gets it, None without a gradient."""
        squares = []
        for params in self.parts.values():
            grads = [local_tensor(p.grad) for p in params if p.grad is not None]
            norms = torch._foreach_norm(grads) if grads else []
            stacked = torch.stack([n.float() for n in norms]).square().sum() if norms else torch.tensor(-1.0)
            squares.append(stacked)
        sharded = any(type(p).__name__ == "DTensor" for params in self.parts.values() for p in params)
        totals = torch.stack([square.cpu() for square in squares])
        if sharded:
            totals = sum_over_ranks(totals)
        norm_of = [None if total < 0 else math.sqrt(total) for total in totals.tolist()]
        return dict(zip(self.parts, norm_of, strict=True))

    def _write(self, epoch: float) -> None:
        if self.path is None:
            return
        keys = ["step", "frozen", "trainable_share", "in_optimizer", "missing_gradients", "gradient_norm"]
        keys += ["learning_rate", "change", "change_since_start", "statistics_since_start", "stuck_share"]
        with self.path.open("a", encoding="utf-8") as file:
            for part, status in self.position.statuses.items():
                values = asdict(status)
                row = {"part": part, "epoch": round(epoch, 6), **{key: values[key] for key in keys}}
                row["reason"] = "; ".join(self.notes(part)) or None if status.change else self.reason(part)
                file.write(json_text(row) + "\n")

    # ---- Checkpoints ----

    def save(self, folder: str | os.PathLike, rank: int = 0) -> None:
        """Write the start weights and statuses into a checkpoint folder; under sharding each rank writes its own."""
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
                    logger.warning(f"The checkpoint's audit lacks part {part!r}: it is compared from here on.")
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
