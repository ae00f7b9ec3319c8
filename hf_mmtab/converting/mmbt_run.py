"""A whole run of the original MMBT (weights, settings, vocabulary, labels) as our model and processor.

Plain values and tensors come in; `original_files` opens the pickled files.
"""

from collections.abc import Mapping
from typing import Any

from transformers import BertTokenizer, PreTrainedTokenizerBase

from ..models.mmbt.configuration_baselines import MMBTBaselineConfig
from ..models.mmbt.configuration_mmbt import MMBTConfig
from ..models.mmbt.glove_mmbt import SPECIAL_TOKENS, glove_tokenizer
from ..models.mmbt.image_processing_mmbt import MMBTImageProcessor
from ..models.mmbt.modeling_baselines import MMBTBaselineForClassification
from ..models.mmbt.modeling_mmbt import MMBTForClassification
from ..models.mmbt.processing_mmbt import MMBTProcessor
from .checks import Converted, Tensors, fitted_model, require_number, shown
from .mmbt_args import PROBLEM_TYPES, READS_BERT_TEXT, READS_PICTURES, OriginalRun
from .mmbt_weights import config_from_original, from_original

# NOTE[DIFF] One dropout, BERT's own 0.1, holds for words and image tokens; the original has a flag of its own
# (--dropout) for the embeddings of image tokens.
BERT_DROPOUT = 0.1  # of bert-base-uncased and bert-large-uncased, which the original cannot change
HEADS_OF_MODEL = {"bert-base-uncased": 12, "bert-large-uncased": 16}
HEADS_OF_SIZE = {(768, 12): 12, (1024, 24): 16}  # hidden size and layers of BERT base and large


def convert_run(
    run: OriginalRun,
    state_dict: Tensors,
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_attention_heads: int | None = None,
    **config_kwargs: Any,
) -> Converted:
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
    if num_attention_heads is not None:
        require_number("num_attention_heads", num_attention_heads, 1, remedy="Pass that of the BERT.")
    told: dict[str, Any] = {"num_attention_heads": num_attention_heads, "dropout": BERT_DROPOUT}
    sizes = config_from_original(run.model, tensors, **told)
    if (outputs := sizes.pop("num_labels")) != len(run.labels):
        raise ValueError(
            f"Expected {outputs} labels, as the checkpoint has outputs, found {len(run.labels)}: {shown(run.labels)}. "
            "Are args.pt and the checkpoint of the same run?"
        )
    heads = None
    if run.model in READS_BERT_TEXT:
        heads = _heads(run, sizes["text_config"], num_attention_heads)
    if tokenizer is None or run.model == "img":
        tokenizer = _tokenizer(run)
    _require_parts(run, sizes, tokenizer)
    if run.model == "mmbt" and tokenizer is not None:
        words = tokenizer.get_vocab()
        sizes |= {"cls_token_id": words["[CLS]"], "sep_token_id": words["[SEP]"]}
    if run.model in READS_PICTURES:
        sizes |= {"num_image_embeds": run.num_image_embeds, "image_pooling": run.img_embed_pool_type}
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
    config_class: Any = MMBTBaselineConfig
    model_class: Any = MMBTBaselineForClassification
    if run.model == "mmbt":
        config_class, model_class = MMBTConfig, MMBTForClassification
    what = f"The checkpoint does not fit the {run.model!r} model of its args"
    model = fitted_model(lambda: model_class(config_class(**sizes)), renamed, fates, what)
    positions = sizes["text_config"]["max_position_embeddings"] if run.model in READS_BERT_TEXT else 512
    processor = _processor(run, min(512, positions), tokenizer)
    return Converted(model, processor, fates, _facts(run, processor.max_length, heads))


def _facts(run: OriginalRun, max_length: int, heads: str | None) -> dict[str, Any]:
    """Return what the run is, for the report; `heads`: attention heads of the BERT, and who says so."""
    facts: dict[str, Any] = {"model": run.model}
    if run.task is not None:
        facts["task"] = run.task
    facts |= {"task_type": run.task_type, "labels": ", ".join(run.labels)}
    if run.model in READS_PICTURES:
        facts |= {"image tokens": f"{run.num_image_embeds} ({run.img_embed_pool_type})", "preset": "legacy"}
    if heads is not None:
        facts["attention heads"] = heads
    facts["max_length"] = max_length
    if run.pos_weight is not None:
        facts["weights of positives"] = ", ".join(f"{weight:.4g}" for weight in run.pos_weight)
    if run.task_type == "multilabel":
        facts["thresholds"] = "0.5 each, as the original counts; tune them on validation"
    if run.model == "mmbt" and run.dropout != BERT_DROPOUT:
        facts["note"] = (
            f"the original dropped {run.dropout} of the image tokens' embeddings in training and 0.1 elsewhere; "
            "here 0.1 everywhere"
        )
    return facts


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
            f"The number of attention heads of this BERT (hidden size {hidden_size}, {shown(run.bert_model)}) is in no "
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


def _require_parts(run: OriginalRun, sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Raise a ValueError unless length, segments and vocabulary are those of the checkpoint."""
    text_config = sizes.get("text_config", {})
    positions, segments = text_config.get("max_position_embeddings"), 3 if run.task == "vsnli" else 2
    if positions is not None and run.max_seq_len is not None and run.max_seq_len > positions:
        raise ValueError(
            f"Expected max_seq_len of at most {positions}, the positions of the checkpoint, found {run.max_seq_len}. "
            f"Pass --max_seq_len {positions} or less."
        )
    if tokenizer is not None:
        words, expected = len(tokenizer), text_config.get("vocab_size", sizes.get("bow_vocab_size"))
        if words != expected:
            raise ValueError(
                f"Expected a vocabulary of {expected} words, as the checkpoint has embeddings, found {words}. "
                "Pass the tokenizer or vocabulary that the run used: --tokenizer FOLDER_OR_NAME or --vocab FILE."
            )
    if run.model == "mmbt" and run.task is not None and sizes["num_segments"] != segments:
        raise ValueError(
            f"Expected {segments} segments for the task {run.task!r}, found {sizes['num_segments']} in the checkpoint. "
            "Are args.pt and the checkpoint of the same run?"
        )


def _tokenizer(run: OriginalRun) -> PreTrainedTokenizerBase | None:
    if run.model == "img":
        return None
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
    if run.model in READS_BERT_TEXT:
        return BertTokenizer(vocab=ids, do_lower_case=True, model_max_length=512)
    if run.words[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
        raise ValueError(
            f"Expected a bag-of-words vocabulary that begins with {SPECIAL_TOKENS}, found {shown(run.words[:5])}."
        )
    return glove_tokenizer(run.words[len(SPECIAL_TOKENS) :])


def _processor(run: OriginalRun, default_length: int, tokenizer: PreTrainedTokenizerBase | None) -> MMBTProcessor:
    """Return the processor with the preset `legacy`, as the original's data loader."""
    return MMBTProcessor(
        MMBTImageProcessor() if run.model in READS_PICTURES else None,
        tokenizer,
        max_length=default_length if run.max_seq_len is None else run.max_seq_len,
        leading_cls=run.model not in ("mmbt", "img"),
        segment_offset=1 if run.model == "mmbt" else 0,
        missing_image="grey",
        transparency="drop",
        upright=False,
    )
