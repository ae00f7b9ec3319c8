"""A whole run of the original MMBT (weights, settings, vocabulary, labels) as our model and processor.

Plain values and tensors come in; reading the pickled files safely is the caller's part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .configuration_baselines import MMBTBaselineConfig
from .configuration_mmbt import MMBTConfig
from .converting_checks_mmbt import require_fit, require_number
from .converting_mmbt import KINDS, TensorFate, config_from_original, from_original
from .glove_mmbt import SPECIAL_TOKENS, glove_tokenizer
from .image_processing_mmbt import MMBTImageProcessor
from .modeling_baselines import MMBTBaselineForClassification
from .modeling_mmbt import MMBTForClassification
from .processing_mmbt import MMBTProcessor

PROBLEM_TYPES = {
    "multilabel": "multi_label_classification",
    "classification": "single_label_classification",
}
TASKS = ("mmimdb", "vsnli", "food101")
# NOTE[DIFF] One dropout, BERT's own 0.1, holds for words and image tokens; the original has a flag of its own
# (--dropout) for the embeddings of image tokens.
BERT_DROPOUT = 0.1  # of bert-base-uncased and bert-large-uncased, which the original cannot change
HEADS_OF_MODEL = {"bert-base-uncased": 12, "bert-large-uncased": 16}
HEADS_OF_SIZE = {(768, 12): 12, (1024, 24): 16}  # hidden size and layers of BERT base and large
POOLINGS = ("avg", "max")
READS_PICTURES = ("mmbt", "img", "concatbow", "concatbert")
READS_BERT_TEXT = ("mmbt", "bert", "concatbert")


@dataclass
class OriginalRun:
    """What the original's `args.pt` tells about a run, checked."""

    model: str  # one of `KINDS`
    task_type: str  # "multilabel" or "classification"
    labels: list[str]  # in the order of the outputs
    num_image_embeds: int
    image_pooling: str
    max_length: int | None = None  # None: 512, or as many as the checkpoint has positions
    task: str | None = None
    words: list[str] | None = None  # the vocabulary, in the order of ids
    label_counts: dict[str, int] | None = None
    train_rows: int | None = None
    weight_classes: bool = False
    dropout: float = 0.1  # of the image part's embeddings and of concatbert's hidden layers
    bert_model: str | None = None

    @property
    def pos_weight(self) -> list[float] | None:
        """The weight of each label's positives that the original trained with: rows / positives."""
        if self.task_type != "multilabel" or not self.weight_classes:
            return None
        if not self.label_counts or not self.train_rows:
            return None
        return [self.train_rows / self.label_counts[label] for label in self.labels]


@dataclass
class ConvertedRun:
    """Our model and processor, and what became of every tensor of the original."""

    model: PreTrainedModel
    processor: MMBTProcessor
    fates: list[TensorFate]
    attention_heads: str | None = None  # of the BERT, and who says so


