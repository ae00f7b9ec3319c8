"""Recipe keys that are not transformers' training arguments: which data, which model, what to do around training."""

from .common import DataArguments, FinetuningArguments, ModelArguments, RunArguments
from .image_text import (
    ENSEMBLE,
    IMAGE_TEXT_ARCHITECTURES,
    ImageTextColumns,
    ImageTextDataArguments,
    ImageTextRunArguments,
    MMBTModelArguments,
)
from .preparing import PrepareArguments
from .table_heads import TabBertHeadArguments, TableRunArguments
from .tables import PlanArguments, PretrainingArguments, TabBertModelArguments, TableDataArguments
