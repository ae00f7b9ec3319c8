"""TabGPT: the paper's GPT-2 over the cells of rows, each cell scored among its own field's ids."""

from typing import Any

import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from ..checked_loading import CheckedLoadingMixin
from .checked_windows import check_sequence_mask, check_shapes
from .configuration_tabgpt import TabGPT2Config
from .generating_tabgpt import generate_rows
from .modeling_tabbert import TabBertMaskedLMOutput, TabBertPreTrainedModel

IGNORED = -100


class TabGPT2LMHeadModel(CheckedLoadingMixin, GPT2LMHeadModel):
    """Predicts each cell of a row from the cells before it and the rows before; generates rows.

    Example:

    ```python
    >>> import torch
    >>> from hf_mmtab.models.tabbert import TabGPT2Config, TabGPT2LMHeadModel
    >>> columns = {"fields": ["city", "amount"], "field_ranges": [[4, 9], [9, 19]], "vocab_size": 19}
    >>> model = TabGPT2LMHeadModel(TabGPT2Config(**columns, n_positions=21, n_embd=8, n_layer=1, n_head=2)).eval()
    >>> model.generate_rows([torch.tensor([[4, 9], [5, 12]])], rows=3).shape
    torch.Size([1, 3, 2])
    ```
    """

    config: TabGPT2Config
    accepts_loss_kwargs = False  # the loss is a mean over this batch

    def __init__(self, config: TabGPT2Config):
        if not config.fields:
            raise ValueError(
                "Expected a TabGPT2Config with fields and field_ranges, found none. "
                "Take them from the fitted processor of the table."
            )
        super().__init__(config)

    check_processor = TabBertPreTrainedModel.check_processor
    generate_rows = generate_rows

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path."""
        return {"encoder": "transformer", "embeddings": "transformer.wte"}

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_field_logits: bool | None = None,
        position_ids: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """Score the cells of rows, or, as `generate` asks for it, the next token of a sequence.

        Args:
            input_ids: shape `(batch, rows, fields)`, global ids; or `(batch, 1 + cells)`, [BOS] and the cells of the
                rows one after another, scored as by `GPT2LMHeadModel` over all ids.
            attention_mask: shape `(batch, rows)`, 1 for a real row; or `(batch, 1 + cells)`.
            labels: with rows only: shape `(batch, rows, fields)`, global ids, -100 where a cell is not judged.
            return_field_logits: also score every cell; the default is to do so only without labels.
            position_ids, logits_to_keep: of a sequence, as in `GPT2LMHeadModel`; `generate` looks for them by name.

        Returns:
            `TabBertMaskedLMOutput`; of a sequence, transformers' output with `logits (batch, 1 + cells, vocab)`.

        Raises:
            ValueError: if shapes do not fit the columns or one another, or the window is too long.
        """
        if input_ids is None or input_ids.dim() != 3:
            if labels is not None:
                raise ValueError("Expected labels beside rows, input_ids of shape (batch, rows, fields).")
            check_sequence_mask(input_ids, attention_mask)
            kwargs |= {"position_ids": position_ids, "logits_to_keep": logits_to_keep}
            return super().forward(input_ids, attention_mask=attention_mask, **kwargs)
        return self._score_rows(input_ids, attention_mask, labels, return_field_logits, **kwargs)

    def _score_rows(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        labels: torch.Tensor | None,
        return_field_logits: bool | None,
        **kwargs: Any,
    ) -> TabBertMaskedLMOutput:
        config = self.config
        batch, rows, fields = input_ids.shape
        if fields != config.num_fields or rows > config.max_rows:
            raise ValueError(
                f"Expected input_ids of shape (batch, at most {config.max_rows} rows, {config.num_fields} fields), "
                f"found {tuple(input_ids.shape)}. Cut shorter windows, or train with more n_positions."
            )
        check_shapes(config, {"input_ids": input_ids}, attention_mask=attention_mask, labels=labels)
        kwargs["use_cache"] = False
        # [BOS] and all cells but the last: each place scores the cell after it.
        # NOTE[DIFF] TabGPT reads no [EOS] behind a window. The original's does, and leaves it out of its loss.
        before = F.pad(input_ids.flatten(1), (1, 0), value=config.bos_token_id)[:, :-1]  # (batch, cells)
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask.repeat_interleave(fields, dim=1), (1, 0), value=1)[:, :-1]
        outputs = self.transformer(before, attention_mask=attention_mask, return_dict=True, **kwargs)
        states = outputs.last_hidden_state.view(batch, rows, fields, -1)  # (batch, rows, fields, hidden)
        loss = sums = correct = counts = field_logits = None
        if labels is not None or return_field_logits is not False:
            field_logits = self.field_logits(states)
        if labels is not None:
            assert field_logits is not None
            losses, right = self._judge(field_logits, labels)  # both (batch, rows, fields)
            judged = labels.ne(IGNORED)
            counts = judged.sum(dim=1).float()
            sums, correct = losses.detach().sum(dim=1), right.sum(dim=1).float()
            loss = (losses.sum(dim=(0, 1)) / judged.sum(dim=(0, 1)).clamp(min=1)).sum()
            field_logits = field_logits if return_field_logits else None
        return TabBertMaskedLMOutput(
            loss=loss,
            field_loss_sums=sums,
            field_correct=correct,
            field_counts=counts,
            field_logits=field_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def field_logits(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return for each field its scores, shape `(batch, rows, ids of the field)`, of states before its cells."""
        words = self.lm_head.weight  # (vocab, hidden)
        ranges = enumerate(self.config.field_ranges)
        return tuple(F.linear(states[:, :, i], words[start:end]) for i, (start, end) in ranges)

    def _judge(self, field_logits: tuple[torch.Tensor, ...], labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss, zero where a cell is not judged, and whether the guess is right, both as `labels`."""
        losses, right = [], []
        for i, (start, _) in enumerate(self.config.field_ranges):
            target = torch.where(labels[..., i] == IGNORED, IGNORED, labels[..., i] - start)  # (batch, rows)
            scores = field_logits[i].float()
            lost = F.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none", ignore_index=IGNORED)
            losses.append(lost.view_as(target))
            right.append(scores.argmax(dim=-1) == target)
        return torch.stack(losses, dim=-1), torch.stack(right, dim=-1)
