"""What trackers (TensorBoard, W&B, MLflow) see beside Trainer's log: freezing, audit, report; and one run on resume."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.utils import logging

from ..files import json_text, read_json, write_whole
from .callbacks import AuditCallback

logger = logging.get_logger(__name__)

MLFLOW_RUN_ID = "MLFLOW_RUN_ID"
TRACKING_FILE = "tracking.json"  # in output_dir: under which names the trackers know this run


def continue_runs(folder: str | Path, resumed: bool, trackers: Iterable[Any]) -> None:
    """Let the trackers go on in the runs of an interrupted training.

    Args:
        folder: `output_dir`.
        resumed: whether training resumes a checkpoint; if not, names of earlier runs are forgotten.
        trackers: callbacks of transformers' integrations, before they have begun a run.
    """
    path = Path(folder) / TRACKING_FILE
    if not resumed:
        path.unlink(missing_ok=True)
        return
    known = read_json(path, "Delete it: the trackers then begin new runs.")
    for tracker in trackers:
        kind = type(tracker).__name__
        if kind == "TensorBoardCallback" and "tensorboard" in known:
            tracker.logging_dir = known["tensorboard"]
        elif kind == "MLflowCallback" and "mlflow" in known and MLFLOW_RUN_ID not in os.environ:
            os.environ[MLFLOW_RUN_ID] = known["mlflow"]  # read when its run begins, and taken back then
        elif kind == "WandbCallback" and "wandb" in known and tracker._wandb.run is None:
            project = os.getenv("WANDB_PROJECT", "huggingface")  # as transformers' callback has it
            tracker._wandb.init(project=project, id=known["wandb"], resume="allow")


def trackers_of(callbacks: Iterable[TrainerCallback]) -> list[Any]:
    """Return those callbacks that belong to integrations of transformers."""
    return [one for one in callbacks if type(one).__module__.startswith("transformers.integrations")]


class TrackingCallback(TrainerCallback):
    """Sends the audit's records to the trackers, and notes under which names they know the run.

    Series of each part: `audit/PART/frozen` (1 or 0), `relative_change` since the start, `gradient_norm` and
    `learning_rate`.

    Args:
        auditing: has the audit.
        callbacks: returns all callbacks of the trainer, of which those of transformers' integrations are told.
    """

    def __init__(self, auditing: AuditCallback, callbacks: Callable[[], Iterable[TrainerCallback]]):
        self.auditing, self.callbacks = auditing, callbacks

    def on_train_begin(self, args, state, control, **kwargs):
        """Note the names of the runs that the trackers have begun."""
        if not state.is_world_process_zero or not (trackers := trackers_of(self.callbacks())):
            return
        found = run_names(trackers)
        if "mlflow" in found and os.environ.get(MLFLOW_RUN_ID) == found["mlflow"]:
            del os.environ[MLFLOW_RUN_ID]
        if found:
            write_whole(Path(args.output_dir) / TRACKING_FILE, json_text(found))

    def on_step_end(self, args, state, control, **kwargs):
        """Send the record of this step, if there is one."""
        audit = self.auditing.audit
        if not state.is_world_process_zero or audit is None or not self.auditing.recorded:
            return
        series: dict[str, float] = {}
        for part, status in audit.position.statuses.items():
            values = {
                "frozen": float(status.frozen),
                "relative_change": status.change_since_start,
                "gradient_norm": status.gradient_norm,
                "learning_rate": status.learning_rate,
            }
            series |= {f"audit/{part}/{name}": float(v) for name, v in values.items() if v is not None}
        for tracker in trackers_of(self.callbacks()):
            tracker.on_log(args, state, control, logs=dict(series))


def run_names(trackers: Iterable[Any]) -> dict[str, str]:
    """Return under which name each tracker knows the run that has begun."""
    found = {}
    for tracker in trackers:
        kind = type(tracker).__name__
        if kind == "WandbCallback" and tracker._wandb.run is not None:
            found["wandb"] = tracker._wandb.run.id
        elif kind == "MLflowCallback" and tracker._ml_flow.active_run() is not None:
            found["mlflow"] = tracker._ml_flow.active_run().info.run_id
        elif kind == "TensorBoardCallback" and tracker.logging_dir is not None:
            found["tensorboard"] = str(tracker.logging_dir)
    return found


def send_report(folder: str | Path, page: Path, trackers: Iterable[str]) -> None:
    """Give the report of a finished run to its trackers as an artefact, and end the run of W&B.

    A tracker that does not take it is named in a warning: the run itself is done.

    Args:
        folder: `output_dir`.
        page: the report.
        trackers: `report_to`.
    """
    known = read_json(Path(folder) / TRACKING_FILE, "Delete it: the report is not sent to trackers.")
    senders = {"wandb": _send_to_wandb, "mlflow": _send_to_mlflow, "tensorboard": _send_to_tensorboard}
    for name in trackers:
        if name in senders and name in known:
            try:
                senders[name](known[name], page)
            except Exception as error:  # of libraries with many types of their own
                logger.warning(f"{name} did not take the report {page}: {error}")


def _send_to_wandb(run: str, page: Path) -> None:
    import wandb

    if wandb.run is not None and wandb.run.id == run:
        artifact = wandb.Artifact(f"report-{run}", type="report")
        artifact.add_file(str(page))
        wandb.run.log_artifact(artifact)
        wandb.finish()


def _send_to_mlflow(run: str, page: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient().log_artifact(run, str(page))


def _send_to_tensorboard(folder: str, page: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        writer.add_text("report", f"[{page.name}]({page.resolve().as_uri()})")
