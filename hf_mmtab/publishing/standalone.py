"""Checkpoints that load without this package: the code of their classes lies beside the weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.tokenization_utils_base import TOKENIZER_CONFIG_FILE
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME

from ..files import json_text, read_json, write_whole
from ..models import mmbt, tabbert
from ..models.travelling import LOADER, LOADER_NAME, class_named, code_of, place_of

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
    kinds: list[type] = []
    for auto_map in maps:
        for auto, where in auto_map.items():
            if isinstance(where, str) and where.startswith(f"{LOADER_NAME}."):
                kinds.append(class_named(where.partition(".")[2]))
                auto_map[auto] = place_of(kinds[-1])
    for file, content in files.items():
        if file.name == "config.json" and CLASSIFIER in content.get("auto_map", {}) and kinds:
            family = next(one for one in TASKS if hasattr(one, content["auto_map"][CLASSIFIER].partition(".")[2]))
            kinds.append(PIPELINE_REGISTRY.supported_tasks[TASKS[family]]["impl"])
            pipeline = {"impl": place_of(kinds[-1]), "pt": [CLASSIFIER], "type": "multimodal"}
            content["custom_pipelines"] = {TASKS[family]: pipeline}
    sources = code_of(kinds)
    if others := [name for name, source in sources.items() if _is_another(folder / name, source)]:
        raise ValueError(
            f"Expected no other code where that of the model goes in {str(folder)!r}, found {', '.join(others)}. Move "
            "it elsewhere, or rename it."
        )
    for name, source in sources.items():
        write_whole(folder / name, source)
    for file, content in files.items() if kinds else ():
        write_whole(file, json_text(content, indent=2, ensure_ascii=False) + "\n")
    loader = folder / f"{LOADER_NAME}.py"
    if kinds or (loader.is_file() and loader.read_text(encoding="utf-8", errors="replace") == LOADER):
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
