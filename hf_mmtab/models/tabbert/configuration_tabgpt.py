"""Everything needed to rebuild a TabGPT: columns and id ranges, and the sizes of its GPT-2."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import GPT2Config

from ..checked_config import MOST_LAYERS, refuse_absurd_sizes, refuse_misspelt, refuse_unknown_names
from ..checked_config_file import ConfigFileMixin
from ..travelling import TravellingMixin
from .checked_columns import require_columns


@strict
class TabGPT2Config(ConfigFileMixin, TravellingMixin, GPT2Config):  # type: ignore[misc]
    """Configuration of `TabGPT2LMHeadModel`: a GPT-2 over the cells of a window's rows (Padhi et al. 2021).

    A table has one token per cell; the cells of the rows follow one another behind one [BOS]. The sizes are those of
    `GPT2Config`, under its names.

    Example:

    ```python
    >>> from hf_mmtab.models.tabbert import TabGPT2Config
    >>> columns = {"fields": ["city", "amount"], "field_ranges": [[4, 9], [9, 19]], "vocab_size": 19}
    >>> TabGPT2Config(**columns, n_positions=21).max_rows
    10
    ```
    """

    model_type = "tabgpt2"

    fields: list[str] = field(default_factory=list)  # names of the columns, in input order
    field_ranges: list[list[int]] = field(default_factory=list)  # [start, end) of the ids of each column
    numeric_ranges: dict[str, list[int]] | None = None  # field → [start, end) of its bins, increasing
    vocab_size: int = 0
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1  # stands before the first row of a window
    eos_token_id: int | list[int] | None = None  # a history ends after as many rows as were asked for
    cls_token_id: int | None = 1
    sep_token_id: int | None = 2
    mask_token_id: int | None = 3
    processor_fingerprint: str | None = None  # of the processor whose ids the weights belong to

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_names({**vars(self), **kwargs})
        refuse_misspelt(type(self), kwargs, saved=self.transformers_version is not None)
        super().__post_init__(**kwargs)

    def _travels_as(self) -> dict[str, str]:
        return {"AutoConfig": "TabGPT2Config", "AutoModelForCausalLM": "TabGPT2LMHeadModel"}

    @property
    def num_fields(self) -> int:
        """Number of columns."""
        return len(self.fields)

    @property
    def max_rows(self) -> int:
        """Rows of the longest window."""
        return (self.n_positions - 1) // max(1, self.num_fields)

    @property
    def next_row(self) -> bool:
        """True: each cell is predicted from what stands before it, and none is masked."""
        return True

    @property
    def mlm_loss(self) -> str:
        """How losses are joined, as `TabBertConfig` has it: summed over fields."""
        return "field"

    def validate_columns(self) -> None:
        require_columns(self.fields, self.field_ranges, self.vocab_size)

    def validate_sizes(self) -> None:
        refuse_absurd_sizes(self, ("n_layer",), most=MOST_LAYERS)
        refuse_absurd_sizes(self, ("n_head", "n_embd", "n_inner", "n_positions"))

    def validate_positions(self) -> None:
        if self.fields and self.n_positions <= self.num_fields:
            raise ValueError(
                f"Expected n_positions above {self.num_fields}, [BOS] and at least one row of {self.num_fields} "
                f"cells, found {self.n_positions}."
            )

    def validate_token_ids(self) -> None:
        known: dict[str, Any] = {"pad_token_id": self.pad_token_id, "bos_token_id": self.bos_token_id}
        for name, one in known.items():
            if self.fields and (one is None or not 0 <= one < self.vocab_size):
                raise ValueError(f"Expected {name} within 0 and vocab_size={self.vocab_size}, found {one}.")
