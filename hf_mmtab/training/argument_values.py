"""Values of transformers' own training arguments that it takes without a look, and that fail later or never."""

import dataclasses
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from accelerate.utils import DynamoBackend
from transformers import SchedulerType, TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, integration_utils, is_deepspeed_available
from transformers.optimization import get_scheduler
from transformers.trainer_pt_utils import AcceleratorConfig

from ..typed_values import typed_value

MAPPINGS = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
PLATEAU = "reduce_lr_on_plateau"  # its settings are keys of their own
# Trackers → what transformers' checks call them.
_IS_THERE = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}


def check_values(args: TrainingArguments) -> None:
    """Check values that transformers would not take, or not look at.

    Args:
        args: before their `__post_init__`.

    Raises:
        ValueError: naming the key.
        ImportError: if a tracker of `report_to`, or DeepSpeed, is not installed.
    """
    for item in dataclasses.fields(args):
        value, choices = getattr(args, item.name), item.metadata.get("choices")
        if choices is not None and value is not None and value not in choices:
            raise _wrong(item.name, f"one of {', '.join(map(str, choices))}", value)
    for name, kind in get_type_hints(type(args)).items():
        enum = next((one for one in get_args(kind) if isinstance(one, type) and issubclass(one, Enum)), None)
        value = getattr(args, name, None)
        if enum is not None and value is not None and value not in (known := [one.value for one in enum]):
            raise _wrong(name, f"one of {', '.join(map(str, known))}", value)
    for name in MAPPINGS:
        given = getattr(args, name, None)
        if (isinstance(given, str) and not given.lstrip().startswith("{")) or isinstance(given, int | float | list):
            raise _wrong(name, "a mapping such as {name: value}", given)
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= float(getattr(args, name)) < 1:
            raise _wrong(name, "a number from 0 to below 1", getattr(args, name))
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if not isinstance(getattr(args, name), int) or getattr(args, name) < 1:
            raise _wrong(name, "a whole number from 1 on", getattr(args, name))
    _check_accelerator(args.accelerator_config)
    _check_compiler(args)
    _check_reports(args.report_to)
    if args.deepspeed and not is_deepspeed_available():
        remedy = "Install it: `pip install deepspeed`, or take the key out: `--deepspeed null`."
        raise ImportError(f"Expected the package deepspeed for `deepspeed`, found none. {remedy}")
    if isinstance(args.optim_args, str):
        for pair in args.optim_args.replace(" ", "").split(","):
            if pair.count("=") != 1 or "" in pair.split("="):
                raise _wrong("optim_args", "settings such as 'name=value,name=value'", args.optim_args)
    _check_schedule(args)


def _check_accelerator(given: Any) -> None:
    if isinstance(given, Mapping):
        types = get_type_hints(AcceleratorConfig)
        for name, value in given.items():
            if name not in types:
                raise _wrong("accelerator_config", f"keys among {', '.join(types)}", name)
            if value is not None:
                typed_value(value, types[name], f"accelerator_config.{name}")
        return
    is_json = isinstance(given, str | os.PathLike) and (str(given).lstrip().startswith("{") or Path(given).is_file())
    if not is_json and not isinstance(given, AcceleratorConfig | None):
        raise _wrong("accelerator_config", "a mapping, or a JSON file that exists", given)


def _check_compiler(args: TrainingArguments) -> None:
    backend, mode = args.torch_compile_backend, args.torch_compile_mode
    known = [one.value.lower() for one in DynamoBackend]
    if backend is not None and backend.lower() not in known:
        raise _wrong("torch_compile_backend", f"one of {', '.join(known)}", backend)
    if mode is not None and backend in (None, "inductor"):
        modes = torch._inductor.list_mode_options()
        if mode not in modes:
            raise _wrong("torch_compile_mode", f"one of {', '.join(modes)}", mode)


def _check_reports(given: Any) -> None:
    for name in [given] if isinstance(given, str) else given or []:
        if name not in ("all", "none", *INTEGRATION_TO_CALLBACK):
            raise _wrong("report_to", f"none, all, or some of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}", name)
        check = f"is_{_IS_THERE.get(name, name)}_available"
        if name not in ("all", "none") and not getattr(integration_utils, check)():
            raise ImportError(
                f"Expected installed trackers in report_to, found that {name} is not installed or not set up here. "
                "Install its package, or take it out: `--report_to none`."
            )


def _check_schedule(args: TrainingArguments) -> None:
    """Make the learning-rate schedule once, with nothing to train."""
    given = args.lr_scheduler_kwargs
    if not isinstance(given, Mapping | None) or args.lr_scheduler_type == PLATEAU:
        return
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        kind = SchedulerType(args.lr_scheduler_type)
    except ValueError:
        raise _wrong(
            "lr_scheduler_type", f"one of {', '.join(one.value for one in SchedulerType)}", args.lr_scheduler_type
        ) from None
    try:
        get_scheduler(kind, optimizer, 0, 10, scheduler_specific_kwargs=dict(given or {}))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected lr_scheduler_kwargs that fit lr_scheduler_type: {kind.value}, found {given!r} ({error}). "
            "Correct them."
        ) from error


def _wrong(name: str, expected: str, found: Any) -> ValueError:
    return ValueError(f"Expected {name} to be {expected}, found {found!r}. Correct it, or leave it out.")
