"""`push_to_hub CHECKPOINT REPO_ID`: upload a run's model, processor, card, recipe, results and report, in one commit.

What stays at home: checkpoints with their optimizer states, training arguments, logs, feature caches, and predictions
(they repeat the rows of the data). The report goes along; its examples show some rows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from transformers import AutoProcessor
from transformers.utils import (
    CONFIG_NAME,
    FEATURE_EXTRACTOR_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    logging,
)

from ..models.mmbt import MMBTProcessor
from ..models.tabbert.processing_tabbert import TabBertProcessor
from .console import say

logger = logging.get_logger(__name__)

CARD_FILE = "README.md"
# As the commands name them; those modules would draw in the plots.
RUN_FILES = (CARD_FILE, "recipe.yaml", "results.json", "freeze_schedule.json")
REPORT_FOLDER = "report"


def main(arguments: Sequence[str] | None = None) -> None:
    """Upload as the command line says."""
    options = _parser().parse_args(list(sys.argv[1:] if arguments is None else arguments))
    say(push_run(**vars(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf_mmtab push_to_hub", description=__doc__)
    parser.add_argument("checkpoint", help="folder of a run, or of one of its checkpoints")
    parser.add_argument("repo_id", help="repository on the Hub: USER/NAME, or NAME for one of your own")
    parser.add_argument(
        "--private",
        action="store_true",
        help="create a private repository; an existing public one is refused",
    )
    parser.add_argument("--revision", help="branch to commit to, created if need be; default: main")
    parser.add_argument("--commit_message", help="default: Upload model and processor")
    return parser


def push_run(
    checkpoint: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a run folder in one commit; returns the address of the commit.

    Args:
        checkpoint: folder with a model and its processor.
        repo_id: created if there is none.
        private: whether the repository must be private.
        revision: branch, created from main if there is none.
        commit_message: of the commit.
        token: of the Hub; default: that of `hf auth login` or HF_TOKEN.

    Raises:
        ValueError: if the folder holds no model or no processor of ours, nobody is logged in, or a public repository
            exists where a private one is asked for.
    """
    folder = Path(checkpoint)
    files = files_to_push(folder)
    if token is None and get_token() is None:
        raise ValueError(
            "Expected you to be logged in to the Hub, found no token. Run `hf auth login`, or set HF_TOKEN to a token "
            "with write access."
        )
    if CARD_FILE not in files:
        logger.warning(f"{folder} has no {CARD_FILE}: the model page will be empty.")
    api = HfApi(token=token, library_name="hf_mmtab")
    # None leaves the choice to the organisation, as in transformers.
    repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
    if private and not api.model_info(repo_id).private:
        raise ValueError(
            f"Expected {repo_id!r} to be private, found that it exists and is public. Nothing was uploaded. Choose "
            "another name, or make it private in its settings first."
        )
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    logger.info(f"Uploading to {repo_id}: {', '.join(files)}")
    commit = api.create_commit(
        repo_id,
        operations,
        commit_message=commit_message or "Upload model and processor",
        revision=revision,
    )
    return str(commit.commit_url)


def files_to_push(folder: Path) -> list[str]:
    """Return the paths, relative to a run folder, of what is uploaded.

    Raises:
        ValueError: if the folder holds no model or no processor of ours.
    """
    names = [*_model_files(folder), *_processor_files(folder), *RUN_FILES]
    names += sorted(path.name for path in folder.glob("*.py"))  # code that travels with the checkpoint
    names += sorted(
        path.relative_to(folder).as_posix() for path in (folder / REPORT_FOLDER).rglob("*") if path.is_file()
    )
    return [name for name in dict.fromkeys(names) if (folder / name).is_file()]


def _model_files(folder: Path) -> list[str]:
    if not (folder / CONFIG_NAME).is_file():
        runs = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_NAME}"))
        inside = f" Folders in it that have one: {', '.join(runs)}." if runs else ""
        raise ValueError(
            f"Expected a saved model in {str(folder)!r}, found no {CONFIG_NAME}. Name the folder of a run.{inside}"
        )
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [CONFIG_NAME, SAFE_WEIGHTS_NAME]
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
            f"Expected all parts of the weights in {str(folder)!r}, found no {', '.join(absent)}. "
            "Save the model again."
        )
    return [CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, *shards]


def _processor_files(folder: Path) -> list[str]:
    """Return the files that the processor in a folder consists of: those that saving it writes."""
    remedy = "Save it beside the model: `processor.save_pretrained(folder)`."
    if not any((folder / name).is_file() for name in (PROCESSOR_NAME, FEATURE_EXTRACTOR_NAME)):
        raise ValueError(
            f"Expected the processor in {str(folder)!r}, found neither {PROCESSOR_NAME} nor "
            f"{FEATURE_EXTRACTOR_NAME}. {remedy}"
        )
    processor = AutoProcessor.from_pretrained(folder)
    if not isinstance(processor, MMBTProcessor | TabBertProcessor):
        raise ValueError(
            f"Expected an MMBTProcessor or a TabBertProcessor in {str(folder)!r}, found "
            f"{type(processor).__name__}. {remedy}"
        )
    with tempfile.TemporaryDirectory() as copy:
        processor.save_pretrained(copy)
        return sorted(path.relative_to(copy).as_posix() for path in Path(copy).rglob("*") if path.is_file())
