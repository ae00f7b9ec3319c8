"""Does what `config.json` of TabFormer claims hold? Asked before anything is built from it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

MOST_NAMED = 5  # tensors that a message names
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_ROWS = ("type_vocab_size", "vocab_size", "ncols", "field_hidden_size")
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_OF_FIELDS = ("nhead", "num_layers")  # of the encoder of columns; absent where it has their defaults
COPY_IT = "Pass the config.json that the original wrote beside pytorch_model.bin of the pretraining."


def require_settings(original: Mapping[str, Any]) -> None:
    """Check the types and ranges of `config.json`.

    Raises:
        ValueError: names the key, what it should be and what it is.
    """
    needed = ("flatten", *_SIZES, *_ROWS, "hidden_act", *_SHARES, "initializer_range", "layer_norm_eps")
    if absent := [name for name in needed if name not in original]:
        raise ValueError(
            f"Expected the config.json of a TabFormer checkpoint, found no {absent} in it. {COPY_IT}"
        )
    for name in (*_SIZES, *_ROWS, *(name for name in _OF_FIELDS if name in original)):
        _require(
            original,
            name,
            type(original[name]) is int and original[name] >= 1,
            "a whole number of at least 1",
        )
    for name in _SHARES:
        _require(
            original, name, _is_number(original[name]) and 0 <= original[name] <= 1, "a number from 0 to 1"
        )
    for name in ("initializer_range", "layer_norm_eps"):
        right = _is_number(original[name]) and 0 < original[name] < float("inf")
        _require(original, name, right, "a number above 0")
    _require(original, "flatten", type(original["flatten"]) is bool, "true or false")
    act = original["hidden_act"]
    _require(
        original, "hidden_act", type(act) is str and act in ACT2FN, f"one of {', '.join(sorted(ACT2FN))}"
    )
    named = original.get("architectures")
    right = named is None or (type(named) is list and all(type(one) is str for one in named))
    _require(original, "architectures", right, "a list of names of classes")
    heads = [("hidden_size", "num_attention_heads")]
    heads += [] if original["flatten"] else [("field_hidden_size", "nhead")]
    for width, parts in heads:
        if original[width] % original.get(parts, 8):
            raise ValueError(
                f"Expected {parts} to divide {width} in config.json, found {original.get(parts, 8)} and "
                f"{original[width]}. {COPY_IT}"
            )
    if (
        not original["flatten"]
        and original["hidden_size"] != original["ncols"] * original["field_hidden_size"]
    ):
        raise ValueError(
            f"Expected hidden_size of config.json to be ncols × field_hidden_size = {original['ncols']} × "
            f"{original['field_hidden_size']}, found {original['hidden_size']}. {COPY_IT}"
        )


def require_sizes(
    original: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor], prefix: str, words: str
) -> None:
    """Compare the sizes of `config.json` with the tensors that show them.

    Args:
        original: see `require_settings`, which it has passed.
        state_dict: the original's tensors.
        prefix: of the BERT over rows in their names.
        words: name of the word embedding.

    Raises:
        ValueError: names the size, where it was found and what it is there.
    """
    sizes = {
        "vocab_size": (words, 0, 2),
        "max_position_embeddings": (f"{prefix}embeddings.position_embeddings.weight", 0, 2),
        "type_vocab_size": (f"{prefix}embeddings.token_type_embeddings.weight", 0, 2),
        "hidden_size": (f"{prefix}embeddings.position_embeddings.weight", 1, 2),
        "intermediate_size": (f"{prefix}encoder.layer.0.intermediate.dense.weight", 0, 2),
    }
    if not original["flatten"]:
        sizes["field_hidden_size"] = (words, 1, 2)
    for name, (tensor, axis, dims) in sizes.items():
        shape = shape_of(state_dict, tensor, dims)
        if original[name] != shape[axis]:
            raise _differs(name, original[name], shape[axis], f"{tensor} of shape {shape}")
    stacks = {"num_hidden_layers": f"{prefix}encoder.layer."}
    if not original["flatten"]:
        stacks["num_layers"] = "tab_embeddings.transformer_encoder.layers."
    for name, start in stacks.items():
        numbers = {found[1] for key in state_dict if (found := re.match(re.escape(start) + r"(\d+)\.", key))}
        if original.get(name, 1) != len(numbers):
            raise _differs(name, original.get(name, 1), len(numbers), f"tensors named {start}*")


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read off.

    Raises:
        ValueError: if it is absent, empty or has another number of dimensions.
    """
    if name not in state_dict:
        raise ValueError(
            f"Expected a tensor {name!r} in the checkpoint, found none. Are the files of the same run, and is the "
            "checkpoint whole?"
        )
    shape = tuple(state_dict[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ValueError(
            f"Expected {name!r} to have {dims} dimensions, none of them empty, found shape {shape}. The checkpoint "
            "was changed or is damaged: copy it again."
        )
    return shape


def require_fit(
    build: Callable[[], PreTrainedModel],
    tensors: Mapping[str, torch.Tensor],
    names: Mapping[str, str],
    what: str,
) -> None:
    """Compare the shapes of converted tensors with the model's, without memory for its weights.

    Args:
        build: makes the model; called on the meta device.
        tensors: under our names.
        names: our name → the original's, for messages.
        what: begins the message.

    Raises:
        ValueError: names the tensors that lack, are too many or have other shapes.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    wrong = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of other shapes": [
            f"{names.get(name, name)} {tuple(tensors[name].shape)} in place of {shape}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    found = [
        f"{kind}: {_some([names.get(one, one) for one in which])}" for kind, which in wrong.items() if which
    ]
    if found:
        raise ValueError(f"{what}; found {'; '.join(found)}. Are the files of the same run, and whole?")


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _require(original: Mapping[str, Any], name: str, right: bool, wanted: str) -> None:
    if not right:
        raise ValueError(
            f"Expected {name} of config.json to be {wanted}, found {original[name]!r}. {COPY_IT}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _differs(name: str, claimed: int, found: int, where: str) -> ValueError:
    return ValueError(
        f"Expected {name} = {claimed:,}, as config.json says, found {found:,} in the checkpoint ({where}). {COPY_IT}"
    )
