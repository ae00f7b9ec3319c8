"""Each kind of original checkpoint as a model and processor of ours, checked by loading again and written."""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ..publishing.run_files import RECIPE_FILE
from .checks import Converted, TensorFate, Tensors
from .mmbt_args import RECIPE_HEADER, mmbt_recipe, run_from_args
from .mmbt_run import convert_run
from .mmbt_transformers4 import fates_in_their_names, is_transformers4, original_names
from .original_files import (
    WEIGHT_FILES,
    OriginalFiles,
    find_file,
    read_encoders,
    read_labels,
    read_mmbt_run,
    read_tabformer,
    read_vocabulary,
    read_words,
    require_numbers,
)
from .tabformer_run import convert_tabformer
from .torch_files import read_state_dict
from .writing import require_empty, write_whole

logger = logging.get_logger(__name__)

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
REPORT_NAME = "conversion.json"
TABFORMER_VOCABULARY = "tabformer_vocabulary.json"  # the original's tokens, and our id of each


def convert_checkpoint(options: argparse.Namespace) -> str:
    """Convert, check by loading again, write DST; return the report.

    Raises:
        FileExistsError: if DST holds something.
        ValueError: if a file is refused, files do not belong together, or a tensor is unexplained.
    """
    require_empty(options.dst)
    made, files = CONVERTERS[options.kind](options)
    if untold := sorted(set(files.state_dict) - {fate.original for fate in made.fates}):
        raise ValueError(f"Expected to know what becomes of every tensor, found {untold[:20]} unexplained.")
    report = {
        "kind": options.kind,
        "read": [path.name for path in files.read],
        "architecture": type(made.model).__name__,
        **made.facts,
        "tensors": [[fate.original, fate.ours, fate.reason] for fate in made.fates],
    }

    def write(folder: Path) -> None:
        made.model.save_pretrained(folder)
        made.processor.save_pretrained(folder)
        for name, value in {REPORT_NAME: report, **made.extra}.items():
            text = json.dumps(value, indent=1, ensure_ascii=False)
            if name == RECIPE_FILE:
                text = RECIPE_HEADER + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
            (folder / name).write_text(text, encoding="utf-8")
        require_same_when_loaded(folder, made.model, made.processor)

    write_whole(options.dst, write)
    head = f"\n{type(made.model).__name__} and {type(made.processor).__name__} in {options.dst}:"
    return "\n".join([*fate_lines(made.fates), head, *(f"  {name}: {v}" for name, v in made.facts.items())])


def convert_mmbt(options: argparse.Namespace) -> tuple[Converted, OriginalFiles]:
    """Any of the original code's six models."""
    files = read_mmbt_run(options.src, options.args)
    if is_transformers4(files.state_dict):
        raise ValueError(
            f"Expected the original MMBT in {str(options.src)!r}, found that of transformers 2 to 4 "
            "(mmbt.transformer.*). Use the kind mmbt_transformers4."
        )
    settings = _with_options(files.settings, options)
    return _convert_run(settings, options, files.state_dict, options.tokenizer), files


def convert_transformers4(options: argparse.Namespace) -> tuple[Converted, OriginalFiles]:
    """MMBT of transformers 2 to 4, as its example `run_mmimdb.py` trained it."""
    weights = find_file(options.src, WEIGHT_FILES, "the weights of an MMBT")
    files = OriginalFiles([weights], require_numbers(read_state_dict(weights), weights), {})
    if not is_transformers4(files.state_dict):
        raise ValueError(
            f"Expected tensors named mmbt.transformer.* in {str(weights)!r}, found "
            f"{sorted(files.state_dict)[:3]}. Use the kind mmbt for the original code's checkpoints."
        )
    settings = {"model": "mmbt", "img_embed_pool_type": "avg", **_with_options({}, options)}
    tokenizer = options.tokenizer or (weights.parent if (weights.parent / "vocab.txt").is_file() else None)
    renamed, names, dropped = original_names(files.state_dict)
    # Dropout before the classifier: hidden_dropout_prob of its BERT, 0.1.
    made = _convert_run(settings, options, renamed, tokenizer, classifier_dropout=0.1)
    made.fates = fates_in_their_names(made.fates, names, dropped)
    return made, files


def _convert_run(
    settings: dict[str, Any], options: argparse.Namespace, tensors: Tensors, tokenizer: Any, **config: Any
) -> Converted:
    loaded = load_tokenizer(str(tokenizer)) if tokenizer else None
    made = convert_run(run_from_args(settings), tensors, loaded, options.num_attention_heads, **config)
    made.extra[RECIPE_FILE] = mmbt_recipe(settings)
    return made


