"""Where a command may write: never over what it reads, nor into somebody's finished run."""

import csv
import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.reading.places import real_path, refuse_address
from ..evaluation.run_results import RESULT_FILE, RunResults
from ..locking import LOCK_FILE, draft_folder
from ..tasks.checkpoints import RECIPE_FILE
from .runs.inventory import EVALUATION, foreign_names, foreign_sentence, has_evaluation
from .runs.own_files import is_run
from .runs.reads import OF_THE_SYSTEM, is_there, real_places

MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")


def check_output(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse an output that would replace an input, a pipe or a device, or lie among the files of a run or an input.

    Args:
        out: file or folder that the command will write.
        inputs: files, folders or names that the command reads; names that are no paths are passed over.

    Raises:
        ValueError: naming the clash, before any work.
    """
    refuse_address(out)
    target = Path(out)
    real = real_path(target)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise ValueError(f"Expected a file or folder to write, found a pipe or device at {str(out)!r}. Name another.")
    for name in inputs:
        source = Path(name)
        if not is_there(source):
            continue
        places = real_places(source) if real.exists() else ()  # of an output that is not there nothing can be lost
        links = (one for one in places if one != source.resolve() and one.is_relative_to(real))
        if linked := next(links, None):
            raise ValueError(
                f"Expected an output that {str(name)!r} does not read, found {str(out)!r}, where a link in there leads "
                f"to {str(linked)!r}. Choose another output: the input would be lost."
            )
        if target.exists() and os.path.samefile(target, source):
            raise ValueError(
                f"Expected an output other than the input, found {str(out)!r} for both. Choose another output: the "
                "input would be lost."
            )
        if source.is_dir() and target.resolve().parent == source.resolve() and target.suffix:
            raise ValueError(
                f"Expected an output outside the folder {str(name)!r}, which this command reads, found {str(out)!r}. "
                "Choose another place: the next command would read the output as input."
            )
        if target.is_dir() and source.resolve().is_relative_to(target.resolve()):
            raise ValueError(
                f"Expected an output folder that does not hold the input {str(name)!r}, found {str(out)!r}. Choose "
                "another one."
            )
    for folder in (target, *target.resolve().parents):
        if _is_run(folder) or (folder == target and target.is_dir() and is_run(target)):
            raise ValueError(
                f"Expected an output outside of saved models and runs, found {str(out)!r} in {str(folder)!r}. Choose "
                "another place."
            )


def check_store(
    folder: str, inputs: Iterable[str | os.PathLike], out: str | os.PathLike | None = None, own: Path | None = None
) -> None:
    """Refuse as --feature_cache_dir what is no folder of its own: in a run, around or in an input or the output.

    Args:
        folder: the store.
        inputs: files, folders or names that the command reads.
        out: that it writes; None: a run.
        own: folder of the run that is trained, in which its store may lie.

    Raises:
        ValueError: naming the flag and the clash, before any work.
    """
    refuse_address(folder, "a folder as --feature_cache_dir")
    real, remedy = Path(folder).resolve(), "Name a new folder, or that of an earlier call."
    is_own = own is not None and real.is_relative_to(own.resolve()) and real != own.resolve()
    for above in (real, *real.parents):
        if above.exists() and not above.is_dir():
            raise ValueError(f"Expected a folder as --feature_cache_dir, found a file at {str(above)!r}. {remedy}")
        if not is_own and above.is_dir() and (_is_run(above) or is_run(above)):
            raise ValueError(
                f"Expected --feature_cache_dir outside of saved models and runs, found {folder!r} in {str(above)!r}, "
                f"which stays as it is. {remedy}"
            )
    if any(real.is_relative_to(one) for one in OF_THE_SYSTEM):
        raise ValueError(
            f"Expected a folder that can be written as --feature_cache_dir, found {folder!r}, where the system tells "
            f"of itself. {remedy}"
        )
    there = [name for name in inputs if is_there(Path(name))]
    places = {name: Path(name).resolve() for name in there}
    clash = next((name for name, one in places.items() if one.is_relative_to(real) or real.is_relative_to(one)), None)
    written = None if out is None else Path(out).resolve()
    if clash is None and written is not None and (real.is_relative_to(written) or written.is_relative_to(real)):
        clash = out
    if clash is not None:
        raise ValueError(f"Expected --feature_cache_dir apart from {str(clash)!r}, found {folder!r}. {remedy}")
    if not is_own:
        check_output(folder, inputs)


def check_output_file(
    out: str | os.PathLike, inputs: Iterable[str | os.PathLike], labels: Collection[str] | None = None
) -> None:
    """Refuse to replace a file that no earlier prediction or embedding wrote; see also `check_output`.

    Args:
        labels: of the model whose predictions are written; None: embeddings or statistics of rows are.
    """
    check_output(out, inputs)
    file = Path(out)
    if file.is_dir():
        raise ValueError(f"Expected a file to write, found the folder {str(out)!r}. Name a file in it.")
    if not file.exists() or not file.stat().st_size:
        return
    if not (_has_embeddings(file) if labels is None else _has_predictions(_column_names(file), labels)):
        what = "embeddings" if labels is None else "predictions of this model"
        raise ValueError(
            f"Expected a new output or {what} of an earlier call, found another file at {str(out)!r}. Choose another "
            "output, or move that file elsewhere."
        )


def check_new_folder(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse a folder for parts that holds something; see also `check_output`."""
    check_output(out, inputs)
    folder = Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        found = "a file" if folder.is_file() else "one that holds files"
        raise ValueError(
            f"Expected a new folder for Parquet files, found {found} at {str(out)!r}. Choose another one, or one file "
            "(NAME.parquet)."
        )


def _has_predictions(names: list[str], labels: Collection[str]) -> bool:
    """Whether columns are those of predictions: a decision with the score of every label, or every target's value."""
    classes = "prediction" in names and all(f"probability_{label}" in names for label in labels)
    return classes or ("row" in names and all(f"predicted_{label}" in names for label in labels))


def _has_embeddings(table: Path) -> bool:
    """Whether a file holds vectors or statistics of a table's rows."""
    try:
        schema = pq.read_schema(table)
    except (OSError, pa.ArrowException):
        return False
    if "row" not in schema.names:
        return False
    kind = schema.field("embedding").type if "embedding" in schema.names else None
    vectors = kind is not None and (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))
    return vectors or any(name.startswith("statistic: ") for name in schema.names)


