"""Which cells, rows and numbers made a head on TabBERT say so."""

from typing import Any

import numpy as np
import torch

from ..models.tabbert.head_settings import ROW_PARTS
from ..models.tabbert.modeling_tabbert_boosted import FUSED, STATISTICS, normal_scores
from ..models.tabbert.modeling_tabbert_surprise import LAGS, surprise_names, windowed_names
from ..models.tabbert.processing.quantiles import elapsed_text
from .explanation import Explanation, Reason
from .gradients import Attributed, chosen_label, explained_name, integrated_gradients, log_odds, relative_error
from .trees import tree_reasons

LOG_SECONDS = "log seconds"  # in the names of statistics that are told as times
Reasons = dict[tuple[int, str], float]  # (place in the window, name of a field or number) → attribution


def explain_window(
    model: Any,
    processor: Any,
    inputs: dict[str, torch.Tensor],
    place: int | None = None,
    label: str | int | None = None,
    cells: list[dict[str, str]] | None = None,
) -> Explanation:
    """Explain the score of one row, or of a window, against unknown values, nothing unexpected, and usual numbers.

    Args:
        model: a head, in evaluation mode.
        processor: the `TabBertProcessor` of its ids.
        inputs: of the model, a batch of one without padding: `input_ids`, `times` and `statistics` where it reads them.
        place: of the judged row in the window; None: its last.
        label: name or number; None: the predicted one.
        cells: of each row of the window the texts of its fields; None: what the ids stand for.
    """
    known = ("input_ids", "attention_mask", "times", "statistics")
    inputs = {name: inputs[name] for name in known if name in inputs}
    last = inputs["input_ids"].shape[1] - 1
    judged = last if place is None else place
    with torch.no_grad():
        logits = _at(model(**inputs).logits, judged)
    number = chosen_label(model.config, logits[0], label)
    by_scores = bool(model.config.trees) and model.config.num_labels > 2  # trees add up to each class's own score
    problem_type = "multi_label_classification" if by_scores else model.config.problem_type
    score = float(log_odds(logits, number, problem_type))
    found, baseline = _explain(model, processor, inputs, judged, number)
    told = texts(processor, inputs["input_ids"][0], cells)
    numbers = inputs["statistics"][0] if "statistics" in inputs else None
    reasons = tuple(
        Reason(name.replace(LOG_SECONDS, "time"), _value(name, at, told, model.config, numbers), added, at - judged)
        for (at, name), added in found.items()
    )
    error = relative_error(sum(found.values()), score - baseline)
    return Explanation(
        f"score of {model.config.id2label[number]}" if by_scores else explained_name(model.config, number),
        score,
        baseline,
        reasons,
        error,
        _without_rows(model, inputs, judged, number, score),
        str(model.config.id2label[number]),
    )


def _explain(
    model: Any, processor: Any, inputs: dict[str, torch.Tensor], judged: int, label: int
) -> tuple[Reasons, float]:
    """Return the attributions and the score that they start from."""
    fusion = getattr(model.config, "fusion", None)
    has_trees = bool(model.config.trees)
    if not has_trees or (fusion and fusion["chosen"] == "sequence"):
        return _explain_sequence(model, processor, inputs, judged, label)
    numbers = inputs["statistics"][0, judged]  # (statistics,)
    if not fusion:  # boosted alone
        return tree_reasons(model, STATISTICS, numbers, model.config.statistics, judged, label)
    # Trees and halves score the log odds of class 1, or numbers.
    sign = 1.0 if label == 1 or model.config.problem_type == "regression" else -1.0
    if fusion["chosen"] == "trees":
        more = model.tree_inputs(**inputs)
        more = more[0, judged] if more.dim() == 3 else more[0]
        names = [*model.config.statistics, "score of the sequence model", *_surprise_names(model)]
        return tree_reasons(model, FUSED, torch.cat([numbers, more]), names, judged, label)
    boosted, start = tree_reasons(model, STATISTICS, numbers, model.config.statistics, judged, label)
    if fusion["chosen"] == "boosted":
        return boosted, start
    sequence, sequence_start = _explain_sequence(model, processor, inputs, judged, label)
    halves = [(sequence, sequence_start), (boosted, start)]
    return _joined(halves, fusion, sign)


def _joined(halves: list[tuple[Reasons, float]], fusion: dict[str, Any], sign: float) -> tuple[Reasons, float]:
    """Put the attributions of two halves on the scale of their fusion, each half's change shared out as it was."""
    *weights, bias = fusion["weights"][fusion["chosen"]]
    ends = torch.tensor([start + sum(reasons.values()) for reasons, start in halves])
    starts = torch.tensor([start for _, start in halves])
    before, after = sign * starts, sign * ends  # of class 1
    if fusion["chosen"] == "rank_average":
        quantiles = torch.tensor(fusion["quantiles"])
        before, after = normal_scores(before[None], quantiles)[0], normal_scores(after[None], quantiles)[0]
    weight = torch.tensor(weights)
    found: Reasons = {}
    for (reasons, _), change, whole in zip(halves, weight * (after - before) * sign, ends - starts, strict=True):
        scale = float(change / whole) if abs(whole) > 1e-9 else 0.0
        for key, added in reasons.items():
            found[key] = found.get(key, 0.0) + added * scale
    return found, sign * float((weight * before).sum() + bias)


