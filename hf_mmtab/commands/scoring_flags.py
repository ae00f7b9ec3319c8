"""The flags of commands that compute with a saved model."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ..training import MMTabTrainingArguments
from ..training.precision import choose_for
from .tables.window_blocks import current_device

logger = logging.get_logger(__name__)


def scoring_parser(
    command: str, description: str | None, batch_size: int, columns: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Return a parser with what `eval_checkpoint`, `predict` and `embed` have in common.

    Args:
        command: its name.
        description: its module's docstring.
        batch_size: default of `--batch_size`.
        columns: of pictures with texts, `image`, `text`, …, each named by a flag; none: the command reads tables alone.
    """
    parser = argparse.ArgumentParser(prog=f"hf-mmtab {command}", description=description)
    parser.add_argument("checkpoint", help="folder or Hub name of a model saved with its processor")
    parser.add_argument("--task", help="which reader; default: that of the checkpoint's recipe")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise", help="default: raise")
    help_batch = f"rows or windows at a time, on each device; default: {batch_size}"
    parser.add_argument("--batch_size", type=int, default=batch_size, help=help_batch)
    # Float32, since scores in bfloat16 differ in the third digit: they would depend on the machine that judges, and not
    # repeat those of the run's report.
    formats = "number format of the computation; auto: bf16 where it is faster here, with scores that differ in the "
    formats += "third digit; default: fp32"
    parser.add_argument("--precision", choices=["fp32", "bf16", "auto"], default="fp32", help=formats)
    short = "as --precision bf16"
    parser.add_argument("--bf16", action="store_const", const="bf16", dest="precision", help=short)
    for name in columns:
        parser.add_argument(f"--{name}_column", help="default: as the recipe says, else found by its name")
    if columns:
        parser.add_argument("--num_workers", type=int, default=0, help="processes that decode pictures (0)")
        empty = "keep records without a text"
        parser.add_argument("--allow_empty_text", action="store_true", help=empty)
    return parser


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what says where a table is scored."""
    engines = "tables: local: this process. ray: a Ray cluster, a model in each worker (extra ray); OUT without an "
    engines += "ending is then a folder of Parquet files. default: local"
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help=engines)
    address = "of a Ray cluster to join; default: RAY_ADDRESS, else one is started on this machine"
    parser.add_argument("--ray_address", help=address)


def is_folder(options: argparse.Namespace) -> bool:
    """Whether the output is a folder of Parquet files."""
    return options.engine == "ray" and not Path(options.out).suffix


def in_bf16(options: argparse.Namespace, model: nn.Module, device: torch.device) -> bool:
    """Whether a command computes in bfloat16, as `--precision` asks; log what is chosen for auto."""
    choice = choose_for(model, device, options.precision, channels_last=True)
    if options.precision == "auto":
        logger.info(choice.sentence)
    return choice.precision == "bf16"


def evaluation_arguments(options: argparse.Namespace, model: nn.Module, **others: Any) -> MMTabTrainingArguments:
    """Return the arguments of a trainer that only evaluates."""
    return MMTabTrainingArguments(
        output_dir=options.out,
        per_device_eval_batch_size=options.batch_size,
        dataloader_num_workers=options.num_workers,
        precision="fp32",  # nothing is trained; `bf16_full_eval` decides
        bf16_full_eval=in_bf16(options, model, current_device()),
        report_to="none",
        **others,
    )
