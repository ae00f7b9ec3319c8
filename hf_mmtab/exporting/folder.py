"""The folder of an export: which files in it an export wrote, and whether it may be replaced."""

import json
import re
from pathlib import Path
from typing import Any

from ..files import file_digest, json_text, write_whole
from ..serving.export_files import FILES, SETTINGS, SETTINGS_NAME

# What exports wrote that did not list their files.
_EARLIER = re.compile(
    r"model\.onnx(\.data)?|processor_config\.json|preprocessor_config\.json|tokenizer(_config)?\.json|"
    r"special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|tokenizer\.model|"
    r"sentencepiece\.bpe\.model|hf_mmtab_\w+\.py|tabbert_(arrays\.safetensors|(values|statistics)\.json)"
)


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write `serving.json`, the last file of an export, with the names and digests of the others."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    content = json_text({**settings, FILES: files}, indent=2, ensure_ascii=False)
    write_whole(folder / SETTINGS_NAME, content + "\n")


def refuse_other_files(out: Path) -> None:
    """Raise a ValueError unless an export may take the place of what lies at `out`.

    Args:
        out: absent, an empty folder, or one that holds an earlier export and nothing else.
    """
    if not out.exists():
        return
    if Path.cwd().is_relative_to(out) or Path.home().is_relative_to(out):
        raise ValueError(
            f"Expected a folder that may be replaced, found {str(out)!r}, which is or holds the working folder or your "
            "home folder. Choose another."
        )
    held = [path.relative_to(out).as_posix() for path in out.rglob("*")] if out.is_dir() else [""]
    if others := [name for name in held if not _is_of_export(out, name)]:
        shown = ", ".join(sorted(others)[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        raise ValueError(
            f"Expected a new folder, or one of an earlier export and nothing else, found {str(out)!r} with other "
            f"files{f': {shown}' if shown else ''}. Choose another, or move them elsewhere."
        )


def _is_of_export(out: Path, name: str) -> bool:
    settings = _settings(out)
    if settings is None or (out / name).is_symlink():
        return False
    files = settings.get(FILES)
    if files is None:
        return name == SETTINGS_NAME or _EARLIER.fullmatch(name) is not None
    return name in {SETTINGS_NAME, *files, *(str(Path(one).parent) for one in files)}


def _settings(out: Path) -> dict[str, Any] | None:
    """Return the settings of an export; None: there is none."""
    try:
        settings = json.loads((out / SETTINGS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) and set(settings) >= SETTINGS else None
