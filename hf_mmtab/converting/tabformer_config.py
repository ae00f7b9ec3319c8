"""`config.json` of TabFormer: does what it claims hold, what it is in our configuration, and back."""

import re
from collections.abc import Mapping
from typing import Any

from transformers.activations import ACT2FN

from ..models.tabbert.configuration_tabbert import TabBertConfig
from .checks import Tensors, require, require_number, shape_of

_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "type_vocab_size"),
    *("max_position_embeddings", "vocab_size", "ncols", "field_hidden_size"),
)
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_SMALL = ("initializer_range", "layer_norm_eps")
_OF_FIELDS = ("nhead", "num_layers")  # of the encoder of columns; absent where it has their defaults
# What our configuration calls by the same name.
_SAME = (
    *("num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "type_vocab_size"),
    *("max_position_embeddings", "hidden_size", "field_hidden_size", "flatten", *_SHARES, *_SMALL),
)
COPY_IT = "Pass the config.json that the original wrote beside pytorch_model.bin of the pretraining."


def require_settings(original: Mapping[str, Any]) -> None:
    """Check the types and ranges of `config.json`.

    Raises:
        ValueError: names the key, what it should be and what it is.
    """
    needed = ("flatten", *_SIZES, "hidden_act", *_SHARES, *_SMALL)
    if absent := [name for name in needed if name not in original]:
        raise ValueError(f"Expected the config.json of a TabFormer checkpoint, found no {absent} in it. {COPY_IT}")
    for name in (*_SIZES, *(name for name in _OF_FIELDS if name in original)):
        require_number(f"{name} of config.json", original[name], 1, remedy=COPY_IT)
    for name in _SHARES:
        require_number(f"{name} of config.json", original[name], 0, 1, float, COPY_IT)
    act, classes = original["hidden_act"], original.get("architectures") or []
    is_list = type(classes) is list and all(type(one) is str for one in classes)
    small = {name: type(original[name]) in (int, float) and 0 < original[name] < float("inf") for name in _SMALL}
    for name, right, wanted in (
        *((name, right, "a number above 0") for name, right in small.items()),
        ("flatten", type(original["flatten"]) is bool, "true or false"),
        ("hidden_act", type(act) is str and act in ACT2FN, f"one of {', '.join(sorted(ACT2FN))}"),
        ("architectures", is_list, "a list of names of classes"),
    ):
        require(right, f"{name} of config.json", wanted, original.get(name), COPY_IT)
    of_fields = [] if original["flatten"] else [("field_hidden_size", "nhead")]
    for width, parts in [("hidden_size", "num_attention_heads"), *of_fields]:
        if original[width] % original.get(parts, 8):
            raise ValueError(
                f"Expected {parts} to divide {width} in config.json, found {original.get(parts, 8)} and "
                f"{original[width]}. {COPY_IT}"
            )
    ncols, width = original["ncols"], original["field_hidden_size"]
    if not original["flatten"] and original["hidden_size"] != ncols * width:
        raise ValueError(
            f"Expected hidden_size of config.json to be ncols × field_hidden_size = {ncols} × {width}, found "
            f"{original['hidden_size']}. {COPY_IT}"
        )


def require_sizes(original: Mapping[str, Any], state_dict: Tensors, prefix: str, words: str) -> None:
    """Compare the sizes of `config.json` with the tensors that show them.

    Args:
        original: see `require_settings`, which it has passed.
        state_dict: the original's tensors.
        prefix: of the BERT over rows in their names.
        words: name of the word embedding.

    Raises:
        ValueError: names the size, where it was found and what it is there.
    """
    positions = f"{prefix}embeddings.position_embeddings.weight"
    shapes = [  # size, the tensor that shows it, the axis
        ("vocab_size", words, 0),
        ("max_position_embeddings", positions, 0),
        ("type_vocab_size", f"{prefix}embeddings.token_type_embeddings.weight", 0),
        ("hidden_size", positions, 1),
        ("intermediate_size", f"{prefix}encoder.layer.0.intermediate.dense.weight", 0),
    ]
    stacks = [("num_hidden_layers", f"{prefix}encoder.layer.")]
    if not original["flatten"]:
        shapes.append(("field_hidden_size", words, 1))
        stacks.append(("num_layers", "tab_embeddings.transformer_encoder.layers."))
    sizes: list[tuple[str, int, str]] = []
    for name, tensor, axis in shapes:
        shape = shape_of(state_dict, tensor, 2)
        sizes.append((name, shape[axis], f"{tensor} of shape {shape}"))
    for name, start in stacks:
        layers = {match[1] for key in state_dict if (match := re.match(re.escape(start) + r"(\d+)\.", key))}
        sizes.append((name, len(layers), f"tensors named {start}*"))
    for name, size, where in sizes:
        if (claimed := original.get(name, 1)) != size:
            raise ValueError(
                f"Expected {name} = {claimed:,}, as config.json says, found {size:,} in the checkpoint ({where}). "
                f"{COPY_IT}"
            )


def convert_config(
    original: Mapping[str, Any],
    fields: list[str],
    field_ranges: list[list[int]],
    field_ce: bool | None = None,
    **special: Any,
) -> TabBertConfig:
    """Return our config for the `config.json` of a TabFormer checkpoint.

    Args:
        original: the parsed `config.json`.
        fields: columns in input order, `[SEP]` column included.
        field_ranges: `[start, end)` of each column in our ids.
        field_ce: whether the flat model was trained with `--field_ce`; read from `architectures` if left out.
        special: `vocab_size`, `pad_token_id`, `mask_token_id`, … of our ids.

    Raises:
        ValueError: if the columns do not fit, or it cannot be told which loss the model was trained with.
    """
    if original.get("ncols") != len(fields):
        raise ValueError(
            f"Expected {original.get('ncols')!r} columns (ncols of config.json), found {len(fields)} in the "
            f"vocabulary: {', '.join(fields)}. Pass the config.json and the vocabulary of the same run."
        )
    flatten = bool(original["flatten"])
    return TabBertConfig(
        fields=fields,
        field_ranges=field_ranges,
        field_num_layers=original.get("num_layers", 1),
        field_num_heads=original.get("nhead", 1 if flatten else 8),
        tie_word_embeddings=flatten,
        head_hidden_size=original["hidden_size"],
        cell_states="slice",
        mlm_loss="field" if _trained_with_field_ce(original, flatten, field_ce) else "vocab",
        **{name: original[name] for name in _SAME},
        **{"vocab_size": original["vocab_size"], **special},
    )


def revert_config(config: TabBertConfig, vocab_size: int) -> dict[str, Any]:
    """Return the `config.json` of the original for our configuration."""
    architecture = "TabFormerHierarchicalLM"
    if config.flatten:
        architecture = "TabFormerBertForMaskedLM" if config.mlm_loss == "field" else "BertForMaskedLM"
    original = {
        "architectures": [architecture],
        "model_type": "bert",
        "ncols": config.num_fields,
        "pad_token_id": 0,  # as the original has it: the id of its [UNK]
        "vocab_size": vocab_size,
        **{name: getattr(config, name) for name in _SAME},
    }
    if not config.flatten:
        original |= {"nhead": config.field_num_heads, "num_layers": config.field_num_layers}
    return original


def _trained_with_field_ce(original: Mapping[str, Any], flatten: bool, said: bool | None) -> bool:
    """Return whether a model was trained with `--field_ce`, as `architectures` and the user say."""
    known, source = [True], "a hierarchical model always is"
    if flatten:
        told = {"TabFormerBertForMaskedLM": True, "BertForMaskedLM": False}
        classes = [name for name in told if name in set(original.get("architectures") or [])]
        known, source = [told[name] for name in classes], f"architectures: {classes}"
    if not known and said is None:
        raise ValueError(
            "The config of this flat TabFormer model does not tell its loss (no known class in architectures): pass "
            "--field_ce if it was trained with --field_ce, else --no-field_ce (in Python field_ce=True or False)."
        )
    if known and said is not None and known[0] != said:
        option = "--field_ce" if said else "--no-field_ce"
        raise ValueError(
            f"Expected a model trained {'with' if said else 'without'} --field_ce, as was passed, found one trained "
            f"{'with' if known[0] else 'without'} in its config.json ({source}). Leave out {option} (in Python "
            "field_ce), or pass the config.json of this model."
        )
    return known[0] if known else bool(said)
