"""Checkpoints that load without this package: the code of their classes lies beside the weights."""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.tokenization_utils_base import TOKENIZER_CONFIG_FILE
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME

from ..files import read_json, write_whole
from ..models import mmbt, tabbert
from ..models.mmbt.travelling import LOADER, LOADER_NAME, PREFIX

TASKS = {mmbt: "image-text-classification", tabbert: "tabular-sequence-classification"}
CONFIGS = (CONFIG_NAME, PROCESSOR_NAME, FEATURE_EXTRACTOR_NAME, TOKENIZER_CONFIG_FILE)  # that may name classes
CLASSIFIER = "AutoModelForSequenceClassification"


def make_standalone(folder: str | Path) -> list[str]:
    """Copy the code of a checkpoint's model, processor and pipeline beside its weights, and name it in `auto_map`.

    Such a folder loads with transformers, torch and torchvision alone (tables: polars and pyarrow too):
    `AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)`, likewise `AutoProcessor` and
    `pipeline`. Here, where the package is, it loads as before.

    Args:
        folder: that model and processor were saved to.

    Returns:
        The names of the files that were copied; empty where the code was there already.

    Raises:
        ValueError: if the folder holds no model of this package.
    """
    folder = Path(folder)
    files = {
        file: read_json(file, "Save the model and its processor again.")
        for file in (folder / name for name in CONFIGS)
        if file.is_file()
    }
    maps = [one for content in files.values() for one in _auto_maps(content)]
    if not maps:
        raise ValueError(
            f"Expected a model of hf_mmtab in {str(folder)!r}, found no config that names its classes. Save the model "
            "again with this version: `model.save_pretrained(folder)`."
        )
    copied: dict[Path, str] = {}
    for auto_map in maps:
        for auto, where in auto_map.items():
            if isinstance(where, str) and where.startswith(f"{LOADER_NAME}."):
                auto_map[auto] = _copied_class(_class_named(where.partition(".")[2]), copied)
    for file, content in files.items():
        if file.name == "config.json" and CLASSIFIER in content.get("auto_map", {}) and copied:
            content["custom_pipelines"] = _pipeline(content["auto_map"][CLASSIFIER], copied)
    sources = {f"{PREFIX}{file.name}": source for file, source in copied.items()}
    assert len(sources) == len(copied), f"two modules of one name: {sorted(copied)}"
    if others := [name for name, source in sources.items() if _is_another(folder / name, source)]:
        raise ValueError(
            f"Expected no other code where that of the model goes in {str(folder)!r}, found {', '.join(others)}. Move "
            "it elsewhere, or rename it."
        )
    for name, source in sources.items():
        write_whole(folder / name, source)
    for file, content in files.items() if copied else ():
        write_whole(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    loader = folder / f"{LOADER_NAME}.py"
    if copied or (loader.is_file() and loader.read_text(encoding="utf-8", errors="replace") == LOADER):
        loader.unlink(missing_ok=True)  # a call that was killed may have left it
    return sorted(sources)


def _is_another(file: Path, source: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8", errors="replace") != source


def _auto_maps(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "auto_map" and isinstance(value, dict):
                yield value
            else:
                yield from _auto_maps(value)


def _class_named(name: str) -> type:
    return next(getattr(family, name) for family in TASKS if hasattr(family, name))


def _pipeline(classifier: str, copied: dict[Path, str]) -> dict[str, Any]:
    """The pipeline of the classifier's family, as transformers' configurations name it."""
    family = next(family for family in TASKS if hasattr(family, classifier.partition(".")[2]))
    task = TASKS[family]
    made = PIPELINE_REGISTRY.supported_tasks[task]["impl"]
    return {task: {"impl": _copied_class(made, copied), "pt": [CLASSIFIER], "type": "multimodal"}}


def _copied_class(chosen: type, copied: dict[Path, str]) -> str:
    """Copy the module of a class, and all that it imports from this package; return `module.Class`."""
    file = Path(inspect.getfile(chosen))
    _copy(file, copied)
    return f"{PREFIX}{file.stem}.{chosen.__name__}"


def _copy(file: Path, copied: dict[Path, str]) -> None:
    """Add a module, and those that it imports by relative imports, to the flat copy.

    Args:
        file: of the module.
        copied: module of this package → its source in the copy.
    """
    if file in copied:
        return
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    copied[file] = source
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.module is not None, f"{file} imports a folder"
            imported = file.parents[node.level - 1].joinpath(*node.module.split("."))
            written = "." * node.level + node.module
            flat = f".{PREFIX}{imported.name}"
            lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"from {written} ", f"from {flat} ", 1)
            _copy(imported.with_suffix(".py"), copied)
    copied[file] = "".join(lines)
