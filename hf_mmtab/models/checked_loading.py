"""`from_pretrained` that refuses what transformers only reports: missing and foreign keys."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from logging import ERROR
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedConfig
from transformers.utils import cached_file, logging

from .travelling import is_of_package

logger = logging.get_logger(__name__)

_SIZES = ("_size", "_sizes", "_embeddings", "_channels", "_segments", "_labels", "_dim")
_COUNTS = ("_layers", "_members", "depths")
ADAPTER_FILE = "adapter_config.json"
ADAPTERS_ALONE = (
    "adapters of peft without the model that they belong to. Merge them into it, and save its processor beside: "
    "`peft.PeftModel.from_pretrained(model, ADAPTERS).merge_and_unload().save_pretrained(FOLDER)`. The folder of a run "
    "with `lora` holds the merged model, its checkpoints the adapters."
)
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class UnfitWeightsError(ValueError, RuntimeError):
    """Weights and configuration of a checkpoint do not fit each other; transformers raises a `RuntimeError`."""


class CheckedLoadingMixin:
    """Goes before `PreTrainedModel`: a checkpoint whose keys do not fit is an error, not a warning.

    A missing key would mean weights drawn at random, a foreign key weights thrown away. Both are allowed
    only when asked for by name, and logged.
    """

    # First part of the keys that a head adds. A model without it may read the checkpoint with it.
    _head_prefixes: tuple[str, ...] = ()
    # The method that puts a new head on pretrained weights, named in messages.
    _builder = "from_pretrained"

    @classmethod
    def register_for_auto_class(cls, *args: Any, **kwargs: Any) -> None:
        """Let saved checkpoints carry the code of their classes, see `TravellingMixin.register_for_auto_class`."""
        if is_of_package(cls):
            cls.config_class.register_for_auto_class()  # type: ignore[attr-defined]
        else:
            super().register_for_auto_class(*args, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_pretrained(  # type: ignore[no-untyped-def]
        cls,
        pretrained_model_name_or_path,
        *model_args,
        allow_missing_keys: bool = False,
        allow_unexpected_keys: bool = False,
        output_loading_info: bool = False,
        **kwargs,
    ):
        """Load a checkpoint whole, as `PreTrainedModel.from_pretrained` otherwise.

        Args:
            pretrained_model_name_or_path: folder or Hub name.
            allow_missing_keys: keys absent from the checkpoint are initialised anew and logged: a new head.
            allow_unexpected_keys: keys that the model does not know are ignored and logged.
            output_loading_info: return `(model, info)`, as transformers does.

        Raises:
            ValueError: if keys are missing or foreign and that was not allowed; lists them. If the checkpoint
                is one of another kind of model.
            UnfitWeightsError: if the configuration asks for other shapes than the weights have, or for a model that
                cannot be built.
        """
        name = pretrained_model_name_or_path
        where_from = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
        if kwargs.get("config") is None:
            kind = PreTrainedConfig.get_config_dict(name, **where_from)[0].get("model_type")
            expected = cls.config_class.model_type  # type: ignore[attr-defined]
            if kind is None and cached_file(name, ADAPTER_FILE, _raise_exceptions_for_missing_entries=False):
                raise ValueError(f"Expected a checkpoint of {expected!r} in {name}, found {ADAPTERS_ALONE}")
            if kind != expected:
                raise ValueError(
                    f"Expected a checkpoint of model_type {expected!r} in {name}, found {kind!r}. To start from other "
                    f"pretrained weights use {cls._builder}."
                )
        # what does not fit is told here
        quiet = nullcontext() if kwargs.get("ignore_mismatched_sizes") else without_report()
        with misfit_named(name, cls.__name__, lambda: _misfit(cls, name, dict(kwargs))), quiet:
            model, info = super().from_pretrained(  # type: ignore[misc]
                name, *model_args, output_loading_info=True, **kwargs
            )
        missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        of_a_head = [key for key in unknown if key.startswith(cls._head_prefixes)]
        foreign = [key for key in unknown if key not in of_a_head]
        counts = _counts(model, name, [*missing, *foreign])
        where = f"{name} into {cls.__name__}"
        if missing and not allow_missing_keys:
            saved_as = [one for one in model.config.architectures or [] if one != cls.__name__]
            if saved_as and set(missing) >= {key for key, _ in model.named_parameters()}:
                raise ValueError(
                    f"Expected weights of {cls.__name__} in {name}, found none: it holds a {saved_as[0]}, without such "
                    "a part. Load it with that class, or the AutoModelFor… of its task."
                )
            raise ValueError(
                f"Loading {where}: {len(missing)} keys are missing from the checkpoint and would be random: "
                f"{_shown(missing)}.{counts} {'It holds a ' + saved_as[0] + ': ' if saved_as else ''}train a head "
                f"on it with `hf-mmtab finetune`, or in Python put one on it with {cls._builder}, or pass "
                "allow_missing_keys=True to initialise them anew."
            )
        if foreign and not allow_unexpected_keys:
            raise ValueError(
                f"Loading {where}: {len(foreign)} keys of the checkpoint belong to nothing in the model: "
                f"{_shown(foreign)}.{counts} {'l' if counts else 'L'}oad the class that it was saved from, or pass "
                "allow_unexpected_keys=True."
            )
        for what, keys in (
            ("initialised anew, as allowed:", missing),
            ("ignored, as allowed:", foreign),
            ("left out the head's", of_a_head),
        ):
            if keys:
                logger.warning(f"Loading {where}: {what} {_shown(keys)}.")
        return (model, info) if output_loading_info else model


def _counts(model: Any, name: Any, keys: list[str]) -> str:
    """Return a sentence with the counts in a config that weights have more or fewer of."""
    counts = [f"{where}: {value}" for where, value in _numbers(model.config.to_dict(), ends=_COUNTS)]
    is_same = type(model).__name__ in (model.config.architectures or [])
    if not (is_same and counts and any(part.isdigit() for key in keys for part in key.split("."))):
        return ""
    return f" The config.json of {name} says {', '.join(counts)}: correct it if one of them was changed. Else"


@contextmanager
def misfit_named(name: Any, kind: str, look: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Where building or loading a model fails inside a library, say that its config.json is to blame.

    Args:
        name: of the checkpoint.
        kind: of the model.
        look: returns a more exact sentence, or None.

    Raises:
        UnfitWeightsError: in place of the library's error.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnfitWeightsError(
            look()
            or f"Expected a config.json in {name} that fits {kind}, found that building and loading end in {reason}. "
            "Save the model again, or copy config.json from where it came from."
        ) from error


@contextmanager
def without_report() -> Iterator[None]:
    """Say nothing of keys that are left out on purpose; missing and foreign ones are errors all the same."""
    loggers = [logging.get_logger("transformers"), logger]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _misfit(cls: Any, name: Any, options: dict[str, Any]) -> str | None:
    """Return which tensors of a checkpoint have another shape than the config asks for; None: none that can be told."""
    where_from = {option: options[option] for option in HUB_OPTIONS if option in options}
    config = options.pop("config", None)
    try:
        if config is None:
            config, _ = cls.config_class.from_pretrained(name, return_unused_kwargs=True, **options)
        with torch.device("meta"):
            model = cls(config)
        weights_name = "model.safetensors"
        file = cached_file(name, weights_name, _raise_exceptions_for_missing_entries=False, **where_from)
    except Exception as error:  # it cannot even be built: the error that led here says why
        logger.debug(f"{cls.__name__} cannot be built: {error}")
        return None
    if file is None:
        return None
    wanted = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    with safe_open(file, framework="pt") as weights:
        found = {key: weights.get_slice(key).get_shape() for key in weights.keys() if key in wanted}  # noqa: SIM118
    other = [key for key, shape in found.items() if shape != wanted[key]]
    if not other:
        return None
    key = other[0]
    sizes = {one for one in wanted[key] if one not in found[key]} or set(wanted[key])
    held = {"num_labels": model.config.num_labels, **model.config.to_dict()}
    named = ", ".join(f"{where}: {value}" for where, value in _numbers(held) if value in sizes)
    more = f", and {len(other) - 1} more that differ" if len(other) > 1 else ""
    return (
        f"Expected {key} of shape {wanted[key]}, as the config of {name} says ({named or 'its parts'}), found "
        f"{found[key]} in the weights{more}. Correct config.json, copy both files again from where the model came "
        "from, or pass ignore_mismatched_sizes=True to start these weights anew."
    )


def _numbers(values: Any, where: str = "", ends: tuple[str, ...] = _SIZES) -> Iterator[tuple[str, int]]:
    """Yield the sizes of a configuration, or numbers of keys with other ends, with their keys."""
    pairs = values.items() if isinstance(values, dict) else ((where, one) for one in values)
    for key, value in pairs:
        place = f"{where}.{key}" if where and isinstance(values, dict) else str(key)
        if isinstance(value, dict | list | tuple):
            yield from _numbers(value, place, ends)
        elif type(value) is int and place.endswith(ends):
            yield place, value


def _shown(keys: list[Any], limit: int = 20) -> str:
    names = ", ".join(map(str, keys[:limit]))
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more"
