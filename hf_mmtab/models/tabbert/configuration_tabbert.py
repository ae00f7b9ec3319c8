"""Everything needed to rebuild a TabBERT model: columns, id ranges, sizes, heads and losses."""

import math
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from ..checked_config import (
    MOST_LAYERS,
    TINY,
    refuse_absurd_labels,
    refuse_absurd_sizes,
    refuse_misspelt,
    refuse_outside,
    refuse_repeated,
    refuse_unknown_names,
)
from ..checked_config_file import ConfigFileMixin
from ..travelling import TravellingMixin
from .checked_columns import require_columns
from .head_settings import OF_SURPRISE, STRETCH_ROWS, STRETCHES, TabBertHeadConfig, parts_of

SIZES = (
    "hidden_size", "num_attention_heads", "intermediate_size", "field_hidden_size", "field_num_heads",
    "field_intermediate_size", "max_position_embeddings", "type_vocab_size", "lstm_hidden_size", "head_hidden_size",
    "mlp_hidden_sizes", "statistics_hidden_size",
)  # fmt: skip

_SHARE, _POSITIVE, _ANY = (0, 1), (TINY, math.inf), (0, math.inf)
BOUNDS = {
    "field_dropout_prob": _SHARE, "hidden_dropout_prob": _SHARE, "attention_probs_dropout_prob": _SHARE,
    "lstm_dropout": _SHARE, "classifier_dropout": _SHARE, "threshold": _SHARE, "initializer_range": _ANY,
    "position_initializer_range": _ANY, "layer_norm_eps": _ANY, "focal_gamma": _ANY, "class_weights": _ANY,
    "statistics_codes": _ANY, "seq_len": (1, math.inf), "eval_stride": (1, math.inf), "max_gap": _ANY,
    "target_mean": (-math.inf, math.inf), "target_std": _POSITIVE, "adaptive_softmax_div_value": _POSITIVE,
}  # fmt: skip


