"""A whole TabFormer checkpoint, or the published LSTM on one, as our model and processor."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..models.tabbert.configuration_tabbert import TabBertConfig
from ..models.tabbert.modeling_tabbert import TabBertForMaskedLM, TabBertPreTrainedModel
from ..models.tabbert.modeling_tabbert_lstm import TabBertLstmForSequenceClassification
from .checks import Converted, Tensors, fitted_model, shape_of, shown
from .tabformer_config import convert_config, require_settings, require_sizes
from .tabformer_gpt2 import convert_gpt2
from .tabformer_vocabulary import OriginalEncoders, processor_from_original
from .tabformer_weights import convert_state_dict, kind_of_state_dict, name_parts


def convert_tabformer(
    original: Mapping[str, Any],
    state_dict: Tensors,
    tokens: Sequence[str],
    encoders: OriginalEncoders,
    field_ce: bool | None = None,
    labels: Sequence[str] = ("No", "Yes"),
) -> Converted:
    """Build our model and processor with the original's weights and vocabulary.

    Args:
        original: `config.json` of the pretraining checkpoint.
        state_dict: of a TabFormer BERT (hierarchical, flat with or without `--field_ce`), of its GPT-2, or of the
            published BertModel + LSTM + Linear.
        tokens: the vocabulary, `Field_token` in the order of ids.
        encoders: what `encoder_fit.pkl` of the same run holds.
        field_ce: whether a flat model was trained with `--field_ce`; found in `architectures` if left out.
        labels: names of the LSTM model's outputs.

    Raises:
        ValueError: if the parts do not belong together, or a tensor is unknown.
    """
    kind = kind_of_state_dict(state_dict)
    if kind != "gpt2":
        require_settings(original)
    if len(tokens) != original.get("vocab_size"):
        raise ValueError(
            f"Expected a vocabulary of {shown(original.get('vocab_size'))} tokens (vocab_size of config.json), found "
            f"{len(tokens)}. Pass the vocabulary of the same run."
        )
    if kind == "gpt2":
        return convert_gpt2(original, state_dict, tokens, encoders)
    if kind != "lstm" and original["flatten"] != (kind == "flat"):
        raise ValueError(
            f"Expected a {'flat' if original['flatten'] else 'hierarchical'} model, as config.json says, found a "
            f"{kind} one. The files come from different runs."
        )
    if kind == "lstm" and not original["flatten"]:
        raise ValueError(
            "Expected the config.json of a flat pretraining (flatten: true), on which the published LSTM was trained, "
            "found a hierarchical one. Pass that of its own pretraining with --config (in Python `original`)."
        )
    require_sizes(original, state_dict, *name_parts(kind)[:2])
    processor, id_map = processor_from_original(tokens, encoders)
    settings = processor.config_kwargs()
    names, ranges = settings.pop("fields"), settings.pop("field_ranges")
    if kind == "lstm":  # no masked-cell head any more
        field_ce, original = False, {**original, "architectures": None}
    config = convert_config(original, names, ranges, field_ce=field_ce, **settings)
    model_class: type[TabBertPreTrainedModel] = TabBertForMaskedLM
    if kind == "lstm":
        model_class = TabBertLstmForSequenceClassification
        config = _lstm_config(config, state_dict, labels)
    ours, fates = convert_state_dict(state_dict, config, id_map)
    what = "The weights do not fit config.json, or some are missing"
    return Converted(fitted_model(lambda: model_class(config), ours, fates, what), processor, fates, id_map=id_map)


def _lstm_config(config: TabBertConfig, state_dict: Tensors, labels: Sequence[str]) -> TabBertConfig:
    layers = [name for name in state_dict if name.startswith("lstm.weight_ih_l") and "reverse" not in name]
    outputs = shape_of(state_dict, "regressor.weight", 2)[0]
    if len(labels) != outputs:
        raise ValueError(f"Expected {outputs} labels, as the model has outputs, found {list(labels)}. Pass --labels.")
    settings = config.to_dict() | {
        "lstm_hidden_size": shape_of(state_dict, "lstm.weight_hh_l0", 2)[1],
        "lstm_num_layers": len(layers),
        "lstm_bidirectional": "lstm.weight_ih_l0_reverse" in state_dict,
        "classification_loss": "rmse_one_hot",
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return TabBertConfig.from_dict(settings)
