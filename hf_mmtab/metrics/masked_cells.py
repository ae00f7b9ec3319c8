"""Loss and accuracy of masked cells, per field, over batches and processes."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import EvalPrediction


class MaskedCellMetrics:
    """A `compute_metrics` for Trainer under `batch_eval_metrics`, so that no prediction is kept.

    A model's outputs, behind its loss, are `field_loss_sums`, `field_correct` and `field_counts`, each
    `(batch, fields)`; Trainer has gathered them over all processes, and dropped rows that padded the last batch.

    Metrics: `masked_loss` in nats (the sum over fields of the mean over the field's masked cells, or with
    `sum_over_fields=False` the mean over all masked cells), `accuracy` over all masked cells, and `loss/FIELD`,
    `accuracy/FIELD` of every field that had a masked cell. None of them depends on how rows were batched.

    Args:
        fields: names of the columns.
        sum_over_fields: as the model's loss is made.

    Attributes:
        totals: `(3, fields)` float64 of the last whole evaluation: loss sums, right cells, masked cells.
    """

    def __init__(self, fields: Sequence[str], sum_over_fields: bool = True) -> None:
        self.fields, self.sum_over_fields = list(fields), sum_over_fields
        self.totals = np.zeros((3, len(self.fields)))
        self._so_far = np.zeros_like(self.totals)

    @property
    def names(self) -> list[str]:
        """The metrics that there are where every field has a masked cell."""
        of_fields = [f"{kind}/{name}" for kind in ("loss", "accuracy") for name in self.fields]
        return ["masked_loss", "accuracy", *of_fields]

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """Add a batch; return the metrics behind the last one.

        Raises:
            ValueError: if not one cell was masked.
        """
        batch = [torch.as_tensor(counted).double().sum(dim=0).cpu().numpy() for counted in prediction.predictions[:3]]
        self._so_far += np.stack(batch)
        if not compute_result:
            return {}
        self.totals, self._so_far = self._so_far, np.zeros_like(self.totals)
        losses, correct, counts = self.totals
        if not counts.sum():
            raise ValueError(
                "Expected masked cells in the evaluated windows, found none. Raise mlm_probability, or evaluate more "
                "windows."
            )
        judged = np.flatnonzero(counts)
        means = losses[judged] / counts[judged]
        loss = means.sum() if self.sum_over_fields else losses.sum() / counts.sum()
        return {
            "masked_loss": float(loss),
            "accuracy": float(correct.sum() / counts.sum()),
            **{f"loss/{self.fields[i]}": float(losses[i] / counts[i]) for i in judged},
            **{f"accuracy/{self.fields[i]}": float(correct[i] / counts[i]) for i in judged},
        }
