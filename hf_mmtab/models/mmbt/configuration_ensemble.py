"""Configuration of an ensemble of MMBT and its baselines."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_baselines import MMBTBaselineConfig
from .configuration_mmbt import MMBTConfig, PictureAndTextConfig

MEMBERS = {one.model_type: one for one in (MMBTConfig, MMBTBaselineConfig)}


@strict
class MMBTEnsembleConfig(PictureAndTextConfig):
    """Several models whose probabilities are averaged.

    Args:
        members: name → configuration of each, of MMBT or a baseline with a text encoder or none.
        weights: name → its share of the probabilities; together 1.
        cls_token_id: of the word that opens every text, which MMBT among the members does not read; None: not known,
            and a text without it is warned of where MMBT's own configuration tells the id.
        image_config: of the image model that all members read with; None: each has its own, or none reads pictures.
        num_image_embeds: pooled image regions, of all members.
        max_images: pictures of a row, at most, of all members.
        image_pooling: of all members.
        thresholds: probability from which a label counts as predicted, one per label.

    Raises:
        ValueError: if members and weights do not fit each other.
    """

    model_type = "mmbt_ensemble"
    baseline = "ensemble"  # as a recipe calls it
    sub_configs_defaults = {"image_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True)}

    members: dict[str, dict] | None = None
    weights: dict[str, float | int] | None = None
    cls_token_id: int | None = None
    image_pooling: Literal["avg", "max", "none"] = "avg"

    def validate_members(self) -> None:
        """Refuse members without a weight, and models of other kinds."""
        members, weights = self.members or {}, self.weights or {}
        if set(members) != set(weights):
            raise ValueError(f"Expected a weight for each member ({', '.join(members)}), found {', '.join(weights)}.")
        if weights and not (min(weights.values()) > 0 and abs(sum(weights.values()) - 1) < 1e-6):
            raise ValueError(f"Expected weights above 0 that sum to 1, found {weights}.")
        for name, values in members.items():
            if values.get("model_type") not in MEMBERS or values.get("bow_vocab_size") is not None:
                raise ValueError(
                    f"Expected MMBT or a baseline without word vectors as member {name!r}, found "
                    f"{values.get('model_type')!r}."
                )

    def member_configs(self) -> dict[str, PictureAndTextConfig]:
        """Return the configuration of each member."""
        return {name: MEMBERS[values["model_type"]](**values) for name, values in (self.members or {}).items()}

    @property
    def num_segments(self) -> int:
        """Segments that every member has."""
        return min([one.get("num_segments", 3) for one in (self.members or {}).values()], default=2)

    def _travels_as(self) -> dict[str, str]:
        return {
            "AutoConfig": "MMBTEnsembleConfig",
            "AutoModelForSequenceClassification": "MMBTEnsembleForClassification",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration; members without what only their own folders need."""
        values = super().to_dict()
        for member in (values.get("members") or {}).values():
            member.pop("auto_map", None)
        return values
