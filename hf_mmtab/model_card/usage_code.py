"""The Python code in a model card that loads the model and asks it one thing; its text is in the template beside."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..reports.page import environment

_BUILDERS = {"card_transactions": "CardTransactions", "prsa": "PRSA"}  # of tables with a reader of their own


def usage_code(config: Mapping[str, Any], model_id: str, task: str | None = None) -> str:
    """Python code that loads a model and classifies one input.

    Args:
        config: the content of its `config.json`.
        model_id: folder or Hub name.
        task: of the recipe; tables that have a reader of their own are read with it.
    """
    pretrained = "TabGPT2LMHeadModel" if config.get("model_type") == "tabgpt2" else None
    if "TabBertForMaskedLM" in (config.get("architectures") or []):
        pretrained = "TabBertForMaskedLM"
    parts = (config.get("members") or {"": config}).values()
    pictures = 'Image.open("picture.jpg")'
    if (config.get("max_images") or 1) > 1:
        pictures = '[[Image.open("first.jpg"), Image.open("second.jpg")]]'
    reads_picture = any(one.get("image_config") is not None for one in parts)
    inputs = [f"images={pictures}"] * reads_picture
    if any(one.get("text_config") is not None or one.get("bow_vocab_size") is not None for one in parts):
        inputs.append('text="the text beside it"')
    columns = dict.fromkeys(config.get("number_columns") or (), 1.0)
    columns |= dict.fromkeys(config.get("category_columns") or (), "a")
    template = environment(Path(__file__).parent, autoescape=False).get_template("usage_code.py.jinja")
    return template.render(
        config=defaultdict(lambda: None, config),
        model=json.dumps(model_id),
        task=task,
        builder=_BUILDERS.get(str(task)),
        pretrained=pretrained,
        reads_picture=reads_picture,
        inputs=[*inputs, *([f"columns={columns}"] if columns else [])],
    )
