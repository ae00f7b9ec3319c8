"""Recipe keys that every run has: which data, which checkpoint to start from, what to do around training."""

from dataclasses import MISSING, dataclass
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ..typed_values import key


@strict
@dataclass(kw_only=True)
class DataArguments:
    """Which data."""

    task: str = key(
        MISSING,
        "Of pictures with texts: image_text, mmimdb, food101 or vsnli. Of tables: table (anybody's), "
        "card_transactions or prsa.",
    )
    data: str = key(
        MISSING,
        "Folder or file of the data; sample:openclipart ships with the package, simulated:cards is "
        "generated into output_dir.",
    )
    on_bad_record: Literal["raise", "skip"] = key(
        "raise", "skip: leave unreadable records out, counted and listed in the report."
    )
    max_rows: int | None = key(
        None, "At most this many rows (a trial): of each split of pictures with texts, the first of a table.", least=1
    )
    split_seed: int = key(0, "Seed of a split that is drawn.", least=0)


@strict
@dataclass(kw_only=True)
class ModelArguments:
    """Which model."""

    pretrained: str | None = key(None, "Hub name or folder of a model to start from, with its processor.")
    lora: dict | None = key(
        None,
        "Train LoRA adapters in place of the encoders' weights: settings of peft.LoraConfig, e.g. {r: 8, lora_alpha: "
        "16}; {} takes the defaults. They are merged at the end. Needs the extra `lora`.",
    )
    attn_implementation: str | None = key(None, "sdpa (default), eager, …")


@strict
@dataclass(kw_only=True)
class RunArguments:
    """What a run does around its training."""

    overwrite: bool = key(
        False,
        "Start anew in an output_dir that holds another run. Otherwise a run of the same recipe resumes, "
        "and any other is an error.",
    )
    license: str | None = key(
        None,
        "Licence named in the model card, as the Hub calls it (mit, cc-by-4.0, …). Default: apache-2.0 where the "
        "package knows the conditions of the data (sample:openclipart, simulated:cards) and of all weights that "
        "training starts from; else the card says that none is chosen.",
    )
    standalone: bool = key(
        False,
        "Put the code of the model's classes beside its weights: the folder then loads without this package, by "
        "trust_remote_code=True.",
    )
    examples: bool = key(False, "push_to_hub: the report that is sent shows rows and pictures of the data.")


@strict
@dataclass(kw_only=True)
class UnknownArguments:
    """How a model of tables learns what [UNK] means."""

    unknown_probability: float = key(
        0.01,
        "Share of the input cells that training replaces by their field's [UNK], where embeddings train, "
        "so that values of later rows that training never had meet trained weights.",
        least=0,
        most=1,
    )


@strict
@dataclass(kw_only=True)
class FinetuningArguments(RunArguments):
    """What fine-tuning does around its training."""

    reasons: bool = key(
        True, "The report shows the strongest reasons for its errors and highest alerts. Needs the extra `explain`."
    )
    compare: list[str] = key(
        [],
        "Others to train under the same recipe, or to judge on the same rows, for the comparison table. "
        "Of pictures and texts also frozen_linear, frozen_linear_text and frozen_linear_image (logistic regression "
        "on frozen features); of tables also amount, boosted_rows and boosted_history (the last two need the extra "
        "`boosting`). With push_to_hub each run gets a repository NAME-ARCHITECTURE-seedN, as with several "
        "`seeds`; NAME is hub_model_id, or the name of output_dir.",
    )
    search: dict[str, Any] | None = key(
        None,
        "Keys whose values are searched before the run, each with [lowest, highest] (two numbers) or a list of "
        "choices, as in {learning_rate: [1.0e-5, 1.0e-3], lstm_hidden_size: [32, 64, 128]}: by optuna (extra `search`) "
        "on validation. What was tried stands beside output_dir in NAME.search.json.",
    )
    search_trials: int = key(10, "Trainings that a search makes.", least=1)
    seeds: list[int] = key(
        [], "Train once with each of these seeds, for mean and spread. Default: `seed`.", least=0, most=2**32 - 1
    )
    soup: bool = key(
        False,
        "Average the last 5 checkpoints of the run after training, the best on validation first; one is taken only if "
        "neither metric nor loss on validation become worse. Until then save_total_limit is at least 5.",
    )
    bootstrap: int = key(1000, "Resamples behind the 95 % intervals of test metrics; 0: none.", least=0)
