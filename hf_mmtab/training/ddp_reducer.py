"""Makes DDP reduce the gradients of exactly the parameters that train."""

import warnings

import torch
from torch import nn


def rebuild_reducer(ddp: torch.nn.parallel.DistributedDataParallel) -> None:
    """Let a DDP module reduce exactly the parameters that require gradients now.

    DDP decides at construction which gradients to reduce: what thaws later is never reduced, and ranks drift
    apart without a message. Constructing it again on the same object keeps the reference that Trainer's loop
    holds. All ranks must call this at the same step.
    """
    hooks = list(ddp._comm_hooks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch renames broadcast_buffers
        torch.nn.parallel.DistributedDataParallel.__init__(
            ddp,
            ddp.module,
            device_ids=ddp.device_ids,
            output_device=ddp.output_device,
            dim=ddp.dim,
            broadcast_buffers=ddp.broadcast_buffers,
            process_group=ddp.process_group,
            bucket_cap_mb=None if ddp.bucket_bytes_cap_default else ddp.bucket_bytes_cap / 2**20,
            find_unused_parameters=ddp.find_unused_parameters,
            gradient_as_bucket_view=ddp.gradient_as_bucket_view,
            static_graph=ddp.static_graph,
        )
    for hook, state in hooks:
        ddp.register_comm_hook(state, hook)


class ReducedParameters:
    """Keeps the parameters that DDP reduces the same as those that train."""

    def __init__(self) -> None:
        self._names: frozenset[str] | None = None

    def update(self, wrapped: nn.Module) -> None:
        """Look at a wrapped model after a freeze or thaw; a model that is not under DDP needs nothing."""
        wrapped = getattr(wrapped, "_orig_mod", wrapped)
        if not isinstance(wrapped, nn.parallel.DistributedDataParallel):
            return
        names = frozenset(name for name, p in wrapped.module.named_parameters() if p.requires_grad)
        if self._names is not None and names != self._names:
            rebuild_reducer(wrapped)
        self._names = names
