"""The sentences and the table of the update audit, written from the last record of each part."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import _is_peft_model

from ..freezing import FreezePlan
from ..parts import find_part, has_part
from .part_samples import PartSample, relative_change
from .report import format_table, short_change, short_count, short_share

STUCK_SHARE = 0.1  # share of weights that a step left as they were, from which on the audit mentions it
NEARLY_ENDED = 0.01  # share of its peak below which a learning rate counts as the end of its schedule


@dataclass
class PartStatus:
    """The last record of one part; saved with each checkpoint."""

    step: int = 0  # optimizer steps done at the last record
    frozen: bool = False
    trainable_share: float = 0.0  # of its weights
    in_optimizer: float = 0.0  # share of its weights
    missing_gradients: float = 0.0  # share of its trainable weights whose gradient is None
    gradient_norm: float | None = None
    learning_rate: float = 0.0
    peak_learning_rate: float = 0.0
    change: float = 0.0  # relative, of the last recorded step
    change_since_start: float = 0.0
    statistics_since_start: float | None = None  # batch-norm statistics and other buffers
    first_moved: int | None = None  # first record with a change
    trains_since: int | None = None  # first step with a gradient allowed and a learning rate above 0
    learning_rate_seen: bool = False  # ever above 0 while trainable
    zero_rate_since: int | None = None
    weight_decay: float = 0.0
    gradient_seen: bool = False  # other than 0 at any record
    stuck_share: float = 0.0  # of its weights with a gradient: not changed by the last recorded step
    not_finite_since: int | None = None  # first record with NaN or infinite weights


@dataclass
class RunPosition:
    """Optimizer steps done, micro-batches done in the open accumulation window, and whether the run ended."""

    step: int = 0
    micro_batches: int = 0
    accumulation: int = 1
    ended: bool = False
    statuses: dict[str, PartStatus] = field(default_factory=dict)


class AuditAnswers:
    """Explains what `UpdateAudit`, its subclass, recorded."""

    model: nn.Module
    names: dict[str, list[str]]
    parts: dict[str, list[nn.Parameter]]
    plan: FreezePlan
    position: RunPosition
    _groups: dict[str, list[dict[str, Any]]]
    _optimized: frozenset[int]
    _samples: dict[str, PartSample]
    _start: dict[str, torch.Tensor]

    def reason(self, part: str, params: Sequence[nn.Parameter] | None = None) -> str:
        """Return why a part, or only `params` of it, did not move in the last recorded step."""
        status, position = self.position.statuses[part], self.position
        params = self.parts[part] if params is None else params
        if self._taken_back(status):
            return f"it trained from step {status.trains_since} on, but the best model, which was kept, is older"
        if not any(p.requires_grad for p in params):
            return self._why_frozen(part, params)
        if position.step == 0 and position.micro_batches:
            return self._window()
        if not any(id(p) in self._optimized for p in params):
            return "none of its parameters are in the optimizer"
        if status.learning_rate == 0:
            groups = self._groups[part]
            if not any(group.get("initial_lr", group["lr"]) for group in groups):
                return "its learning rate is set to 0"
            ended = position.ended or 0 < self.plan.total_steps <= position.step
            anywhere = any(other.learning_rate_seen for other in position.statuses.values())
            if status.learning_rate_seen or (ended and anywhere):
                since = status.zero_rate_since
                return f"the learning rate is 0 since step {since}: its schedule is at its end"
            if ended:
                return "the learning rate was 0 at each of its steps, all of them warm-up: train longer"
            return "the learning rate is still 0 (warm-up)"
        if status.gradient_norm is None:
            return "its gradient is None: no path leads from the loss to it (cut graph: detach or no_grad)"
        if status.gradient_norm == 0:
            return "its gradient is exactly zero"
        if self._nearly_ended(status):
            return f"the learning rate is {status.learning_rate:.1e}: its schedule is at its end"
        return self._resolution(part)

    def _why_frozen(self, part: str, params: Sequence[nn.Parameter]) -> str:
        """Return since when and until when parameters are frozen, or that the schedule does not freeze them."""
        plan, position = self.plan, self.position
        units = [unit for unit in plan.units if unit.part == part or unit.name == part]
        units = units or self._units_around(params)
        thaw = min((unit.next_thaw(position.step) for unit in units), default=None)
        if thaw is None or {id(p) for p in params} <= plan.kept_frozen():
            if _is_peft_model(self.model):
                return "frozen by peft: it has no adapter"
            return "requires_grad is False, and not by the freeze schedule: it was frozen elsewhere"
        again = max((unit.frozen_since(position.step) for unit in units), default=0)
        since = f"frozen again since {plan.describe(again)}" if again else "frozen"
        if math.isinf(thaw):
            return since if again else "frozen forever"
        if position.ended or thaw >= plan.total_steps:
            end = position.step if position.ended else plan.total_steps
            return f"the run ended at step {end}, before its thaw at {plan.describe(thaw)}"
        return f"{since}{',' if again else ''} until {plan.describe(thaw)}"

    def _taken_back(self, status: PartStatus) -> bool:
        """Return whether a part that moved is where it began, because the best model was loaded at the end."""
        return self.position.ended and status.change_since_start == 0 and status.first_moved is not None

    def _nearly_ended(self, status: PartStatus) -> bool:
        """Return whether the schedule has brought the learning rate so far down that hardly anything moves."""
        return status.learning_rate < NEARLY_ENDED * status.peak_learning_rate

    def _resolution(self, part: str) -> str:
        status, first = self.position.statuses[part], self.parts[part][0]
        dtype = str(first.dtype).removeprefix("torch.")
        size = float(self._samples[part].read().abs().mean())
        step_size = torch.finfo(first.dtype).eps * size
        return (
            f"the change is below the resolution of {dtype}: learning rate {status.learning_rate:.1e}, while "
            f"weights around {size:.1e} move in steps of {step_size:.1e}"
        )

    def notes(self, part: str) -> list[str]:
        """Return what a user should look at in a part that trains."""
        status, notes = self.position.statuses[part], []
        active = [p for p in self.parts[part] if p.requires_grad]
        if status.not_finite_since is not None:
            notes.append(f"its weights hold NaN or infinite values since step {status.not_finite_since}")
        optimized = share(active, [id(p) in self._optimized for p in active])
        if active and 0 < optimized < 1:
            notes.append(f"only {short_share(optimized)} of its trainable weights are in the optimizer")
        if active and 0 < status.missing_gradients < 1:
            notes.append(f"{short_share(status.missing_gradients)} of its trainable weights have no gradient")
        if status.gradient_norm == 0 and status.change != 0:
            decay, momentum = status.weight_decay > 0, status.gradient_seen or status.weight_decay == 0
            movers = [*["momentum of earlier gradients"] * momentum, *["weight decay"] * decay]
            notes.append(f"its gradient is exactly zero; only {' and '.join(movers)} moves it")
        if status.stuck_share >= STUCK_SHARE and status.change != 0 and not self._nearly_ended(status):
            notes.append(
                f"{short_share(status.stuck_share)} of the weights cannot move at this learning rate: "
                + self._resolution(part)
            )
        return notes

    def _units_around(self, params: Sequence[nn.Parameter]) -> list[Any]:
        """Return the scheduled units that contain all of these parameters."""
        held = {id(p) for p in params}
        return [unit for unit in self.plan.units if held <= {id(p) for p in self.plan.parameters(unit)}]

    def _window(self) -> str:
        position = self.position
        return (
            f"inside an accumulation window: batch {position.micro_batches} of {position.accumulation}, "
            f"weights move once per {position.accumulation} batches"
        )

    def explain(self, part: str) -> str:
        """Say since when a part trains and how far it moved, or why it does not move.

        Args:
            part: a part of the audit's table, or any module path or pattern of paths; each part that it covers or
                overlaps gets a sentence.

        Raises:
            ValueError: if there is no such part or module.
        """
        if not has_part(self.model, part):
            if part in self.parts:  # a parameter outside all modules
                return self._explain_part(part)
            raise ValueError(
                f"Unknown part {part!r}. The audit knows: {', '.join(self.parts)}. "
                "A module path or a pattern of paths works too."
            )
        paths = find_part(self.model, part)
        covered = {
            owner: [any(name.startswith(f"{path}.") for path in paths) for name in names]
            for owner, names in self.names.items()
        }
        whole = [owner for owner, inside in covered.items() if all(inside)]
        sentences = []
        for owner, inside in covered.items():
            if owner in whole:  # parts within a part are listed by themselves, it holds the rest
                label = f"The rest of {part}" if owner == part and len(whole) > 1 else owner
                sentences.append(self._explain_part(owner, label))
            elif any(inside):
                sentences.append(self._explain_piece(part, owner, inside))
        return " ".join(sentences) or f"{part} has no parameters."

    def _explain_piece(self, label: str, part: str, inside: Sequence[bool]) -> str:
        """Explain some of the parameters of a part."""
        sample = self._samples[part]
        pairs = zip(sample.pieces(self._start[part]), sample.pieces(sample.read()), inside, strict=True)
        chosen = [(start, now) for start, now, chosen in pairs if chosen]
        moved = relative_change(*map(torch.cat, zip(*chosen, strict=True)))
        params = [p for p, chosen in zip(self.parts[part], inside, strict=True) if chosen]
        steps = self.position.step
        if moved == 0:
            return f"{label} has not moved in {steps} optimizer steps: {self.reason(part, params)}."
        by = f"{short_change(moved)} of its norm in {steps} optimizer steps"
        return f"{label} has moved by {by}, as a piece of {part}. {self._explain_part(part)}"

    def _explain_part(self, part: str, label: str | None = None) -> str:
        label = label or part
        status, position = self.position.statuses[part], self.position
        if status.change_since_start == 0:
            if position.step == 0 and not position.micro_batches:
                return f"{label}: no optimizer step has been made yet."
            if self._taken_back(status):
                return f"{label} is as it was at the start: {self.reason(part)}."
            return f"{label} has not moved in {position.step} optimizer steps: {self.reason(part)}."
        first = status.trains_since if status.trains_since is not None else 0
        again = status.change == 0 and self.reason(part).startswith("frozen again")
        since = f"{label} trained from step {first} on" if again else f"{label} has trained since step {first}"
        if 0 < status.trainable_share < 1 and not status.frozen:
            since += f" ({status.trainable_share:.0%} of its weights now)"
        notes = "".join(f"; {note}" for note in self.notes(part))
        if status.not_finite_since is not None:
            return f"{since}{notes}."
        moved = short_change(status.change_since_start)
        text = f"{since} and has moved by {moved} of its norm since the start"
        if status.change_since_start < 1e-5:
            text += " (less than torch.allclose notices: its default tolerance is 1e-5)"
        if status.change == 0:
            return f"{text}; it does not move now: {self.reason(part)}{notes}."
        norm = "none" if status.gradient_norm is None else f"{status.gradient_norm:.2e}"
        change, rate = short_change(status.change), f"{status.learning_rate:.1e}"
        text += f"; at the last record it moved by {change} (gradient norm {norm}, learning rate {rate})"
        if position.micro_batches:
            text += f"; now {self._window()}"
        return f"{text}{notes}."

    def nothing_moved(self) -> str:
        """Return why no part of the model moved in the whole run, empty if one did."""
        statuses = self.position.statuses
        if any(status.first_moved is not None or status.change_since_start for status in statuses.values()):
            return ""
        return " ".join(self._explain_part(part) for part in statuses)

    def table(self) -> str:
        """Return one row per part: since when it trains, how far it moved, and why not if it did not."""
        rows: list[tuple[str, ...]] = [
            ("part", "weights", "trains since", "moved since start", "statistics", "last gradient", "")
        ]
        for part, status in self.position.statuses.items():
            moved, statistics = status.change_since_start, status.statistics_since_start
            row = [part, short_count(sum(p.numel() for p in self.parts[part]))]
            row.append("never" if status.first_moved is None else f"step {status.trains_since or 0}")
            row.append(short_change(moved) if moved else "0")
            row.append("" if statistics is None else short_change(statistics))
            row.append("none" if status.gradient_norm is None else f"{status.gradient_norm:.1e}")
            rows.append((*row, "; ".join(self._remarks(part))))
        return format_table(rows)

    def _remarks(self, part: str) -> list[str]:
        """Return why a part does not move, and its notes; the end of a learning-rate schedule needs no remark."""
        status = self.position.statuses[part]
        moved = status.change_since_start > 0 and not status.frozen
        as_planned = moved and status.learning_rate > 0 and self._nearly_ended(status)
        still = status.change == 0 or status.change_since_start == 0
        return [*([self.reason(part)] if still and not as_planned else []), *self.notes(part)]


def share(params: Sequence[nn.Parameter], flags: Sequence[bool]) -> float:
    """Return the share of the weights in the parameters whose flag is True, 0 without weights."""
    total = sum(p.numel() for p in params)
    return sum(p.numel() for p, flag in zip(params, flags, strict=True) if flag) / total if total else 0.0
