"""Recipe keys of `prepare`: what encodes the rows of a table, and into how many files."""

from dataclasses import dataclass
from typing import Literal

from huggingface_hub.dataclasses import strict

from ..typed_values import key


@strict
@dataclass(kw_only=True)
class PrepareArguments:
    """How a table is prepared, into the folder that the key `rows` names (default: output_dir and `-rows`)."""

    engine: Literal["local", "ray"] = key(
        "local", "local: this process. ray: Ray Data, on a cluster or on this machine (extra `ray`)."
    )
    ray_address: str | None = key(
        None, "Of a Ray cluster to join (auto, HOST:6379, ray://HOST:10001); default: RAY_ADDRESS, else one is started."
    )
    shards: int | None = key(
        None,
        "Files that the rows are cut into, each with whole histories; default one for 128 MiB of the table.",
        least=1,
        most=65_535,
    )
    keep_values: bool = key(
        False,
        "Keep the values of fields beside their ids, for statistics of the past (architecture boosted, fusion or auto, "
        "row_inputs: statistics). All histories with one value of the first entity column then lie in one file.",
    )
    of_all_histories: bool = key(
        False,
        "Keep the values, and make the statistics that look at rows of all histories (groups lately, usual) on the "
        "engine, beside the rows; otherwise training makes them in its own process. Also of rows that are there.",
    )
    overwrite: bool = key(False, "Start anew in a folder that holds rows of another table, plan or split.")
