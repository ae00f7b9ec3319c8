"""The card of a model that `MMTabTrainer` trained from Python: what the trainer knows of its run."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from ..evaluation.run_results import RunResults
from ..files import read_json
from ..publishing.local_paths import LocalPaths, hub_names
from ..publishing.run_files import CARD_NAME, TRAINER_CARD
from ..reports.facts import MASKED_LM, RunFacts
from .writing import FAMILIES, write_model_card

SPLIT = "evaluation"  # what Trainer evaluates on
OF_SPEED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def write_trainer_card(
    trainer: Any,
    model_name: str,
    *,
    license: str | None = None,
    language: str | None = None,
    tags: str | Sequence[str] | None = None,
    finetuned_from: str | None = None,
    dataset: str | Sequence[str] | None = None,
    dataset_tags: str | Sequence[str] | None = None,
    **others: Any,
) -> bool:
    """Write `README.md` beside a model in the trainer's `output_dir`; return whether it is one of this package.

    Args:
        trainer: after training or evaluation.
        model_name: as it is called on the Hub.
        dataset: what the data is called.
        dataset_tags: Hub names of the data.
        others: of `Trainer.create_model_card` that this card does not say.
    """
    folder, config = Path(trainer.args.output_dir), trainer.model.config
    if getattr(config, "model_type", None) not in FAMILIES:
        return False
    starts = [finetuned_from] if finetuned_from else _starts(config)
    datasets = _listed(dataset_tags)
    write_model_card(
        _facts(trainer, folder, model_name),
        folder,
        license=license,
        model_id=model_name,
        base_models=hub_names(starts, LocalPaths({}, folder)),
        datasets=datasets,
        data_name=next(iter([*_listed(dataset), *datasets]), _name_of(trainer.train_dataset)),
        language=language,
        tags=_listed(tags),
        config=config.to_dict() | {"architectures": config.architectures or [type(trainer.model).__name__]},
    )
    card = ModelCard.load(folder / CARD_NAME)
    card.text = f"\n{TRAINER_CARD}\n{card.text}"
    card.save(folder / CARD_NAME)
    return True


def _facts(trainer: Any, folder: Path, name: str) -> RunFacts:
    config, logged = trainer.model.config, trainer.state.log_history
    evaluations = [one for one in logged if any(key.startswith("eval_") for key in one)]
    evaluated = evaluations[-1] if evaluations else {}
    metrics = {key.removeprefix("eval_"): value for key, value in evaluated.items() if key.startswith("eval_")}
    metrics = {key: value for key, value in metrics.items() if isinstance(value, int | float) and key not in OF_SPEED}
    wanted = (trainer.args.metric_for_best_model or "").removeprefix("eval_")
    masked = any(one.endswith("ForMaskedLM") for one in [type(trainer.model).__name__])
    problem = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    seconds = next((one["train_runtime"] for one in reversed(logged) if "train_runtime" in one), None)
    rows = len(trainer.train_dataset) if hasattr(trainer.train_dataset, "__len__") else None
    audit = folder / "update_audit.jsonl"
    timeline = read_json(folder / "freeze_schedule.json", "Delete it: the card is written without it.")
    return RunFacts(
        name.rpartition("/")[2],
        MASKED_LM if masked else problem,
        {} if masked else config.id2label,
        results=RunResults(
            "",
            "",
            SPLIT,
            metrics={SPLIT: metrics} if metrics else {},
            details={} if rows is None else {"data": f"{rows:,} training examples"},
            training_minutes=None if seconds is None else seconds / 60,
        ),
        main_metric=wanted if wanted in metrics else None,
        log_history=logged,
        kept_step=trainer.state.best_global_step if trainer.args.load_best_model_at_end else None,
        freeze_timeline="\n".join(timeline.get("timeline", [])) or None,
        audit_path=audit if audit.exists() else None,
        versions={one: version(one) for one in ("torch", "transformers", "datasets")},
    )


def _starts(config: Any) -> list[str | None]:
    """Return what the parts of a model say that they were loaded from."""
    parts = [config, getattr(config, "text_config", None), getattr(config, "image_config", None)]
    return [getattr(part, "_name_or_path", None) for part in parts if part is not None]


def _name_of(rows: Any) -> str | None:
    """Return what `datasets` calls the training rows."""
    info = getattr(getattr(rows, "rows", rows), "info", None)  # of an EncodedDataset, those that it encodes
    return getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)


def _listed(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
