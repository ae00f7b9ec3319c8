"""CPU seconds of fine-tuning with a frozen encoder: ours against a loop that runs the encoder in every step.

    python scripts/benchmark.py tabular-finetune

The reference is the published fine-tuning as described: a flat encoder of the paper's size (12 layers, hidden 768, 120
cells a window), frozen but with its dropout on, runs in every step of every epoch; an LSTM over its states and a linear
layer learn with AdamW, a cosine schedule and batches of 32. Each of its steps is the same work, so some are timed and
the rest reckoned. Ours is timed whole: `finetune`'s trainer and its stored states; evaluations are left out, as in the
reference. Every variant has a process of its own, for its peak memory.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_cosine_schedule_with_warmup

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.windows.cutting import WindowDataset
from hf_mmtab.models.tabbert import TabBertConfig, TabBertLstmForSequenceClassification, TabBertModel
from hf_mmtab.models.tabbert.collating_tabbert import TabBertCollator
from hf_mmtab.models.tabbert.modeling_tabbert_losses import rmse_one_hot
from hf_mmtab.tasks import PreparedTable, TableTask, get_task
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments

REFERENCE, FLAT, HIERARCHICAL, MEDIUM = "reference", "flat", "hierarchical", "medium"
NAMES = {
    REFERENCE: "reference: flat encoder in every step",
    FLAT: "ours, the same flat model",
    HIERARCHICAL: "ours, hierarchical of the paper's size",
    MEDIUM: "ours, hierarchical, matmul medium",  # torch.set_float32_matmul_precision
}
BATCH = 32
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.01, 0.1


class PublishedModel(nn.Module):
    """Encoder, LSTM over the states of all cells, linear layer on the last."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.encoder = TabBertModel(config).requires_grad_(False)
        width = config.lstm_hidden_size or config.hidden_size
        self.lstm = nn.LSTM(config.hidden_size, width, batch_first=True)
        self.linear = nn.Linear(width, 2)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids).last_hidden_state  # (batch, cells, hidden)
        return self.linear(self.lstm(states)[0][:, -1])  # (batch, 2)

    def load_ours(self, ours: TabBertLstmForSequenceClassification) -> "PublishedModel":
        """Take the weights of our model with the same parameters."""
        self.encoder.load_state_dict(ours.model.state_dict())
        self.lstm.load_state_dict(ours.lstm.state_dict())
        self.linear.load_state_dict(ours.classifier.state_dict())
        return self


@dataclass
class Timing:
    """CPU seconds of preparing (states computed once) and of an epoch, parameters in millions, peak memory in MB."""

    once: float
    epoch: float
    wall: float
    parameters: float
    memory: float
    loss: float


