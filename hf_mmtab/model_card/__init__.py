"""Run facts → the README.md of a saved model."""

from .from_trainer import write_trainer_card
from .writing import collect_differences, write_model_card
