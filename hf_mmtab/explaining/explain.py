"""`explain(model, processor, example)`: the reasons of one prediction, of either family."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.decoded_histories import as_text
from ..models.mmbt.text_encoding_mmbt import texts_of
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..pipelines.image_text import ImageTextClassificationPipeline, as_row
from ..pipelines.tables import TabularSequenceClassificationPipeline
from ..serving.history_windows import read_history
from .explanation import Explanation
from .gradients import evaluating
from .image_text import explain_image_text
from .tables import explain_window

AS_READ = ("numeric", "money", "categorical", "sign")  # kinds of fields whose column is shown as it was read


def explain(model: Any, processor: Any, example: Any, label: str | int | None = None) -> Explanation:
    """Explain one prediction: what each piece of the input adds to the score, and row by row what it hangs on.

    Words and picture regions, cells of a table's rows, surprises and statistics get integrated gradients
    (arXiv:1703.01365, by Captum); statistics of boosted trees SHAP values, as LightGBM computes them. An input is
    compared with padding in place of words and a picture of the mean colour; a history with [UNK] in every cell,
    nothing unexpected and usual statistics. A fusion's change is shared out between its halves.

    Args:
        model: MMBT, one of its baselines, or a head on TabBERT (boosted and fused ones too).
        processor: that it was trained with.
        example: what the family's pipeline takes: a mapping with `image` and `text`, or the rows of one history with
            the oldest first, whose last row is explained.
        label: name or number of the label; None: the predicted one (of a regression the first target).

    Returns:
        The score (log odds of the label, the value of a target, of trees for several classes the label's own score) and
        a reason for each piece, which sum to its change from the empty input within 1 % (`error` says by how much they
        miss it); of tables also the change without each earlier row. `print` it. The model is explained in evaluation
        mode, whatever mode it is in.

    Raises:
        ImportError: without Captum.
        ValueError: if the model has no head, or the example, the processor or the label is not one of the model's.

    Example:

    ```python
    from transformers import AutoModelForSequenceClassification, AutoProcessor
    from hf_mmtab.explaining import explain

    folder = "outputs/openclipart/mmbt-seed1"
    model, processor = AutoModelForSequenceClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    print(explain(model, processor, {"image": "fork.png", "text": "a fork on a plate"}))
    ```
    """
    if type(model).__name__.endswith("Model"):  # as transformers names models without a head
        raise ValueError(
            f"Expected a model with a head, found {type(model).__name__}, which gives no scores. Load it with "
            "`AutoModelForSequenceClassification.from_pretrained`."
        )
    reads_tables = hasattr(model, "in_units")  # every head on TabBERT
    if hasattr(processor, "plan") != reads_tables or not (reads_tables or hasattr(processor, "encode_row")):
        raise ValueError(
            f"Expected the processor that the {type(model).__name__} was trained with, found "
            f"{type(processor).__name__}. Load it from the model's folder: `AutoProcessor.from_pretrained(folder)`."
        )
    with evaluating(model):
        if reads_tables:
            return _explain_history(model, processor, example, label)
        return _explain_pair(model, processor, example, label)


def _explain_pair(model: Any, processor: Any, example: Any, label: str | int | None) -> Explanation:
    pipeline = ImageTextClassificationPipeline(model=model, processor=processor)
    row = as_row(example, processor)
    inputs = {name: value.to(model.device) for name, value in pipeline.preprocess(row).items()}
    texts = texts_of(row) if processor.tokenizer is not None else ([], None)
    return explain_image_text(model, processor.tokenizer, inputs, [*texts[0], *(texts[1] or [])], label)


def _explain_history(model: Any, processor: Any, history: Any, label: str | int | None) -> Explanation:
    pipeline = TabularSequenceClassificationPipeline(model=model, processor=processor)
    *_, window = pipeline.preprocess(history)
    length = window["length"]
    names = ("input_ids", "attention_mask", "times", "statistics")
    inputs = {name: window[name].to(model.device) for name in names if name in window}
    table = read_history(history, processor.plan)
    cells = cells_as_read(table[table.num_rows - length :].to_pylist(), processor.plan)
    return explain_window(model, processor, inputs, length - 1, label, cells)


def cells_as_read(rows: list[Mapping[str, Any]], plan: ColumnPlan) -> list[dict[str, str]]:
    """Return the texts of fields that show a column as it is, for each row; the others are told by their ids."""
    shown = {one.name: str(plan.source(one)) for one in plan.fields if one.kind in AS_READ}
    return [{name: as_text(row[column]) for name, column in shown.items()} for row in rows]
