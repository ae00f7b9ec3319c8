"""What the files that runs write are called. A name alone makes no file a run's: see `inventory.py`."""

import re
from collections.abc import Iterator
from pathlib import Path

from ...data.pictures.files import SPLIT_ORDER
from ...files import PARTIAL_SUFFIX
from ...publishing.run_files import FIGURE_NAMES

# Trainer pushes no folder with such a name to the Hub
TABLE_FOLDER, CACHE_FOLDER = "_table", "_feature_cache"
CHOSEN = ("architecture", "row_inputs")  # keys that validation chooses: `_table/KEY.json` keeps what it chose
COMPARISON_FILE = "comparison.md"
RECORDS = ("recipe.yaml", "column_plan.yaml")  # what a run did; they stay where a run is removed

_MODEL = (
    r"(generation_)?config\.json|hf_mmtab_\w+\.py|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|processor_config\.json|"
    r"preprocessor_config\.json|tabbert_(arrays\.safetensors|(values|statistics)\.json)|tokenizer(_config)?\.json|"
    r"special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|tokenizer\.model|"
    r"(statistics|fused)_trees_\d+\.txt|sentencepiece\.bpe\.model|training_args\.bin|trainer_state\.json|freeze_schedule\.json"
)
_RUN = (
    r"results\.json|README\.md|update_audit\.(jsonl|txt|png)|update_audit[\w.]*\.(part|tmp)|comparison\.md|"
    r"precision\.json|tracking\.json|"
    rf"report/report(_public)?\.html|report/figures/({'|'.join(FIGURE_NAMES)})\.png|"
    rf"predictions/(({'|'.join(SPLIT_ORDER)})\.parquet|minutes\.json)|runs/[^/]+/events\.out\.tfevents[^/]*"
)
_CHECKPOINT = (
    r"adapter_(config\.json|model\.safetensors)|optimizer\.(pt|bin)|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|update_audit_\d+\.safetensors|"
    r"files\.json|precision\.json"
)
_TABLE = (
    rf"({'|'.join(CHOSEN)})\.json|"
    r"cards\.(csv|part)|rows(\.\d+\.part)?/(field\d+\.bin|(time|split|entity_starts|labels|row_numbers)\.bin|"
    rf"entities\.arrow|rows\.json)|processor(\.part)?/({_MODEL})"
)
_CACHE = (
    r"[^/]+-[0-9a-f]{24}(\.[0-9a-f]{32}\.tmp)?/"
    r"(data-\d+\.bin|share-\d+\.(npy|json)|index\.npy|(meta|keys|pieces)\.json)"
)
_SCRATCH = r"rows-[a-z0-9_]{8}/in_order\.arrow"  # of `tempfile`, while rows are brought into order
_OWN = re.compile(
    rf"(?:{_MODEL}|{_RUN}|checkpoint-\d+/(?:{_MODEL}|{_CHECKPOINT}|README\.md)|"
    rf"(?:checkpoint-\d+/)?ordering_\w+/(?:{_MODEL})|"
    rf"checkpoint-\d+/(?:optimizer_\d+|pytorch_model_fsdp_\d+)/(?:__\d+_\d+\.distcp|\.metadata)|"
    rf"{TABLE_FOLDER}/(?:{_TABLE}|{_SCRATCH})|{CACHE_FOLDER}/(?:{_CACHE}))"
)
_FOLDER = re.compile(rf"checkpoint-\d+|ordering_\w+|report|predictions|runs|{TABLE_FOLDER}|{CACHE_FOLDER}")
ROWS_DRAFT = re.compile(rf"{TABLE_FOLDER}/(rows\.\d+\.part|rows-[a-z0-9_]{{8}})")
_DRAFT = re.compile(rf"(?:.*/)?\.[^/]+{re.escape(PARTIAL_SUFFIX)}(?:/.*)?")
RUN_OF_SEVERAL = re.compile(r"\w+-seed\d+")


def is_own_name(name: str) -> bool:
    """Whether a run, or one of several in a folder, may write a file of this name.

    Args:
        name: path below the output folder.
    """
    first, _, rest = name.partition("/")
    if rest and RUN_OF_SEVERAL.fullmatch(first):
        name = rest
    return _OWN.fullmatch(name) is not None or is_draft(name)


def places_of_runs(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder, and at any depth in those of its folders that runs make, in order."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield path
        is_theirs = any(kind.fullmatch(path.name) for kind in (_FOLDER, RUN_OF_SEVERAL, _DRAFT))
        if is_theirs and path.is_dir() and not path.is_symlink():
            yield from sorted(path.rglob("*"))


def is_draft(name: str) -> bool:
    """Whether a file is what a killed process left of a write (`hf_mmtab.files.whole_file`), or a folder of such."""
    return _DRAFT.fullmatch(name) is not None
