"""`from_pretrained` that refuses what transformers only reports: missing and foreign keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from typing import Any

from transformers.utils import logging

logger = logging.get_logger(__name__)


class CheckedLoadingMixin:
    """Goes before `PreTrainedModel`: a checkpoint whose keys do not fit is an error, not a warning.

    A missing key would mean weights drawn at random, a foreign key weights thrown away. Both are allowed
    only when asked for by name, and logged.
    """

    # First part of the keys that a head adds. The model without it may read the checkpoint with it.
    _head_prefixes: tuple[str, ...] = ()

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
            allow_missing_keys: keys absent from the checkpoint are initialised anew and logged.
            allow_unexpected_keys: keys that the model does not know are ignored and logged.
            output_loading_info: return `(model, info)`, as transformers does.

        Raises:
            ValueError: if keys are missing or foreign and that was not allowed; lists them.
        """
        model, info = super().from_pretrained(  # type: ignore[misc]
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        missing = sorted(info["missing_keys"])
        foreign = sorted(info["unexpected_keys"])
        of_a_head = (
            [key for key in foreign if key.startswith(cls._head_prefixes)] if cls._head_prefixes else []
        )
        foreign = [key for key in foreign if key not in of_a_head]
        where = f"{pretrained_model_name_or_path} into {cls.__name__}"
        if missing and not allow_missing_keys:
            raise ValueError(
                f"Loading {where}: {len(missing)} keys are missing from the checkpoint and would be random: "
                f"{_shown(missing)}. To put a classifier on a pretrained encoder call "
                "from_pretrained_encoder; pass allow_missing_keys=True to initialise them anew."
            )
        if foreign and not allow_unexpected_keys:
            raise ValueError(
                f"Loading {where}: {len(foreign)} keys of the checkpoint belong to nothing in the model: "
                f"{_shown(foreign)}. Load the class that it was saved from, or pass "
                "allow_unexpected_keys=True."
            )
        if missing:
            logger.warning(f"Loading {where}: initialised anew, as allowed: {_shown(missing)}.")
        if foreign:
            logger.warning(f"Loading {where}: ignored, as allowed: {_shown(foreign)}.")
        if of_a_head:
            logger.warning(f"Loading {where}: left out the head's {_shown(of_a_head)}.")
        return (model, info) if output_loading_info else model


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


def _shown(keys: list[Any], limit: int = 20) -> str:
    names = ", ".join(map(str, keys[:limit]))
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more"
