"""Encoders that judge the rows of a table in another order, beside a checkpoint: one folder for each."""

import os
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from .processing.field_ids import ARRAYS_NAME, VALUES_NAME

FOLDER = "ordering_{}"
FILES = ("config.json", "model.safetensors", "preprocessor_config.json", VALUES_NAME, ARRAYS_NAME)


def find_orderings(checkpoint: Any, names: list[str], **hub: Any) -> dict[str, str]:
    """Return ordering → the folder of its encoder, of a checkpoint in a folder or on the Hub.

    Raises:
        OSError: if a file of an encoder is absent.
    """
    found = {}
    for name in names:
        files = [cached_file(checkpoint, f"{FOLDER.format(name)}/{file}", **hub) for file in FILES]
        found[name] = str(Path(str(files[0])).parent)
    return found


def copy_orderings(orderings: dict[str, str], folder: str | os.PathLike) -> None:
    """Copy the encoders of orderings beside a checkpoint, into its folder.

    Raises:
        FileNotFoundError: if one of them lacks a file.
    """
    for name, source in orderings.items():
        target = Path(folder) / FOLDER.format(name)
        if target.resolve() == Path(source).resolve():
            continue
        target.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            if not (Path(source) / file).is_file():
                raise FileNotFoundError(
                    f"Expected the encoder of ordering {name!r} in {source!r}, found no {file}. Name the output_dir of "
                    "a `pretrain` run, whose weights are in one file."
                )
            shutil.copyfile(Path(source) / file, target / file)
