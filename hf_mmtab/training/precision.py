"""Number format and kernel layout of a run: by device, and on a CPU by measuring a product of the model's size.

A CPU without units for bfloat16 emulates it, 2.5 to 4 times slower than float32; one with them is up to twice as fast.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers.utils import logging

from ..files import json_text, read_json, write_whole
from .arguments import MMTabTrainingArguments
from .channels_last import place_convolutions
from .checkpoints import last_complete_checkpoint

logger = logging.get_logger(__name__)

PRECISION_FILE = "precision.json"
NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Autocast also casts weights and activations, which one product does not show: bfloat16 must be clearly faster.
MARGIN = 1.15
SMALLEST_MEASURED = 2**16  # weights; products of smaller layers take as long in either format
MULTIPLICATIONS = 3e8  # in one measured product or convolution, about; fewer if the model is small
MAX_ROWS = 256  # rows of the measured product
MAX_MAP = 56  # side of the feature map: a quarter of 224 pixels, as behind a ResNet's stem
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Times:
    """Measured seconds.

    Args:
        product: precision → of one product.
        convolution: (precision, channels last) → of one convolution; empty if the model has none.
    """

    product: dict[str, float]
    convolution: dict[tuple[str, bool], float] = dataclasses.field(default_factory=dict)

    def best_layout(self, precision: str) -> bool:
        """Whether kernels go channels last: unless convolutions are clearly slower so."""
        last, first = ((precision, layout) for layout in (True, False))
        return not self.convolution or self.convolution[last] <= MARGIN * self.convolution[first]

    def total(self, precision: str, channels_last: bool) -> float:
        """Return the seconds of both in one combination."""
        return self.product[precision] + self.convolution.get((precision, channels_last), 0.0)


@dataclasses.dataclass(frozen=True)
class ComputeChoice:
    """How a run computes.

    Args:
        precision: fp32, bf16 or fp16.
        channels_last: whether kernels of convolutions are stored channels last.
        reason: for the log, without a full stop.
    """

    precision: str
    channels_last: bool
    reason: str

    @property
    def sentence(self) -> str:
        """The line for the log."""
        others = " or ".join(f"`precision: {name}`" for name in ("fp32", "bf16") if name != self.precision)
        return f"Precision: {NAMES[self.precision]} ({self.reason}); change it with {others}"


def choose(times: Times, precision: str = "auto", channels_last: bool | None = None) -> ComputeChoice:
    """Choose the fastest combination of what is left open.

    Args:
        times: of fp32 and bf16, or of `precision` alone.
        precision: auto, or one that is given.
        channels_last: None, or a layout that is given.
    """
    layouts = {name: times.best_layout(name) for name in times.product}
    if channels_last is not None:
        layouts = dict.fromkeys(times.product, channels_last)
    total = {name: times.total(name, layout) for name, layout in layouts.items()}
    if precision == "auto":
        chosen = "bf16" if total["bf16"] * MARGIN < total["fp32"] else "fp32"
        reason = "one product of this model's size takes " + _compared(times.product)
        if times.convolution:
            convolution = {name: times.convolution[name, layout] for name, layout in layouts.items()}
            reason += f", one convolution {_compared(convolution)}"
        reason += " on one core of this processor"
    else:
        chosen, reason = precision, "as set"
    if times.convolution and channels_last is None:
        last, first = (f"{1000 * times.convolution[chosen, layout]:.1f} ms" for layout in (True, False))
        reason += f"; kernels channels {'last' if layouts[chosen] else 'first'}: {last} last, {first} first"
    return ComputeChoice(chosen, layouts[chosen], reason)


def _compared(seconds: dict[str, float]) -> str:
    return ", ".join(f"{1000 * seconds[name]:.1f} ms in {NAMES[name]}" for name in ("bf16", "fp32"))


def measure(model: nn.Module, precisions: Sequence[str]) -> Times:
    """Time one product and one convolution of the model's size on a CPU, on one core, the fastest of several turns.

    Args:
        model: a typical `nn.Linear` and `nn.Conv2d` of it are taken.
        precisions: to compare.
    """
    runs: dict[Any, Callable[[], Any]] = {}
    linear = _typical(model, nn.Linear)
    convolution = _typical(model, nn.Conv2d)
    for name in precisions:
        dtype = getattr(torch, NAMES[name])
        if linear is not None:
            number = min(MAX_ROWS, max(1, int(MULTIPLICATIONS / linear.weight.numel())))
            rows = torch.ones(number, linear.in_features, dtype=dtype)
            weight = torch.ones(linear.out_features, linear.in_features, dtype=dtype)
            runs[name] = _call(torch.nn.functional.linear, rows, weight)
        for layout in (True, False) if convolution is not None else ():
            runs[name, layout] = _convolution(convolution, dtype, layout)
    seconds = _fastest(runs)
    return Times(
        {name: seconds.get(name, 0.0) for name in precisions},
        {key: value for key, value in seconds.items() if isinstance(key, tuple)},
    )


def _convolution(like: Any, dtype: torch.dtype, channels_last: bool) -> Callable[[], Any]:
    """Return a call of a convolution like this one."""
    side = like.stride[0] * int((MULTIPLICATIONS / like.weight.numel()) ** 0.5)
    side = min(MAX_MAP, max(side, 2 * max(like.kernel_size)))
    memory = torch.channels_last if channels_last else torch.contiguous_format
    maps = torch.ones(1, like.in_channels, side, side, dtype=dtype).to(memory_format=memory)
    weight = torch.ones(like.weight.shape, dtype=dtype).to(memory_format=memory)
    settings = (None, like.stride, like.padding, like.dilation, like.groups)
    return _call(torch.nn.functional.conv2d, maps, weight, *settings)


def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


@torch.inference_mode()
def _fastest(runs: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    """Return the least CPU seconds of each run on one thread: other work on the machine hardly changes them."""
    best = dict.fromkeys(runs, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(REPEATS + 1):
            for key, run in runs.items():
                started = time.thread_time()
                run()
                if turn:  # the first one warms up
                    best[key] = min(best[key], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return best


def _typical(model: nn.Module, kind: type[Any]) -> Any:
    """Return the module of a kind whose shape holds the most weights in all, None if there is none."""
    by_shape: dict[Any, list[Any]] = {}
    for module in model.modules():
        if isinstance(module, kind):
            by_shape.setdefault((module.weight.shape, getattr(module, "stride", None)), []).append(module)
    weights = {shape: sum(one.weight.numel() for one in modules) for shape, modules in by_shape.items()}
    return by_shape[max(weights, key=lambda shape: (weights[shape], shape[0]))][0] if weights else None


def choose_for(
    model: nn.Module, device: torch.device, precision: str = "auto", channels_last: bool | None = None
) -> ComputeChoice:
    """Choose what is left open for a model on a device.

    Args:
        model: to compute with.
        device: that it runs on.
        precision: auto, or one that is given.
        channels_last: None, or a layout that is given.
    """
    linear, convolution = (_typical(model, kind) for kind in (nn.Linear, nn.Conv2d))
    largest = max(0 if module is None else module.weight.numel() for module in (linear, convolution))
    is_open = precision == "auto" or (channels_last is None and convolution is not None)
    if is_open and device.type == "cpu" and largest >= SMALLEST_MEASURED:
        precisions = ("fp32", "bf16") if precision == "auto" else (precision,)
        return choose(measure(model, precisions), precision, channels_last)
    # Layers that are too small to be measured keep their layout: it gains nothing, and changes how sums are rounded.
    layout = device.type != "cpu" if channels_last is None else channels_last
    if precision != "auto":
        return ComputeChoice(precision, layout, "as set")
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return ComputeChoice("bf16", layout, "this GPU has units for it")
    if device.type == "cpu":
        return ComputeChoice("fp32", layout, "this model's layers are too small for another to be faster")
    return ComputeChoice("fp32", layout, f"no units for bfloat16 are known on this device, {device.type}")


def settle(model: nn.Module | None, args: MMTabTrainingArguments) -> ComputeChoice:
    """Decide what the arguments leave open, write it into them, and place the model's convolutions.

    A run that has a checkpoint goes on as it began. All processes get the choice of the first.

    Args:
        model: to train; None: one that is made later.
        args: of the run; `bf16`, `fp16` and `mixed_precision` are set.
    """
    model = nn.Identity() if model is None else model
    chosen = None
    if args.process_index == 0:
        checkpoint = last_complete_checkpoint(args.output_dir)
        if checkpoint is not None and "auto" in (args.precision, args.channels_last or "auto"):
            chosen = _remembered(Path(checkpoint), args)
        # DeepSpeed makes its configuration from the arguments before this.
        elif args.deepspeed and args.precision == "auto":
            chosen = ComputeChoice("fp32", args.channels_last is not False, "DeepSpeed was not told another")
        else:
            chosen = choose_for(model, args.device, args.precision, args.channels_last)
    chosen = broadcast_object_list([chosen])[0] if args.world_size > 1 else chosen
    assert chosen is not None
    args.bf16, args.fp16 = chosen.precision == "bf16", chosen.precision == "fp16"
    args.mixed_precision = {"fp32": "no"}.get(chosen.precision, chosen.precision)
    if AcceleratorState._shared_state.get("_mixed_precision", args.mixed_precision) != args.mixed_precision:
        AcceleratorState._reset_state()  # an earlier run of this process computed otherwise
    if chosen.channels_last:
        place_convolutions(model)
    return chosen


def _remembered(checkpoint: Path, args: MMTabTrainingArguments) -> ComputeChoice:
    """Return the choice with which a checkpoint was trained; before there was a choice, it was fp32, channels last."""
    before = read_choice(checkpoint) or ComputeChoice("fp32", True, "")
    return ComputeChoice(
        before.precision if args.precision == "auto" else args.precision,
        before.channels_last if args.channels_last is None else args.channels_last,
        f"as in {checkpoint.name}, from which the run goes on",
    )


def go_on_as_before(before: dict[str, Any], mine: dict[str, Any], args: MMTabTrainingArguments) -> None:
    """Take a run's precision over from its recorded recipe, where the recipe at hand leaves it open.

    Recipes that ship said `bf16: true` once; a run that began with one is still the same run.

    Args:
        before: the record.
        mine: values of the recipe at hand; changed.
        args: of the run; changed.
    """
    keys = ("precision", "bf16", "fp16")
    if any(key in mine for key in keys):
        return
    for key in keys:
        if key in before:
            mine[key] = before[key]
            setattr(args, key, before[key])
    args.name_precision()


def read_choice(folder: str | os.PathLike) -> ComputeChoice | None:
    """Return the choice that was saved in a folder, None if there is none."""
    saved = read_json(Path(folder) / PRECISION_FILE, "Delete that file, or set `precision`.")
    return ComputeChoice(**saved) if saved else None


def warn_if_changed(checkpoint: str | os.PathLike, choice: ComputeChoice) -> None:
    """Warn where a checkpoint of another folder was trained in another precision."""
    before = read_choice(checkpoint)
    if before is not None and before.precision != choice.precision:
        logger.warning(
            f"The run of {checkpoint} computed in {NAMES[before.precision]} and goes on in {NAMES[choice.precision]}, "
            f"so that it will not repeat bit for bit. Set `precision: {before.precision}` to go on as it began."
        )


def write_choice(folder: str | os.PathLike, choice: ComputeChoice) -> None:
    """Save the choice beside a checkpoint."""
    write_whole(Path(folder) / PRECISION_FILE, json_text(dataclasses.asdict(choice), indent=1) + "\n")
