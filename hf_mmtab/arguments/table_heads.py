"""Recipe keys of fine-tuning on tables: which head, which rows a window is judged on, how rare positives are met."""

from dataclasses import dataclass
from typing import Literal

from huggingface_hub.dataclasses import strict

from ..typed_values import key
from .common import FinetuningArguments, ModelArguments, UnknownArguments

# Architectures by what they read; `auto` may become any of them.
LSTMS = ("lstm", "raw_lstm", "fusion", "auto")
ON_AN_ENCODER = ("lstm", "mlp", "pooled", "fusion", "auto")
NETWORKS = (*ON_AN_ENCODER, "raw_lstm")


@strict
@dataclass(kw_only=True)
class TabBertHeadArguments(ModelArguments):
    """A head over windows of rows, on a pretrained encoder or on raw cells."""

    architecture: Literal["lstm", "mlp", "pooled", "raw_lstm", "boosted", "fusion", "auto"] = key(
        "lstm",
        "On the encoder's rows: lstm, mlp or pooled (a linear layer). raw_lstm: an LSTM on raw cells, nothing "
        "pretrained. boosted: LightGBM on statistics of the past, without an encoder. fusion: lstm and boosted, joined "
        "by `fusion_method` (two classes) or as their mean (numbers). These two need the extra `boosting`. auto: "
        "fusion, for more classes or a handful of positive rows lstm or boosted, whichever is better on validation; "
        "lstm without the extra, boosted without `pretrained`.",
    )
    problem_type: Literal["single_label_classification", "regression"] | None = key(
        None, "Default: what the label columns hold, classes or numbers."
    )
    classification_loss: Literal["cross_entropy", "focal", "rmse_one_hot", "mse", "rmse"] | None = key(
        None,
        "Classes: cross_entropy (default), focal, or rmse_one_hot as published. Numbers: rmse (default) or mse.",
        of=NETWORKS,
    )
    lstm_hidden_size: int | None = key(None, "Width of the LSTM; default the encoder's.", least=1, of=LSTMS)
    lstm_num_layers: int = key(1, "Layers of the LSTM.", least=1, of=LSTMS)
    lstm_bidirectional: bool = key(False, "Read windows both ways.", of=LSTMS)
    lstm_dropout: float = key(0.0, "Between layers of the LSTM.", least=0, most=1, of=LSTMS)
    lstm_members: int | None = key(
        None,
        "LSTMs, each trained from its own seed on the same frozen encoder, whose log odds are averaged: where "
        "positives are few, what one alone learns is in part chance. Default: 3 in a fusion of two classes on a frozen "
        "encoder with fewer than 1,000 positive training rows, else 1.",
        least=1,
        most=100,
        of=("lstm", "fusion", "auto"),
    )
    mlp_hidden_sizes: list[int] = key(
        [], "Hidden layers of mlp; default one of the encoder's width.", least=1, of=("mlp",)
    )
    pooling: Literal["last", "mean"] = key(
        "last", "mlp and pooled read the last row, or the mean of all.", of=("mlp", "pooled")
    )
    classifier_dropout: float = key(0.0, "Before the last layer.", least=0, most=1, of=NETWORKS)
    auxiliary_next_row: float = key(
        0.0,
        "Where the encoder thaws (`freeze`): weight of the mean next-row loss of a cell beside the head's loss, so "
        "that it does not forget what it was pretrained for. For an encoder with next_row; 0: none.",
        least=0,
    )
    row_inputs: list[Literal["auto", "states", "surprise", "both", "windowed_surprise", "statistics"]] = key(
        ["auto"],
        "What a neural head gets of each row, one or several: the encoder's states; surprise, a few numbers that say "
        "how unexpected the row was (needs an encoder pretrained with next_row); both; windowed_surprise, the surprise "
        "of the last hour, day, 3 and 10 rows; statistics of the past. Default auto: the head is trained on states, "
        "surprise, both, and surprise with statistics, and the best on validation is taken; without next_row the "
        "states. For a label of numbers the row's own numbers are tried, too, with states and alone.",
        of=ON_AN_ENCODER,
    )
    statistics: list[str] = key(
        ["auto"],
        "Which statistics of the past boosted, fusion and heads with row_inputs: statistics read: names, patterns such "
        "as 'user: *surprise*', or groups (category, row, orderings, lately, usual, labels, rhythm, values, numbers). "
        "Default auto: all of them.",
    )
    network_statistics: list[str] | None = key(
        None,
        "Names or patterns of the statistics that the neural half of a fusion reads; trees read all. Default: "
        "all, or for numbers what row_inputs: auto finds best.",
        of=("fusion", "auto"),
    )
    orderings: dict | None = key(
        None,
        "Name → folder of an encoder that was pretrained with next_row and other entity_columns, such as {merchant: "
        "outputs/merchant_pretrain}: how unexpected a row is among the rows of its merchant is then a statistic. "
        "`predict` and `eval_checkpoint` read it, pipelines do not.",
    )
    label_lag: str | None = key(
        None,
        "How long after its row a label is known, such as 7 days: older labels are then statistics, too (how many, and "
        "their mean, of the entity and of each value). Such rates drift. Default: labels are no statistic.",
    )
    statistics_hidden_size: int = key(64, "Width in which a neural head reads statistics.", least=1, of=ON_AN_ENCODER)
    statistics_embedding: Literal["linear", "periodic"] = key(
        "linear",
        "How a neural head reads statistics: linear, on a normal scale through one linear layer; periodic, each first "
        "embedded by cosines and sines of learned frequencies.",
        of=ON_AN_ENCODER,
    )
    fusion_folds: int = key(
        2,
        "fusion of two classes: how often the LSTM is trained anew on the labels before a moment, to score training "
        "rows after it; what joins both halves is fitted on these scores.",
        least=1,
        of=("fusion", "auto"),
    )
    fusion_method: Literal["auto", "stack", "rank_average", "trees"] = key(
        "auto",
        "fusion of two classes: how both halves are joined. stack: a logistic regression of their log odds; "
        "rank_average: the mean of their ranks; trees: boosted trees on statistics, surprises and the LSTM's log odds. "
        "Default auto: stack, unless another way, or a half alone, is ahead of it on validation by more than chance.",
        of=("fusion", "auto"),
    )
    field_hidden_size: int | None = key(
        None, "Width of raw_lstm's cells without `pretrained` (64).", least=1, of=("raw_lstm",)
    )

    def validate_auto(self):
        for name in ("row_inputs", "statistics"):
            if "auto" in (given := getattr(self, name)) and len(given) > 1:
                others = ", ".join(one for one in given if one != "auto")
                raise ValueError(
                    f"Expected {name} to be auto alone, or names, found auto beside {others}. Take one of them out."
                )

    def validate_row_inputs(self):
        if "both" in self.row_inputs and {"states", "surprise"} & {*self.row_inputs}:
            raise ValueError(
                f"Expected each name once in row_inputs, found {self.row_inputs}, where both stands for states and "
                "surprise. Take one of them out."
            )


