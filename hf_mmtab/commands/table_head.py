"""A fine-tuned TabBERT from a folder or the Hub."""

from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification


def load_head(name: str) -> Any:
    """Load a fine-tuned TabBERT.

    Raises:
        ValueError: for a checkpoint of pretraining, which has no head.
    """
    architectures = AutoConfig.from_pretrained(name).architectures or []
    if not any("ForSequenceClassification" in architecture for architecture in architectures):
        raise ValueError(
            f"Expected a fine-tuned TabBERT in {name!r}, found {', '.join(architectures) or 'no architecture'}. "
            "Fine-tune it first: `python -m hf_mmtab finetune RECIPE.yaml --pretrained ...`."
        )
    return AutoModelForSequenceClassification.from_pretrained(name, dtype="float32")