def convert_table(options: argparse.Namespace) -> tuple[Converted, OriginalFiles]:
    """A TabFormer BERT or GPT-2, or the published LSTM on a BERT."""
    files = read_tabformer(options.src, options.config)
    is_lstm = "regressor.weight" in files.state_dict
    if is_lstm != (options.kind == "lstm"):
        model = "the LSTM fine-tuning model (regressor.weight)" if is_lstm else "no LSTM fine-tuning model"
        raise ValueError(f"Found {model} in {str(files.read[0])!r}: use the kind {'lstm' if is_lstm else 'tabformer'}.")
    folder = files.read[1].parent
    beside = [place / "vocab.nb" for place in (folder, folder.parent)]
    vocabulary = options.vocab or next((path for path in beside if path.is_file()), beside[0])
    fitted = options.encoder_fit or folder / "encoder_fit.pkl"
    tokens, encoders = read_vocabulary(vocabulary), read_encoders(fitted)
    labels = read_labels(options.labels) or ["No", "Yes"]
    made = convert_tabformer(files.settings, files.state_dict, tokens, encoders, options.field_ce, labels)
    files.read += [vocabulary, fitted]
    config: Any = made.model.config
    assert made.id_map is not None
    made.facts = {
        "layout": "hierarchical" if not getattr(config, "flatten", True) else "flat",
        "columns": ", ".join(config.fields),
        "ids": config.vocab_size,
        "moved ids": f"{int((made.id_map != torch.arange(len(tokens))).sum())} of bins, now in increasing order",
    }
    if is_lstm:
        made.facts |= {"labels": ", ".join(labels), "loss": config.classification_loss}
    else:
        made.facts["loss"] = "one per column" if config.mlm_loss == "field" else "one softmax over all ids"
    made.extra[TABFORMER_VOCABULARY] = {"tokens": tokens, "ids": made.id_map.tolist()}
    return made, files


CONVERTERS: dict[str, Callable[[argparse.Namespace], tuple[Converted, OriginalFiles]]] = {
    "mmbt": convert_mmbt,
    "mmbt_transformers4": convert_transformers4,
    "tabformer": convert_table,
    "lstm": convert_table,
}


def _with_options(settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Let what the command line says overrule what the run's files say."""
    names = ("model", "task", "task_type", "num_image_embeds", "img_embed_pool_type", "max_seq_len")
    said = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.labels:
        said["labels"] = read_labels(options.labels)
        if said["labels"] != settings.get("labels"):
            said["label_freqs"] = None
    merged = {**settings, **said}
    if options.vocab:
        merged["words"] = read_words(options.vocab, merged.get("model", "mmbt"))
    return merged


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder, or of the Hub.

    Raises:
        FileNotFoundError: if it is a path at which there is nothing.
        ValueError: if no tokenizer can be loaded.
    """
    if not Path(name).exists():
        if not HUB_NAME.fullmatch(name):
            raise FileNotFoundError(
                f"Expected a folder or a Hub name (OWNER/NAME) in --tokenizer, found nothing at {name!r}."
            )
        logger.warning(f"There is no folder {name!r}: asking the Hub for its tokenizer. This can take a minute.")
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"Expected a tokenizer at --tokenizer {name!r}, in a folder or on the Hub, found none that loads "
            f"({first}). Pass the folder of one, or --vocab FILE."
        ) from error


def fate_lines(fates: Iterable[TensorFate]) -> list[str]:
    """Return a line for every tensor of the original, and how many there were of each kind."""
    fates = list(fates)
    kinds = ("kept", "tied", "dropped")
    counts = [f"{sum(one.reason.startswith(word) for one in fates)} {word}" for word in kinds]
    lines = [f"{fate.original} → {fate.ours or '∅'}  {fate.reason}" for fate in fates]
    return [*lines, f"\n{', '.join(counts)} of {len(fates)}"]


def require_same_when_loaded(folder: Path, model: PreTrainedModel, processor: Any) -> None:
    """Raise a ValueError unless the Auto classes give back the same model and processor."""
    autos = {"ForMaskedLM": AutoModelForMaskedLM, "LMHeadModel": AutoModelForCausalLM}
    auto: Any = next(
        (one for end, one in autos.items() if type(model).__name__.endswith(end)), AutoModelForSequenceClassification
    )
    loaded, loaded_processor = auto.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    before, after = model.state_dict(), loaded.state_dict()
    changed = [name for name in before if name not in after or not torch.equal(before[name], after[name])]
    if type(loaded) is not type(model) or changed or set(after) != set(before):
        raise ValueError(f"Expected the saved model to load unchanged, found {changed or type(loaded).__name__}.")
    if type(loaded_processor) is not type(processor) or loaded_processor.fingerprint != processor.fingerprint:
        kind = type(loaded_processor).__name__
        raise ValueError(f"Expected the saved processor to load unchanged, found {kind}.")
