"""Run facts → the README.md of a saved model."""

from .writing import collect_differences, write_model_card

__all__ = ["collect_differences", "write_model_card"]
