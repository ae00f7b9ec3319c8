"""Trainer's pushes to the Hub, of public copies only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress

from ..files import json_text
from ..publishing import PublicFile, create_repository, listing, public_files, saved_names, upload, vocabulary_warnings
from ..publishing.local_paths import LocalPaths
from ..publishing.run_files import CARD_NAME, TRAINER_CARD
from .checkpoints import TRAINER_STATE_NAME

logger = logging.get_logger(__name__)

# What resuming needs beside model and processor; `training_args.bin` is a pickle with the paths of this machine.
_RESUMING = ("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "freeze_schedule.json", "update_audit_*")


class PublicPushTrainer(Trainer):
    """Sends the files of `publishing.public_files`, where Trainer sends all of `output_dir`: logs, arguments, rows.

    Repositories are private unless `hub_private_repo` is False.
    """

    args: Any
    hub_model_id: Any
    model: Any
    push_in_progress: Any
    # `model_card.write_trainer_card`, which stands on a higher floor than this; None: Trainer's own card.
    write_card: ClassVar[Callable[..., bool] | None] = None

    def _hub(self, token: str | None) -> HfApi:
        return HfApi(token=token or self.args.hub_token, library_name="hf_mmtab")

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository, private unless it is said to be public."""
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        private = self.args.hub_private_repo if private is None else private
        name = self.args.hub_model_id or folder.absolute().name
        self.hub_model_id = create_repository(self._hub(token), name, private is not False, folder)
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model, and send it with its processor, card and report; arguments as in Trainer."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        folder = Path(self.args.output_dir)
        if not self._has_card_of_run(folder):
            self.create_model_card(**{"model_name": str(self.hub_model_id), **kwargs})
        self._finish_current_push()
        return self._send(folder, commit_message or "End of training", token, revision, not blocking)

    def create_model_card(self, model_name: str | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Write the card of a model of this package with what this trainer knows; of another one as Trainer does."""
        if not self.is_world_process_zero():
            return
        # Not the folder, whose name may be a customer's.
        name = model_name or self.args.hub_model_id or type(self.model).__name__
        write = type(self).write_card
        if write is None or not write(self, name, **kwargs):
            super().create_model_card(model_name=name.rpartition("/")[2], **kwargs)

    def _has_card_of_run(self, folder: Path) -> bool:
        """Tell whether a run, or a person, wrote the card: it says more than this trainer knows."""
        card = folder / CARD_NAME
        return card.is_file() and TRAINER_CARD not in card.read_text(encoding="utf-8")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Send the model of a checkpoint in the background, and what resuming needs if `hub_strategy` says so."""
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        folder = Path(checkpoint_folder)
        message = f"Training in progress, step {self.state.global_step}"
        places = [""]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            places.append("last-checkpoint" if strategy == HubStrategy.CHECKPOINT else folder.name)
        try:
            jobs = [self._send(folder, message, None, None, True, where) for where in places]
        except OSError as error:  # the last push says it again; training goes on
            logger.warning(f"Checkpoint {folder.name} was not sent; training goes on. {error}")
            return
        if busy and self.push_in_progress is not None:
            self.push_in_progress.jobs.extend(jobs)
        else:
            self.push_in_progress = PushInProgress(jobs)  # type: ignore[arg-type]

    def _send(
        self, folder: Path, message: str, token: str | None, revision: str | None, later: bool, where: str = ""
    ) -> Any:
        names = saved_names(self.processing_class if self.processing_class is not None else folder)
        files = public_files(folder, names, str(self.hub_model_id))
        files += _resuming_files(folder) if where else []
        logger.info(f"To {self.hub_model_id} go:\n{listing(files)}")
        for warning in vocabulary_warnings(folder):
            logger.warning_once(warning)  # type: ignore[attr-defined]
        return upload(
            files,
            str(self.hub_model_id),
            folder,
            api=self._hub(token),
            message=message,
            revision=revision or self.args.hub_revision,
            path_in_repo=where,
            run_as_future=later,
        )


def _resuming_files(folder: Path) -> list[PublicFile]:
    files = [PublicFile(file.name, file) for pattern in _RESUMING for file in sorted(folder.glob(pattern))]
    state = folder / TRAINER_STATE_NAME
    if state.is_file():
        content = json.loads(state.read_text(encoding="utf-8"))
        paths = LocalPaths({}, folder)
        best = content.get("best_model_checkpoint")
        content["best_model_checkpoint"] = best and paths.value("pretrained", best)
        files.append(PublicFile(state.name, json_text(content, indent=2).encode()))
    return files