@strict
class TabBertConfig(ConfigFileMixin, TravellingMixin, TabBertHeadConfig):  # type: ignore[misc]
    """Configuration of the TabBERT models; `TabBertHeadConfig` has the settings of heads.

    A table has one token per cell. `fields` names the columns in the order of the input, and
    `field_ranges[i]` is the half-open range `[start, end)` of the ids that column `i` may hold.

    Sizes are free: attention heads and hidden size do not depend on the number of columns. The sizes of
    the paper (Padhi et al. 2021, arXiv:2011.01843) are a preset, [`TabBertConfig.paper`].

    Example:

    ```python
    >>> from hf_mmtab.models.tabbert import TabBertConfig
    >>> columns = {"fields": ["city", "amount"], "field_ranges": [[4, 9], [9, 19]], "vocab_size": 19}
    >>> TabBertConfig.paper(**columns).hidden_size
    128
    ```
    """

    model_type = "tabbert"

    # columns and ids
    fields: list[str] = field(default_factory=list)  # names of the columns, in input order
    field_ranges: list[list[int]] = field(default_factory=list)  # [start, end) of the ids of each column
    vocab_size: int = 0
    pad_token_id: int | None = 0
    cls_token_id: int | None = 1
    sep_token_id: int | None = 2
    mask_token_id: int | None = 3
    processor_fingerprint: str | None = None  # of the processor whose ids the weights belong to

    # encoder
    # Cells of numbers and calendar parts. "bins": a vector for each id. "embedding": a function of the bin's number, or
    # of the part's place in its cycle. "both": their sum. What is predicted are ids in any case.
    numeric: Literal["bins", "embedding", "both"] = "bins"
    # field of `numeric_ranges` → place of each bin on the scale of a normal distribution
    bin_numbers: dict[str, list[float]] | None = None
    # field → [start, end) of its ids in the order of a cycle, such as the hours of a day
    cycle_ranges: dict[str, list[int]] | None = None
    flatten: bool = False  # False: fields of a row, then rows. True: one sequence of all cells
    field_hidden_size: int = 64  # width of a cell's embedding (hierarchical)
    field_num_layers: int = 1
    field_num_heads: int = 8
    field_intermediate_size: int | None = None  # None: field_hidden_size, as the original
    field_dropout_prob: float | int = 0.1
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512  # rows, or cells when flat
    type_vocab_size: int = 1
    initializer_range: float = 0.02
    position_initializer_range: float | int | None = None  # None: see `position_std`
    layer_norm_eps: float = 1e-12

    # Each row sees only itself and earlier rows, and its cells are scored from the row before: pretraining predicts the
    # next row instead of masked cells, and one window judges every row of it by its past alone.
    next_row: bool = False

    # masked-cell heads
    # "field": sum over fields, each over its own ids. "vocab": one softmax over all ids
    mlm_loss: Literal["field", "vocab"] = "field"
    # hierarchical: "linear" map of the row to its cells, or "slice" of it (original)
    cell_states: Literal["linear", "slice"] = "linear"
    head_hidden_size: int | None = None  # None: width of the cell embeddings
    tie_word_embeddings: bool = True  # score cells with their own embeddings
    adaptive_softmax_threshold: int | None = None  # fields with more ids use an adaptive softmax; None: never
    adaptive_softmax_cutoffs: list[int] | None = None  # None: 2 % and 20 % of the field's ids
    adaptive_softmax_div_value: float | int = 4.0
    # share of the target that goes to the adjacent bins of numeric fields
    neighbor_smoothing: float | int = 0.0
    # field → [start, end) of its bins in increasing order
    numeric_ranges: dict[str, list[int]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_absurd_labels(kwargs)
        refuse_unknown_names({**vars(self), **kwargs})
        refuse_misspelt(type(self), kwargs, saved=self.transformers_version is not None)
        super().__post_init__(**kwargs)

    def _travels_as(self) -> dict[str, str]:
        saved = next((name for name in self.architectures or [] if name.endswith("SequenceClassification")), None)
        return {
            "AutoConfig": "TabBertConfig",
            "AutoModel": "TabBertModel",
            "AutoModelForMaskedLM": "TabBertForMaskedLM",
            "AutoModelForSequenceClassification": saved or "TabBertLstmForSequenceClassification",
        }

    @property
    def cell_hidden_size(self) -> int:
        """Width of one cell's embedding: `field_hidden_size`, or `hidden_size` when flat."""
        return self.hidden_size if self.flatten else self.field_hidden_size

    @property
    def row_width(self) -> int:
        """Width of the vectors that a head gets for each row (for each cell when flat)."""
        encoded = self.encoded_widths
        own = sum(encoded[part] for part in self.row_parts if part in encoded)
        return own + (self.statistics_hidden_size if "statistics" in self.row_parts else 0)

    @property
    def row_parts(self) -> tuple[str, ...]:
        """What a neural head reads of each row."""
        return parts_of(self.row_inputs)

    @property
    def encoded_widths(self) -> dict[str, int]:
        """What comes of the encoder for each row, in its order → width: for head, auxiliary loss, trees of a fusion."""
        parts = {*self.row_parts, *(OF_SURPRISE if self.fusion is not None and self.next_row else ())}
        parts |= {"surprise"} if self.auxiliary_next_row else set()
        widths = {
            "states": self.hidden_size,
            "surprise": self.surprise_width,
            "windowed_surprise": (self.num_fields + 1) * (len(STRETCHES) + len(STRETCH_ROWS)),
        }
        return {part: width for part, width in widths.items() if part in parts}

    @property
    def surprise_width(self) -> int:
        """Numbers that say how unexpected a row was: fields' surprises twice, their rarity, binned fields' ranks."""
        return 3 * self.num_fields + len(self.numeric_ranges or {})

    @property
    def decoder_hidden_size(self) -> int:
        """Width of the vectors that score the ids of a masked cell."""
        return self.head_hidden_size if self.head_hidden_size is not None else self.cell_hidden_size

    @property
    def position_std(self) -> float:
        """Standard deviation of position embeddings at the start.

        NOTE[DIFF] Position embeddings of a hierarchical model start as large as the row vectors that they are added
        to. The original's start at 0.02 (so do those of our preset of the paper), some twenty times smaller, and
        the model then hardly learns what follows from the rows right before and after.
        """
        if self.position_initializer_range is not None:
            return float(self.position_initializer_range)
        width = 1 if self.flatten else self.num_fields * self.field_hidden_size
        return self.initializer_range * math.sqrt(width)

    @property
    def num_fields(self) -> int:
        """Number of columns."""
        return len(self.fields)

    @classmethod
    def paper(
        cls,
        fields: list[str],
        field_ranges: list[list[int]],
        vocab_size: int,
        flatten: bool = False,
        field_hidden_size: int = 64,
        **kwargs: Any,
    ) -> "TabBertConfig":
        """Return the paper's sizes: 12 layers, as many attention heads as columns, intermediate size 3072.

        Hierarchical: hidden size `columns × field_hidden_size`; cells are slices of the row's state and are
        scored by vectors of the hidden size, untied. Flat: hidden size `field_hidden_size`, tied.
        Source: the model classes and defaults of IBM/TabFormer at ebb7cd6. `kwargs` win over the preset.
        """
        columns = len(fields)
        hidden_size = field_hidden_size if flatten else columns * field_hidden_size
        preset = {
            "hidden_size": hidden_size,
            "num_hidden_layers": 12,
            "num_attention_heads": columns,
            "intermediate_size": 3072,
            "type_vocab_size": 2,
            "tie_word_embeddings": flatten,
            "head_hidden_size": hidden_size,
            "cell_states": "slice",
            "position_initializer_range": 0.02,
        }
        return cls(
            fields=fields,
            field_ranges=field_ranges,
            vocab_size=vocab_size,
            flatten=flatten,
            field_hidden_size=field_hidden_size,
            **{**preset, **kwargs},
        )

    def sequence_config(self, attn_implementation: str | None = None) -> BertConfig:
        """Return the configuration of the BERT over rows (over cells when flat)."""
        return BertConfig(
            vocab_size=1,  # its input is `inputs_embeds`
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            hidden_act=self.hidden_act,
            hidden_dropout_prob=self.hidden_dropout_prob,
            attention_probs_dropout_prob=self.attention_probs_dropout_prob,
            max_position_embeddings=self.max_position_embeddings,
            type_vocab_size=self.type_vocab_size,
            initializer_range=self.initializer_range,
            position_initializer_range=self.position_std,  # type: ignore[call-arg]
            layer_norm_eps=self.layer_norm_eps,
            is_decoder=self.next_row,  # only for its attention mask: no row sees a later one
            use_cache=False,  # type: ignore[call-arg]
            attn_implementation=attn_implementation,  # type: ignore[call-arg]
        )

    def validate_columns(self):
        require_columns(self.fields, self.field_ranges, self.vocab_size)

    def validate_numeric_ranges(self):
        known = dict(zip(self.fields, self.field_ranges, strict=False))
        for name, (start, end) in (self.numeric_ranges or {}).items():
            if name not in known:
                raise ValueError(f"Expected numeric_ranges of known columns {list(known)}, found {name!r}.")
            if not known[name][0] <= start < end <= known[name][1]:
                raise ValueError(
                    f"Expected numeric_ranges of column {name!r} inside its ids {known[name]}, found {[start, end]}."
                )
        if not 0 <= self.neighbor_smoothing < 1:
            raise ValueError(f"neighbor_smoothing must be in [0, 1), got {self.neighbor_smoothing}.")
        if self.neighbor_smoothing > 0 and not self.numeric_ranges:
            raise ValueError("neighbor_smoothing needs numeric_ranges: which ids of which columns are ordered bins.")

    def validate_numeric(self):
        if self.numeric == "bins":
            return
        if not self.bin_numbers and not self.cycle_ranges:
            raise ValueError(
                f"numeric={self.numeric!r} needs bin_numbers or cycle_ranges: take them from the fitted processor, "
                f"`config_kwargs(numeric={self.numeric!r})`. A table without numbers and calendar parts has none."
            )
        ranges = self.numeric_ranges or {}
        for name, numbers in (self.bin_numbers or {}).items():
            if name not in ranges:
                raise ValueError(f"Expected bin_numbers of columns in numeric_ranges {list(ranges)}, found {name!r}.")
            start, end = ranges[name]
            if len(numbers) != end - start or not all(map(math.isfinite, numbers)):
                raise ValueError(
                    f"Expected a finite number in bin_numbers for each bin of column {name!r} in numeric_ranges "
                    f"({end - start}), found {len(numbers)}: {numbers[:3]}, …"
                )
        known = dict(zip(self.fields, self.field_ranges, strict=False))
        for name, (start, end) in (self.cycle_ranges or {}).items():
            if name not in known or not known[name][0] <= start < end <= known[name][1]:
                raise ValueError(
                    f"Expected cycle_ranges inside the ids of known columns {known}, found {[start, end]} of {name!r}."
                )

    def validate_next_row(self):
        if self.next_row and self.flatten:
            raise ValueError("next_row needs rows as units: it does not go with flatten=True.")
        if "statistics" in self.row_parts and (self.flatten or not self.statistics):
            raise ValueError(
                "row_inputs with statistics needs their names (`statistics`) and rows as units (flatten=False)."
            )
        if self.auxiliary_next_row < 0 or (self.auxiliary_next_row and not self.next_row):
            raise ValueError(
                "auxiliary_next_row is a weight of at least 0, and above 0 it needs an encoder that was pretrained to "
                f"predict the next row (next_row=True), got {self.auxiliary_next_row} and next_row={self.next_row}."
            )
        if OF_SURPRISE & set(self.row_parts) and not self.next_row:
            raise ValueError(
                f"row_inputs={self.row_inputs!r} needs an encoder that was pretrained to predict the next row "
                "(next_row=True), found next_row=False. Pretrain with next_row: true, or leave row_inputs out."
            )

    def validate_sizes(self):
        refuse_absurd_sizes(self, ("num_hidden_layers", "field_num_layers"), least=0, most=MOST_LAYERS)
        refuse_absurd_sizes(self, ("lstm_num_layers", "lstm_members"), most=MOST_LAYERS)
        refuse_absurd_sizes(self, SIZES)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, "
                f"got {self.hidden_size} and {self.num_attention_heads}."
            )
        if not self.flatten and self.field_hidden_size % self.field_num_heads:
            raise ValueError(
                f"field_hidden_size must be a multiple of field_num_heads, "
                f"got {self.field_hidden_size} and {self.field_num_heads}."
            )
        sliced = not self.flatten and self.cell_states == "slice" and bool(self.fields)
        if sliced and self.hidden_size != self.num_fields * self.field_hidden_size:
            raise ValueError(
                f"cell_states='slice' needs hidden_size = columns × field_hidden_size = "
                f"{self.num_fields * self.field_hidden_size}, got {self.hidden_size}. "
                "Use cell_states='linear'."
            )
        if self.tie_word_embeddings and self.decoder_hidden_size != self.cell_hidden_size:
            raise ValueError(
                f"tie_word_embeddings needs head_hidden_size = width of the cell embeddings = "
                f"{self.cell_hidden_size}, got {self.head_hidden_size}. "
                "Leave head_hidden_size out, or set tie_word_embeddings=False."
            )

    def validate_adaptive_softmax(self):
        if self.adaptive_softmax_threshold is None:
            return
        clusters = 2 if self.adaptive_softmax_cutoffs is None else len(self.adaptive_softmax_cutoffs)
        if self.decoder_hidden_size < self.adaptive_softmax_div_value**clusters:
            raise ValueError(
                f"The last cluster of the adaptive softmax would have no width: head_hidden_size="
                f"{self.decoder_hidden_size} divided {clusters} times by adaptive_softmax_div_value="
                f"{self.adaptive_softmax_div_value}. Use wider cells (field_hidden_size of at least "
                f"{math.ceil(self.adaptive_softmax_div_value**clusters)}), a smaller divisor or fewer cutoffs."
            )

    def validate_numbers(self):
        refuse_outside(self, BOUNDS)
        if self.statistics_codes > len(self.statistics or []):
            raise ValueError(
                f"Expected statistics_codes to count some of the {len(self.statistics or [])} statistics, found "
                f"{self.statistics_codes}. Correct it."
            )

    def validate_names(self):
        refuse_repeated(self, ("statistics", "network_statistics", "row_inputs"))
        if (
            isinstance(self.row_inputs, list)
            and "both" in self.row_inputs
            and {"states", "surprise"} & {*self.row_inputs}
        ):
            raise ValueError(
                f"Expected each name once in row_inputs, found {self.row_inputs}, where both stands for states and "
                "surprise. Remove it."
            )
        if unknown := sorted({*(self.network_statistics or [])} - {*(self.statistics or [])}):
            raise ValueError(f"Expected network_statistics among statistics, found {', '.join(unknown)}. Correct it.")

    def validate_choices(self):
        if self.mlm_loss == "vocab" and (self.adaptive_softmax_threshold is not None or self.neighbor_smoothing):
            raise ValueError("adaptive_softmax_threshold and neighbor_smoothing need mlm_loss='field'.")
        regression = self.problem_type == "regression"
        if self.classification_loss is not None and regression != (self.classification_loss in ("mse", "rmse")):
            raise ValueError(
                f"classification_loss={self.classification_loss!r} does not fit problem_type="
                f"{self.problem_type!r}: mse and rmse are for regression, the others for classes."
            )
        for name in ("target_mean", "target_std"):
            values = getattr(self, name)
            if values is not None and (not regression or len(values) != self.num_labels):
                raise ValueError(
                    f"Expected {name} only with problem_type='regression', one per target ({self.num_labels}), found "
                    f"{values} with problem_type={self.problem_type!r}."
                )
        if self.class_weights is not None:
            if regression:
                raise ValueError("class_weights do not apply to problem_type='regression'.")
            if self.classification_loss not in (None, "cross_entropy", "focal"):
                raise ValueError(f"class_weights do not apply to classification_loss={self.classification_loss!r}.")
            if len(self.class_weights) != self.num_labels:
                raise ValueError(
                    f"Expected one of class_weights per label ({self.num_labels}), found {len(self.class_weights)}."
                )
