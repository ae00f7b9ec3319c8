"""Run facts → one HTML page and its pictures."""

from .facts import RunFacts, SplitPredictions
from .page import write_report
