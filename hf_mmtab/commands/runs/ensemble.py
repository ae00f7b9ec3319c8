"""`architecture: ensemble`: trained models of pictures and texts and a linear probe, averaged as validation chooses."""

from typing import Any

from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from ...arguments import ENSEMBLE
from ...evaluation.combining import select_greedily
from ...evaluation.run_results import RunResults
from ...models.mmbt import MMBTEnsembleForClassification, MMBTProcessor
from ...models.mmbt.text_encoding_mmbt import special_id
from ...training import MMTabTrainer
from ...training.arguments import PART_ARGUMENTS
from .compared import UntrainedTrainer
from .image_text import ImageTextRun, predict_rows
from .recipe import ImageTextRecipe

logger = logging.get_logger(__name__)

LINEAR_PROBE = "linear_probe"


class EnsembleRun(ImageTextRun):
    """The members of one seed, which lie finished beside it, and a linear probe, as one model."""

    trainer_type = UntrainedTrainer

    @classmethod
    def members_of(cls, recipe: ImageTextRecipe) -> list[str]:
        """Return the architectures that are trained before an ensemble of them is made.

        Raises:
            ValueError: if there is none, or one cannot be a member.
        """
        members = list(dict.fromkeys(recipe.run.ensemble_members))
        known = [name for name in ImageTextRun.architectures if "bow" not in name and name != ENSEMBLE]
        if not members or not set(members) <= set(known):
            raise ValueError(
                f"Expected ensemble_members to name some of {', '.join(known)}, found {', '.join(members) or 'none'}. "
                "The linear probe is tried with them by itself."
            )
        if named := [*recipe.model.number_columns, *recipe.model.category_columns]:
            raise ValueError(
                f"Expected no number_columns and category_columns beside architecture: {ENSEMBLE}, whose members read "
                f"the same inputs, found {', '.join(named)}. Use architecture: mmbt."
            )
        if recipe.model.pretrained is not None:
            raise ValueError(
                f"Expected text_model and image_model beside architecture: {ENSEMBLE}, whose members start from them, "
                f"found pretrained: {recipe.model.pretrained}. Leave it out."
            )
        return members

    def prepare(self) -> Any:
        """Read the splits, fit the linear probe, and join it with the finished members as validation likes it best."""
        recipe = self.recipe
        recipe.run.recipe_rows = None  # of epochs, and there are none
        probe = super().prepare()
        trainer = MMTabTrainer(model=probe, args=recipe.training, **self.trainer_arguments(probe))
        start = self.linear_starter(trainer).start(("cls", "mean"), with_classifier=True)
        logger.info(f"{LINEAR_PROBE}: {start}")

        folders = {
            name: recipe.shared_folder / f"{name}-seed{recipe.training.seed}" for name in self.members_of(recipe)
        }
        candidates = {name: self.read_scored(folder)["validation"] for name, folder in folders.items()}
        candidates[LINEAR_PROBE] = predict_rows(trainer, recipe.task, self.splits["validation"], self.processor)
        chosen = select_greedily(candidates)
        members: dict[str, Any] = {LINEAR_PROBE: trainer.model}
        for name in chosen.weights:
            if name != LINEAR_PROBE:
                members[name] = AutoModelForSequenceClassification.from_pretrained(folders[name], dtype="float32")
                length = MMBTProcessor.from_pretrained(folders[name]).max_length
                self.processor.max_length = min(self.processor.max_length, length)
        tokenizer = self.processor.tokenizer
        model = MMBTEnsembleForClassification.from_members(
            {name: members[name] for name in chosen.weights},
            chosen.weights,
            cls_token_id=None if tokenizer is None else special_id(tokenizer, "cls"),
        )
        self.config = model.config
        of_members = [done for folder in folders.values() if (done := RunResults.read(folder)) is not None]
        self.minutes_before = (
            sum(one.minutes or 0 for one in of_members),
            sum(one.training_minutes or 0 for one in of_members),
        )
        self.notes.append(f"{chosen} Minutes are with those of all runs that it was chosen from.")
        return model

    def new_model(self, problem_type: str, names: list[str]) -> Any:
        """Return the linear probe as it starts. Nothing of an ensemble trains: no schedule, adapters or soup."""
        recipe = self.recipe
        model = super().new_model(problem_type, names)
        self.config = model.config
        for name in PART_ARGUMENTS:
            setattr(recipe.training, name, None)
        recipe.model.lora, recipe.run.soup = None, False
        recipe.training.load_best_model_at_end, recipe.training.early_stopping_patience = False, None
        return model

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Leave the trainer as it is."""

    @property
    def explained(self) -> str | None:
        """None: reasons are those of single models."""
        return None
