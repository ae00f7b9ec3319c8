"""What freezing saves: time per step against a plain loop, cost of the audit, and bytes that two processes reduce.

    python scripts/benchmark.py freeze                  # sizes of BERT base and ResNet-152, batch 4, 128 tokens
    python scripts/benchmark.py freeze --size small     # the same on a small model, in seconds
    torchrun --nproc_per_node=2 scripts/benchmarks/freeze.py --reduce   # part of the first, two processes

The plain loop does what the original does: float32, eager attention, every part runs forward at every step, frozen or
not, and only `requires_grad` is switched. Ours is `MMTabTrainer` in bf16, with the attention of `--attention`: at 128
tokens PyTorch's flash attention needs 1.6 times as long for its way back on a CPU as plain matrix products. Both take
turns in one process, window by window (forward, backward, one optimizer step), so that a busy machine slows both;
ratios are of medians. On one thread (`OMP_NUM_THREADS=1`) seconds are CPU seconds of the process, which other jobs
hardly change.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed import GradBucket
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, ResNetConfig, TrainerCallback

from hf_mmtab.models.mmbt import MMBTConfig, MMBTForClassification
from hf_mmtab.tasks import place_convolutions
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.training.audit.update_audit import read_records
from hf_mmtab.training.ddp_reducer import rebuild_reducer

clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
PHASES = {
    "both frozen": {"image_encoder": "forever", "text_encoder": "forever"},
    "text frozen": {"text_encoder": "forever"},
    "all thawed": {},
}


class Rows(torch.utils.data.Dataset):
    """Random pictures and texts, made when asked for, the same for the same row."""

    def __init__(self, rows: int, tokens: int, pixels: int, skip: frozenset[str] = frozenset()):
        self.rows, self.tokens, self.pixels, self.skip = rows, tokens, pixels, skip

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        row = {
            "input_ids": torch.randint(1000, 20000, (self.tokens,), generator=generator),
            "attention_mask": torch.ones(self.tokens, dtype=torch.long),
            "token_type_ids": torch.ones(self.tokens, dtype=torch.long),
            "labels": torch.randint(0, 2, (14,), generator=generator).float(),
        }
        if "pixel_values" not in self.skip:
            row["pixel_values"] = torch.randn(3, self.pixels, self.pixels, generator=generator)
        return row

    def without(self, names: Sequence[str]) -> "Rows":
        return Rows(self.rows, self.tokens, self.pixels, self.skip | frozenset(names))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.rows} {self.tokens} {self.pixels}".encode()).hexdigest()


def build_model(size: str, attention: str) -> MMBTForClassification:
    """Return MMBT with random weights."""
    torch.manual_seed(0)
    if size == "base":
        text, image = BertConfig(), ResNetConfig(depths=[3, 8, 36, 3])
    else:
        text = BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
        image = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[32, 64, 128, 256], embedding_size=32)
    settings = {"num_labels": 14, "problem_type": "multi_label_classification", "attn_implementation": attention}
    config = MMBTConfig.from_text_image_configs(text, image, cls_token_id=101, sep_token_id=102, **settings)
    return MMBTForClassification(config)


class PlainLoop:
    """The original's way: everything runs at every step; freezing switches `requires_grad` and nothing else."""

    def __init__(self, options: argparse.Namespace, frozen: Sequence[str]):
        self.model = build_model(options.size, "eager").train()
        for part in frozen:
            self.model.get_submodule(self.model.freezable_modules[part]).requires_grad_(False)
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-5)
        self.rows = Rows(options.rows, options.tokens, options.pixels)
        self.options, self.next_row = options, 0

    def window(self) -> float:
        """Run one accumulation window; return its seconds."""
        start = clock()
        for _ in range(self.options.accumulation):
            rows = [self.rows[(self.next_row + i) % len(self.rows)] for i in range(self.options.batch_size)]
            self.next_row += self.options.batch_size
            batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
            (self.model(**batch).loss / self.options.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return clock() - start


class TakeTurns(TrainerCallback):
    """After each optimizer step of the trainer, lets the plain loop make one too; times both and the audit."""

    def __init__(self, trainer: MMTabTrainer, plain: PlainLoop | None):
        self.trainer, self.plain = trainer, plain
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.audit: list[float] = []
        self.started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name in ("before_step", "after_step"):
            self._time(name)

    def _time(self, name: str) -> None:
        call = getattr(self.trainer.audit, name)

        def timed(*arguments: Any) -> None:
            start = clock()
            call(*arguments)
            self.audit.append(clock() - start)

        setattr(self.trainer.audit, name, timed)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ours.append(clock() - self.started)
        if self.plain is not None:
            self.theirs.append(self.plain.window())
        self.started = clock()


def compare(phase: str, options: argparse.Namespace) -> dict[str, float]:
    """Train with `MMTabTrainer` and the plain loop in turns; return seconds per micro-batch."""
    plain = PlainLoop(options, list(PHASES[phase]))
    model = place_convolutions(build_model(options.size, options.attention))
    windows = options.rows // (options.batch_size * options.accumulation)
    with tempfile.TemporaryDirectory() as folder:
        args = MMTabTrainingArguments(
            folder,
            freeze=PHASES[phase],
            bf16=True,
            use_cpu=True,
            per_device_train_batch_size=options.batch_size,
            gradient_accumulation_steps=options.accumulation,
            num_train_epochs=2 + options.windows // windows,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            show_freeze_report=False,
            audit_plot=False,
            dataloader_pin_memory=False,
        )
        rows = Rows(options.rows, options.tokens, options.pixels)
        trainer = MMTabTrainer(model, args, train_dataset=rows)
        turns = TakeTurns(trainer, plain)
        trainer.add_callback(turns)
        trainer.train()
        records = {row["step"] - 1 for row in read_records(Path(folder) / "update_audit.jsonl")}
    warm = windows  # the first epoch fills the cache and the allocator
    ours = statistics.median(turns.ours[warm:]) / options.accumulation
    theirs = statistics.median(turns.theirs[warm:]) / options.accumulation
    # Two timings per optimizer step. A long run records every `audit_steps`-th step and glances at the others; this
    # short one records its first two and its last as well, so which are records is read from its file.
    steps = [sum(turns.audit[i : i + 2]) for i in range(0, len(turns.audit), 2)]
    recorded = statistics.median(cost for step, cost in enumerate(steps) if step in records)
    glanced = statistics.median(cost for step, cost in enumerate(steps) if step not in records)
    per_step = (recorded + (args.audit_steps - 1) * glanced) / args.audit_steps
    return {"plain": theirs, "ours": ours, "audit": per_step / ours / options.accumulation}


def reduce_main(options: argparse.Namespace) -> None:
    """Under torchrun: bytes reduced and seconds per step of two ways to freeze, in turns."""
    torch.distributed.init_process_group("gloo")
    ways: dict[str, tuple[DistributedDataParallel, list[int], list[float]]] = {}
    for name in ("rebuilt at the boundary", "find_unused_parameters=True"):
        model = build_model(options.size, "sdpa")
        ddp = DistributedDataParallel(model, find_unused_parameters=name.startswith("find"))
        for part in ("image_encoder", "text_encoder"):
            module = model.get_submodule(model.freezable_modules[part])
            module.requires_grad_(False)
            module.eval()
        if name.startswith("rebuilt"):
            rebuild_reducer(ddp)
        counted = [0]

        def reduce(state: list[int], bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
            state[0] += bucket.buffer().numel() * bucket.buffer().element_size()
            work = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
            return work.then(lambda done: done.value()[0] / torch.distributed.get_world_size())

        ddp.register_comm_hook(counted, reduce)
        ways[name] = (ddp, counted, [])
    rows = Rows(options.rows, options.tokens, options.pixels)
    batch = {name: torch.stack([rows[i][name] for i in range(options.batch_size)]) for name in rows[0]}
    regions = ways["rebuilt at the boundary"][0].module.get_image_features(batch.pop("pixel_values")).detach()
    for step in range(options.windows + 1):
        for ddp, counted, seconds in ways.values():
            counted[0] = 0
            start = clock()
            ddp(**batch, image_regions=regions).loss.backward()
            if step:  # buckets are laid out in the first
                seconds.append(clock() - start)
            ddp.zero_grad()
    if torch.distributed.get_rank() == 0:
        found = {name: [counted[0], statistics.median(seconds)] for name, (_, counted, seconds) in ways.items()}
        print(json.dumps(found))
    torch.distributed.destroy_process_group()


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="benchmark.py freeze", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["base", "small"], default="base")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--windows", type=int, default=8, help="timed windows of each phase")
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager", help="of our model")
    parser.add_argument("--phases", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--reduce", action="store_true", help="under torchrun: only the two-process part")
    options = parser.parse_args(arguments)
    if options.reduce:
        reduce_main(options)
        return
    print(
        f"{options.size} sizes, batch {options.batch_size}, {options.tokens} tokens, {torch.get_num_threads()} threads"
    )
    print("| phase | plain loop, s per batch | MMTabTrainer | times as fast | audit, share of a step |")
    print("|---|---|---|---|---|")
    for phase in options.phases:
        found = compare(phase, options)
        ratio = found["plain"] / found["ours"]
        row = f"| {phase} | {found['plain']:.3f} | {found['ours']:.3f} | {ratio:.2f} | {found['audit']:.2%} |"
        print(row, flush=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29591"]
    command += [str(Path(__file__)), *arguments, "--reduce"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print("\n| two processes, both parts frozen | MB reduced per step | s per step |\n|---|---|---|")
    for name, (size, seconds) in found.items():
        print(f"| {name} | {size / 2**20:.1f} | {seconds:.3f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
