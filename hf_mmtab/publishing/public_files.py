"""The files of a run that others may have: named one by one, their texts copied without paths and rows."""

import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import CONFIG_MAPPING, AutoConfig, AutoProcessor
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import (
    CONFIG_NAME,
    FEATURE_EXTRACTOR_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    logging,
)

from ..files import json_text, read_json
from .holdings import describe_file
from .local_paths import LocalPaths
from .run_files import (
    CARD_NAME,
    FIGURE_NAMES,
    FIGURES_FOLDER,
    PAGE_NAME,
    PUBLIC_PAGE_NAME,
    RECIPE_FILE,
    REPORT_FOLDER,
    RESULT_FILE,
    SCHEDULE_FILE,
)

logger = logging.get_logger(__name__)

# Of results.json; what is left out repeats rows, files or folders: cell_errors, skipped, summary, checkpoint, digests.
_RESULTS = (
    "architecture", "task", "data", "pretrained", "inputs", "problem_type", "num_labels", "seed", "minutes", "split",
    "seq_len", "window_label", "resampled_by", "judged", "thresholds", "metrics", "intervals", "ablation", "fields",
    "windows", "leaks", "unseen", "row_inputs", "notes", "details",
)  # fmt: skip
# How the code of a card names its model, see `model_card.usage_code`.
_LOADED = re.compile(r"""(?:\.from_pretrained\(|pipeline\("[\w-]+", model=)("(?:[^"\\\n]|\\.)*")""")
_NAMES_OF_FILES = ("_name_or_path", "name_or_path", "_file")


@dataclass(frozen=True)
class PublicFile:
    """One file of the copy.

    Args:
        name: path in the repository.
        source: file that goes as it is, or the content of the copy.
        holds: what of the data is in it.
    """

    name: str
    source: Path | bytes
    holds: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def public_files(
    folder: Path, processor_files: Sequence[str], repo_id: str, examples: bool = False
) -> list[PublicFile]:
    """Build the public copy of a run: what is named here, and nothing else that lies in the folder.

    Args:
        folder: of the run, with a model.
        processor_files: names of what saving the processor writes.
        repo_id: under which the card names the model.
        examples: whether the report may show rows, texts and pictures of the data.

    Raises:
        ValueError: if the folder holds no model.
    """
    recipe = folder / RECIPE_FILE
    values = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None
    paths = LocalPaths(values if isinstance(values, dict) else None, folder)
    found: dict[str, Path | bytes] = {}
    for name in [*model_files(folder), *processor_files]:
        if (folder / name).is_file():
            found[name] = _without_file_names(folder / name, paths)
    found |= _run_texts(folder, paths, repo_id)
    found |= {name: folder / name for name in _travelling_code(folder, found)}
    found |= _report(folder, paths, examples)
    return [PublicFile(name, source, describe_file(folder, name, examples)) for name, source in found.items()]


def model_files(folder: Path) -> list[str]:
    """Return the names of the configuration, the weights, and what else the model does not load without.

    Raises:
        ValueError: if one is not there.
    """
    if not (folder / CONFIG_NAME).is_file():
        runs = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_NAME}"))
        inside = f" Folders in it that have one: {', '.join(runs)}." if runs else ""
        raise ValueError(
            f"Expected a saved model in {str(folder)!r}, found no {CONFIG_NAME}. Name the folder of a run.{inside}"
        )
    beside = _files_beside_weights(folder)
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [CONFIG_NAME, SAFE_WEIGHTS_NAME, *beside]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        raise ValueError(
            f"Expected the weights of the model in {str(folder)!r}, found no {SAFE_WEIGHTS_NAME}. "
            "Save the model first: `model.save_pretrained(folder)`."
        )
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    absent = [name for name in shards if not (folder / name).is_file()]
    if absent:
        raise ValueError(
            f"Expected all parts of the weights in {str(folder)!r}, found no {', '.join(absent)}. Save the model again."
        )
    return [CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, *shards, *beside]


def _files_beside_weights(folder: Path) -> list[str]:
    """Return the names of further files that the model does not load without, as its configuration tells them."""
    remedy = "Copy the model again, or save it again."
    if read_json(folder / CONFIG_NAME, remedy).get("model_type") not in CONFIG_MAPPING:  # somebody's own class
        return []
    names = getattr(AutoConfig.from_pretrained(folder), "files_beside_weights", [])
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(f"Expected the whole model in {str(folder)!r}, found no {', '.join(absent)}. {remedy}")
    return names


def saved_names(processor: Any) -> list[str]:
    """Return the names of the files that saving a processor or tokenizer writes.

    Args:
        processor: a folder: the one that is saved there, none if there is none.
    """
    if isinstance(processor, Path):
        if not any((processor / name).is_file() for name in (PROCESSOR_NAME, FEATURE_EXTRACTOR_NAME)):
            return []
        processor = AutoProcessor.from_pretrained(processor)
    with tempfile.TemporaryDirectory() as copy:
        processor.save_pretrained(copy)
        return sorted(path.relative_to(copy).as_posix() for path in Path(copy).rglob("*") if path.is_file())


