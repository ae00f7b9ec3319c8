"""The flags of an original MMBT run as one of our recipes, so that it can be evaluated and trained again."""

from collections.abc import Mapping
from typing import Any

BERT_ARCHITECTURES = ("mmbt", "bert", "concatbert")
BERT_CHECKPOINTS = {name: f"google-bert/{name}" for name in ("bert-base-uncased", "bert-large-uncased")}
# Flags whose value is used as it is.
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
HEADER = """\
# The flags of the original run, read from args.pt. Before you use this file, set
#   data, output_dir (and glove_path, text_model, if they are here): paths of the machine that the run was on
#   pretrained: this folder, to go on from the converted weights instead of starting anew
"""
# Sizes and names that our recipe reads off the pretrained parts, the data or output_dir.
FOUND = ("embed_sz", "hidden_sz", "img_hidden_sz", "name", "task_type")


# Flag → kind, least and most value; None: any.
NUMBERS: dict[str, tuple[type, float | None, float | None]] = {
    "batch_sz": (int, 1, None),
    "gradient_accumulation_steps": (int, 1, None),
    "lr_factor": (float, 0, 1),
    "lr_patience": (int, 0, None),
    "max_epochs": (int, 0, None),
    "n_workers": (int, 0, None),
    "patience": (int, 0, None),
    "seed": (int, None, None),
    "lr": (float, 0, None),
    "drop_img_percent": (float, 0, 1),
    "dropout": (float, 0, 1),
    "warmup": (float, 0, None),
    "freeze_img": (int, 0, None),
    "freeze_txt": (int, 0, None),
    "include_bn": (int, 0, 1),
}
TEXTS = ("data_path", "savedir", "glove_path", "bert_model")


def require_flags(args: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the flags that a recipe takes over have values as the original's parser gives."""
    for flag, (kind, least, most) in NUMBERS.items():
        value = args.get(flag)
        right = value is None or isinstance(value, int if kind is int else int | float)
        if right and value is not None:
            right = (least is None or value >= least) and (most is None or value <= most)
            right = right and abs(value) < float("inf")
        if not right:
            limits = [f"at least {least}"] if least is not None else []
            limits += [f"at most {most}"] if most is not None else []
            what = "a whole number" if kind is int else "a number"
            raise _changed(flag, " ".join([what, " and ".join(limits)]).strip(), value)
    for flag in TEXTS:
        if not isinstance(args.get(flag), str | None):
            raise _changed(flag, "text", args[flag])
    hidden = args.get("hidden")
    if hidden is not None and not (
        isinstance(hidden, list) and all(type(n) is int and n > 0 for n in hidden)
    ):
        raise _changed("hidden", "a list of whole numbers above 0", hidden)


def _changed(flag: str, wanted: str, found: Any) -> ValueError:
    return ValueError(
        f"Expected {flag} of args.pt to be {wanted}, found {found!r}. The file was changed: take the one that the "
        "original wrote."
    )


def mmbt_recipe(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return our recipe keys for the flags in `args.pt`; flags that are absent keep our defaults.

    `data` and `output_dir` are paths of the machine that the run was on.

    Raises:
        ValueError: if a flag has a value that the original's parser does not give.
    """
    require_flags(args)
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
    if model in BERT_ARCHITECTURES:
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
