"""Freeze schedules that are right, and proof of what moved. Works with every `PreTrainedModel`."""

from .arguments import MMTabTrainingArguments
from .audit import UpdateAudit
from .freezing import FreezePlan, FreezeSchedule
from .losses import ClassificationLoss, balanced_class_weights, count_labels, pos_weights
from .optimizers import BertAdam
from .trainer import MMTabTrainer

__all__ = [
    "BertAdam",
    "ClassificationLoss",
    "FreezePlan",
    "FreezeSchedule",
    "MMTabTrainer",
    "MMTabTrainingArguments",
    "UpdateAudit",
    "balanced_class_weights",
    "count_labels",
    "pos_weights",
]
