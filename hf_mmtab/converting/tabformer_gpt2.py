"""TabFormer's GPT-2, the model that generates rows, as our model and processor; and the way back."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.activations import ACT2FN

from ..models.tabbert.configuration_tabgpt import TabGPT2Config
from ..models.tabbert.modeling_tabgpt import TabGPT2LMHeadModel
from .checks import Converted, TensorFate, Tensors, fitted_model, require, require_number, shape_of, shown
from .tabformer_config import COPY_IT
from .tabformer_vocabulary import OriginalEncoders, processor_from_original
from .tabformer_weights import MovedIds, moved_back, require_equal

WORDS, POSITIONS, HEAD = "transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"
_CONSTANT = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")  # the causal mask
_LAYER = re.compile(r"transformer\.h\.(\d+)\.")
_SHARES = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
_SMALL = ("layer_norm_epsilon", "initializer_range")
_SIZES = ("n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function")


def convert_gpt2(
    original: Mapping[str, Any], state_dict: Tensors, tokens: Sequence[str], encoders: OriginalEncoders
) -> Converted:
    """Build our model and processor with the weights and vocabulary of a GPT-2.

    Args:
        original: `config.json` of the checkpoint.
        state_dict: of the original's `TabFormerGPT2LMHeadModel`.
        tokens: the vocabulary, `Field_token` in the order of ids.
        encoders: what `encoder_fit.pkl` of the same run holds.

    Raises:
        ValueError: if the parts do not belong together, or a tensor is unknown.
    """
    sizes = _sizes(original, state_dict)
    processor, id_map = processor_from_original(tokens, encoders, sep_column=False)
    config = TabGPT2Config(**processor.config_kwargs(), bos_token_id=processor.bos_token_id, **sizes)
    ids = MovedIds(config, shape_of(state_dict, WORDS, 2)[0], id_map)
    ours: dict[str, torch.Tensor] = {}
    fates = []
    for name, tensor in state_dict.items():
        if _CONSTANT.fullmatch(name):
            fates.append(TensorFate(name, None, "dropped: constant mask of later cells"))
        elif name == HEAD:
            require_equal(state_dict, name, WORDS)
            ours[name] = ids.embeddings(name, tensor)
            fates.append(TensorFate(name, name, f"tied to {WORDS}"))
        else:
            ours[name] = ids.embeddings(name, tensor) if name == WORDS else tensor.clone()
            fates.append(TensorFate(name, name, "kept"))
    what = "The weights do not fit config.json, or some are missing"
    model = fitted_model(lambda: TabGPT2LMHeadModel(config), ours, fates, what)
    return Converted(model, processor, fates, id_map=id_map)


def revert_gpt2(
    state_dict: Mapping[str, torch.Tensor], config: TabGPT2Config, id_map: torch.Tensor
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return `config.json` and tensors for the original code, with the tied tensor and the masks repeated.

    Args:
        state_dict: of our `TabGPT2LMHeadModel`.
        config: its config.
        id_map: our id of each original id, as `convert_gpt2` gave it.
    """
    positions, words = config.n_positions, moved_back(state_dict[WORDS], id_map)
    tensors = {**state_dict, WORDS: words, HEAD: words}
    for layer in range(config.n_layer):
        mask = torch.ones(positions, positions, dtype=torch.uint8).tril()
        tensors[f"transformer.h.{layer}.attn.bias"] = mask[None, None]
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), 50256)  # GPT-2's own, which the original leaves as they are
    same = {name: getattr(config, name) for name in (*_SIZES, *_SHARES, *_SMALL)}
    own = {"architectures": ["TabFormerGPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": positions}
    return {**own, **ends, "vocab_size": len(id_map), **same}, tensors


def _sizes(original: Mapping[str, Any], state_dict: Tensors) -> dict[str, Any]:
    """Return sizes as `GPT2Config` names them, checked against the tensors that show them.

    Raises:
        ValueError: names the setting, what it should be and what it is.
    """
    positions, width = shape_of(state_dict, POSITIONS, 2)
    layers = len({match[1] for name in state_dict if (match := _LAYER.match(name))})
    shapes = {"n_positions": positions, "n_embd": width, "n_layer": layers}
    for name, size in shapes.items():
        if (claimed := original.get(name)) != size:
            raise ValueError(
                f"Expected {name} = {shown(claimed)}, as config.json says, found {size:,} in the checkpoint. {COPY_IT}"
            )
    heads, inner = original.get("n_head"), original.get("n_inner")
    require_number("n_head of config.json", heads, 1, width, remedy=COPY_IT)
    if width % heads:  # type: ignore[operator]
        raise ValueError(f"Expected n_head of config.json to divide n_embd={width}, found {heads}. {COPY_IT}")
    if inner is not None:
        require_number("n_inner of config.json", inner, 1, 2**20, remedy=COPY_IT)
    numbers = {name: original[name] for name in (*_SHARES, *_SMALL) if name in original}
    for name, value in numbers.items():
        require_number(f"{name} of config.json", value, 0, 1, float, COPY_IT)
    act = original.get("activation_function", "gelu_new")
    is_known, known = type(act) is str and act in ACT2FN, f"one of {', '.join(sorted(ACT2FN))}"
    require(is_known, "activation_function of config.json", known, act, COPY_IT)
    return {**shapes, "n_head": heads, "n_inner": inner, "activation_function": act, **numbers}
