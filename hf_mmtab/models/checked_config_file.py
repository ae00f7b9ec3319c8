"""Configurations that say which value of a config.json is wrong, and where the file lies."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.errors import StrictDataclassError

REMEDY = "Correct it, or copy the config.json of the checkpoint again."


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _maps_to(kinds: type | tuple[type, ...]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        each = value.values() if isinstance(value, dict) else [None]
        return all(isinstance(one, kinds) and not isinstance(one, bool) for one in each)

    return fits


# What transformers reads without a look at its type, or writes beside each score.
BEFORE_TRANSFORMERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "architectures": ("names of classes", _are_names),
    "auto_map": ("a mapping of Auto classes to names of classes", _maps_to((str, list, tuple))),
    "id2label": ("a mapping of ids to names", _maps_to(str)),
    "label2id": ("a mapping of names to ids", _maps_to(int)),
}


class ConfigFileMixin:
    """Goes before transformers' class of a configuration: values that cannot be are told with their key and file."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Read a configuration as transformers does.

        Raises:
            ValueError: if a value is of another type than its key has, out of its bounds, or does not fit the others.
        """
        kwargs["_read_from"] = pretrained_model_name_or_path
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a configuration from its values as transformers does; see `from_pretrained`."""
        name = kwargs.pop("_read_from", None) or kwargs.get("name_or_path")
        where = f"the config.json of {str(name)!r}" if name else f"the values of a {cls.__name__}"
        for key, (kind, fits) in BEFORE_TRANSFORMERS.items():
            if (value := config_dict.get(key)) is not None and not fits(value):
                raise ValueError(f"Expected {kind} as {key} in {where}, found {value!r:.200}. {REMEDY}")
        try:
            return super().from_dict(config_dict, **kwargs)  # type: ignore[misc]
        except (StrictDataclassError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            cause = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
            told = f"{cause}".strip().replace("\n", " ")
            if isinstance(cause, ValueError):  # our own, or one of transformers that names its key
                raise ValueError(f"{told} Found in {where}.") from error
            raise ValueError(
                f"Expected values of the right types in {where}, found another ({type(cause).__name__}: {told:.500}). "
                f"{REMEDY}"
            ) from error
