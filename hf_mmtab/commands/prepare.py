"""`prepare RECIPE.yaml [--key value …]`: read a table once, fit its processor and write encoded rows in shards.

For tables beyond one machine's memory: `pretrain` and `finetune` read the folder with `--rows FOLDER`. Keys of training
in the recipe are passed over. The engine is this process (`local`) or Ray Data (`--engine ray`); both write the same
ids. An interrupted command goes on where it stopped when it is given again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..arguments import PrepareArguments, TableDataArguments
from ..data.windows.encoded_rows import SPLITS
from ..recipes import build, field_types, first_recipe, merged_values
from ..tasks import TableTask, get_task
from ..tasks.sharded_table import PreparedShards, prepare_shards
from .console import counted, say, start_logging
from .outputs import check_output
from .runs.recipe import HeadRecipe, PretrainingRecipe

USAGE = "hf_mmtab prepare RECIPE.yaml [--key value ...]"


def main(arguments: Sequence[str]) -> None:
    """Prepare as the recipe and the command line say."""
    start_logging()
    data, options, values = load_recipe(arguments)
    out = Path(data.rows or f"{values.get('output_dir', 'outputs')}-rows")
    pretrained = values.get("pretrained")
    check_output(out, [data.data, *([pretrained] if pretrained else [])])
    task = get_task(data.task, TableTask)
    say(told(prepare_shards(task, data, out, options, pretrained, _is_of_heads(values))))


def load_recipe(arguments: Sequence[str]) -> tuple[TableDataArguments, PrepareArguments, dict[str, Any]]:
    """Return which table, how to prepare it, and all values of the recipe; those of training are for others.

    Raises:
        ValueError: misspelt key, value of the wrong type.
    """
    types = (TableDataArguments, PrepareArguments)
    values = first_recipe(arguments, types, USAGE)
    all_types = (*types, *(HeadRecipe if _is_of_heads(values) else PretrainingRecipe).types)
    merged = merged_values(values, arguments, all_types)
    merged = {key: value for key, value in merged.items() if value is not None}
    data, options = build(types, merged)
    return data, options, merged


def _is_of_heads(values: Mapping[str, Any]) -> bool:
    """Whether a recipe has keys of fine-tuning."""
    kinds = (HeadRecipe, PretrainingRecipe)
    heads, encoders = ({name for kind in one.types for name in field_types(kind)} for one in kinds)
    return bool((heads - encoders) & set(values))


def told(prepared: PreparedShards) -> str:
    """Return what was prepared, as lines."""
    facts, shards = prepared.facts, prepared.facts["shards"]
    histories = counted(sum(shard["entities"] for shard in shards), "history", "histories")
    files = counted(len(shards), "shard", "shards")
    made = f"by engine {facts['engine']}" if prepared.made else "there already, from the same table, plan and split"
    splits = [sum(shard["splits"][i] for shard in shards) for i in range(len(SPLITS))]
    lines = [
        f"{facts['rows']:,} rows of {histories} in {files} in {prepared.folder} ({made})",
        "Rows: " + ", ".join(f"{count:,} {name}" for name, count in zip(SPLITS, splits, strict=True)) + _cuts(facts),
    ]
    if facts["left_out"]:
        lines.append(f"{counted(facts['left_out'], 'bad row', 'bad rows')} left out")
    lines.append(f"Train on them: --rows {prepared.folder}")
    return "\n".join(lines)


def _cuts(facts: dict[str, Any]) -> str:
    cuts = zip(SPLITS[1:], facts["split_cuts"], strict=False)
    words = [f"{name} from {_moment(cut)}" for name, cut in cuts if cut is not None]
    return f"; {', '.join(words)}" if words else ""


def _moment(microseconds: int) -> str:
    """Return a time as text; one that is no date of the calendar as the number that it is."""
    try:
        return str(datetime(1970, 1, 1) + timedelta(microseconds=microseconds))
    except OverflowError:
        return f"{microseconds:,}"
