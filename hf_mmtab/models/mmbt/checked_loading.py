"""`from_pretrained` that refuses what transformers only reports: missing and foreign keys."""

from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class CheckedLoadingMixin:
    """Goes before `PreTrainedModel`: a checkpoint whose keys do not fit is an error, not a warning.

    A missing key would mean weights drawn at random, a foreign key weights thrown away. Both are allowed
    only when asked for by name, and logged.
    """

    # First part of the keys that a head adds. A model without it may read the checkpoint with it.
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
            allow_missing_keys: keys absent from the checkpoint are initialised anew and logged: a new head.
            allow_unexpected_keys: keys that the model does not know are ignored and logged.
            output_loading_info: return `(model, info)`, as transformers does.

        Raises:
            ValueError: if keys are missing or foreign and that was not allowed; lists them. If the checkpoint
                is one of another kind of model.
        """
        if kwargs.get("config") is None:
            config_class = cls.config_class  # type: ignore[attr-defined]
            where_from = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
            found = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **where_from)[0]
            _require_model_type(pretrained_model_name_or_path, found, config_class.model_type)
        model, info = super().from_pretrained(  # type: ignore[misc]
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        missing = sorted(info["missing_keys"])
        foreign = sorted(info["unexpected_keys"])
        of_a_head = [key for key in foreign if key.startswith(cls._head_prefixes)]
        foreign = [key for key in foreign if key not in of_a_head]
        where = f"{pretrained_model_name_or_path} into {cls.__name__}"
        if missing and not allow_missing_keys:
            raise ValueError(
                f"Loading {where}: {len(missing)} keys are missing from the checkpoint and would be random: "
                f"{_shown(missing)}. Pass allow_missing_keys=True to initialise them anew, as for a new head."
            )
        if foreign and not allow_unexpected_keys:
            raise ValueError(
                f"Loading {where}: {len(foreign)} keys of the checkpoint belong to nothing in the model: "
                f"{_shown(foreign)}. Load the class it was saved from, or pass allow_unexpected_keys=True."
            )
        if missing:
            logger.warning(f"Loading {where}: initialised anew, as allowed: {_shown(missing)}.")
        if foreign:
            logger.warning(f"Loading {where}: ignored, as allowed: {_shown(foreign)}.")
        if of_a_head:
            logger.warning(f"Loading {where}: left out the head's {_shown(of_a_head)}.")
        return (model, info) if output_loading_info else model


def _require_model_type(name_or_path: Any, found: dict[str, Any], model_type: str) -> None:
    if found.get("model_type") != model_type:
        raise ValueError(
            f"Expected a checkpoint of model_type {model_type!r} in {name_or_path}, found "
            f"{found.get('model_type')!r}. "
            "To start from pretrained parts use from_text_image_pretrained."
        )


def _shown(keys: list[Any], limit: int = 20) -> str:
    names = ", ".join(map(str, keys[:limit]))
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more"
