"""Seconds per pretraining step: ours against a step that scores every cell over all ids, as the original does.

    python scripts/benchmark.py tabular-pretrain --ids 143000 2500 --steps 3

Every variant has the paper's hierarchical encoder (12 layers, hidden 768) and runs in one process on the same batches.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from hf_mmtab.models.tabbert.configuration_tabbert import TabBertConfig
from hf_mmtab.models.tabbert.modeling_tabbert import TabBertForMaskedLM, TabBertModel

# Columns of the IBM card table and about as many values as its 24 million rows have.
FIELD_SIZES = {
    "User": 2000,
    "Card": 9,
    "Timestamp": 10,
    "Amount": 10,
    "Use Chip": 3,
    "Merchant Name": 100_343,
    "Merchant City": 13_429,
    "Merchant State": 223,
    "Zip": 27_321,
    "MCC": 109,
    "Errors?": 23,
}
SPECIAL_IDS = 7  # a [SEP] column closes each row
LEARNING_RATE = 5e-5  # default of the original's Trainer, as the clipping at 1.0


class FullVocabularyReference(nn.Module):
    """The paper's head as published: scores of every cell over all ids, then cut into fields."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.config = config
        self.model = TabBertModel(config)
        self.dense = nn.Linear(config.field_hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        states = self.model(input_ids).last_hidden_state
        cells = states.view(len(states), -1, self.config.field_hidden_size)  # (batch, rows × fields, field_hidden)
        scores = self.decoder(self.norm(F.gelu(self.dense(cells))))  # (batch, rows × fields, vocab)
        labels, fields = labels.flatten(1), self.config.num_fields
        loss = scores.new_zeros(())
        for field, (start, end) in enumerate(self.config.field_ranges):
            columns = list(range(field, labels.shape[1], fields))
            own = scores[:, columns, :][:, :, list(range(start, end))].flatten(0, 1)
            target = labels[:, columns].flatten()
            target = torch.where(target == -100, target, target - start)
            count = (target != -100).sum().clamp(min=1)
            loss = loss + F.cross_entropy(own, target, reduction="sum") / count
        return loss

    def load_ours(self, ours: TabBertForMaskedLM) -> None:
        """Take the weights of our model with the same parameters."""
        self.model.load_state_dict(ours.model.state_dict())
        self.dense.load_state_dict(ours.head.transform.dense.state_dict())
        self.norm.load_state_dict(ours.head.transform.LayerNorm.state_dict())
        with torch.no_grad():
            for field, (start, end) in enumerate(self.config.field_ranges):
                own = ours.head.decoder[str(field)].state_dict()
                self.decoder.weight[start:end], self.decoder.bias[start:end] = own["weight"], own["bias"]


@dataclass
class Variant:
    """One row of the table."""

    name: str
    settings: dict[str, Any]
    reference: bool = False
    matmul: str = "highest"


VARIANTS = [
    Variant("reference: all cells × all ids, AdamW by tensor", {}, reference=True),
    Variant("ours, same parameters", {}),
    Variant("ours, same parameters, matmul medium", {}, matmul="medium"),
    Variant("ours, adaptive softmax over 10,000 ids", {"adaptive_softmax_threshold": 10_000}),
    Variant("ours, tied scores (default head)", {"tie_word_embeddings": True, "head_hidden_size": None}),
    Variant(
        "ours, tied scores, matmul medium", {"tie_word_embeddings": True, "head_hidden_size": None}, matmul="medium"
    ),
]


def build_config(num_ids: int, **settings: Any) -> TabBertConfig:
    """Return the paper's hierarchical sizes for a table of about `num_ids` values."""
    share = min(1.0, num_ids / sum(FIELD_SIZES.values()))
    ranges, start = [], SPECIAL_IDS
    for size in FIELD_SIZES.values():
        kept = size if size <= 10 else max(10, round(size * share))
        ranges.append([start, start + kept])
        start += kept
    ranges.append([0, SPECIAL_IDS])
    return TabBertConfig.paper([*FIELD_SIZES, "[SEP]"], ranges, vocab_size=start, **settings)


def batches(config: TabBertConfig, batch: int, rows: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw masked windows without end: 15 % of the cells, never [SEP]."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        columns = [torch.randint(a, b, (batch, rows), generator=generator) for a, b in config.field_ranges]
        input_ids = torch.stack(columns, dim=-1)  # (batch, rows, fields)
        masked = torch.rand(input_ids.shape, generator=generator) < 0.15
        masked[..., -1] = False
        assert config.mask_token_id is not None
        yield input_ids.masked_fill(masked, config.mask_token_id), input_ids.masked_fill(~masked, -100)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass
class Timing:
    """Seconds of the fastest step and its parts, the least CPU seconds of a step, parameters in millions."""

    parts: dict[str, float]
    step: float
    cpu: float
    parameters: float
    operations: list[tuple[str, float]]


def time_variant(variant: Variant, num_ids: int, args: argparse.Namespace) -> Timing:
    """Train `args.steps` steps after one to warm up, and return the fastest."""
    config = build_config(num_ids, **variant.settings)
    torch.manual_seed(args.seed)
    model: nn.Module = FullVocabularyReference(config) if variant.reference else TabBertForMaskedLM(config)
    # The original's AdamW goes tensor by tensor.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, foreach=False, fused=None if variant.reference else True
    )
    source = batches(config, args.batch, args.rows, args.seed)

    def step() -> Timing:
        input_ids, labels = next(source)
        cpu, marks = time.process_time(), [time.perf_counter()]
        output = model(input_ids, labels=labels)
        loss = output if variant.reference else output.loss
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        marks.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(time.perf_counter())
        parts = [after - before for before, after in itertools.pairwise(marks)]
        named = dict(zip(("forward", "backward", "clip", "optimizer"), parts, strict=True))
        return Timing(named, sum(parts), time.process_time() - cpu, 0.0, [])

    model.train()
    with matmul_precision(variant.matmul):
        timed = [step() for _ in range(args.steps + 1)][1:]
        best = min(timed, key=lambda one: one.step)
        best.cpu = min(one.cpu for one in timed)
        if args.profile and not variant.reference:
            with profile(activities=[ProfilerActivity.CPU]) as recorded:
                step()
            best.operations = operations(recorded)
    best.parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return best


def operations(recorded: profile, count: int = 6) -> list[tuple[str, float]]:
    """Return the operations that took most of a recorded step, with their share."""
    events = recorded.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    events = sorted(events, key=lambda event: -event.self_cpu_time_total)[:count]
    return [(event.key.removeprefix("aten::"), event.self_cpu_time_total / whole) for event in events]


def check_same_loss(num_ids: int, args: argparse.Namespace) -> tuple[float, float]:
    """Return the loss of the reference and of ours with the same weights on the same batch."""
    config = build_config(num_ids, num_hidden_layers=1)
    torch.manual_seed(args.seed)
    ours = TabBertForMaskedLM(config).eval()
    reference = FullVocabularyReference(config).eval()
    reference.load_ours(ours)
    input_ids, labels = next(batches(config, args.batch, args.rows, args.seed))
    with torch.no_grad():
        return float(reference(input_ids, labels)), float(ours(input_ids, labels=labels).loss)


def main(argv: list[str] | None = None) -> dict[tuple[int, str], Timing]:
    """Time the variants and print one table per number of ids."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-pretrain", description=__doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=[143_000, 2_500], help="values of all fields")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rows", type=int, default=10, help="rows of a window")
    parser.add_argument("--steps", type=int, default=3, help="timed steps; the fastest counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="also list the operations that take most time")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    results: dict[tuple[int, str], Timing] = {}
    for num_ids in args.ids:
        expected, found = check_same_loss(num_ids, args)
        tell(
            f"\n{build_config(num_ids).vocab_size:,} ids, batch {args.batch} × {args.rows} rows, "
            f"{args.threads} threads, load {os.getloadavg()[0]:.1f}; "
            f"same weights give loss {expected:.5f} (reference) and {found:.5f} (ours)\n"
            "| variant | M param. | forward s | backward s | clip s | AdamW s | step s | CPU s | windows/s "
            "| × reference | × reference (CPU s) |\n|---|" + "---:|" * 10
        )
        reference = None
        for variant in VARIANTS:
            timed = results[num_ids, variant.name] = time_variant(variant, num_ids, args)
            reference = reference or timed
            seconds = " | ".join(f"{part:.3f}" for part in (*timed.parts.values(), timed.step, timed.cpu))
            tell(
                f"| {variant.name} | {timed.parameters:.0f} | {seconds} | {args.batch / timed.step:.1f} "
                f"| {reference.step / timed.step:.1f} | {reference.cpu / timed.cpu:.1f} |"
            )
            if timed.operations:
                tell("|   " + ", ".join(f"{name} {share:.0%}" for name, share in timed.operations) + " |")
        tell(f"load {os.getloadavg()[0]:.1f} at the end")
    return results


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
