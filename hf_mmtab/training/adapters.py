"""LoRA by the peft library (extra `lora`): small matrices train beside frozen weights and are merged into them."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers.trainer_utils import _is_peft_model

from ..extras import import_extra
from .parts import find_part, plain_name


def with_lora(model: Any, settings: dict[str, Any]) -> Any:
    """Wrap a model with LoRA adapters; its head and some other parts train as a whole, see `whole_parts`.

    Args:
        model: of this package.
        settings: of `peft.LoraConfig`, as `{r: 8, lora_alpha: 16}`. By default every linear layer gets an adapter
            (`target_modules`), and the head trains and is saved whole (`modules_to_save`).

    Returns:
        A `PeftModel`.

    Raises:
        ImportError: without peft.
        ValueError: if peft knows no such setting, or no such module.
    """
    peft = import_extra("peft", "`lora`", "lora")
    whole = whole_parts(model)
    defaults = {"target_modules": "all-linear", "modules_to_save": whole, "exclude_modules": whole}
    known = [name for name, _ in model.named_modules()]
    try:
        config = peft.LoraConfig(**{**defaults, **settings})
        for one in config.modules_to_save or ():
            if not any(name == one or name.endswith(f".{one}") for name in known):
                raise ValueError(f"there is no module {one!r} to save.")
        return peft.get_peft_model(model, config)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:  # peft's, of wrong settings
        raise ValueError(
            f"Expected `lora` to hold settings of peft's LoraConfig that fit {type(model).__name__}, found {settings}: "
            f"{error}"
        ) from error


def refuse_frozen_adapters(model: nn.Module, freeze: Mapping[str, Any]) -> None:
    """Raise a ValueError if every adapter lies in a part that a schedule freezes for the whole run."""
    parts = [part for part, until in freeze.items() if until is True or str(until).strip().lower() == "forever"]
    paths = tuple(f"{path}." for part in parts for path in find_part(model, part))
    adapters = [plain_name(name) for name, _ in model.named_parameters() if "lora_" in name]
    if adapters and all(name.startswith(paths) for name in adapters):
        raise ValueError(
            f"Expected a part that trains for the adapters of `lora`, found all of them in {', '.join(parts)}, which "
            "freeze keeps as it is for the whole run. Let it thaw (`freeze: {PART: 1 epoch}`, or 0), or leave lora out."
        )


def whole_parts(model: Any) -> list[str]:
    """Return the names of the modules that train whole: the head, and the projection and the text's pooler of MMBT.

    The pooler is learned for the task: sentence models come with one that they never used, far from a low-rank change.
    """
    heads = [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]
    names = [name for name, _ in model.named_modules()]
    own = ("image_projection", "text_model.pooler", "model.pooler")  # the last: of a text model without one
    return heads + [one for one in own if any(name == one or name.endswith(f".{one}") for name in names)]


def merged(model: Any) -> Any:
    """Return the plain model with its adapters added to its weights; any other model as it is."""
    return model.merge_and_unload() if _is_peft_model(model) else model


def frozen_statistics(model: nn.Module) -> list[nn.Module]:
    """Return the modules of an adapted model that keep running statistics and train no weight.

    An adapter's checkpoint does not hold them: statistics that moved would be lost.
    """
    if not _is_peft_model(model):
        return []
    return [
        module
        for module in model.modules()
        if getattr(module, "track_running_stats", False) and not any(p.requires_grad for p in module.parameters())
    ]
