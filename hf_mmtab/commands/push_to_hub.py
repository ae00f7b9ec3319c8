"""`push_to_hub CHECKPOINT REPO_ID`: upload a run's model, processor, card, recipe, results and report, in one commit.

What is sent is a copy: paths are reduced to names, and the report shows no rows of the data (unless --examples asks for
them). The files are listed with what of the data is in them; --dry_run stops there. What stays at home: checkpoints
with their optimizer states, training arguments, logs, feature caches, and predictions.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from huggingface_hub import HfApi, get_token
from transformers import AutoProcessor
from transformers.utils import FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME, logging

from ..evaluation.run_results import RunResults
from ..models.mmbt import MMBTProcessor
from ..models.tabbert.processing_tabbert import TabBertProcessor
from ..publishing import (
    PublicFile,
    create_repository,
    full_name,
    listing,
    model_files,
    public_files,
    saved_names,
    upload,
    vocabulary_warnings,
)
from ..publishing.run_files import CARD_NAME, RECIPE_FILE
from ..recipes import read_recipe
from .console import say
from .damaged_files import damage_named, damaged_file
from .flags import parse
from .runs.inventory import INVENTORY_FILE
from .standalone import make_standalone

logger = logging.get_logger(__name__)

RECIPE_KEYS = {"data", "output_dir"}  # that every run's recipe has


def main(arguments: Sequence[str]) -> None:
    """Upload as the command line says."""
    options = vars(parse("push_to_hub", arguments))
    public, must_be_private = options.pop("public"), options.pop("private")
    if public and must_be_private:
        raise ValueError("Expected --public or --private, found both. The default is private.")
    say(push_run(**options, private=not public))


def push_run(
    checkpoint: str | Path,
    repo_id: str,
    private: bool = True,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    examples: bool = False,
    dry_run: bool = False,
    standalone: bool = False,
) -> str:
    """List what of a run folder is sent, and upload it in one commit; returns the address of the commit.

    Args:
        checkpoint: folder with a model and its processor.
        repo_id: USER/NAME, or NAME for one of your own; created if there is none.
        private: whether the repository must be private; False: a new one is public.
        revision: branch, created from main if there is none.
        commit_message: of the commit.
        token: of the Hub; default: that of `hf auth login` or HF_TOKEN.
        examples: whether the report may show rows, texts and pictures of the data.
        dry_run: only list; returns a line that says so.
        standalone: first put the code of the model's classes into the folder, see `make_standalone`.

    Raises:
        ValueError: if the folder holds no model or no processor of ours, nobody is logged in, or a public repository
            exists where a private one is asked for, or a file is damaged.
        OSError: if the Hub refuses, or cannot be reached.
    """
    folder = Path(checkpoint)
    with damage_named(folder):
        if sentence := damaged_file(folder, needed=True):
            raise ValueError(sentence)
        refuse_foreign_records(folder)
        files_to_push(folder)
        if token is None and get_token() is None and not dry_run:
            raise ValueError(
                "Expected you to be logged in to the Hub, found no token. Run `hf auth login`, or set HF_TOKEN to a "
                "token with write access. What would be sent: --dry_run."
            )
        api = HfApi(token=token, library_name="hf_mmtab")
        if not dry_run:
            repo_id = full_name(api, repo_id, folder)
        with _copy(folder) if standalone and dry_run else nullcontext(folder) as source:
            if standalone:
                make_standalone(source)
            files = files_to_push(source, repo_id, examples)
            tell_what_is_sent(source, files, repo_id, private)
    if dry_run:
        return "Nothing was sent (--dry_run)."
    repo_id = create_repository(api, repo_id, private, folder)
    message = commit_message or "Upload model and processor"
    return str(upload(files, repo_id, folder, api=api, message=message, revision=revision).commit_url)


@contextmanager
def _copy(folder: Path) -> Iterator[Path]:
    """Yield a folder of links to what a run folder holds, which goes afterwards; files replaced there stay here."""
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made) / folder.resolve().name
        copy.mkdir()
        for path in folder.resolve().iterdir():
            if path.name != INVENTORY_FILE:
                (copy / path.name).symlink_to(path)
        yield copy


def tell_what_is_sent(folder: Path, files: Sequence[PublicFile], repo_id: str, private: bool) -> None:
    """List the files with their sizes and what of the data is in them; warn where that may name somebody."""
    if CARD_NAME not in [file.name for file in files]:
        logger.warning(
            f"{folder} has no {CARD_NAME}: the model page will be empty. `MMTabTrainer.create_model_card()` writes one."
        )
    mine = "private, for you alone or your organisation; --public opens it"
    head = f"To {repo_id} ({mine if private else 'PUBLIC, for everyone'}) go these files"
    say(f"{head}; behind each stands what of the data is in it:\n{listing(files)}")
    for warning in vocabulary_warnings(folder):
        logger.warning(warning)


def files_to_push(folder: Path, repo_id: str = "", examples: bool = False) -> list[PublicFile]:
    """Return what of a run folder is uploaded.

    Args:
        folder: of a run.
        repo_id: under which the card names the model; default: as it does.
        examples: whether the report may show rows, texts and pictures of the data.

    Raises:
        ValueError: if the folder holds no model or no processor of ours.
    """
    model_files(folder)
    return public_files(folder, _processor_files(folder), repo_id, examples)


def refuse_foreign_records(folder: Path) -> None:
    """Raise a ValueError where results or recipe are not a run's own: paths are reduced with the recipe's values."""
    results, recipe = RunResults.read(folder), folder / RECIPE_FILE
    if not recipe.is_file() and results is None:  # a model that was saved from Python
        return
    if not recipe.is_file() or not read_recipe(recipe).keys() >= RECIPE_KEYS:
        found = f"one without {' and '.join(sorted(RECIPE_KEYS))}" if recipe.is_file() else "none"
        raise ValueError(
            f"Expected the recipe of the run in {str(recipe)!r}, found {found}; paths in what is sent are reduced to "
            "names with its values. Put the run's own file back, or give the run's command again."
        )


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
    return saved_names(processor)