def _column_names(table: Path) -> list[str]:
    """Return the column names of a Parquet, JSON-lines or CSV file; none if it is something else."""
    try:
        if table.suffix == ".parquet":
            return list(pq.read_schema(table).names)
        with open(table, encoding="utf-8-sig", newline="") as file:
            first = file.readline(1_000_000)
        return list(dict(json.loads(first))) if table.suffix == ".jsonl" else next(csv.reader([first]), [])
    except (ValueError, TypeError, RecursionError, csv.Error, pa.ArrowException):
        return []


def check_state(state: str | os.PathLike, out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse a folder of `--state` that is a run's, an input's, or holds the output; see also `check_output`."""
    folder = Path(state)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder as --state, found a file at {str(state)!r}. Choose another one.")
    check_output(state, inputs)
    if Path(out).resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"Expected an output outside of --state, found {str(out)!r} in {str(state)!r}. Choose another output: the "
            "state holds the rows of earlier calls alone."
        )


def check_output_folder(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse a folder for an evaluation that holds anything but an earlier evaluation; see also `check_output`."""
    check_output(out, inputs)
    folder = Path(out)
    if folder.is_file():
        raise ValueError(f"Expected a folder for the output, found a file at {str(out)!r}. Choose another one.")
    for name in (RESULT_FILE, "predictions", "report"):
        if (folder / name).exists() and not _is_evaluation(folder):
            raise ValueError(
                f"Expected --out to be a new folder or one of an earlier evaluation, found {name!r} of something else "
                f"in {str(out)!r}. Choose another folder."
            )
    if has_evaluation(folder):
        foreign = [name for name in foreign_names(folder) if name.partition("/")[0] in EVALUATION]
        if foreign:
            raise ValueError(foreign_sentence(folder, foreign, "--out"))


@contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """Yield a folder beside an output, see `draft_folder`; a file or folder `NAME` in it is the output in the end.

    Where the output is a link, the file that it names is replaced.

    Raises:
        BlockingIOError: if another process is writing this output.
    """
    real = out.resolve()
    with draft_folder(real) as folder:
        yield folder
        draft = folder / out.name
        if draft.is_file():
            with open(draft, "rb+") as file:
                os.fsync(file.fileno())
        if draft.exists():
            os.replace(draft, real)


def _is_run(folder: Path) -> bool:
    has_model = (folder / "config.json").is_file() and any((folder / name).is_file() for name in MODEL_FILES)
    return has_model or ((folder / RECIPE_FILE).is_file() and is_run(folder))


def _is_evaluation(folder: Path) -> bool:
    """Whether a folder holds results of `eval_checkpoint`, or what a killed one left beside its lock."""
    try:
        results = RunResults.read(folder)
    except ValueError:
        return False
    if results is None:
        return has_evaluation(folder) or (folder / LOCK_FILE).is_file()
    return results.checkpoint is not None
