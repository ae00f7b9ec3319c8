"""The flags of an original MMBT run (`args.pt`), checked: what the model needs, and as a recipe of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .checks import CHANGED, require, require_number, shown
from .mmbt_weights import KINDS

PROBLEM_TYPES = {"multilabel": "multi_label_classification", "classification": "single_label_classification"}
CHOICES = {
    "model": KINDS,
    "task_type": tuple(PROBLEM_TYPES),
    "task": ("mmimdb", "vsnli", "food101"),
    "img_embed_pool_type": ("avg", "max"),
}
# Flag → kind, least and most value; None: any.
NUMBERS: dict[str, tuple[type, float | None, float | None]] = {
    **dict.fromkeys(("max_seq_len", "train_data_len", "batch_sz"), (int, 1, None)),
    "gradient_accumulation_steps": (int, 1, None),
    **dict.fromkeys(("lr_patience", "max_epochs", "n_workers", "patience"), (int, 0, None)),
    **dict.fromkeys(("freeze_img", "freeze_txt"), (int, 0, None)),
    **dict.fromkeys(("dropout", "lr_factor", "drop_img_percent"), (float, 0, 1)),
    **dict.fromkeys(("lr", "warmup"), (float, 0, None)),
    "num_image_embeds": (int, 1, 9),
    "seed": (int, None, None),
}
SWITCHES = ("weight_classes", "include_bn")
TEXTS = ("bert_model", "data_path", "savedir", "glove_path")
READS_PICTURES = ("mmbt", "img", "concatbow", "concatbert")
READS_BERT_TEXT = ("mmbt", "bert", "concatbert")
BERT_CHECKPOINTS = {name: f"google-bert/{name}" for name in ("bert-base-uncased", "bert-large-uncased")}
# Flags whose value a recipe takes as it is. The recipe reads embed_sz, hidden_sz, img_hidden_sz, name and task_type off
# the pretrained parts, the data or output_dir.
SAME = {
    "batch_sz": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "lr_factor": "plateau_factor",
    "lr_patience": "plateau_patience",
    "max_epochs": "num_train_epochs",
    "max_seq_len": "max_length",
    "n_workers": "dataloader_num_workers",
    "num_image_embeds": "num_image_embeds",
    "img_embed_pool_type": "image_pooling",
    "patience": "early_stopping_patience",
    "savedir": "output_dir",
    "seed": "seed",
    "lr": "learning_rate",
    "drop_img_percent": "modal_dropout",
    "hidden": "hidden_sizes",
    "dropout": "hidden_dropout",
}
RECIPE_HEADER = """\
# The flags of the original run, read from args.pt. Before you use this file, set
#   data, output_dir (and glove_path, text_model, if they are here): paths of the machine that the run was on
#   pretrained: this folder, to go on from the converted weights instead of starting anew
"""


@dataclass
class OriginalRun:
    """What the original's `args.pt` tells about a run, checked."""

    model: str  # one of `KINDS`
    task_type: str  # "multilabel" or "classification"
    labels: list[str]  # in the order of the outputs
    num_image_embeds: int = 1
    img_embed_pool_type: str = "avg"
    max_seq_len: int | None = None  # None: 512, or as many as the checkpoint has positions
    task: str | None = None
    words: list[str] | None = None  # the vocabulary, in the order of ids
    label_freqs: Mapping[str, int] | None = None
    train_data_len: int | None = None
    weight_classes: int = 0
    dropout: float = 0.1  # of the image part's embeddings and of concatbert's hidden layers
    bert_model: str | None = None

    @property
    def pos_weight(self) -> list[float] | None:
        """The weight of each label's positives that the original trained with: rows / positives."""
        weighted = self.task_type == "multilabel" and self.weight_classes
        if not (weighted and self.label_freqs and self.train_data_len):
            return None
        return [self.train_data_len / self.label_freqs[label] for label in self.labels]


