"""A small fixed sample of a part's weights, cheap to read at every record of the audit."""

from collections.abc import Sequence

import torch
import torch.distributed as dist


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's shard of a DTensor, or the tensor itself."""
    return tensor.to_local() if type(tensor).__name__ == "DTensor" else tensor  # type: ignore[attr-defined]


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Sum shard results over processes; a negative value means that the process has nothing to add."""
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
        """Return the sampled elements as float32 on the CPU, shape `(about samples,)`."""
        pieces = [_flat(local_tensor(t.detach()))[:: self.stride] for t in self.tensors]
        if not pieces:
            return torch.zeros(0)
        return torch.cat([piece.float() for piece in pieces]).cpu()


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """Return a flat view; kernels stored channels last are read in that order, since another would copy them."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return ‖after − before‖ / ‖before‖ (the plain norm of the difference if `before` is all zero)."""
    difference = torch.linalg.vector_norm(after.double() - before.double()).item()
    size = torch.linalg.vector_norm(before.double()).item()
    return difference / size if size > 0 else difference
