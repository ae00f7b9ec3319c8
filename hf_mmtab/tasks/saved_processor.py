"""The processor of a TabBERT checkpoint, and what to do where there is none."""

import json
from pathlib import Path

from ..models.tabbert import TabBertProcessor

PROCESSOR_FILE = "preprocessor_config.json"


def open_processor(name: str, key: str = "pretrained") -> TabBertProcessor:
    """Load the processor of a checkpoint, which a key of a recipe names, from a folder or the Hub.

    Raises:
        FileNotFoundError: if there is no such checkpoint, or no processor beside the model.
    """
    try:
        return TabBertProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        folder = Path(name)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"Expected a TabBERT checkpoint at {name!r}, found no such folder, and nothing on the Hub. Pretrain "
                "first (`python -m hf_mmtab pretrain RECIPE.yaml`; the checkpoint is its output_dir), or correct "
                f"`{key}`."
            ) from error
        config = folder / "config.json"
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
        if kind not in (None, "tabbert"):
            raise FileNotFoundError(
                f"Expected a TabBERT checkpoint in {name!r}, found a model of type {kind!r}. Name the output_dir of a "
                "pretraining run."
            ) from error
        if not (folder / PROCESSOR_FILE).is_file():
            raise FileNotFoundError(
                f"Expected the processor beside the model in {name!r}, found no {PROCESSOR_FILE}. Copy it and the "
                "tabbert_* files from the output_dir of the run that made the model."
            ) from error
        raise
