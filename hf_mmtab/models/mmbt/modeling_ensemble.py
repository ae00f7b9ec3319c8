"""Several models of pictures and texts as one: the weighted mean of their probabilities."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .checked_inputs import check_opening, check_shapes
from .classification_loss import classification_loss
from .configuration_ensemble import MEMBERS, MMBTEnsembleConfig
from .configuration_mmbt import MMBTConfig
from .image_regions import build_image_model
from .modeling_baselines import MMBTBaselineForClassification
from .modeling_mmbt import MMBTForClassification
from .picture_and_text_parts import FromVisionAndText, PictureAndTextParts

LEAST = 1e-7  # probability that the logarithm is taken of


class MMBTEnsembleForClassification(PictureAndTextParts, FromVisionAndText, PreTrainedModel):
    """MMBT and baselines of it, each with a weight; made by [`from_members`] of trained ones.

    Inputs are those of the baselines: a text begins with [CLS] and segment 0. MMBT, whose picture owns [CLS], gets the
    same words without it. Where the image model of all members is the same, one is kept, and runs once.
    """

    config: MMBTEnsembleConfig
    _builder = "from_members"
    text_model = None  # each member has its own
    pooler = None

    def __init__(self, config: MMBTEnsembleConfig) -> None:
        super().__init__(config)
        if not config.members:
            raise ValueError(
                "Expected members in MMBTEnsembleConfig, found none. Make an ensemble of trained models: "
                "`MMBTEnsembleForClassification.from_members(members, weights)`."
            )
        self.num_labels: int = config.num_labels  # type: ignore[assignment]
        self.image_model: Any = None if config.image_config is None else build_image_model(config.image_config)
        self.members = nn.ModuleDict()
        for name, member in config.member_configs().items():
            kind: Any = MMBTForClassification if _is_mmbt(member) else MMBTBaselineForClassification
            self.members[name] = kind(member)
            if self.image_model is not None:
                _parts(self.members[name]).image_model = None
        self.post_init()

    @classmethod
    def from_members(
        cls, members: Mapping[str, Any], weights: Mapping[str, float], cls_token_id: int | None = None
    ) -> Any:
        """Make one model of several that were trained for the same labels.

        Args:
            members: name → MMBT or a baseline of it; they become parts of this model.
            weights: name → its share, above 0; together 1.
            cls_token_id: of the tokenizer: texts without it are then refused.

        Returns:
            The model, in evaluation mode.

        Raises:
            ValueError: if a member is no such model or has no weight, or their labels differ from each other.
        """
        _check_members(members, weights)
        first = next(iter(members.values())).config
        for name, member in members.items():
            if (member.config.problem_type, member.config.id2label) != (first.problem_type, first.id2label):
                raise ValueError(
                    f"Expected members with the same labels, found {name} with {member.config.problem_type} of "
                    f"{list(member.config.id2label.values())}."
                )
        readers = [one for one in map(_parts, members.values()) if one.image_model is not None]
        shared = _shared_image_model(readers)
        of_pictures = readers[0].config if readers else first
        config = MMBTEnsembleConfig(
            members={name: member.config.to_dict() for name, member in members.items()},
            weights={name: float(weights[name]) for name in members},
            cls_token_id=cls_token_id,
            image_config=None if shared is None else shared.config.to_dict(),
            image_hidden_size=of_pictures.image_hidden_size,
            num_image_embeds=of_pictures.num_image_embeds,
            max_images=of_pictures.max_images,
            image_pooling=of_pictures.image_pooling,
            problem_type=first.problem_type,
            id2label=first.id2label,
            label2id=first.label2id,
        )
        model = cls(config)
        if shared is not None:
            model.image_model.load_state_dict(shared.state_dict())
        for name, member in members.items():
            own = model.members[name].state_dict()
            model.members[name].load_state_dict(
                {key: value for key, value in member.state_dict().items() if key in own}
            )
        return model.eval()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """The shared image model; nothing of an ensemble trains."""
        return {} if self.image_model is None else {"image_encoder": "image_model"}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        image_regions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify pictures with their texts.

        Args:
            input_ids: words with a leading [CLS], shape `(batch, seq)`; one without it is refused where
                `config.cls_token_id` is known.
            attention_mask: 1 for words, 0 for padding, shape `(batch, seq)`. Default: 1.
            token_type_ids: 0, and 1 for a second sentence, shape `(batch, seq)`. Default: 0.
            pixel_values: normalised pictures, shape `(batch, 3, height, width)`, or of several a row
                `(batch, pictures, 3, height, width)`.
            image_mask: 1 = a picture, 0 = none, shape `(batch,)` or `(batch, pictures)`. Default: 1.
            image_regions: what `get_image_features` returned, in place of `pixel_values`.
            labels: `(batch,)` integers, or `(batch, num_labels)` of 0 and 1 for several labels.
            kwargs: not looked at.

        Returns:
            `logits` `(batch, num_labels)`, whose softmax (several labels: sigmoid) is the weighted mean of the members'
            probabilities; `loss` if labels are given.
        """
        if input_ids is None and any(_reads_text(member.config) for member in self.members.values()):
            raise ValueError("Expected input_ids, which members of the ensemble read, found none. Pass the texts' ids.")
        pictures = {"pixel_values": pixel_values, "image_regions": image_regions, "image_mask": image_mask}
        check_shapes(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **pictures)
        opened: list[Any] = [member.config for member in self.members.values() if _is_mmbt(member.config)]
        if input_ids is not None and opened:
            check_opening(input_ids, attention_mask, self.config.cls_token_id, opened[0].cls_token_id)
        if image_regions is None and pixel_values is not None and self.image_model is not None:
            image_regions, image_mask = self.read_pictures(pixel_values, None, image_mask)
            pixel_values = None
        several = self.config.problem_type == "multi_label_classification"
        mean: Any = 0.0
        for name, member in self.members.items():
            texts: Any = (input_ids, attention_mask, token_type_ids)
            if _is_mmbt(member.config) and input_ids is not None:
                texts = without_opening(*texts)
            logits = member(*texts, pixel_values=pixel_values, image_mask=image_mask, image_regions=image_regions)[
                "logits"
            ].float()
            found = logits.sigmoid() if several else logits.softmax(dim=-1)  # (batch, num_labels)
            mean = mean + (self.config.weights or {})[name] * found
        mean = mean.clamp(LEAST, 1 - LEAST)
        logits = torch.logit(mean) if several else mean.log()
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def without_opening(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, token_type_ids: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return texts as MMBT reads them: without their leading [CLS], segments from 1 on, one position at least."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    if input_ids.shape[1] == 1:  # every text is empty
        return input_ids, torch.zeros_like(mask), segments + 1
    return input_ids[:, 1:], mask[:, 1:], segments[:, 1:] + 1


def _check_members(members: Any, weights: Any) -> None:
    """Raise a ValueError unless there are classifiers by name, each with a number as its weight."""
    for what, given in (("members", members), ("weights", weights)):
        if not isinstance(given, Mapping):
            raise ValueError(
                f"Expected {what} by name, as {{'mmbt': ...}}, found {type(given).__name__}. Pass a mapping."
            )
    if not members:
        raise ValueError("Expected at least one member, found none. Pass name → trained model.")
    for name, member in members.items():
        if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name) or name == "training":
            raise ValueError(f"Expected names of members without dots, such as 'mmbt', found {name!r}. Rename it.")
        kind = getattr(getattr(member, "config", None), "model_type", None)
        if kind not in MEMBERS or not hasattr(member, "classifier"):
            raise ValueError(
                f"Expected a trained MMBTForClassification, or a baseline of it, as member {name!r}, found "
                f"{type(member).__name__}. Load it with AutoModelForSequenceClassification."
            )
    if set(weights) != set(members):
        found = ", ".join(map(str, weights)) or "none"
        raise ValueError(
            f"Expected a weight for each member ({', '.join(members)}), found {found}. Give each its share."
        )
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise ValueError(f"Expected a number as weight of {name!r}, found {weight!r}. Weights are above 0, sum 1.")


def _reads_text(config: Any) -> bool:
    return config.text_config is not None


def _is_mmbt(config: Any) -> bool:
    return config.model_type == MMBTConfig.model_type  # by name: code beside a checkpoint is loaded more than once


def _parts(member: Any) -> Any:
    """Return what holds the image model of a member."""
    return getattr(member, "model", member)


def _shared_image_model(readers: list[Any]) -> Any:
    """Return the image model if all that read pictures have the same, pooled in the same way, else None."""
    if not readers:
        return None
    first = readers[0]
    for other in readers[1:]:
        ways = [(one.config.num_image_embeds, one.config.image_pooling) for one in (first, other)]
        held = [one.image_model.state_dict() for one in (first, other)]
        same = held[0].keys() == held[1].keys() and all(
            torch.equal(value, held[1][key]) for key, value in held[0].items()
        )
        if ways[0] != ways[1] or not same:
            return None
    return first.image_model
