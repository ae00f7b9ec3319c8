"""Which words and which regions of the picture made MMBT, or a baseline, say so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ..models.mmbt.image_regions import REGION_GRIDS
from .explanation import Explanation, Reason
from .gradients import chosen_label, explained_name, integrated_gradients, log_odds


def explain_image_text(
    model: Any,
    tokenizer: Any,
    inputs: dict[str, torch.Tensor],
    texts: Sequence[str] = (),
    label: str | int | None = None,
) -> Explanation:
    """Explain the score of one example against padding in place of its words and a blank picture.

    Args:
        model: MMBT or one of its baselines, in evaluation mode.
        tokenizer: of its processor; None where it reads no text.
        inputs: of the model, a batch of one.
        texts: the text, or both of a pair, from which pieces of words are put together; without them pieces stay apart.
        label: name or number; None: the predicted one.

    Raises:
        ValueError: for an ensemble, whose members read words as vectors of their own.
    """
    if hasattr(model, "members"):
        raise ValueError(
            f"Expected one model to explain, found an ensemble of {', '.join(model.members)}. Train one of "
            "mmbt, concatbert, bert and img by itself (`--architecture mmbt`), and explain that."
        )
    given = _words(model.base_model, tokenizer, inputs) | _regions(model.base_model, inputs)
    absent = not bool(inputs.get("image_mask", torch.ones(1)).any())
    rest = {n: v for n, v in inputs.items() if n not in ("input_ids", "pixel_values", "labels")}
    if absent and "image_regions" in given:
        rest["image_regions"] = given.pop("image_regions")[0]
    parts = {name: value for name, (value, _) in given.items()}

    def logits(parts: dict[str, torch.Tensor]) -> torch.Tensor:
        count = len(next(iter(parts.values()), rest["attention_mask" if "attention_mask" in rest else "image_mask"]))
        return model(**parts, **{n: v.expand(count, *v.shape[1:]) for n, v in rest.items()}).logits

    with torch.no_grad():
        number = chosen_label(model.config, logits(parts)[0], label)
    found = integrated_gradients(
        lambda parts: log_odds(logits(parts), number, model.config.problem_type),
        parts,
        {name: blank for name, (_, blank) in given.items()},
    )
    reasons: list[Reason] = []
    if "inputs_embeds" in found.parts:
        words = word_pieces(tokenizer, inputs["input_ids"][0].tolist(), texts)
        added = found.parts["inputs_embeds"].sum(dim=-1)  # (seq,)
        reasons += [Reason("word", word, float(added[places].sum())) for word, places in words]
    if "image_regions" in found.parts:
        added = found.parts["image_regions"].sum(dim=-1)  # (regions,)
        names = names_of_pictures(model.config, len(added), inputs)
        reasons += [
            Reason("picture", name, float(one)) for name, one in zip(names, added, strict=True) if name is not None
        ]
    return Explanation(
        explained_name(model.config, number),
        found.score,
        found.baseline,
        tuple(reasons),
        found.error,
        label=str(model.config.id2label[number]),
    )


def _words(base: Any, tokenizer: Any, inputs: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the embedded words, and those of an empty text of the same length, whose special tokens stay."""
    table = getattr(base, "word_vectors", None)
    if base.text_model is None and table is None:
        return {}
    ids = inputs["input_ids"]
    special = torch.isin(ids, ids.new_tensor(special_ids(tokenizer)))
    empty = torch.where(special, ids, tokenizer.pad_token_id)
    embed = base.get_input_embeddings() if table is None else lambda ids: F.embedding(ids, table)
    with torch.no_grad():
        return {"inputs_embeds": (embed(ids), embed(empty))}


def _regions(base: Any, inputs: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the regions of the picture, and those of a picture of the mean colour."""
    if base.image_model is None:
        return {}
    pixels = inputs["pixel_values"]
    with torch.no_grad():
        picture, blank = base.get_image_features(torch.cat([pixels, torch.zeros_like(pixels)])).split(1)
    return {"image_regions": (picture, blank)}


def special_ids(tokenizer: Any) -> list[int]:
    """Return the ids that stand for no word; an unknown word is a word."""
    return [number for number in tokenizer.all_special_ids if number != tokenizer.unk_token_id]


def word_pieces(tokenizer: Any, ids: list[int], texts: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return each word as it was written, and the places of its pieces among the ids; special tokens are left out.

    Args:
        tokenizer: a fast one.
        ids: of one example, cut and padded or not.
        texts: that were encoded, the first and where there is one the second of a pair.
    """
    special, words, place = set(special_ids(tokenizer)), [], 0
    for text in texts:
        encoded = tokenizer(text, add_special_tokens=False)
        while place < len(ids) and ids[place] in special and ids[place] not in encoded["input_ids"][:1]:
            place += 1
        spans: dict[int | None, list[int]] = {}
        for number, piece in zip(encoded.word_ids(), encoded["input_ids"], strict=True):
            if place >= len(ids) or ids[place] != piece:
                break  # the text was cut here
            if piece not in special:
                spans.setdefault(number, []).append(place)
            place += 1
        for number, places in spans.items():
            start, end = encoded.word_to_chars(number)
            words.append((text[start:end], places))
    if not texts:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        words = [(piece, [i]) for i, piece in enumerate(pieces) if ids[i] not in special]
    return words


def names_of_pictures(config: Any, count: int, inputs: dict[str, torch.Tensor]) -> list[str | None]:
    """Return where each region lies: of several pictures with the number of its picture, None of one that is absent."""
    mask = inputs.get("image_mask")
    if mask is None or mask.dim() == 1:
        return [*region_names(config, count)]
    each = region_names(config, count // mask.shape[1])
    return [
        f"{place}{name and f', {name}'}" if there else None for place, there in enumerate(mask[0], 1) for name in each
    ]


def region_names(config: Any, count: int) -> list[str]:
    """Return where each of the picture's regions lies, row by row."""
    if count == 1:
        return [""]
    rows, columns = REGION_GRIDS.get(count, (count, 1))
    if config.image_pooling == "none":
        side = round(count**0.5)
        rows, columns = (side, side) if side * side == count else (count, 1)
    across = [""] if columns == 1 else [f", column {c + 1} of {columns}" for c in range(columns)]
    return [f"row {r + 1} of {rows}{c}" for r in range(rows) for c in across]