def tables(windows: int, folder: Path, seed: int) -> tuple[PreparedTable, WindowDataset]:
    """Return simulated payments in the paper's columns, and training windows of ten rows."""
    rows = {"users": max(2, windows // 64), "rows": 10 * windows + 10 * max(2, windows // 64) * 6, "seed": seed}
    data = TableDataArguments(
        task="card_transactions",
        data="simulated:cards",
        simulate=rows,
        plan="paper_card",
        split="time",
        split_fractions=[1.0, 0.0, 0.0],
        stride=10,
        pad_windows=False,
    )
    task = get_task("card_transactions", TableTask)
    table = task.prepare(data, folder, needs_label=True)
    found = task.windows(data, table.rows, "train", "any")
    return table, found.select(range(min(windows, len(found))))


def model_of(table: PreparedTable, flat: bool, hidden: int, layers: int, seed: int) -> Any:
    """Return the head on an encoder of the paper's size, with random weights."""
    torch.manual_seed(seed)
    width = hidden if flat else hidden // len(table.processor.fields)
    config = TabBertConfig.paper(
        **table.processor.config_kwargs(),
        flatten=flat,
        field_hidden_size=width,
        num_hidden_layers=layers,
        classification_loss="rmse_one_hot",
        num_labels=2,
    )
    return TabBertLstmForSequenceClassification(config)


def time_reference(table: PreparedTable, windows: WindowDataset, args: argparse.Namespace) -> Timing:
    """Time `args.reference_steps` steps of the published loop after one to warm up."""
    ours = model_of(table, True, args.hidden, args.layers, args.seed)
    model = PublishedModel(ours.config).load_ours(ours)
    steps = -(-len(windows) // BATCH)
    trained = [*model.lstm.parameters(), *model.linear.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = steps * args.epochs
    schedule = get_cosine_schedule_with_warmup(optimizer, round(WARMUP * total), total)
    loader: Any = DataLoader(windows, batch_size=BATCH, collate_fn=TabBertCollator(table.processor))  # type: ignore[arg-type]
    batches = list(itertools.islice(loader, args.reference_steps))
    first_loss = loss_of(model, batches[0])
    model.train()
    marks = []
    for batch in [batches[0], *batches]:  # the first warms up
        started, wall = time.process_time(), time.perf_counter()
        loss = rmse_one_hot(model(batch["input_ids"]), batch["labels"])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        marks.append((time.process_time() - started, time.perf_counter() - wall, len(batch["labels"])))
    seen = sum(mark[2] for mark in marks[1:])
    scale = len(windows) / seen
    epoch, wall = (sum(mark[i] for mark in marks[1:]) * scale for i in (0, 1))
    return Timing(0.0, epoch, wall * args.epochs, millions(model), peak_memory(), first_loss)


def time_ours(table: PreparedTable, windows: WindowDataset, flat: bool, args: argparse.Namespace) -> Timing:
    """Time the whole training of all epochs, and how much of it computes the states."""
    model = model_of(table, flat, args.hidden, args.layers, args.seed)
    first = next(
        iter(DataLoader(windows, batch_size=BATCH, collate_fn=TabBertCollator(table.processor)))  # type: ignore[arg-type]
    )
    loss = loss_of(lambda ids: model(ids).logits, first, model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = MMTabTrainingArguments(
            folder,
            freeze={"encoder": "forever"},
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            num_train_epochs=args.epochs,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            lr_scheduler_type="cosine",
            warmup_steps=WARMUP,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            show_freeze_report=False,
            audit_plot=False,
            use_cpu=True,
        )
        collator = TabBertCollator(table.processor)
        trainer = TimedTrainer(model=model, args=arguments, train_dataset=windows, data_collator=collator)
        started, wall = time.process_time(), time.perf_counter()
        trainer.train()
        cpu, wall = time.process_time() - started, time.perf_counter() - wall
    epoch = (cpu - trainer.once) / args.epochs
    return Timing(trainer.once, epoch, wall, millions(model), peak_memory(), loss)


class TimedTrainer(MMTabTrainer):
    """Adds up the CPU seconds in which stored states are computed."""

    once = 0.0

    def enter_epoch(self) -> None:
        started = time.process_time()
        super().enter_epoch()
        self.once += time.process_time() - started


@torch.no_grad()
def loss_of(logits: Any, batch: dict[str, torch.Tensor], module: nn.Module | None = None) -> float:
    """Return the loss of the first batch without dropout: the same weights must give the same number."""
    module = module or logits
    was = module.training
    module.eval()
    found = float(rmse_one_hot(logits(batch["input_ids"]), batch["labels"]))
    module.train(was)
    return found


def millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, args: argparse.Namespace) -> Timing:
    """Time one variant in this process."""
    torch.set_num_threads(args.threads)
    if name == MEDIUM:
        torch.set_float32_matmul_precision("medium")
    with tempfile.TemporaryDirectory() as folder:
        table, windows = tables(args.windows, Path(folder), args.seed)
        if name == REFERENCE:
            return time_reference(table, windows, args)
        return time_ours(table, windows, name == FLAT, args)


def main(argv: list[str] | None = None) -> dict[str, Timing]:
    """Time each variant in a process of its own and write one table."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-finetune", description=__doc__)
    parser.add_argument("--windows", type=int, default=256, help="of ten rows")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--reference-steps", type=int, default=2, help="timed steps of the reference")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.variant:
        sys.stdout.write("\n" + json.dumps(vars(measure(args.variant, args))) + "\n")
        return {}
    given = sys.argv[1:] if argv is None else argv
    results: dict[str, Timing] = {}
    for name in NAMES:
        command = [sys.executable, __file__, *given, "--variant", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"Variant {name!r} failed:\n{done.stderr[-3000:]}")
        results[name] = Timing(**json.loads(done.stdout.splitlines()[-1]))
    tell(args, results)
    return results


def tell(args: argparse.Namespace, results: dict[str, Timing]) -> None:
    """Write the table."""
    reference = results[REFERENCE]
    whole = reference.epoch * args.epochs
    lines = [
        f"\n{args.windows} windows of 10 rows × 12 cells, {args.epochs} epochs, batches of {BATCH}, hidden "
        f"{args.hidden}, {args.layers} layers, {args.threads} threads, load {os.getloadavg()[0]:.1f}; the first "
        f"batch's loss with the same weights: {reference.loss:.6f} (reference), {results[FLAT].loss:.6f} (ours)\n",
        "| variant | M param. | states once, CPU s | an epoch, CPU s | all, CPU s | windows/s of CPU | × reference "
        "| peak MB |",
        "|---|" + "---:|" * 7,
    ]
    for name, timed in results.items():
        total = timed.once + timed.epoch * args.epochs
        lines.append(
            f"| {NAMES[name]} | {timed.parameters:.0f} | {timed.once:.1f} | {timed.epoch:.2f} | {total:.1f} "
            f"| {args.windows * args.epochs / total:.1f} | {whole / total:.1f} | {timed.memory:.0f} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
