"""`convert_checkpoint KIND SRC DST`: a checkpoint of an original becomes one of ours, or the way back.

| KIND                 | SRC                                                                                |
|----------------------|------------------------------------------------------------------------------------|
| `mmbt`               | run folder of facebookresearch/mmbt (`model_best.pt`, `args.pt`), any of its models |
| `mmbt_transformers4` | `pytorch_model.bin` (or its folder) of the MMBT of transformers 2 to 4             |
| `tabformer`          | checkpoint folder of IBM/TabFormer (`pytorch_model.bin`, `config.json`)            |
| `lstm`               | state dict of the published BertModel + LSTM + Linear; `--config` of its pretraining |

Nothing in SRC is run: pickles are read by an interpreter of our own. DST is written when it is whole.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ..models.mmbt.converting_mmbt import TensorFate, to_original
from ..models.mmbt.converting_run_mmbt import ConvertedRun, OriginalRun, convert_run, run_from_args
from ..models.mmbt.converting_transformers4_mmbt import (
    fates_in_their_names,
    is_transformers4,
    original_names,
)
from ..models.tabbert.converting_run_tabbert import convert_tabformer, revert_tabformer
from ..tasks.checkpoints import RECIPE_FILE
from ..torch_files import read_state_dict
from .console import say
from .original_files import (
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
from .original_recipe import HEADER, mmbt_recipe

logger = logging.get_logger(__name__)

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
REPORT_NAME = "conversion.json"
# Kind that goes back → its model types and classes.
REVERSIBLE = {
    "mmbt": (("mmbt", "mmbt_baseline"), ("MMBTForClassification", "MMBTBaselineForClassification")),
    "tabformer": (("tabbert",), ("TabBertForMaskedLM",)),
}
TABFORMER_VOCABULARY = "tabformer_vocabulary.json"  # the original's tokens, and our id of each


@dataclass
class Conversion:
    """What is to be written, and what is told about it."""

    model: PreTrainedModel
    processor: Any
    fates: list[TensorFate]
    files: OriginalFiles
    facts: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)  # file name → plain value


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert as the command line says."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    convert = revert_checkpoint if options.reverse else convert_checkpoint
    say(convert(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf_mmtab convert_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=list(CONVERTERS))
    parser.add_argument("src", type=Path, help="checkpoint of the original; with --reverse, folder of ours")
    parser.add_argument("dst", type=Path, help="folder to write; must not exist")
    parser.add_argument("--reverse", action="store_true", help="ours → the original's (mmbt, tabformer)")
    mmbt = parser.add_argument_group("what the files of a run may not tell (mmbt, mmbt_transformers4)")
    mmbt.add_argument("--args", type=Path, help="args.pt, if it does not lie beside the checkpoint")
    mmbt.add_argument("--model", help="mmbt, bow, img, bert, concatbow or concatbert")
    mmbt.add_argument("--task", help="mmimdb, food101 or vsnli")
    mmbt.add_argument("--task_type", help="multilabel or classification")
    mmbt.add_argument(
        "--labels", nargs="+", help="names in the order of the outputs, or a file of one a line"
    )
    mmbt.add_argument("--tokenizer", help="folder or Hub name, in place of the run's vocabulary")
    mmbt.add_argument("--num_image_embeds", type=int)
    mmbt.add_argument("--img_embed_pool_type", choices=["avg", "max"])
    mmbt.add_argument("--max_seq_len", type=int)
    mmbt.add_argument("--num_attention_heads", type=int, help="of a BERT that is neither base nor large")
    table = parser.add_argument_group("tabformer, lstm")
    table.add_argument("--config", type=Path, help="config.json of the pretraining, or its folder")
    table.add_argument(
        "--vocab", type=Path, help="vocab.nb or vocab_token2id.bin; of mmbt: vocab.txt, GloVe file"
    )
    table.add_argument("--encoder_fit", type=Path, help="encoder_fit.pkl of the run")
    table.add_argument(
        "--field_ce", action=argparse.BooleanOptionalAction, help="how a flat model was trained, if unknown"
    )
    return parser


def convert_checkpoint(options: argparse.Namespace) -> str:
    """Convert, check by loading again, write DST; return the report.

    Raises:
        FileExistsError: if DST holds something.
        ValueError: if a file is refused, files do not belong together, or a tensor is unexplained.
    """
    require_empty(options.dst)
    conversion = CONVERTERS[options.kind](options)
    require_explained(conversion)
    report = {
        "kind": options.kind,
        "read": [path.name for path in conversion.files.read],
        "architecture": type(conversion.model).__name__,
        **conversion.facts,
        "tensors": [[fate.original, fate.ours, fate.reason] for fate in conversion.fates],
    }

    def write(folder: Path) -> None:
        conversion.model.save_pretrained(folder)
        conversion.processor.save_pretrained(folder)
        for name, value in {REPORT_NAME: report, **conversion.extra}.items():
            text = json.dumps(value, indent=1, ensure_ascii=False)
            if name == RECIPE_FILE:
                text = HEADER + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
            (folder / name).write_text(text, encoding="utf-8")
        require_same_when_loaded(folder, conversion)

    write_whole(options.dst, write)
    facts = [f"  {name}: {value}" for name, value in conversion.facts.items()]
    return "\n".join(
        [
            *fate_lines(conversion.fates),
            f"\n{type(conversion.model).__name__} and {type(conversion.processor).__name__} in {options.dst}:",
            *facts,
        ]
    )


def convert_mmbt(options: argparse.Namespace) -> Conversion:
    """Any of the original code's six models."""
    files = read_mmbt_run(options.src, options.args)
    if is_transformers4(files.state_dict):
        raise ValueError(
            f"Expected the original MMBT in {str(options.src)!r}, found that of transformers 2 to 4 "
            "(mmbt.transformer.*). Use the kind mmbt_transformers4."
        )
    settings = _with_options(files.settings, options)
    run = run_from_args(settings)
    recipe = {RECIPE_FILE: mmbt_recipe(settings)}
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
    made = convert_run(run, files.state_dict, tokenizer, options.num_attention_heads)
    return Conversion(made.model, made.processor, made.fates, files, mmbt_facts(run, made), recipe)


