"""Run facts → one HTML page and its pictures."""

from .facts import ModelResult, RunFacts, SplitPredictions
from .page import write_report

__all__ = ["ModelResult", "RunFacts", "SplitPredictions", "write_report"]
