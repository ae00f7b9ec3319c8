"""Settings of a head, and what a head may read of each row."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .tree_files import trees_file


@strict
class TabBertHeadConfig(PreTrainedConfig):
    """The part of `TabBertConfig` that is chosen when a head is put on an encoder."""

    lstm_hidden_size: int | None = None  # None: hidden_size
    lstm_num_layers: int = 1
    lstm_bidirectional: bool = False
    lstm_dropout: float | int = 0.0  # between LSTM layers
    lstm_members: int = 1  # LSTMs whose logits are averaged
    mlp_hidden_sizes: list[int] | None = None  # None: [hidden_size]
    # MLP and pooled heads read the "last" real row, or the "mean" of the real rows
    pooling: Literal["last", "mean"] = "last"
    classifier_dropout: float | int = 0.0
    label_level: Literal["window", "row"] = "window"  # one label, or one label per row
    # None: cross_entropy, or rmse for regression
    classification_loss: Literal["cross_entropy", "focal", "rmse_one_hot", "mse", "rmse"] | None = None
    focal_gamma: float | int = 2.0
    class_weights: list[float] | None = None
    threshold: float | None = None  # decision threshold on the positive class, tuned on validation
    # what heads get of a row, one or several of `ROW_PARTS`: "both" are the states and, with `next_row`, the surprise
    row_inputs: str | list[str] = "states"
    # names of the numbers about each row and its past that the model reads
    statistics: list[str] | None = None
    # how many of them, the first ones, are codes of categories, which only trees read
    statistics_codes: int = 0
    # names of the statistics that a neural head reads where trees beside it read more; None: all but the codes
    network_statistics: list[str] | None = None
    statistics_hidden_size: int = 64  # width in which a neural head reads them
    # what it makes of each before that: nothing, or an embedding by cosines and sines of learned frequencies
    statistics_embedding: Literal["linear", "periodic"] = "linear"
    # while the encoder trains with a head, the weight of the mean loss of predicting the cells of each row beside the
    # head's own loss
    auxiliary_next_row: float | int = 0.0
    fusion: dict[str, Any] | None = None  # how a fused model comes to its scores; {}: not fitted yet
    trees: dict[str, int] | None = None  # name of boosted trees → how many files of them there are, one a target
    trees_sha256: dict[str, str] | None = None  # file of boosted trees → its hash; LightGBM crashes on damaged ones
    seq_len: int | None = None  # rows of a window
    eval_stride: int | None = None  # rows between windows that judge every row; None: half a window
    # the label of a window: that of its "last" row, "any" (1 if a row is positive), or one for "every" row
    window_label: Literal["last", "any", "every"] | None = None
    max_gap: float | int | None = None  # seconds; no window spans a longer pause
    target_mean: list[float] | None = None  # regression: of each target in training; logits are in its units
    target_std: list[float] | None = None

    @property
    def numbers_read(self) -> list[int]:
        """Places of the statistics that a neural head reads."""
        names, codes = self.statistics or [], self.statistics_codes
        read = set(names if self.network_statistics is None else self.network_statistics)
        return [place for place in range(codes, len(names)) if names[place] in read]

    @property
    def files_beside_weights(self) -> list[str]:
        """Names of the files, beside configuration and weights, without which the model does not load."""
        return [trees_file(name, number) for name, count in (self.trees or {}).items() for number in range(count)]


OF_ANOTHER_HEAD = ("statistics", "network_statistics", "fusion", "trees", "trees_sha256")  # None on a new head
# What may be chosen anew on a pretrained encoder: labels, the settings above, and dropout.
HEAD_SETTINGS = (
    *("num_labels", "id2label", "label2id", "problem_type", *TabBertHeadConfig.__annotations__),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "field_dropout_prob"),
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
        raise ValueError(f"Expected row_inputs among {', '.join(ROW_PARTS)} and both, found {', '.join(unknown)}.")
    if not given:
        raise ValueError(f"Expected row_inputs to name some of {', '.join(ROW_PARTS)}, found none.")
    chosen = given | ({"states", "surprise"} if "both" in given else set())
    return tuple(name for name in ROW_PARTS if name in chosen)
