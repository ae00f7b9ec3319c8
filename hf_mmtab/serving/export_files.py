"""The folder of an export: its settings, and whether its other files are as they were written."""

import json
from pathlib import Path
from typing import Any

from ..files import file_digest

SETTINGS_NAME = "serving.json"  # labels, thresholds, windows, how pictures and texts are read
FILES = "files"  # in the settings: name of each other file → its digest; of earlier exports the names alone
# Of every export; another serving.json is somebody else's.
SETTINGS = {"family", "labels", "config", "pad_token_id", "text", "image"}
AGAIN = "Write the export again: `hf-mmtab export CHECKPOINT OUT`."


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of an export whose files are all there, as they were written.

    A processor fitted on other rows would give other scores without a word.

    Raises:
        ValueError: if it is no export, or a file is absent or another one; names it.
    """
    file = folder / SETTINGS_NAME
    if not file.is_file():
        raise ValueError(f"Expected an export in {str(folder)!r}, found no {SETTINGS_NAME}. {AGAIN}")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected the settings of an export in {str(file)!r}, found {error}. {AGAIN}") from error
    if not isinstance(settings, dict) or not settings.keys() >= SETTINGS:
        raise ValueError(f"Expected the settings of an export in {str(file)!r}, found JSON of something else. {AGAIN}")
    written = settings.get(FILES) or {}
    for name in written:
        if not (folder / name).is_file():
            raise ValueError(f"Expected the files of an export in {str(folder)!r}, found no {name}. {AGAIN}")
        if isinstance(written, dict) and file_digest(folder / name) != written[name]:
            raise ValueError(
                f"Expected the files of an export in {str(folder)!r} as they were written, found another {name}, or a "
                f"damaged one. {AGAIN}"
            )
    return settings
