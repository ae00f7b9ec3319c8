"""The optimizer of the original MMBT code, and optimizer groups by part."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from transformers.utils import logging

from .parts import part_layers, partition_parameters, plain_name

logger = logging.get_logger(__name__)

RATES = ("part_learning_rates", "thaw_warmup")


def warmup_linear(progress: float, warmup: float) -> float:
    """Return the learning-rate factor of BertAdam's linear schedule.

    Source: `WarmupLinearSchedule` of pytorch-pretrained-bert 0.6.2.

    Args:
        progress: steps done divided by all steps.
        warmup: share of the steps that warm up, 0 for none.
    """
    if progress < warmup:
        return progress / warmup
    return max((progress - 1.0) / (warmup - 1.0), 0.0)


class BertAdam(torch.optim.Optimizer):
    """The Adam of the original BERT: no bias correction, decoupled decay, clipping and step count per parameter.

    A parameter that thaws late starts its own step count, hence its own warm-up and decay. Source: `BertAdam`
    of pytorch-pretrained-bert 0.6.2 (https://github.com/huggingface/transformers/tree/v0.6.2), rewritten.

    Args:
        params: parameters or groups.
        lr: peak learning rate; a plateau scheduler may scale the group's value.
        warmup: share of `total_steps` that warms up, in [0, 1).
        total_steps: steps after which the learning rate is 0; None keeps it constant.
        betas, eps, weight_decay: as in Adam; the decay is multiplied by the learning rate, as in AdamW.
        max_grad_norm: norm to which each parameter's gradient is clipped on its own; 0 for no clipping.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        warmup: float = 0.0,
        total_steps: int | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ):
        if not 0.0 <= warmup < 1.0:
            raise ValueError(f"warmup is a share of the steps and must be in [0, 1), got {warmup}")
        self.warmup, self.total_steps = warmup, total_steps  # of this run; a resumed run may be longer
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
        super().__init__(params, defaults)

    def schedule_factor(self, steps_done: int) -> float:
        """Return the factor on the group's learning rate for a parameter that has made `steps_done` steps."""
        return 1.0 if not self.total_steps else warmup_linear(steps_done / self.total_steps, self.warmup)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step for every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Parameters with the same step count share one learning rate, so a whole group updates in a few
            # kernels.
            cohorts: dict[int, list[torch.Tensor]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError("BertAdam does not take sparse gradients; use sparse=False embeddings")
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                cohorts.setdefault(int(state["step"]), []).append(p)
            for steps_done, params in cohorts.items():
                self._update(params, group, group["lr"] * self.schedule_factor(steps_done))
        return loss

    def _update(self, params: list[torch.Tensor], group: dict[str, Any], lr: float) -> None:
        """Move `params`, all with the same step count, by one step."""
        beta1, beta2 = group["betas"]
        grads = [p.grad for p in params if p.grad is not None]
        moments = [self.state[p]["exp_avg"] for p in params]
        squares = [self.state[p]["exp_avg_sq"] for p in params]
        if group["max_grad_norm"] > 0:
            norms = torch._foreach_norm(grads)
            scales = [(group["max_grad_norm"] / (norm + 1e-6)).clamp(max=1.0) for norm in norms]
            grads = list(torch._foreach_mul(grads, scales))
        torch._foreach_mul_(moments, beta1)
        torch._foreach_add_(moments, grads, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(moments, denominators)
        if group["weight_decay"] > 0:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        torch._foreach_add_(params, updates, alpha=-lr)
        for p in params:
            self.state[p]["step"] += 1


def applied_learning_rate(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    """Return the learning rate that the coming step applies to a group: BertAdam has a schedule of its own."""
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, BertAdam):
        return float(group["lr"])
    steps = [int(inner.state[p]["step"]) if inner.state.get(p) else 0 for p in group["params"][:1]]
    return float(group["lr"]) * inner.schedule_factor(max(steps, default=0))


def bertadam_settings(args: Any, total_steps: int) -> dict[str, Any]:
    """Return BertAdam's keywords from `MMTabTrainingArguments`."""
    return {
        "lr": args.learning_rate,
        "warmup": warmup_share(args.warmup_steps, total_steps),
        "total_steps": total_steps,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
    }


def warmup_share(warmup_steps: float, total_steps: int) -> float:
    """Return transformers' `warmup_steps` (a share below 1, else a number of steps) as a share of the run."""
    if warmup_steps < 1:
        return warmup_steps
    return min(warmup_steps / max(1, total_steps), math.nextafter(1.0, 0.0))


def split_groups_by_part(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, parts: dict[str, tuple[str, ...]], args: Any
) -> None:
    """Split the groups of an optimizer without state, so that each part has a group and learning rate of its own.

    A part has one group per layer where its layers differ in learning rate or thaw.

    Args:
        parts: part → module paths.
        args: `MMTabTrainingArguments`.
    """
    decay, rates = args.mapping("layerwise_lr_decay"), args.mapping("part_learning_rates")
    partition = partition_parameters(model, parts)
    owners, depth = layer_owners(model, partition, parts, {*decay, *args.mapping("gradual_unfreezing")})
    old_groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for group in old_groups:
        by_owner: dict[str, list[torch.Tensor]] = {}
        for p in group["params"]:
            by_owner.setdefault(owners[id(p)], []).append(p)
        for owner, params in by_owner.items():
            part = owner.split("[")[0]
            rate = rates.get(part, args.learning_rate) * decay.get(part, 1.0) ** depth.get(owner, 0)
            optimizer.add_param_group({**group, "params": params, "lr": rate, "part": owner})
    trained = {group["part"] for group in optimizer.param_groups}
    found = {owner.split("[")[0] for owner in trained}
    idle = [
        (name, part, "no weight of it trains") for name in RATES for part in args.mapping(name) if part not in found
    ]
    idle += [
        ("layerwise_lr_decay", part, "it has one layer, or one that trains")
        for part in decay
        if sum(one.startswith(f"{part}[") for one in trained) < 2
    ]
    for argument, part, reason in idle:
        logger.warning_once(f"{argument} of {part!r} has no effect: {reason}. Take it out, or thaw the part.")


def layer_owners(
    model: torch.nn.Module, partition: dict[str, list[str]], parts: dict[str, tuple[str, ...]], by_layer: set[str]
) -> tuple[dict[int, str], dict[str, int]]:
    """Name the owner of each parameter: its part, or `part[layer]` for the parts in `by_layer`.

    Returns:
        `id(parameter)` → owner, and owner → number of layers above it in its part.
    """
    named = {plain_name(name): p for name, p in model.named_parameters()}
    owners = {id(named[name]): part for part, names in partition.items() for name in names}
    depth: dict[str, int] = {}
    for part in by_layer:
        layers = part_layers(model, parts[part])
        for index, (paths, own) in enumerate(layers):
            owner = f"{part}[{index}]"
            depth[owner] = len(layers) - 1 - index
            for name in partition.get(part, []):
                if name in own or any(name.startswith(f"{path}.") for path in paths):
                    owners[id(named[name])] = owner
    return owners, depth
