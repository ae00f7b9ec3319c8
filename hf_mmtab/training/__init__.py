"""Training with freeze schedules that hold under DDP, accumulation and resume, and an audit of what moved."""

from .arguments import MMTabTrainingArguments
from .audit import UpdateAudit
from .freezing import FreezePlan, FreezeSchedule
from .losses import ClassificationLoss, balanced_class_weights, count_labels, pos_weights
from .optimizers import BertAdam
from .trainer import MMTabTrainer
