"""What TabBERT is measured against on the same windows: the amount alone, boosted trees on rows and on histories."""

from .running import BASELINES, DESCRIPTIONS, TableBaselines

__all__ = ["BASELINES", "DESCRIPTIONS", "TableBaselines"]
