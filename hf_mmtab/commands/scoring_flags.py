"""What the flags of commands that compute with a saved model ask for."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ..tasks.checkpoints import is_table_checkpoint
from ..training import MMTabTrainingArguments
from ..training.precision import choose_for
from .flags import COLUMNS
from .outputs import check_store
from .tables.window_blocks import current_device

logger = logging.get_logger(__name__)

# Flags that the models of one kind alone read → what they are left at.
OF_PICTURES: dict[str, Any] = dict.fromkeys([*(f"{name}_column" for name in COLUMNS), "feature_cache_dir"])
OF_PICTURES |= {"num_workers": 0, "allow_empty_text": False}
OF_TABLES: dict[str, Any] = {"state": None, "level": None, "resample_by": "auto"}


def check_flags(options: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Refuse flags that a model of this kind does not read, and a store of features in a run or in an input.

    Args:
        options: of the command line.
        inputs: files and folders that the command reads.

    Raises:
        ValueError: naming the flags, or the folder.
    """
    is_table = is_table_checkpoint(options.checkpoint)
    foreign, kinds = (OF_PICTURES, ("a table", "pictures")) if is_table else (OF_TABLES, ("pictures", "a table"))
    if given := [f"--{name}" for name, left in foreign.items() if getattr(options, name, left) != left]:
        raise ValueError(
            f"Expected flags for a model of {kinds[0]}, found {', '.join(given)}, which only a model of {kinds[1]} "
            "reads. Take them out."
        )
    if getattr(options, "feature_cache_dir", None) is not None:
        check_store(options.feature_cache_dir, inputs, options.out)


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
        output_dir=others.pop("output_dir", options.out),
        per_device_eval_batch_size=options.batch_size,
        dataloader_num_workers=options.num_workers,
        precision="fp32",  # nothing is trained; `bf16_full_eval` decides
        bf16_full_eval=in_bf16(options, model, current_device()),
        report_to="none",
        **others,
    )
