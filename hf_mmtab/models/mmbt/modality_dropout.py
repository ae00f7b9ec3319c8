"""Modality dropout: in training, some examples lose their picture or their words."""

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
        image_mask: shape `(batch,)`, 1 = a picture.
        attention_mask: shape `(batch, seq)`, 1 = a word.
        image_probability: between 0 and 1.
        text_probability: between 0 and 1, of the examples whose picture is left.
    """
    if image_probability > 0:
        drop = torch.rand(image_mask.shape, device=image_mask.device) < image_probability
        drop = drop & attention_mask.bool().any(dim=1)
        image_mask = image_mask.masked_fill(drop, 0)
    if text_probability > 0:
        drop = torch.rand(image_mask.shape, device=image_mask.device) < text_probability
        attention_mask = attention_mask.masked_fill((drop & image_mask.bool())[:, None], 0)
    return image_mask, attention_mask
