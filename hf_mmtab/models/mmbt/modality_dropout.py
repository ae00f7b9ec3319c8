"""Modality and word dropout: in training, some examples lose their picture, their words or single words."""

import torch


def drop_modalities(
    image_mask: torch.Tensor, attention_mask: torch.Tensor, image_probability: float, text_probability: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both masks with modalities of some examples hidden; never both of one example.

    A picture is dropped only where there are words, and words only where a picture is left, so that no
    example becomes empty that was not.

    NOTE[DIFF] Pictures and words may be hidden in training, drawn anew for each example; the original's flag
    `drop_img_percent` drops the same pictures throughout, also of validation and test.

    Args:
        image_mask: shape `(batch, pictures)`, 1 = a picture; those of an example are dropped together.
        attention_mask: shape `(batch, seq)`, 1 = a word.
        image_probability: between 0 and 1.
        text_probability: between 0 and 1, of the examples whose picture is left.
    """
    if image_probability > 0:
        drop = torch.rand(image_mask.shape[:1], device=image_mask.device) < image_probability
        drop = drop & attention_mask.bool().any(dim=1)
        image_mask = image_mask.masked_fill(drop[:, None], 0)
    if text_probability > 0:
        drop = torch.rand(image_mask.shape[:1], device=image_mask.device) < text_probability
        attention_mask = attention_mask.masked_fill((drop & image_mask.bool().any(dim=1))[:, None], 0)
    return image_mask, attention_mask


def drop_words(attention_mask: torch.Tensor, probability: float, keep_first: bool = False) -> torch.Tensor:
    """Return the mask with single word pieces hidden; a text that would lose all of them keeps them.

    Args:
        attention_mask: shape `(batch, seq)`, 1 = a word piece.
        probability: between 0 and 1, of each piece to be hidden.
        keep_first: never hide the first position, where a text encoder has [CLS].
    """
    if probability == 0:
        return attention_mask
    hidden = torch.rand(attention_mask.shape, device=attention_mask.device) < probability
    if keep_first:
        hidden[:, 0] = False
    left = attention_mask.masked_fill(hidden, 0)
    words = left[:, 1:] if keep_first else left
    return torch.where(words.bool().any(dim=1, keepdim=True), left, attention_mask)