def run_from_args(args: Mapping[str, Any]) -> OriginalRun:
    """Check what was read from `args.pt`, completed or overruled by what the user says.

    Args:
        args: the original's flags and what its data loader added: `labels`, `label_freqs`, `train_data_len`,
            and `words`, the vocabulary by id.

    Raises:
        ValueError: if something needed is absent, or a flag has a value that the original does not give; says what,
            and how to give it.
    """
    needed: tuple[str, ...] = ("model", "task_type", "labels")
    if args.get("model") in READS_PICTURES:
        needed = (*needed, "num_image_embeds", "img_embed_pool_type")
    if absent := [name for name in needed if args.get(name) is None]:
        options = " ".join(f"--{name} ..." for name in absent)
        raise ValueError(
            f"Expected the run's args to tell {', '.join(absent)}, found {shown(sorted(args))}. Keep args.pt beside "
            f"the checkpoint, or pass {options}."
        )
    given = {name: value for name, value in args.items() if value is not None}
    _require_flags(given)
    labels = given["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(one, str) for one in labels):
        raise ValueError(f"Expected labels to be a list of names in outputs' order, found {shown(labels)}.")
    if len(set(labels)) != len(labels):
        raise ValueError(f"Expected different labels, found {shown(labels)}.")
    if (counts := given.get("label_freqs")) is not None:
        if not isinstance(counts, Mapping) or set(counts) != set(labels):
            raise ValueError(
                f"Expected label_freqs to count the labels {shown(labels)}, found {shown(counts)}. args.pt was changed "
                "or put together from two: take the one that the original wrote."
            )
        for label, count in counts.items():
            require_number(f"label_freqs of {label!r}", count, 1)
    return OriginalRun(**{one.name: given[one.name] for one in fields(OriginalRun) if one.name in given})


def _require_flags(given: Mapping[str, Any]) -> None:
    """Raise a ValueError unless flags have values as the original's parser gives."""
    for name, choices in CHOICES.items():
        value, wanted = given.get(name, choices[0]), f"one of {', '.join(choices)}"
        require(value in choices, name, wanted, value, f"Pass --{name} ...")
    for name, (kind, least, most) in NUMBERS.items():
        if name in given:
            optional = name in ("num_image_embeds", "max_seq_len")
            remedy = f"{CHANGED[:-1]}, or pass --{name}." if optional else CHANGED
            require_number(f"{name} of args.pt", given[name], least, most, kind, remedy)
    hidden = given.get("hidden", [])
    sizes = isinstance(hidden, list) and all(type(n) is int and n > 0 for n in hidden)
    rules = [("hidden", sizes, "a list of whole numbers above 0")]
    rules += [(name, given.get(name, 0) in (0, 1), "0 or 1") for name in SWITCHES]
    rules += [(name, isinstance(given.get(name, ""), str), "text") for name in TEXTS]
    for name, right, wanted in rules:
        require(right, f"{name} of args.pt", wanted, given.get(name), CHANGED)


def mmbt_recipe(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return our recipe keys for the flags in `args.pt`; flags that are absent keep our defaults.

    Args:
        args: as `run_from_args` has checked them. `data` and `output_dir` are paths of the machine of the run.
    """
    model = args["model"]
    recipe: dict[str, Any] = {
        "task": args.get("task") or "image_text",
        "data": args.get("data_path") or "data",
        "architecture": model,
        "image_preset": "legacy",
    }
    if args.get("bert_model") is not None:
        recipe["text_model"] = BERT_CHECKPOINTS.get(args["bert_model"], args["bert_model"])
    if model in ("bow", "concatbow") and args.get("glove_path"):
        recipe["glove_path"] = args["glove_path"]
    recipe |= {ours: args[flag] for flag, ours in SAME.items() if args.get(flag) not in (None, [])}
    recipe.setdefault("output_dir", "outputs")
    if "include_bn" in args:
        recipe["hidden_batch_norm"] = bool(args["include_bn"])
    freeze = {"image_encoder": args.get("freeze_img"), "text_encoder": args.get("freeze_txt")}
    if model == "mmbt" and any(freeze.values()):  # the original freezes nothing in its other models
        recipe["freeze"] = {part: f"{epochs} epochs" for part, epochs in freeze.items() if epochs}
        recipe["frozen_mode"] = "train"
    if model in READS_BERT_TEXT:
        recipe |= {"optim_preset": "bertadam", "weight_decay": 0.01, "warmup_steps": args.get("warmup", 0.1)}
    several = args["task_type"] == "multilabel"
    if several and args.get("weight_classes"):
        recipe["pos_weight"] = "total_over_positives"
    return recipe | {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "micro_f1" if several else "accuracy",
    }
