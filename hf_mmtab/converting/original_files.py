"""The files that the originals left behind, read safely into plain values and tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files import read_json
from ..models.mmbt.glove_mmbt import SPECIAL_TOKENS, read_glove_words
from ..typed_values import typed_value
from .checks import shown
from .pickles import read_pickle
from .stand_ins import Array, Record
from .tabformer_vocabulary import BINNED_FIELDS, CARD_FIELDS, OriginalEncoders
from .tabformer_weights import kind_of_state_dict
from .torch_files import load_tensors, read_state_dict, read_torch_file

MAX_NAME = 100  # characters of a column; it is repeated for every token
# what is whole numbers in a state dict; the last is the causal mask of a GPT-2
COUNTERS = ("num_batches_tracked", "position_ids", ".attn.bias")
PICKLES = (b"\x80", b"(", b"}", b"ccollections\n", b"ccopy_reg\n")  # how one begins, of any protocol
RUN_FILES = ("model_best.pt", "checkpoint.pt")  # the best epoch of an MMBT run, else its last
WEIGHT_FILES = ("pytorch_model.bin", "model.safetensors")


@dataclass
class OriginalFiles:
    """Which files were read, for the report, and what they hold."""

    read: list[Path]
    state_dict: dict[str, torch.Tensor]
    settings: dict[str, Any]  # args.pt or config.json


def find_file(source: Path, names: tuple[str, ...], what: str) -> Path:
    """Return SRC itself, or the first of some files in it.

    Raises:
        FileNotFoundError: if there is none.
    """
    if source.is_file():
        return source
    for name in names:
        if (source / name).is_file():
            return source / name
    found = sorted(path.name for path in source.iterdir())[:10] if source.is_dir() else "no such folder"
    raise FileNotFoundError(f"Expected {what} ({' or '.join(names)}) in {str(source)!r}, found {found}.")


def require_file(path: Path, what: str, remedy: str) -> None:
    """Raise a FileNotFoundError unless a file is there; `remedy` is an option and what it takes."""
    if not path.is_file():
        raise FileNotFoundError(f"Expected {what}, found none at {str(path)!r}. Pass {remedy}")


def require_numbers(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, all of which must hold finite floating-point numbers.

    Raises:
        ValueError: names the first that does not.
    """
    for name, tensor in tensors.items():
        if name.endswith(COUNTERS):
            continue
        if not tensor.is_floating_point():
            raise ValueError(
                f"Expected floating-point numbers in {name!r} of {str(path)!r}, found {tensor.dtype}. The weights were "
                "rounded or quantised: take the checkpoint that the original wrote."
            )
        if not (right := torch.isfinite(tensor)).all():
            raise ValueError(
                f"Expected finite numbers in {name!r} of {str(path)!r}, found NaN or infinity in "
                f"{int((~right).sum()):,} of {tensor.numel():,}. Training diverged, or the file is damaged: take an "
                "earlier checkpoint."
            )
    return tensors


