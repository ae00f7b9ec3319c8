"""Configurations that say which value of a config.json is wrong, and where the file lies."""

from typing import Any

from huggingface_hub.errors import StrictDataclassError

REMEDY = "Correct it, or copy the config.json of the checkpoint again."


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
        kinds = config_dict.get("architectures")
        if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
            raise ValueError(f"Expected names of classes as architectures in {where}, found {kinds!r}. {REMEDY}")
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