@strict
@dataclass(kw_only=True)
class TableRunArguments(FinetuningArguments, UnknownArguments):
    """What windows are judged on, how training meets rare positives, and what a run does around its training."""

    window_label: Literal["last", "any", "every"] = key(
        "last",
        "last: the label of a window's last row, which sees nothing later. any: 1 if a row of the window "
        "is positive (the paper). every: one label per row; the row also sees those after it in its window, unless "
        "the encoder was pretrained with next_row.",
    )
    upsample_positives: float | None = key(
        None,
        "Share of positives among the windows of a training epoch: positives are repeated, negatives are "
        "not. Validation and test stay as they are.",
    )
    negatives_per_epoch: float = key(1.0, "Share of the negative windows that an epoch draws anew.")
    correct_prior: bool = key(
        True,
        "After sampling or class weights, bring probabilities back to how often each class occurs in "
        "training (cross_entropy only). It is written into the classifier's bias.",
    )
    label_share: float = key(
        1.0,
        "Share of the training labels that are used: those of whole histories (of days, where there are fewer than 50 "
        "histories), drawn by split_seed, positive ones as often as others. The rest counts as unknown.",
    )
    resample_by: Literal["auto", "entity", "day", "row"] = key(
        "auto", "What they draw: whole histories or days (auto: whichever are fewer), or single rows."
    )

    def __post_init__(self) -> None:
        for name, is_whole in {"upsample_positives": False, "negatives_per_epoch": True, "label_share": True}.items():
            share = getattr(self, name)
            if share is not None and not (0 < share < 1 or (is_whole and share == 1)):
                limit = "at most 1" if is_whole else "below 1"
                raise ValueError(f"Expected {name} above 0 and {limit}, found {share}. Correct it.")