def _without_file_names(file: Path, paths: LocalPaths) -> Path | bytes:
    """Reduce the paths that a configuration says it was loaded from; any other file, and values, stay as they are."""
    if not file.name.endswith("config.json"):
        return file
    content = json.loads(file.read_text(encoding="utf-8"))
    public = _renamed(content, paths)
    if public == content:
        return file
    return (json_text(public, indent=2, ensure_ascii=False) + "\n").encode()


def _renamed(value: Any, paths: LocalPaths) -> Any:
    if isinstance(value, list):
        return [_renamed(one, paths) for one in value]
    if not isinstance(value, dict):
        return value
    names = {name for name, one in value.items() if isinstance(one, str) and name.endswith(_NAMES_OF_FILES)}
    return {
        name: paths.value("pretrained", one) if name in names else _renamed(one, paths) for name, one in value.items()
    }


def _run_texts(folder: Path, paths: LocalPaths, repo_id: str) -> dict[str, Path | bytes]:
    """The card, the recipe and the results."""
    texts: dict[str, Path | bytes] = {}
    card, recipe, results = (folder / name for name in (CARD_NAME, RECIPE_FILE, RESULT_FILE))
    if card.is_file():
        text = _rename_model(card.read_text(encoding="utf-8"), repo_id)
        texts[CARD_NAME] = paths.text(text).encode()
    if recipe.is_file():
        texts[RECIPE_FILE] = paths.recipe_text(recipe.read_text(encoding="utf-8")).encode()
    if results.is_file():
        content = read_json(results, "Remove the file, and the run's own command writes it again.")
        public = {name: _public_result(name, content[name], paths) for name in _RESULTS if name in content}
        texts[RESULT_FILE] = json_text(public, indent=1).encode()
    if (folder / SCHEDULE_FILE).is_file():
        texts[SCHEDULE_FILE] = folder / SCHEDULE_FILE
    return texts


def _rename_model(card: str, repo_id: str) -> str:
    """Return a card whose code and command name the model as it is called on the Hub.

    Args:
        card: text of a model card; it names the model as its folder was called when it was written.
        repo_id: on the Hub; empty: the name stays.
    """
    if not repo_id or (code := _LOADED.search(card)) is None:
        return card
    name = json.loads(code[1])
    card = _LOADED.sub(lambda one: one[0].replace(code[1], json.dumps(repo_id)), card)
    return card.replace(f"hf_mmtab predict {shlex.quote(name)} ", f"hf_mmtab predict {shlex.quote(repo_id)} ")


def _public_result(name: str, value: Any, paths: LocalPaths) -> Any:
    if name in ("notes", "details"):
        texts = value.items() if isinstance(value, dict) else enumerate(value)
        told = {key: paths.text(one) if isinstance(one, str) else one for key, one in texts}
        return told if isinstance(value, dict) else list(told.values())
    return paths.value(name, value)


def _travelling_code(folder: Path, found: dict[str, Path | bytes]) -> list[str]:
    """Return the modules that `auto_map` and `custom_pipelines` name, and those beside them that they import."""
    modules: dict[str, None] = {}
    for name in found:
        if name.endswith("config.json"):
            for module in _modules(json.loads((folder / name).read_text(encoding="utf-8"))):
                modules[module] = None
    names: dict[str, None] = {}
    for module in modules:
        file = folder / f"{module}.py"
        if file.is_file():
            names |= dict.fromkeys([file.name, *(Path(one).name for one in get_relative_import_files(file))])
    return sorted(name for name in names if (folder / name).is_file())


def _modules(config: Any) -> Iterator[str]:
    """The modules of classes in every `auto_map` and pipeline of a configuration; none of another repository."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name == "auto_map" and isinstance(value, dict):
                entries = [one for entry in value.values() for one in (entry if isinstance(entry, list) else [entry])]
            elif name == "impl":
                entries = [value]
            else:
                yield from _modules(value)
                continue
            yield from (one.split(".")[0] for one in entries if isinstance(one, str) and "--" not in one)


def _report(folder: Path, paths: LocalPaths, examples: bool) -> dict[str, Path | bytes]:
    report = folder / REPORT_FOLDER
    page = report / (PAGE_NAME if examples else PUBLIC_PAGE_NAME)
    if not page.is_file():
        if (report / PAGE_NAME).is_file():
            logger.warning(
                f"{report / PAGE_NAME} is not sent: it shows rows of the data, and the version that wrote it made no "
                "page without them. Train again, or send it as it is with --examples."
            )
        return {}
    found: dict[str, Path | bytes] = {
        f"{REPORT_FOLDER}/{PAGE_NAME}": paths.text(page.read_text(encoding="utf-8")).encode()
    }
    for name in FIGURE_NAMES:
        file = report / FIGURES_FOLDER / f"{name}.png"
        if file.is_file():
            found[f"{REPORT_FOLDER}/{FIGURES_FOLDER}/{file.name}"] = file
    return found


def listing(files: Sequence[PublicFile]) -> str:
    """Return the table of what is sent: file, size, what of the data is in it."""
    width = max((len(file.name) for file in files), default=0)
    lines = [f"  {file.name:{width}}  {_in_words(file.size):>8}  {file.holds}".rstrip() for file in files]
    return "\n".join(lines)


def _in_words(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size} B"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"
