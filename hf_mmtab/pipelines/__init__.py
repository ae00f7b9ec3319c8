"""`pipeline("image-text-classification")` and `pipeline("tabular-sequence-classification")` of transformers."""

from transformers import AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .image_text import ImageTextClassificationPipeline
from .tables import TabularSequenceClassificationPipeline

IMAGE_TEXT_TASK = "image-text-classification"
TABULAR_TASK = "tabular-sequence-classification"
TASKS = {IMAGE_TEXT_TASK: ImageTextClassificationPipeline, TABULAR_TASK: TabularSequenceClassificationPipeline}


def register() -> None:
    """Make both tasks known to `transformers.pipeline`."""
    for task, made in TASKS.items():
        if task not in PIPELINE_REGISTRY.supported_tasks:
            PIPELINE_REGISTRY.register_pipeline(task, made, pt_model=AutoModelForSequenceClassification)
