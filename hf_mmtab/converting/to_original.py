"""A checkpoint of ours for the original code: its file names, tensors and settings."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from ..files import read_json
from .mmbt_weights import to_original
from .tabformer_config import revert_config
from .tabformer_gpt2 import revert_gpt2
from .tabformer_weights import revert_state_dict
from .to_ours import TABFORMER_VOCABULARY
from .writing import require_empty, write_whole

# Kind that goes back → its model types and classes.
REVERSIBLE = {
    "mmbt": (("mmbt", "mmbt_baseline"), ("MMBTForClassification", "MMBTBaselineForClassification")),
    "tabformer": (("tabbert", "tabgpt2"), ("TabBertForMaskedLM", "TabGPT2LMHeadModel")),
}


def revert_checkpoint(options: argparse.Namespace) -> str:
    """Write the weights of one of our checkpoints for the original code; return the report.

    Raises:
        FileExistsError: if DST holds something.
        ValueError: if the original has no such model.
    """
    require_empty(options.dst)
    if options.kind not in REVERSIBLE:
        raise ValueError(f"--reverse is for the kinds mmbt and tabformer, found {options.kind!r}.")
    require_ours(options.src, options.kind)
    return (_revert_mmbt if options.kind == "mmbt" else _revert_tabformer)(options.src, options.dst)


def _revert_mmbt(source: Path, destination: Path) -> str:
    model = AutoModelForSequenceClassification.from_pretrained(source)
    config = model.config
    if config.text_pooling != "cls":
        raise ValueError(
            f"Expected text_pooling cls in {str(source)!r}, found {config.text_pooling}: the original reads the pooled "
            "first position alone. Train with text_pooling: cls."
        )
    kind = "mmbt" if config.model_type == "mmbt" else config.baseline
    original = to_original(kind, {name: one.contiguous() for name, one in model.state_dict().items()})

    def write(folder: Path) -> None:
        checkpoint = {"epoch": 0, "state_dict": original, "n_no_improve": 0, "best_metric": 0.0}
        # the format that the PyTorch of the original's time reads
        torch.save(checkpoint, folder / "model_best.pt", _use_new_zipfile_serialization=False)

    write_whole(destination, write)
    several = config.problem_type == "multi_label_classification"
    flags = [f"--model {kind}", f"--task_type {'multilabel' if several else 'classification'}"]
    if config.image_config is not None:
        flags.append(f"--num_image_embeds {config.num_image_embeds} --img_embed_pool_type {config.image_pooling}")
        flags.append(f"--img_hidden_sz {config.image_hidden_size}")
    if config.text_config is not None:
        flags.append(f"--hidden_sz {config.text_config.hidden_size}")
    labels = ", ".join(config.id2label[index] for index in range(config.num_labels))
    return (
        f"{len(original)} tensors in {destination / 'model_best.pt'}.\nFlags of the original: {' '.join(flags)}\n"
        f"It numbers labels as they first occur in train.jsonl; that order must be: {labels}"
    )


def _revert_tabformer(source: Path, destination: Path) -> str:
    is_gpt = AutoConfig.from_pretrained(source).model_type == "tabgpt2"
    auto: Any = AutoModelForCausalLM if is_gpt else AutoModelForMaskedLM
    model = auto.from_pretrained(source)
    record = source / TABFORMER_VOCABULARY
    if not record.is_file():
        raise ValueError(
            f"Expected {TABFORMER_VOCABULARY} in {str(source)!r}, found none. Only models that came from TabFormer "
            "by this command go back: the original numbers the values of other tables in its own way."
        )
    vocabulary = json.loads(record.read_text(encoding="utf-8"))
    ids = torch.tensor(vocabulary["ids"])
    if is_gpt:
        original, tensors = revert_gpt2(model.state_dict(), model.config, ids)
    else:
        original = revert_config(model.config, len(ids))
        tensors = revert_state_dict(model.state_dict(), model.config, ids)

    def write(folder: Path) -> None:
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        (folder / "config.json").write_text(json.dumps(original, indent=2, sort_keys=True), encoding="utf-8")
        (folder / "vocab.nb").write_text("\n".join(vocabulary["tokens"]) + "\n", encoding="utf-8")

    write_whole(destination, write)
    return f"{len(tensors)} tensors in {destination / 'pytorch_model.bin'}, with config.json and vocab.nb."


def require_ours(source: Path, kind: str) -> None:
    """Raise unless a folder holds a model of ours that goes back as this kind.

    Raises:
        FileNotFoundError: if it is no folder of a saved model.
        ValueError: if it holds another model.
    """
    config, ways = source / "config.json", "With --reverse SRC is ours and DST becomes the original's."
    if not config.is_file():
        files = sorted(path.name for path in source.iterdir())[:10] if source.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"Expected the folder of one of our models (config.json, model.safetensors) in {str(source)!r}, found "
            f"{files}. {ways}"
        )
    settings = read_json(config, ways)
    model_type, classes = settings.get("model_type"), settings.get("architectures")
    classes = [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else []
    types, classes_of_kind = REVERSIBLE[kind]
    if model_type not in types or not set(classes) & set(classes_of_kind):
        raise ValueError(
            f"Expected {' or '.join(classes_of_kind)} in {str(source)!r} for the kind {kind}, found {classes} "
            f"(model_type {model_type!r}). Pass the kind and the folder that belong together."
        )