def convert_transformers4(options: argparse.Namespace) -> Conversion:
    """MMBT of transformers 2 to 4, as its example `run_mmimdb.py` trained it."""
    weights = find_file(options.src, ("pytorch_model.bin", "model.safetensors"), "the weights of an MMBT")
    files = OriginalFiles([weights], require_numbers(read_state_dict(weights), weights), {})
    if not is_transformers4(files.state_dict):
        raise ValueError(
            f"Expected tensors named mmbt.transformer.* in {str(weights)!r}, found "
            f"{sorted(files.state_dict)[:3]}. Use the kind mmbt for the original code's checkpoints."
        )
    settings = {"model": "mmbt", "img_embed_pool_type": "avg", **_with_options({}, options)}
    name = options.tokenizer or (str(weights.parent) if (weights.parent / "vocab.txt").is_file() else None)
    tokenizer = load_tokenizer(name) if name else None
    run = run_from_args(settings)
    renamed, names, dropped = original_names(files.state_dict)
    # Dropout before the classifier: hidden_dropout_prob of its BERT, 0.1.
    made = convert_run(run, renamed, tokenizer, options.num_attention_heads, classifier_dropout=0.1)
    fates = fates_in_their_names(renamed, names, dropped)
    recipe = {RECIPE_FILE: mmbt_recipe(settings)}
    return Conversion(made.model, made.processor, fates, files, mmbt_facts(run, made), recipe)


def convert_table(options: argparse.Namespace) -> Conversion:
    """A TabFormer BERT, or the published LSTM on one."""
    files = read_tabformer(options.src, options.config)
    is_lstm = "regressor.weight" in files.state_dict
    if is_lstm != (options.kind == "lstm"):
        found = "the LSTM fine-tuning model (regressor.weight)" if is_lstm else "no LSTM fine-tuning model"
        raise ValueError(
            f"Found {found} in {str(files.read[0])!r}: use the kind {'lstm' if is_lstm else 'tabformer'}."
        )
    folder = files.read[1].parent
    beside = [place / "vocab.nb" for place in (folder, folder.parent)]
    vocabulary = options.vocab or next((path for path in beside if path.is_file()), beside[0])
    encoders = options.encoder_fit or folder / "encoder_fit.pkl"
    tokens = read_vocabulary(vocabulary)
    labels = read_labels(options.labels) or ["No", "Yes"]
    made = convert_tabformer(
        files.settings, files.state_dict, tokens, read_encoders(encoders), options.field_ce, labels
    )
    files.read += [vocabulary, encoders]
    config: Any = made.model.config
    facts = {
        "layout": "flat" if config.flatten else "hierarchical",
        "columns": ", ".join(config.fields),
        "ids": config.vocab_size,
        "moved ids": f"{int((made.id_map != torch.arange(len(tokens))).sum())} of bins, now in increasing order",
    }
    if is_lstm:
        facts |= {"labels": ", ".join(labels), "loss": config.classification_loss}
    else:
        facts |= {"loss": "one per column" if config.mlm_loss == "field" else "one softmax over all ids"}
    fates = [_table_fate(name, fate) for name, fate in made.fates.items()]
    moved = {"tokens": tokens, "ids": made.id_map.tolist()}
    return Conversion(made.model, made.processor, fates, files, facts, {TABFORMER_VOCABULARY: moved})