def _explain_sequence(
    model: Any, processor: Any, inputs: dict[str, torch.Tensor], judged: int, label: int
) -> tuple[Reasons, float]:
    """Explain a neural head: through the encoder's cells, and the numbers that the head reads beside its states."""
    parts, empty = head_parts(model, processor, inputs)
    mask = torch.ones_like(inputs["input_ids"][..., 0])

    def score(parts: dict[str, torch.Tensor]) -> torch.Tensor:
        count = len(next(iter(parts.values())))
        read = _read(model, parts, mask.expand(count, -1))
        heads = [model, *getattr(model, "members", ())]
        each = [head.in_units(head.classify(_rows_of(head, read), mask.expand(count, -1))) for head in heads]
        logits = torch.stack(each).mean(dim=0)
        return log_odds(_at(logits, judged), label, model.config.problem_type)

    found = integrated_gradients(score, parts, empty)
    return _named(model, found), found.baseline


def head_parts(
    model: Any, processor: Any, inputs: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what a neural head reads, before the encoder where it reads states, and an empty input.

    `cells` embedded, of which [UNK] is the empty one; `surprise` and `windowed_surprise`, 0 where everything was
    expected; `statistics` as normal scores, 0 for a usual number.
    """
    ids, config = inputs["input_ids"], model.config
    with torch.no_grad():
        base = getattr(model, "model", model)
        wanted = config.row_parts if base is not model else ("states",)
        parts, empty = {}, {}
        if "states" in wanted:
            unknown = ids.new_tensor(processor.unknown_ids()).expand_as(ids)
            parts["cells"], empty["cells"] = base.embeddings(ids), base.embeddings(unknown)
        if base is not model and (beside := set(wanted) - {"states", "statistics"}):
            encoded = model.encode(ids, inputs.get("attention_mask"), times=inputs.get("times"))
            found = model.parts(encoded.last_hidden_state)
            parts |= {name: found[name] for name in beside}
        if "statistics" in wanted:
            parts["statistics"] = model.numbers.scores(inputs["statistics"])
        empty |= {name: torch.zeros_like(value) for name, value in parts.items() if name != "cells"}
    return parts, empty


def _read(model: Any, parts: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parts with the encoder's states, or raw cells side by side, in place of cells."""
    found = dict(parts)
    if (cells := found.pop("cells", None)) is None:
        return found
    if not hasattr(model, "model"):
        return {"states": cells.flatten(2)}
    states = model.model(inputs_embeds=cells, attention_mask=mask).last_hidden_state
    return {**found, "states": states.reshape(*mask.shape, -1)}  # of a flat encoder the cells of a row side by side


def _rows_of(head: Any, read: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what a head reads of each row, `(batch, rows, width)`."""
    if "statistics" in read:
        read = {**read, "statistics": head.numbers.project(read["statistics"])}
    return torch.cat([read[name] for name in ROW_PARTS if name in read], dim=-1)


def _named(model: Any, found: Attributed) -> Reasons:
    """Sum attributions by row and field, or number."""
    config = model.config
    reasons: Reasons = {}
    for part, value in found.parts.items():
        if part == "cells":
            value, names = value.sum(dim=-1), config.fields  # (rows, fields)
        elif part == "surprise":
            names = _cell_names(config)
        elif part == "windowed_surprise":
            names = windowed_names(config)
        else:
            names = [
                config.statistics[place] for place in config.numbers_read
            ] * 2  # scores, then marks of missing numbers
        for at, row in enumerate(value.tolist()):
            for name, added in zip(names, row, strict=True):
                reasons[at, name] = reasons.get((at, name), 0.0) + added
    return reasons


def _cell_names(config: Any) -> list[str]:
    """Return of each number of the surprise the field that it is about, in the order of `surprise_names`."""
    return [*config.fields * (len(LAGS) + 1), *(config.numeric_ranges or {})]


def _surprise_names(model: Any) -> list[str]:
    names = {"surprise": surprise_names, "windowed_surprise": windowed_names}
    return [one for part in model.config.encoded_widths if part in names for one in names[part](model.config)]


def _at(logits: torch.Tensor, judged: int) -> torch.Tensor:
    """Return the logits of the judged row, `(batch, labels)`."""
    return logits[:, judged] if logits.dim() == 3 else logits


@torch.no_grad()
def _without_rows(
    model: Any, inputs: dict[str, torch.Tensor], judged: int, label: int, score: float
) -> dict[int, float]:
    """Return by how much the score changes without each row before the judged one."""
    if judged == 0 or (model.config.trees and not model.config.fusion):
        return {}  # trees alone read nothing but the judged row
    rows = inputs["input_ids"].shape[1]
    kept = torch.tensor([[at for at in range(rows) if at != out] for out in range(judged)])
    fewer = {name: value[0][kept.to(value.device)] for name, value in inputs.items()}  # (judged, rows - 1, …)
    scores = log_odds(_at(model(**fewer).logits, judged - 1), label, model.config.problem_type)
    return {out - judged: float(scores[out]) - score for out in range(judged)}


def texts(processor: Any, input_ids: torch.Tensor, cells: list[dict[str, str]] | None) -> list[dict[str, str]]:
    """Return the text of each field of each row: as it was read where `cells` has it, else what its id stands for."""
    decoded = processor.decode(input_ids.cpu().numpy()).to_pylist()
    return [row | (cells[at] if cells else {}) for at, row in enumerate(decoded)]


def _value(name: str, at: int, told: list[dict[str, str]], config: Any, numbers: torch.Tensor | None) -> str:
    if name in told[at]:
        return told[at][name]
    if numbers is not None and name in config.statistics:
        value = float(numbers[at, config.statistics.index(name)])
        if np.isnan(value):
            return "missing"
        return elapsed_text(np.expm1(value), 3) if LOG_SECONDS in name else f"{value:.6g}"
    return ""
