"""Names of model parts → modules, layers and parameters, for freezing, learning rates and the audit."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from torch import nn


def freezable_modules(model: nn.Module) -> dict[str, str]:
    """Return part → module path as `model` declares them, empty for a model that declares none."""
    return dict(getattr(model, "freezable_modules", {}))


def plain_name(name: str) -> str:
    """Return a parameter or module name without the pieces that wrappers (compile, checkpointing, PEFT) insert."""
    name = name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")
    return name.removeprefix("base_model.model.")


def check_names(argument: str, parts: Mapping[Any, Any]) -> None:
    """Raise a ValueError if a mapping of parts has keys that name none, such as numbers."""
    if wrong := [part for part in parts if not isinstance(part, str) or not part]:
        raise ValueError(
            f"Expected names of parts as keys of {argument}, such as 'text_encoder' or 'encoder.layer.5', found "
            f"{wrong[0]!r}. Write the name as text."
        )


def find_part(model: nn.Module, part: str) -> tuple[str, ...]:
    """Return the module paths of a part.

    Args:
        model: the unwrapped model.
        part: a name from `freezable_modules` (`"text_encoder"`), a module path (`"bert.embeddings"`) or a shell
            pattern of paths (`"bert.encoder.layer.[0-5]"`). `*` also matches dots; a module inside a matching one is
            covered by it.

    Raises:
        ValueError: if no module matches.
    """
    declared = freezable_modules(model)
    pattern = declared.get(part, part)
    paths = [plain_name(path) for path, _ in model.named_modules() if path]
    matches = [path for path in paths if path == pattern] or [path for path in paths if fnmatchcase(path, pattern)]
    if not matches:
        known = ", ".join(sorted(declared)) or "none declared by this model"
        children = ", ".join(path for path in paths if path.count(".") <= 1)
        raise ValueError(
            f"Unknown part {part!r}. Known parts of {type(model).__name__}: {known}. "
            f"A module path or a pattern of paths works too, for example one of: {children}{_stacks(model)}."
        )
    covered: list[str] = []
    for path in matches:  # parents come before their children in named_modules
        if not any(path.startswith(f"{outer}.") for outer in covered):
            covered.append(path)
    return tuple(covered)


def _stacks(model: nn.Module) -> str:
    """Return how the model names its layers, empty for a model without a stack of layers."""
    stacks = [
        f"{plain_name(path)}.N with N from 0 to {len(module) - 1}"
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1
    ]
    if not stacks:
        return ""
    example = stacks[0].partition(".N with")[0]
    return f"; layers: {', '.join(stacks[:4])} (for example '{example}.[0-1]')"


def has_part(model: nn.Module, part: str) -> bool:
    """Return whether `find_part` matches a module."""
    pattern = freezable_modules(model).get(part, part)
    return any(fnmatchcase(plain_name(path), pattern) for path, _ in model.named_modules() if path)


def part_layers(model: nn.Module, paths: tuple[str, ...]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Cut a part into its layers, from the input side to the output side.

    The layers are the children of the largest `ModuleList` or `Sequential` inside the part. What is
    registered before that list (an embedder) belongs to the first layer, what comes after it (a norm, a
    pooler) to the last.

    Returns:
        For each layer the module paths (with everything below them) and the names of parameters that sit
        directly on a module around the list.
    """
    modules = {plain_name(name): module for name, module in model.named_modules()}
    if len(paths) > 1 and len({re.sub(r"(^|\.)members\.\d+\.", r"\1", path) for path in paths}) == 1:
        of_each = zip(*(part_layers(model, (path,)) for path in paths), strict=True)
        joined = (zip(*layers, strict=True) for layers in of_each)  # a layer is that of all members
        return [(tuple(chain(*below)), tuple(chain(*own))) for below, own in joined]
    if len(paths) > 1:
        return [((path,), ()) for path in paths]
    root = paths[0]
    inside = [path for path in modules if path == root or path.startswith(f"{root}.")]
    lists = [path for path in inside if isinstance(modules[path], nn.ModuleList | nn.Sequential)]
    lists = [path for path in lists if len(list(modules[path].children())) > 1]
    if not lists:
        return [((root,), ())]
    stack = max(lists, key=lambda path: sum(p.numel() for p in modules[path].parameters()))
    layers: list[tuple[list[str], list[str]]] = [
        ([f"{stack}.{name}"], []) for name, _ in modules[stack].named_children()
    ]
    around = root
    while around != stack:
        layers[0][1].extend(f"{around}.{name}" for name, _ in modules[around].named_parameters(recurse=False))
        target, seen = layers[0][0], False
        step_into = around
        for name, _ in modules[around].named_children():
            path = f"{around}.{name}"
            if path == stack or stack.startswith(f"{path}."):
                step_into, seen, target = path, True, layers[-1][0]
            else:
                target.append(path)
        assert seen, f"{stack} is not below {around}"
        around = step_into
    return [(tuple(paths), tuple(names)) for paths, names in layers]


def partition_parameters(model: nn.Module, parts: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Give every parameter that the model computes with to exactly one part.

    A parameter inside several named parts goes to the one with the longest path. What no named part covers is
    grouped by the outermost module that contains none of them, and carries that module's path as its name.

    Args:
        model: the unwrapped model.
        parts: part name → module paths, as `find_part` returns them.

    Returns:
        Part name → parameter names, in the order of `model.named_parameters()`.
    """
    partition: dict[str, list[str]] = {part: [] for part in parts}
    for full_name, _ in model.named_parameters():
        name = plain_name(full_name)
        if ".original_module." in name:  # PEFT keeps it aside, and trains a copy of it
            continue
        owner = owner_by_path(name, parts, getattr(model, "base_model_prefix", "") or "")
        partition.setdefault(owner, []).append(name)
    return {part: names for part, names in partition.items() if names}


def owner_by_path(name: str, parts: Mapping[str, Sequence[str]], base: str = "") -> str:
    """Return the part of a parameter or buffer; if none covers it, the outermost module around it, below `base`."""
    owner_of = {path: part for part, paths in parts.items() for path in paths}
    inside = [path for path in owner_of if name.startswith(f"{path}.")]
    if inside:
        return owner_of[max(inside, key=len)]
    around = {base, *(path[:end] for path in owner_of for end in range(1, len(path)) if path[end] == ".")}
    outer = (name[:end] for end in range(len(name)) if name[end] == "." and name[:end] not in around)
    return next(outer, name)