CONVERTERS: dict[str, Callable[[argparse.Namespace], Conversion]] = {
    "mmbt": convert_mmbt,
    "mmbt_transformers4": convert_transformers4,
    "tabformer": convert_table,
    "lstm": convert_table,
}


def _with_options(settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says overrules what the run's files say."""
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
        logger.warning(
            f"There is no folder {name!r}: asking the Hub for its tokenizer. This can take a minute."
        )
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"Expected a tokenizer at --tokenizer {name!r}, in a folder or on the Hub, found none that loads "
            f"({first}). Pass the folder of one, or --vocab FILE."
        ) from error


def mmbt_facts(run: OriginalRun, made: ConvertedRun) -> dict[str, Any]:
    """What a converted run is, for the report."""
    facts: dict[str, Any] = {"model": run.model}
    if run.task is not None:
        facts["task"] = run.task
    facts |= {"task_type": run.task_type, "labels": ", ".join(run.labels)}
    if run.model not in ("bow", "bert"):
        facts |= {"image tokens": f"{run.num_image_embeds} ({run.image_pooling})", "preset": "legacy"}
    if made.attention_heads is not None:
        facts["attention heads"] = made.attention_heads
    facts["max_length"] = made.processor.max_length
    if run.pos_weight is not None:
        facts["weights of positives"] = ", ".join(f"{weight:.4g}" for weight in run.pos_weight)
    if run.task_type == "multilabel":
        facts["thresholds"] = "0.5 each, as the original counts; tune them on validation"
    if run.model == "mmbt" and run.dropout != 0.1:
        facts["note"] = (
            f"the original dropped {run.dropout} of the image tokens' embeddings in training and 0.1 elsewhere; "
            "here 0.1 everywhere"
        )
    return facts


def _table_fate(name: str, fate: str) -> TensorFate:
    if fate.startswith("kept as "):
        target, _, reason = fate.removeprefix("kept as ").partition(";")
        return TensorFate(name, target, "kept" + (f";{reason}" if reason else ""))
    return TensorFate(name, None, fate)


def fate_lines(fates: Iterable[TensorFate]) -> list[str]:
    """Return a line for every tensor of the original, and how many there were of each kind."""
    fates = list(fates)
    lines = [f"{fate.original} → {fate.ours or '∅'}  {fate.reason}" for fate in fates]
    counts = {
        word: sum(fate.reason.startswith(word) for fate in fates) for word in ("kept", "tied", "dropped")
    }
    return [
        *lines,
        "\n" + ", ".join(f"{count} {word}" for word, count in counts.items()) + f" of {len(fates)}",
    ]


def require_explained(conversion: Conversion) -> None:
    """Raise a ValueError if the fate of a tensor is unknown."""
    told = {fate.original for fate in conversion.fates}
    untold = sorted(set(conversion.files.state_dict) - told)
    wrong = [
        fate.original
        for fate in conversion.fates
        if not fate.reason.startswith(("kept", "tied", "dropped: "))
    ]
    if untold or wrong:
        raise ValueError(
            f"Expected to know what becomes of every tensor, found {untold + wrong} unexplained."
        )


def require_same_when_loaded(folder: Path, conversion: Conversion) -> None:
    """Raise a ValueError unless the Auto classes give back the same model and processor."""
    masked = type(conversion.model).__name__.endswith("ForMaskedLM")
    auto = AutoModelForMaskedLM if masked else AutoModelForSequenceClassification
    loaded = auto.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    before, after = conversion.model.state_dict(), loaded.state_dict()
    changed = [name for name in before if name not in after or not torch.equal(before[name], after[name])]
    if type(loaded) is not type(conversion.model) or changed or set(after) != set(before):
        raise ValueError(
            f"Expected the saved model to load unchanged, found {changed or type(loaded).__name__}."
        )
    if type(processor) is not type(conversion.processor) or _print(processor) != _print(conversion.processor):
        raise ValueError(f"Expected the saved processor to load unchanged, found {type(processor).__name__}.")


def _print(processor: Any) -> str:
    found = processor.fingerprint
    return found() if callable(found) else found


