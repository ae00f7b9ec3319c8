"""A small fixed sample of a part's weights, cheap to read at every record of the audit."""

from collections.abc import Sequence

import torch
import torch.distributed as dist


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's shard of a DTensor, or the tensor itself."""
    return tensor.to_local() if type(tensor).__name__ == "DTensor" else tensor  # type: ignore[attr-defined]


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Sum values over processes; a negative value means that this process has none."""
    counted = torch.stack([values.clamp(min=0), (values >= 0).to(values.dtype)])
    dist.all_reduce(counted)
    return torch.where(counted[1] > 0, counted[0], torch.full_like(values, -1.0))


class PartSample:
    """Evenly spaced elements of a list of tensors.

    Args:
        tensors: the tensors of a part, read again at each `read`.
        samples: about how many elements to read; every tensor gives at least one.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], samples: int):
        self.tensors = list(tensors)
        total = sum(tensor.numel() for tensor in self.tensors)
        self.stride = max(1, total // samples)

    def __bool__(self) -> bool:
        return bool(self.tensors)

    @torch.no_grad()
    def read(self) -> torch.Tensor:
        """Return the sampled elements as float32 (float64 where they are) on the CPU, shape `(about samples,)`."""
        pieces = [_flat(local_tensor(t.detach()))[:: self.stride] for t in self.tensors]
        if not pieces:
            return torch.zeros(0)
        return torch.cat([p if p.dtype == torch.float64 else p.float() for p in pieces]).cpu()

    @torch.no_grad()
    def read_has_gradient(self, among: frozenset[int]) -> torch.Tensor:
        """Return which sampled elements have a gradient other than 0, shape as `read`.

        Args:
            among: ids of the tensors that count; elements of the others are False.
        """
        pieces = []
        for tensor in self.tensors:
            local = local_tensor(tensor.detach())
            if tensor.grad is None or id(tensor) not in among:
                pieces.append(torch.zeros(-(-local.numel() // self.stride), dtype=torch.bool))
            else:
                pieces.append((_flat(local_tensor(tensor.grad), like=local)[:: self.stride] != 0).cpu())
        return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.bool)

    def pieces(self, sample: torch.Tensor) -> list[torch.Tensor]:
        """Cut what `read` returned into the pieces of the tensors."""
        return list(sample.split([-(-local_tensor(t).numel() // self.stride) for t in self.tensors]))


def _flat(tensor: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    """Return a flat view; kernels stored channels last are read in that order, since another would copy them.

    Args:
        tensor: weights, or a gradient.
        like: the weights of the gradient, whose order it is read in.
    """
    like = tensor if like is None else like
    if tensor.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return ‖after − before‖ / ‖before‖ (the plain norm of the difference if `before` is all zero)."""
    difference = torch.linalg.vector_norm(after.double() - before.double()).item()
    size = torch.linalg.vector_norm(before.double()).item()
    return difference / size if size > 0 else difference


def stuck_share(before: torch.Tensor, after: torch.Tensor, has_gradient: torch.Tensor) -> float:
    """Return the share of the elements with a gradient that a step left as they were, 0 if none has a gradient."""
    count = int(has_gradient.sum())
    return int(((before == after) & has_gradient).sum()) / count if count else 0.0
