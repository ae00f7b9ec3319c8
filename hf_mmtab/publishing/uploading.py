"""One commit to the Hub, and what to do when the Hub refuses or cannot be reached."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from transformers.utils import logging

from .public_files import PublicFile

logger = logging.get_logger(__name__)


@contextmanager
def hub_errors(folder: str | Path, repo_id: str) -> Iterator[None]:
    """Turn the errors of a Hub that refuses or dies into one sentence with the remedy.

    Args:
        folder: of the run, which stays as it is.
        repo_id: that was meant.

    Raises:
        PermissionError: if the token is refused, or may not write there.
        ConnectionError: if the Hub cannot be reached, or breaks off.
    """
    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"Expected the name of a repository, USER/NAME, found {repo_id!r}. {error}") from error
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, ConnectionError, RuntimeError) as error:
        raise _for_a_person(error, folder, repo_id) from error


def _for_a_person(error: Exception, folder: str | Path, repo_id: str) -> OSError:
    causes = list(_causes(error))
    answer = next((one for one in causes if isinstance(one, HfHubHTTPError)), None)
    status = answer.response.status_code if answer is not None else None
    kept = f"Nothing is lost: {str(folder)!r} is as it was."
    again = f"Run the same command again, or `python -m hf_mmtab push_to_hub {shlex.quote(str(folder))} {repo_id}`."
    if any(isinstance(one, OfflineModeIsEnabled) for one in causes):
        return ConnectionError(
            f"Expected to reach the Hub for {repo_id!r}, found HF_HUB_OFFLINE set. {kept} Unset it. {again}"
        )
    if status == 401:
        return PermissionError(
            f"Expected the Hub to accept your token for {repo_id!r}, found it refused (401). {kept} Log in with a "
            f"token that has write access: `hf auth login`, or HF_TOKEN. {again}"
        )
    if status in (403, 404):
        return PermissionError(
            f"Expected to be allowed to write to {repo_id!r}, found that the token may not ({status}). {kept} Take a "
            "token with write access (`hf auth login`), join the organisation, or name a repository of your own. "
            f"{again}"
        )
    reason = " ".join(str(causes[-1]).split())[:200] or type(causes[-1]).__name__
    if status is not None and status < 500 and status not in (408, 429):
        return OSError(f"Expected the Hub to take {repo_id!r}, found it refused ({status}: {reason}). {kept}")
    what = f"answer {status}" if status is not None else reason
    return ConnectionError(
        f"Expected the Hub to take {repo_id!r}, found that it cannot be reached ({what}). {kept} {again}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def full_name(api: HfApi, repo_id: str, folder: str | Path) -> str:
    """Return USER/NAME of a repository, whose user is that of the token where only NAME is given.

    Args:
        api: with the token.
        repo_id: USER/NAME or NAME.
        folder: of the run, for messages.
    """
    with hub_errors(folder, repo_id):
        return repo_id if "/" in repo_id else api.get_full_repo_name(repo_id)


def create_repository(api: HfApi, repo_id: str, private: bool, folder: str | Path) -> str:
    """Create a repository unless there is one; returns its full name.

    Args:
        api: with the token.
        repo_id: USER/NAME or NAME.
        private: whether it must be private.
        folder: of the run, for messages.

    Raises:
        ValueError: if it must be private, and exists and is public.
    """
    with hub_errors(folder, repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        is_private = bool(api.model_info(repo_id).private)
    if is_private and not private:
        logger.warning(f"{repo_id!r} exists and is private: it stays so. Its settings on the Hub make it public.")
    if private and not is_private:
        raise ValueError(
            f"Expected {repo_id!r} to be private, found that it exists and is public. Nothing was uploaded. To publish "
            "there, say so: --public, or `hub_private_repo: false` in a recipe. Otherwise choose another name, or make "
            "it private in its settings first."
        )
    return repo_id


def upload(
    files: Sequence[PublicFile],
    repo_id: str,
    folder: str | Path,
    *,
    api: HfApi,
    message: str,
    revision: str | None = None,
    path_in_repo: str = "",
    run_as_future: bool = False,
) -> Any:
    """Send files in one commit: all of them arrive, or none.

    Args:
        files: what is sent.
        repo_id: an existing repository.
        folder: of the run, for messages.
        api: with the token.
        message: of the commit.
        revision: branch, created from main if there is none.
        path_in_repo: folder there.
        run_as_future: send in the background.

    Returns:
        What `create_commit` returns.
    """
    with hub_errors(folder, repo_id):
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(f"{path_in_repo}/{file.name}".lstrip("/"), file.source) for file in files]
        return api.create_commit(
            repo_id,
            operations,
            commit_message=message,
            revision=revision,
            run_as_future=run_as_future,  # type: ignore[call-overload]
        )
