"""The original models of `golden/tabformer`, brought over to ours, and the optimizer of their time."""

import math

import torch

from hf_mmtab.converting.tabformer_config import convert_config
from hf_mmtab.converting.tabformer_weights import convert_state_dict
from hf_mmtab.models.tabbert.modeling_tabbert import TabBertForMaskedLM

# Columns of `golden/tabformer/vocab20k/vocab.nb` in order; ids follow the lines of that file.
GOLDEN_FIELDS = [
    "User",
    "Card",
    "Timestamp",
    "Amount",
    "Use Chip",
    "Merchant Name",
    "Merchant City",
    "Merchant State",
    "Zip",
    "MCC",
    "Errors?",
    "SPECIAL",
]
GOLDEN_SPECIAL = {"pad_token_id": 0, "cls_token_id": 3, "sep_token_id": 1, "mask_token_id": 4}


def convert(original, tensors, ranges, name):
    field_ce = None if name == "hier" else name == "flat_field_ce"
    config = convert_config(original, GOLDEN_FIELDS, ranges, field_ce=field_ce, **GOLDEN_SPECIAL)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = config.field_dropout_prob = 0.0
    ours, fates = convert_state_dict(tensors, config)
    model = TabBertForMaskedLM(config)
    model.load_state_dict(ours, strict=True)
    assert {fate.original for fate in fates} == set(tensors)
    return model.eval()


class OldAdamW(torch.optim.Optimizer):
    """AdamW as transformers 3.2 had it: betas .9 .999, eps 1e-6 added *before* the bias correction."""

    def __init__(self, parameters, lr, weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=0, m=torch.zeros_like(parameter), v=torch.zeros_like(parameter))
                state["step"] += 1
                state["m"].lerp_(parameter.grad, 0.1)
                state["v"].mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                correction = math.sqrt(1 - 0.999 ** state["step"]) / (1 - 0.9 ** state["step"])
                parameter.addcdiv_(state["m"], state["v"].sqrt().add_(1e-6), value=-group["lr"] * correction)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
