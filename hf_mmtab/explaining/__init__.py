"""Why a score: what words, picture regions, cells and rows add to it, by integrated gradients (extra `explain`)."""

from .explain import explain
from .explanation import Explanation, Reason

__all__ = ["Explanation", "Reason", "explain"]
