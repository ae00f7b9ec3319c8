"""Whether a model divides its loss by the number of labels in the accumulated batch, or by those of one micro-batch."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn

from .random_state import keep_random_state


@keep_random_state()
@torch.no_grad()
def uses_num_items(model: nn.Module, inputs: Mapping[str, Any]) -> bool | None:
    """Return whether the loss of a model depends on `num_items_in_batch`, None if this batch does not show it.

    Trainer passes the number of labels to every model whose `forward` takes `**kwargs`, and then multiplies the loss
    by the number of processes and does not divide it by the accumulation steps. Language models divide by it; many
    classifiers ignore it and return a plain mean. No attribute tells them apart, so two losses are computed.

    Args:
        model: without wrappers; runs in eval mode, and is left in the mode that it was in.
        inputs: a batch with labels, on the model's device.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    losses = []
    device = next(value.device for value in inputs.values() if isinstance(value, torch.Tensor))
    for number in (1, 2):
        outputs = model(**inputs, num_items_in_batch=torch.tensor(number, device=device))
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
        losses.append(torch.zeros(()) if loss is None else loss)
    for module, mode in modes:
        module.training = mode
    # A batch of which one process sees no label shows nothing there; all must come to the same answer.
    shows = bool(torch.isfinite(losses[0]) and losses[0] != 0)
    answers = gather_object([bool(losses[0] != losses[1]) if shows else None])
    known = [answer for answer in answers if answer is not None]
    return any(known) if known else None