def run_from_args(args: Mapping[str, Any]) -> OriginalRun:
    """Check what was read from `args.pt`, completed or overruled by what the user says.

    Args:
        args: the original's flags and what its data loader added: `labels`, `label_freqs`, `train_data_len`,
            and `words`, the vocabulary by id.

    Raises:
        ValueError: if something needed is absent or of the wrong kind; says what, and how to give it.
    """
    needed: tuple[str, ...] = ("model", "task_type", "labels")
    if args.get("model") in READS_PICTURES:
        needed = (*needed, "num_image_embeds", "img_embed_pool_type")
    absent = [name for name in needed if args.get(name) is None]
    if absent:
        options = " ".join(f"--{name} ..." for name in absent)
        raise ValueError(
            f"Expected the run's args to tell {', '.join(absent)}, found {sorted(args)}. Keep args.pt beside "
            f"the checkpoint, or pass {options}."
        )
    choices = [("model", KINDS), ("task_type", tuple(PROBLEM_TYPES))]
    choices += [("task", TASKS)] if args.get("task") is not None else []
    choices += [("img_embed_pool_type", POOLINGS)] if args.get("img_embed_pool_type") is not None else []
    for name, allowed in choices:
        if args[name] not in allowed:
            raise ValueError(
                f"Expected {name} to be one of {', '.join(allowed)}, found {args[name]!r}. Pass --{name} ..."
            )
    _require_numbers(args)
    labels = args["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(one, str) for one in labels):
        raise ValueError(
            f"Expected labels to be a list of names in the order of the outputs, found {labels!r}."
        )
    if len(set(labels)) != len(labels):
        raise ValueError(f"Expected different labels, found {labels}.")
    counts = args.get("label_freqs")
    if counts is not None:
        _require_counts(counts, labels)
    return OriginalRun(
        model=args["model"],
        task_type=args["task_type"],
        labels=labels,
        num_image_embeds=1 if args.get("num_image_embeds") is None else args["num_image_embeds"],
        image_pooling=args.get("img_embed_pool_type") or "avg",
        max_length=args.get("max_seq_len"),
        task=args.get("task"),
        words=args.get("words"),
        label_counts=None if counts is None else dict(counts),
        train_rows=args.get("train_data_len"),
        weight_classes=bool(args.get("weight_classes")),
        dropout=float(0.1 if args.get("dropout") is None else args["dropout"]),
        bert_model=args.get("bert_model"),
    )


def _require_numbers(args: Mapping[str, Any]) -> None:
    """Raise a ValueError if what is read as a number is none, or in no possible range."""
    limits: tuple[tuple[str, float, float | None, type], ...] = (
        ("num_image_embeds", 1, 9, int),
        ("max_seq_len", 1, None, int),
        ("train_data_len", 1, None, int),
        ("dropout", 0, 1, float),
    )
    for name, least, most, kind in limits:
        if args.get(name) is not None:
            remedy = "args.pt was changed: take the one that the original wrote"
            remedy += f", or pass --{name}." if name in ("num_image_embeds", "max_seq_len") else "."
            require_number(name, args[name], least, most, kind, remedy)
    if not isinstance(args.get("bert_model"), str | None):
        raise ValueError(
            f"Expected bert_model to be a name, found {args['bert_model']!r}. args.pt was changed: take the one that "
            "the original wrote."
        )
    if not isinstance(args.get("weight_classes"), int | None):
        raise ValueError(
            f"Expected weight_classes to be 0 or 1, found {args['weight_classes']!r}. args.pt was changed: take the "
            "one that the original wrote."
        )


def _require_counts(counts: Any, labels: list[str]) -> None:
    """Raise a ValueError unless every label has a number of training rows, at least one."""
    if not isinstance(counts, Mapping) or set(counts) != set(labels):
        found = sorted(map(str, counts)) if isinstance(counts, Mapping) else repr(counts)
        raise ValueError(
            f"Expected label_freqs to count the labels {labels}, found {found}. args.pt was changed or put together "
            "from two: take the one that the original wrote."
        )
    for label, count in counts.items():
        remedy = "args.pt was changed: take the one that the original wrote."
        require_number(f"label_freqs of {label!r}", count, 1, None, int, remedy)


def convert_run(
    run: OriginalRun,
    state_dict: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_attention_heads: int | None = None,
    **config_kwargs: Any,
) -> ConvertedRun:
    """Build our model and processor with the original's weights, labels, loss weights and `legacy` preset.

    Args:
        run: see `run_from_args`.
        state_dict: the original's weights.
        tokenizer: used in place of the run's own vocabulary.
        num_attention_heads: of the BERT; by default that of `run.bert_model`, or of a BERT of base's or large's size.
        config_kwargs: further fields of our configuration.

    Raises:
        ValueError: if weights, labels and vocabulary do not belong together, or a tensor is unknown.
    """
    tensors = dict(state_dict)
    renamed, fates = from_original(run.model, tensors)
    config, heads = _config(run, tensors, tokenizer, num_attention_heads, config_kwargs)
    names = {fate.ours: fate.original for fate in reversed(fates) if fate.ours is not None}
    require_fit(
        lambda: _model(config),
        renamed,
        names,
        f"The checkpoint does not fit the {run.model!r} model of its args",
    )
    model = _model(config)
    model.load_state_dict(renamed, strict=True)
    text_config: Any = config.text_config
    positions = text_config.max_position_embeddings if run.model in READS_BERT_TEXT else 512
    processor = _processor(run, min(512, positions), _tokenizer(run) if tokenizer is None else tokenizer)
    return ConvertedRun(model.eval(), processor, fates, heads)


def _model(config: MMBTConfig | MMBTBaselineConfig) -> PreTrainedModel:
    if isinstance(config, MMBTConfig):
        return MMBTForClassification(config)
    return MMBTBaselineForClassification(config)


def _config(
    run: OriginalRun,
    tensors: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    num_attention_heads: int | None,
    config_kwargs: dict[str, Any],
) -> tuple[MMBTConfig | MMBTBaselineConfig, str | None]:
    heads = None
    if num_attention_heads is not None:
        require_number(
            "num_attention_heads", num_attention_heads, 1, remedy="Pass the number that the BERT has."
        )
    sizes = config_from_original(
        run.model, tensors, num_attention_heads=num_attention_heads, dropout=BERT_DROPOUT
    )
    if (outputs := sizes.pop("num_labels")) != len(run.labels):
        raise ValueError(
            f"Expected {outputs} labels, as the checkpoint has outputs, found {len(run.labels)}: {run.labels}. "
            "Are args.pt and the checkpoint of the same run?"
        )
    if run.model in READS_BERT_TEXT:
        heads = _heads(run, sizes["text_config"], num_attention_heads)
        _require_max_length(run, sizes["text_config"]["max_position_embeddings"])
        words = tokenizer.get_vocab() if tokenizer is not None else _ids(run)
        _require_vocabulary(len(words), sizes["text_config"]["vocab_size"])
        if run.model == "mmbt":
            sizes |= {"cls_token_id": words["[CLS]"], "sep_token_id": words["[SEP]"]}
            _require_segments(run, sizes["num_segments"])
    elif run.model != "img":
        found = len(tokenizer if tokenizer is not None else _ids(run))
        _require_vocabulary(found, sizes["bow_vocab_size"])
    if run.model in READS_PICTURES:
        sizes |= {"num_image_embeds": run.num_image_embeds, "image_pooling": run.image_pooling}
    if run.model == "concatbert":
        sizes["hidden_dropout"] = run.dropout
    sizes |= {
        "problem_type": PROBLEM_TYPES[run.task_type],
        "id2label": dict(enumerate(run.labels)),
        "label2id": {label: index for index, label in enumerate(run.labels)},
        "pos_weight": run.pos_weight,
        # The original counts a label as predicted above one half (train.py, model_eval).
        "thresholds": [0.5] * len(run.labels) if run.task_type == "multilabel" else None,
        **config_kwargs,
    }
    return MMBTConfig(**sizes) if run.model == "mmbt" else MMBTBaselineConfig(**sizes), heads


def _heads(run: OriginalRun, text_config: dict[str, Any], given: int | None) -> str:
    """Set the number of attention heads, which no shape tells; return it with its source."""
    hidden_size = text_config["hidden_size"]
    size = (hidden_size, text_config["num_hidden_layers"])
    if given is not None:
        source = "given"
    elif run.bert_model in HEADS_OF_MODEL:
        given, source = HEADS_OF_MODEL[run.bert_model], f"of {run.bert_model}"
    elif size in HEADS_OF_SIZE:
        given, source = HEADS_OF_SIZE[size], "as a BERT of this size usually has; no file tells"
    else:
        raise ValueError(
            f"The number of attention heads of this BERT (hidden size {hidden_size}, {run.bert_model!r}) is in no "
            "file of the run: pass --num_attention_heads (in Python num_attention_heads=N), as in the config of that "
            "BERT. With another number the model would convert, and give other logits."
        )
    if hidden_size % given:
        raise ValueError(
            f"Expected num_attention_heads to divide the hidden size {hidden_size}, found {given}. Pass the number "
            "that the BERT has with --num_attention_heads."
        )
    text_config["num_attention_heads"] = given
    return f"{given} ({source})"


def _require_max_length(run: OriginalRun, positions: int) -> None:
    if run.max_length is not None and run.max_length > positions:
        raise ValueError(
            f"Expected max_seq_len of at most {positions}, the positions of the checkpoint, found {run.max_length}. "
            f"Pass --max_seq_len {positions} or less."
        )


def _require_segments(run: OriginalRun, segments: int) -> None:
    expected = 3 if run.task == "vsnli" else 2
    if run.task is not None and segments != expected:
        raise ValueError(
            f"Expected {expected} segments for the task {run.task!r}, found {segments} in the checkpoint. "
            "Are args.pt and the checkpoint of the same run?"
        )


def _require_vocabulary(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"Expected a vocabulary of {expected} words, as the checkpoint has embeddings, found {found}. "
            "Pass the tokenizer or vocabulary that the run used: --tokenizer FOLDER_OR_NAME or --vocab FILE."
        )


def _ids(run: OriginalRun) -> dict[str, int]:
    if run.words is None:
        raise ValueError(
            "Expected the run's vocabulary in args.pt, found none. Pass --tokenizer FOLDER_OR_NAME or --vocab "
            "FILE (vocab.txt, or the GloVe file of bow and concatbow)."
        )
    ids = {word: index for index, word in enumerate(run.words)}
    absent = [token for token in SPECIAL_TOKENS if token not in ids]
    if absent or len(ids) != len(run.words):
        raise ValueError(
            f"Expected a vocabulary of different words with {', '.join(SPECIAL_TOKENS)}, found "
            f"{'no ' + ', '.join(absent) if absent else 'some words twice'}."
        )
    return ids


def _tokenizer(run: OriginalRun) -> PreTrainedTokenizerBase | None:
    if run.model == "img":
        return None
    ids = _ids(run)
    if run.model in READS_BERT_TEXT:
        return BertTokenizer(vocab=ids, do_lower_case=True, model_max_length=512)
    assert run.words is not None
    if run.words[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
        raise ValueError(
            f"Expected a bag-of-words vocabulary that begins with {SPECIAL_TOKENS}, found {run.words[:5]}."
        )
    return glove_tokenizer(run.words[len(SPECIAL_TOKENS) :])


def _processor(
    run: OriginalRun, default_length: int, tokenizer: PreTrainedTokenizerBase | None
) -> MMBTProcessor:
    """Return the processor with the preset `legacy`, as the original's data loader."""
    return MMBTProcessor(
        MMBTImageProcessor() if run.model in READS_PICTURES else None,
        None if run.model == "img" else tokenizer,
        max_length=default_length if run.max_length is None else run.max_length,
        leading_cls=run.model not in ("mmbt", "img"),
        segment_offset=1 if run.model == "mmbt" else 0,
        missing_image="grey",
        transparency="drop",
        upright=False,
    )
