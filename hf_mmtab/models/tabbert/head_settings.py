"""What is chosen when a head is put on an encoder, and what a head may read of each row."""

# What may be chosen anew when a head is put on a pretrained encoder.
HEAD_SETTINGS = (
    "num_labels",
    "id2label",
    "label2id",
    "problem_type",
    "lstm_hidden_size",
    "lstm_num_layers",
    "lstm_bidirectional",
    "lstm_dropout",
    "mlp_hidden_sizes",
    "pooling",
    "classifier_dropout",
    "label_level",
    "classification_loss",
    "focal_gamma",
    "class_weights",
    "threshold",
    "row_inputs",
    "statistics",
    "statistics_codes",
    "statistics_hidden_size",
    "fusion",
    "trees",
    "seq_len",
    "eval_stride",
    "window_label",
    "max_gap",
    "target_mean",
    "target_std",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "field_dropout_prob",
)

# In the order in which a head gets them. "both" stands for the first two, as in earlier checkpoints.
ROW_PARTS = ("states", "surprise", "windowed_surprise", "statistics")
OF_SURPRISE = frozenset({"surprise", "windowed_surprise"})
STRETCHES = {"hour": 3600, "day": 86_400}  # seconds over which surprises are summed
STRETCH_ROWS = (3, 10)


def parts_of(row_inputs: str | list[str]) -> tuple[str, ...]:
    """Return the names of `ROW_PARTS` that `row_inputs` asks for, in their order.

    Raises:
        ValueError: for another name, or none.
    """
    given = {row_inputs} if isinstance(row_inputs, str) else set(row_inputs)
    if unknown := sorted(given - {*ROW_PARTS, "both"}):
        raise ValueError(
            f"Expected row_inputs among {', '.join(ROW_PARTS)} and both, found {', '.join(unknown)}."
        )
    if not given:
        raise ValueError(f"Expected row_inputs to name some of {', '.join(ROW_PARTS)}, found none.")
    chosen = given | ({"states", "surprise"} if "both" in given else set())
    return tuple(name for name in ROW_PARTS if name in chosen)
