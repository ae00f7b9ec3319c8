"""A Gradio page for one model: an input, the prediction, the reasons, and the same without a part of the input."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from .extras import import_extra

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing is reported to anyone

TOP = 8  # reasons that are listed


def make_demo(checkpoint: str, is_table: bool | None = None, examples: str | None = None) -> Any:
    """Return the page of a model, to be launched.

    Args:
        checkpoint: folder or Hub name of MMBT, a baseline or a head on TabBERT, with its processor.
        is_table: whether it reads tables; None: as its configuration says.
        examples: of tables, a file of rows from which histories are chosen.
    """
    gradio = import_extra("gradio", "the demo", "demo")
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoProcessor

    if is_table is None:
        is_table = AutoConfig.from_pretrained(checkpoint).model_type == "tabbert"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    title = os.path.basename(os.path.normpath(checkpoint))
    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f"# {title}")
        if is_table:
            _table_page(gradio, model, processor, examples)
        else:
            _image_text_page(gradio, model, processor)
    return page


def _answer(model: Any, scored: Any) -> dict[str, float]:
    """Return name → score, as a `Label` shows it."""
    listed = scored if isinstance(scored, list) else [scored]
    return {one["label"]: one["score"] for one in listed}


def _reasons(explanation: Any) -> tuple[list[list[str]], str]:
    strongest = sorted(explanation.reasons, key=lambda one: -abs(one.attribution))[:TOP]
    rows = [[str(one), f"{one.attribution:+.3f}"] for one in strongest]
    told = f"{explanation.explains}: {explanation.score:.3f}, {explanation.baseline:.3f} for an empty input"
    return rows, told


def _image_text_page(gradio: Any, model: Any, processor: Any) -> None:
    from .explaining import explain
    from .pipelines.image_text import ImageTextClassificationPipeline

    if columns := list(processor.columns or ()):
        raise ValueError(
            f"Expected a model of picture and text alone, found one that reads {', '.join(columns)} too, which the "
            'page has no fields for. Use pipeline("image-text-classification").'
        )
    if processor.max_images > 1:
        raise ValueError(
            f"Expected a model of one picture a row, found one that reads up to {processor.max_images}, which the page "
            'has no fields for. Use pipeline("image-text-classification").'
        )
    pipeline = ImageTextClassificationPipeline(model=model, processor=processor)

    def judge(image: Any, text: str, use_image: bool, use_text: bool) -> tuple[Any, Any, Any]:
        example = {"image": image if use_image else None, "text": (text or "") if use_text else ""}
        rows, told = ([], "") if hasattr(model, "members") else _reasons(explain(model, processor, example))
        return _answer(model, pipeline(example, top_k=None)), rows, told

    with gradio.Row():
        with gradio.Column():
            image = gradio.Image(type="pil", label="Picture", height=280)
            text = gradio.Textbox(label="Text", lines=3)
            with gradio.Row():
                use_image = gradio.Checkbox(True, label="use the picture")
                use_text = gradio.Checkbox(True, label="use the text")
            button = gradio.Button("Classify", variant="primary")
        outputs = _outputs(gradio)
    button.click(_said(gradio, judge), [image, text, use_image, use_text], outputs, api_name="judge")


def _said(gradio: Any, judge: Callable[..., Any]) -> Callable[..., Any]:
    """Let the page show what is wrong with an input, in place of the word "Error"."""

    @wraps(judge)
    def judged(*inputs: Any) -> Any:
        try:
            return judge(*inputs)
        except ValueError as error:
            raise gradio.Error(str(error), duration=None, print_exception=False) from error

    return judged


def _outputs(gradio: Any) -> list[Any]:
    with gradio.Column():
        label = gradio.Label(label="Prediction", num_top_classes=5)
        reasons = gradio.Dataframe(
            headers=["reason", "adds to the score"],
            label="Why",
            interactive=False,
            column_widths=["70%", "30%"],
            wrap=True,
        )
        told = gradio.Markdown()
    return [label, reasons, told]


def _table_page(gradio: Any, model: Any, processor: Any, examples: str | None) -> None:
    import polars

    from .explaining import explain
    from .pipelines.tables import TabularSequenceClassificationPipeline

    pipeline = TabularSequenceClassificationPipeline(model=model, processor=processor)
    columns = processor.plan.columns
    histories: dict[str, Any] = {}
    if examples is not None:
        read = polars.read_parquet if examples.endswith(".parquet") else polars.read_csv
        with open(examples, "rb") as file:  # polars takes [ and * in a path for a pattern
            table = read(file)
        entity = list(processor.plan.entity)
        groups = table.partition_by(entity, maintain_order=True) if entity else [table]
        for rows in groups[:200]:
            ordered = rows.sort(processor.plan.time) if processor.plan.time else rows
            histories["/".join(str(rows[name][0]) for name in entity) or "all rows"] = ordered.select(columns)

    def show(name: str) -> Any:
        return histories[name].tail(30).to_pandas()

    def judge(rows: Any, without: float) -> tuple[Any, Any, Any]:
        history = polars.from_pandas(rows)
        if without not in range(len(history) + 1):
            raise ValueError(f"Expected a row from 1 to {len(history)}, or 0 for all of them, found {without}.")
        if without:
            history = history.with_row_index("_n").filter(polars.col("_n") != int(without) - 1).drop("_n")
        history = _typed(history, histories)
        rows_told, told = _reasons(explain(model, processor, history))
        return _answer(model, pipeline(history, top_k=None)), rows_told, told

    with gradio.Row():
        with gradio.Column(scale=2):
            first = next(iter(histories), None)
            chosen = gradio.Dropdown(list(histories), label="History", value=first, visible=bool(histories))
            shown = None if first is None else show(first)
            rows = gradio.Dataframe(
                shown, headers=columns, label="Rows, the oldest first", interactive=True, show_row_numbers=True
            )
            without = gradio.Number(0, label="without row (1 is the first; 0: all rows)", precision=0)
            button = gradio.Button("Judge the last row", variant="primary")
        outputs = _outputs(gradio)
    chosen.change(show, chosen, rows)
    button.click(_said(gradio, judge), [rows, without], outputs, api_name="judge")


def _typed(history: Any, examples: dict[str, Any]) -> Any:
    """Return rows that were edited as text with the types of the examples."""
    like = next(iter(examples.values()), None)
    return history if like is None else history.cast(dict(like.schema), strict=False)
