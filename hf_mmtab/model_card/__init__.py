"""Run facts → the README.md of a saved model."""

from .writing import collect_differences, write_model_card