def read_lines(path: Path, what: str, option: str) -> list[str]:
    """Read a text file of one entry a line; a byte order mark and blank lines at the end are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no UTF-8 text.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"Expected {what} in a file, found {found} at {str(path)!r}. Pass {option} FILE.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected {what} as UTF-8 text, one a line, in {str(path)!r}, found other bytes ({error}). Pass {option} "
            "with a text file."
        ) from error
    return [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]


def read_labels(given: list[str] | None) -> list[str] | None:
    """Return the names that `--labels` lists (as words or one YAML list), or those in the one file that it names.

    Raises:
        FileNotFoundError: if it names a file that is not there.
        ValueError: if the file is no text, or one of its lines is blank.
    """
    if given is None or len(given) != 1:
        return given
    if given[0].lstrip().startswith("["):
        return typed_value(given[0], list[str], "--labels")
    path = Path(given[0])
    if not path.is_file() and not (path.suffix in (".txt", ".csv", ".tsv", ".json") or len(path.parts) > 1):
        return given
    labels = read_lines(path, "the labels, in the order of the outputs,", "--labels")
    if blank := [number for number, label in enumerate(labels, start=1) if not label.strip()]:
        raise ValueError(
            f"Expected a label in each line of {str(path)!r}, found line {blank[0]} blank. Remove it, or name "
            "the label."
        )
    return labels


def read_mmbt_run(source: Path, args_file: Path | None) -> OriginalFiles:
    """Read `model_best.pt` (a state dict alone will do, too) and `args.pt` beside it, if it is there."""
    weights = find_file(source, RUN_FILES, "a checkpoint of the original MMBT")
    state = read_torch_file(weights)
    if isinstance(state, Record):
        raise ValueError(
            f"Expected a checkpoint in {str(weights)!r}, found a {state.class_name}. Is it args.pt? "
            "Pass the run's folder, or model_best.pt."
        )
    if isinstance(state, Mapping) and "state_dict" in state:
        state = state["state_dict"]
    tensors = require_numbers(load_tensors(state, weights), weights)
    beside = args_file or weights.parent / "args.pt"
    if args_file is None and not beside.is_file():
        return OriginalFiles([weights], tensors, {})
    return OriginalFiles([weights, beside], tensors, read_args(beside))


def read_args(path: Path) -> dict[str, Any]:
    """Read `args.pt`: the flags, the labels, and the vocabulary as `words` in the order of ids.

    Raises:
        ValueError: if it is another file, or its vocabulary has gaps.
    """
    args = read_torch_file(path)
    if getattr(args, "class_name", None) != "argparse.Namespace":
        raise ValueError(
            f"Expected the flags of a run (argparse.Namespace) in {str(path)!r}, found "
            f"{getattr(args, 'class_name', type(args).__name__)}. Pass args.pt."
        )
    settings = dict(args.attributes)
    vocabulary = settings.pop("vocab", None)
    if isinstance(vocabulary, Record):
        ids: Any = vocabulary.attributes.get("stoi")
        right = isinstance(ids, dict) and all(type(w) is str and type(n) is int for w, n in ids.items())
        if not right or sorted(ids.values()) != list(range(len(ids))):
            raise ValueError(
                f"Expected the vocabulary in {str(path)!r} to number its words from 0, found gaps, doubles "
                "or something else. Pass --tokenizer or --vocab."
            )
        settings["words"] = sorted(ids, key=ids.__getitem__)
    return settings


def read_words(path: Path, model: str) -> list[str]:
    """Read a vocabulary in the order of ids: one word a line, or the GloVe file of `bow` and `concatbow`."""
    lines = read_lines(path, "the vocabulary", "--vocab")
    if model in ("bow", "concatbow"):
        return list(dict.fromkeys([*SPECIAL_TOKENS, *read_glove_words(path)]))
    return lines


def read_tabformer(source: Path, config: Path | None) -> OriginalFiles:
    """Read `pytorch_model.bin` and `config.json` of a checkpoint folder, or a state dict and a config apart."""
    weights = find_file(source, WEIGHT_FILES, "the weights of a TabFormer checkpoint")
    beside = config or weights.parent / "config.json"
    if beside.is_dir():
        beside = beside / "config.json"
    require_file(beside, "the config.json of the pretraining", "--config FILE_OR_FOLDER.")
    settings = read_json(beside, "Copy the file again.")
    tensors = read_state_dict(weights)
    kind_of_state_dict(tensors)  # another model altogether: say that first
    require_numbers(tensors, weights)
    return OriginalFiles([weights, beside], tensors, settings)


def read_vocabulary(path: Path) -> list[str]:
    """Read TabFormer's vocabulary as `Field_token` in the order of ids: `vocab.nb` or `vocab_token2id.bin`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another file, or its ids have gaps.
    """
    remedy = "--vocab FILE: vocab.nb of the output folder, or a vocab_token2id.bin."
    require_file(path, "the vocabulary of the run", remedy)
    with open(path, "rb") as file:
        pickled = file.read(16).startswith(PICKLES)
    if not pickled:
        return read_lines(path, "the vocabulary (vocab.nb)", "--vocab")
    token2id = read_pickle(path)
    ids: dict[int, str] = {}
    try:
        for field, tokens in token2id.items():
            if len(field) > MAX_NAME:
                raise ValueError(f"a field {field[:MAX_NAME]!r}…")
            for token, (place, _) in tokens.items():
                ids[int(place)] = f"{field}_{token}"
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {str(path)!r} to map field → token → [id, id inside the field], found something else ({error})."
        ) from error
    if sorted(ids) != list(range(sum(map(len, token2id.values())))):
        raise ValueError(f"Expected the ids in {str(path)!r} to count from 0, each once; they do not.")
    return [ids[place] for place in range(len(ids))]


def read_encoders(path: Path) -> OriginalEncoders:
    """Read TabFormer's `encoder_fit.pkl` of the card table; its classes are never imported.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another file.
    """
    remedy = "--encoder_fit FILE: DATA_ROOT/preprocessed/NAME.encoder_fit.pkl. Without it no value of a table can be "
    require_file(path, "the encoders of the run", remedy + "given its id.")
    fitted = read_pickle(path)

    def array(of: str, name: str | int) -> Any:
        """Return an attribute of an encoder, or a part of a tuple, that must be an array."""
        value = fitted[of].attributes[name] if isinstance(name, str) else fitted[of][name]
        if not isinstance(value, Array) or value.values is None:
            raise TypeError(f"no array, but {type(value).__name__}")
        return value.values

    try:
        labelled = [name for name in CARD_FIELDS if name not in ("User", "Card", *BINNED_FIELDS)]
        return OriginalEncoders(
            classes={name: array(name, "classes_").tolist() for name in labelled},
            edges={name: array(f"{name}-Quant", 0) for name in BINNED_FIELDS},
            first=float(array("Timestamp", "data_min_")[0]),
            last=float(array("Timestamp", "data_max_")[0]),
            rows=int(fitted["Timestamp"].attributes.get("n_samples_seen_", 0)),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected the encoders of TabFormer's card table in {str(path)!r}, found something else ({shown(error)}). "
            "Pass the encoder_fit.pkl of the run."
        ) from error