def revert_checkpoint(options: argparse.Namespace) -> str:
    """Write the weights of one of our checkpoints for the original code; return the report.

    Raises:
        FileExistsError: if DST holds something.
        ValueError: if the original has no such model.
    """
    require_empty(options.dst)
    if options.kind in REVERSIBLE:
        require_ours(options.src, options.kind)
    if options.kind == "mmbt":
        return _revert_mmbt(options.src, options.dst)
    if options.kind == "tabformer":
        return _revert_tabformer(options.src, options.dst)
    raise ValueError(f"--reverse is for the kinds mmbt and tabformer, found {options.kind!r}.")


def _revert_mmbt(source: Path, destination: Path) -> str:
    model = AutoModelForSequenceClassification.from_pretrained(source)
    config = model.config
    kind = "mmbt" if config.model_type == "mmbt" else config.baseline
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    original = to_original(kind, tensors)

    def write(folder: Path) -> None:
        checkpoint = {"epoch": 0, "state_dict": original, "n_no_improve": 0, "best_metric": 0.0}
        # the format that the PyTorch of the original's time reads
        torch.save(checkpoint, folder / "model_best.pt", _use_new_zipfile_serialization=False)

    write_whole(destination, write)
    several = config.problem_type == "multi_label_classification"
    flags = [f"--model {kind}", f"--task_type {'multilabel' if several else 'classification'}"]
    if config.image_config is not None:
        flags += [
            f"--num_image_embeds {config.num_image_embeds}",
            f"--img_embed_pool_type {config.image_pooling}",
        ]
        flags.append(f"--img_hidden_sz {config.image_hidden_size}")
    if config.text_config is not None:
        flags.append(f"--hidden_sz {config.text_config.hidden_size}")
    labels = ", ".join(config.id2label[index] for index in range(config.num_labels))
    return (
        f"{len(original)} tensors in {destination / 'model_best.pt'}.\nFlags of the original: {' '.join(flags)}\n"
        f"It numbers labels as they first occur in train.jsonl; that order must be: {labels}"
    )


def _revert_tabformer(source: Path, destination: Path) -> str:
    model = AutoModelForMaskedLM.from_pretrained(source)
    record = source / TABFORMER_VOCABULARY
    if not record.is_file():
        raise ValueError(
            f"Expected {TABFORMER_VOCABULARY} in {str(source)!r}, found none. Only models that came from TabFormer "
            "by this command go back: the original numbers the values of other tables in its own way."
        )
    vocabulary = json.loads(record.read_text(encoding="utf-8"))
    original, tensors = revert_tabformer(model.state_dict(), model.config, torch.tensor(vocabulary["ids"]))

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
    config = source / "config.json"
    if not config.is_file():
        found = sorted(path.name for path in source.iterdir())[:10] if source.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"Expected the folder of one of our models (config.json, model.safetensors) in {str(source)!r}, found "
            f"{found}. With --reverse SRC is ours and DST becomes the original's."
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        found, classes = settings["model_type"], settings.get("architectures") or []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected the config.json of one of our models at {str(config)!r}, found something else ({error!r}). "
            "With --reverse SRC is ours and DST becomes the original's."
        ) from error
    types, classes_of_kind = REVERSIBLE[kind]
    if found not in types or not set(classes) & set(classes_of_kind):
        raise ValueError(
            f"Expected {' or '.join(classes_of_kind)} in {str(source)!r} for the kind {kind}, found {classes} "
            f"(model_type {found!r}). Pass the kind and the folder that belong together."
        )


def require_empty(folder: Path) -> None:
    """Raise an OSError, before any work, if the folder holds something or cannot be made."""
    elsewhere = "Choose another folder as DST."
    if folder.is_symlink():
        raise FileExistsError(
            f"Expected DST {str(folder)!r} not to exist, found a link to {os.readlink(folder)!r}. Pass the place "
            "itself, or choose another folder."
        )
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"Expected DST {str(folder)!r} not to exist, found a file. {elsewhere}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"Expected DST {str(folder)!r} not to exist, found files. {elsewhere}")
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir():
        raise NotADirectoryError(
            f"Expected a folder to make DST {str(folder)!r} in, found the file {str(above)!r}. {elsewhere}"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(
            f"Expected to be allowed to make DST {str(folder)!r} in {str(above)!r}, found no right to. {elsewhere}"
        )


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then give it its name; nothing is left behind on failure.

    Raises:
        OSError: if it cannot be written, such as on a full disk.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write(partial)
            partial.chmod(0o755)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # what safetensors raises on a full disk
        raise OSError(
            f"Expected to write DST {str(folder)!r}, found: {error}. Nothing was left there. Make room or rights on "
            "that disk, or choose another folder as DST."
        ) from error
