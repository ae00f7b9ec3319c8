"""`from_pretrained` that refuses what transformers only reports: missing and foreign keys.

This file stands in both model folders, the same to the letter (a test compares them): each folder travels alone with
its checkpoints.
"""

from transformers import PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

MOST_NAMED = 20  # keys in a message
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


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
        name = pretrained_model_name_or_path
        if kwargs.get("config") is None:
            where_from = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
            kind = PreTrainedConfig.get_config_dict(name, **where_from)[0].get("model_type")
            expected = cls.config_class.model_type  # type: ignore[attr-defined]
            if kind != expected:
                raise ValueError(
                    f"Expected a checkpoint of model_type {expected!r} in {name}, found {kind!r}. To start from other "
                    f"pretrained weights use {cls._builder}."
                )
        model, info = super().from_pretrained(  # type: ignore[misc]
            name, *model_args, output_loading_info=True, **kwargs
        )
        missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        of_a_head = [key for key in unknown if key.startswith(cls._head_prefixes)]
        foreign = [key for key in unknown if key not in of_a_head]
        where = f"{name} into {cls.__name__}"
        if missing and not allow_missing_keys:
            raise ValueError(
                f"Loading {where}: {len(missing)} keys are missing from the checkpoint and would be random: "
                f"{_shown(missing)}. Pass allow_missing_keys=True to initialise them anew, as for a new head, or put "
                f"one on pretrained weights with {cls._builder}."
            )
        if foreign and not allow_unexpected_keys:
            raise ValueError(
                f"Loading {where}: {len(foreign)} keys of the checkpoint belong to nothing in the model: "
                f"{_shown(foreign)}. Load the class that it was saved from, or pass allow_unexpected_keys=True."
            )
        for what, keys in (
            ("initialised anew, as allowed:", missing),
            ("ignored, as allowed:", foreign),
            ("left out the head's", of_a_head),
        ):
            if keys:
                logger.warning(f"Loading {where}: {what} {_shown(keys)}.")
        return (model, info) if output_loading_info else model


def _shown(keys: list[str]) -> str:
    names = ", ".join(keys[:MOST_NAMED])
    return names if len(keys) <= MOST_NAMED else f"{names} and {len(keys) - MOST_NAMED} more"
