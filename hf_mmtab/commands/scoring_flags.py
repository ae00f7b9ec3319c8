"""What the flags of commands that compute with a saved model ask for."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ..training import MMTabTrainingArguments
from ..training.precision import choose_for
from .tables.window_blocks import current_device

logger = logging.get_logger(__name__)


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
