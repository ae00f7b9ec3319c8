"""Recipe keys that every run has: which data, which checkpoint to start from, what to do around training."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict


@strict
@dataclass(kw_only=True)
class DataArguments:
    """Which data."""

    task: str = field(
        metadata={
            "help": "Of pictures with texts: image_text, mmimdb, food101 or vsnli. Of tables: table (anybody's), "
            "card_transactions or prsa."
        }
    )
    data: str = field(
        metadata={
            "help": "Folder or file of the data; sample:openclipart ships with the package, simulated:cards is "
            "generated into output_dir."
        }
    )
    on_bad_record: Literal["raise", "skip"] = field(
        default="raise",
        metadata={"help": "skip: leave unreadable records out, counted and listed in the report."},
    )
    max_rows: int | None = field(
        default=None,
        metadata={
            "least": 1,
            "help": "At most this many rows (a trial): of each split of pictures with texts, the first of a table.",
        },
    )
    split_seed: int = field(default=0, metadata={"least": 0, "help": "Seed of a split that is drawn."})


@strict
@dataclass(kw_only=True)
class ModelArguments:
    """Which model."""

    pretrained: str | None = field(
        default=None,
        metadata={"help": "Hub name or folder of a whole saved model to start from, with its processor."},
    )
    lora: dict | None = field(
        default=None,
        metadata={
            "help": "Train LoRA adapters in place of the encoders' weights: settings of peft.LoraConfig, e.g. "
            "{r: 8, lora_alpha: 16}; {} takes the defaults. They are merged at the end. Needs the extra `lora`."
        },
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa (default), eager, …"})


@strict
@dataclass(kw_only=True)
class RunArguments:
    """What a run does around its training."""

    overwrite: bool = field(
        default=False,
        metadata={
            "help": "Start anew in an output_dir that holds another run. Otherwise a run of the same recipe resumes, "
            "and any other is an error."
        },
    )
    license: str | None = field(default=None, metadata={"help": "Licence named in the model card."})
    standalone: bool = field(
        default=False,
        metadata={
            "help": "Put the code of the model's classes beside its weights: the folder then loads without this "
            "package, by trust_remote_code=True."
        },
    )
    examples: bool = field(
        default=False,
        metadata={"help": "push_to_hub: the report that is sent shows rows, texts and pictures of the data."},
    )


@strict
@dataclass(kw_only=True)
class UnknownArguments:
    """How a model of tables learns what [UNK] means."""

    unknown_probability: float = field(
        default=0.01,
        metadata={
            "least": 0,
            "most": 1,
            "help": "Share of the input cells that training replaces by their field's [UNK], where embeddings train, "
            "so that values of later rows that training never had meet trained weights.",
        },
    )


@strict
@dataclass(kw_only=True)
class FinetuningArguments(RunArguments):
    """What fine-tuning does around its training."""

    compare: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Others to train under the same recipe, or to judge on the same rows, for the comparison table. "
            "Of pictures and texts also frozen_linear, frozen_linear_text and frozen_linear_image (logistic regression "
            "on frozen features); of tables also amount, boosted_rows and boosted_history (the last two need the extra "
            "`boosting`). With push_to_hub each run gets a repository NAME-ARCHITECTURE-seedN, as with several "
            "`seeds`; NAME is hub_model_id, or the name of output_dir."
        },
    )
    seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Train once with each of these seeds; the table has mean and spread. Default: `seed`."
        },
    )
    bootstrap: int = field(
        default=1000,
        metadata={
            "least": 0,
            "help": "Resamples behind the 95 % intervals of test metrics; 0 leaves them out.",
        },
    )
