"""The Python code in a model card that loads the model and asks it one thing."""

import json
import re
from collections.abc import Mapping
from typing import Any


def usage_code(config: Mapping[str, Any], model_id: str, task: str | None = None) -> str:
    """Python code that loads a model and classifies one input.

    Args:
        config: the content of its `config.json`.
        model_id: folder or Hub name.
        task: of the recipe; tables that have a reader of their own are read with it.
    """
    code = _usage_code(config, model_id)
    if (reader := _READERS.get(str(task))) is None:
        return code
    code = code.replace("import polars\n", "")
    code = re.sub("^(?=(from|import) hf_mmtab)", f"{reader[0]}\n", code, count=1, flags=re.M)
    return re.sub(r"^(table = )polars\.read_csv\([^)]*\)(.*)$", rf"{reader[1]}\n\1{_READ_ALL}\2", code, flags=re.M)


def _usage_code(config: Mapping[str, Any], model_id: str) -> str:
    if config.get("model_type") == "tabgpt2":
        code = _PRETRAINED_USAGE.replace("TabBertForMaskedLM", "TabGPT2LMHeadModel") + _GENERATION_USAGE
        return code.replace("MODEL", json.dumps(model_id))
    if "TabBertForMaskedLM" in (config.get("architectures") or []):
        asked = _NEXT_ROW_USAGE if config.get("next_row") else _MASKED_USAGE
        return (_PRETRAINED_USAGE + asked).replace("MODEL", json.dumps(model_id))
    several = config.get("problem_type") == "multi_label_classification"
    if config.get("problem_type") == "regression":
        answer = "print(dict(zip(model.config.id2label.values(), logits.tolist())))"
    elif several:
        answer = (
            "probabilities = logits.sigmoid()\n"
            "thresholds = torch.tensor(model.config.thresholds or [0.5] * len(probabilities))\n"
            "print([model.config.id2label[i] for i in (probabilities >= thresholds).nonzero()[:, 0].tolist()])"
        )
    else:
        answer = (
            "probabilities = logits.softmax(-1)\n"
            "print(model.config.id2label[int(probabilities.argmax())], float(probabilities.max()))"
        )
    if config.get("model_type") == "tabbert":
        if config.get("threshold") is not None:
            answer = (
                "probability = float(logits.softmax(-1)[1])\n"
                "print(model.config.id2label[int(probability >= model.config.threshold)], probability)"
            )
        if config.get("statistics") or "windowed_surprise" in (config.get("row_inputs") or ()):
            return _STATISTICS_USAGE.replace("MODEL", json.dumps(model_id))
        judged = "0, -1" if config.get("label_level") == "row" else "0"
        code = _TABBERT_USAGE.replace("JUDGED", judged).replace("ROWS", str(config.get("seq_len") or 10))
        return code.replace("ANSWER", answer).replace("MODEL", json.dumps(model_id))
    parts = (config.get("members") or {"": config}).values()
    reads_text = any(one.get("text_config") is not None or one.get("bow_vocab_size") is not None for one in parts)
    reads_picture = any(one.get("image_config") is not None for one in parts)
    pictures = 'Image.open("picture.jpg")'
    if (config.get("max_images") or 1) > 1:
        pictures = '[[Image.open("first.jpg"), Image.open("second.jpg")]]'
    inputs = [f"images={pictures}"] if reads_picture else []
    inputs += ['text="the text beside it"'] if reads_text else []
    columns = dict.fromkeys(config.get("number_columns") or (), 1.0)
    columns |= dict.fromkeys(config.get("category_columns") or (), "a")
    inputs += [f"columns={columns}"] if columns else []
    code = _MMBT_USAGE.replace("INPUTS", ", ".join(inputs)).replace("ANSWER", answer)
    code = code.replace("MODEL", json.dumps(model_id))
    return code if reads_picture else code.replace("from PIL import Image\n", "")


# task → the import of its reader, and how it reads
_READERS = {
    task: (
        f"from hf_mmtab.data.{task} import {builder}",
        f'reader = {builder}("table.csv")\nreader.download_and_prepare()',
    )
    for task, builder in (("card_transactions", "CardTransactions"), ("prsa", "PRSA"))
}
_READ_ALL = 'reader.as_dataset(split="train").to_polars()'

_MMBT_USAGE = """
import hf_mmtab  # makes the Auto classes know the model
import torch
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoProcessor

processor = AutoProcessor.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(MODEL).eval()
inputs = processor(INPUTS)
with torch.no_grad():
    logits = model(**inputs).logits[0]
ANSWER
"""

_TABBERT_USAGE = """
import polars
import torch
from hf_mmtab import TabBertProcessor
from transformers import AutoModelForSequenceClassification

processor = TabBertProcessor.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(MODEL).eval()
model.check_processor(processor.fingerprint)
table = polars.read_csv("table.csv", try_parse_dates=True)  # with the columns `processor.plan.columns`
# One history, oldest row first: here that of the table's first entity. Its last row is judged.
entity, time = processor.plan.entity, processor.plan.time
table = table.sort(time, maintain_order=True) if time else table
history = table.partition_by(entity, maintain_order=True)[0] if entity else table
inputs = processor(history, max_rows=ROWS, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[JUDGED]
ANSWER
"""


_STATISTICS_USAGE = """
import polars
import hf_mmtab
from transformers import pipeline

score = pipeline("tabular-sequence-classification", model=MODEL)
table = polars.read_csv("table.csv", try_parse_dates=True)  # with the columns of `score.processor.plan.columns`
# One history, oldest row first: here that of the table's first entity. Its last row is judged, by statistics of this
# history; `hf-mmtab predict` reads those of the whole table, as training did.
entity, time = score.processor.plan.entity, score.processor.plan.time
table = table.sort(time, maintain_order=True) if time else table
print(score(table.partition_by(entity, maintain_order=True)[0] if entity else table))
"""


_PRETRAINED_USAGE = """
import polars
import torch
from hf_mmtab import TabBertForMaskedLM, TabBertProcessor

processor = TabBertProcessor.from_pretrained(MODEL)
model = TabBertForMaskedLM.from_pretrained(MODEL).eval()
model.check_processor(processor.fingerprint)
table = polars.read_csv("table.csv", try_parse_dates=True)
entity, time = processor.plan.entity, processor.plan.time
table = table.sort(time, maintain_order=True) if time else table
history = table.partition_by(entity, maintain_order=True)[0] if entity else table  # one history, oldest row first
inputs = processor(history, max_rows=10, return_tensors="pt")
"""

_MASKED_USAGE = """inputs["input_ids"][0, -1, 0] = processor.mask_token_id  # what is the first field of the last row?
with torch.no_grad():
    scores = model(**inputs).field_logits[0][0, -1]
found = processor.field_ranges[0][0] + scores.argmax()
cells = inputs["input_ids"][0, -1:].clone()
cells[0, 0] = found
print(processor.decode(cells).to_pylist()[0])
"""

_GENERATION_USAGE = """# Three rows that may follow; `hf-mmtab generate` also draws numbers, and writes a table.
rows = model.generate_rows([inputs["input_ids"][0]], rows=3, seed=0, forbidden=processor.unknown_ids())
print(processor.decode(rows).to_pylist())
"""

_NEXT_ROW_USAGE = """with torch.no_grad():
    scores = model(**inputs).field_logits  # each field: (batch, rows, ids), of a row given the rows before it
expected = [start + field[0, -1].argmax() for (start, _), field in zip(processor.field_ranges, scores)]
print(processor.decode(torch.stack(expected)[None]).to_pylist()[0])  # what was expected of the last row
"""
