"""What a note of a run is about, by its beginning: a card tells those of training beside training."""

from collections.abc import Sequence

OF_TRAINING = (
    "num_train_epochs: ", "label_smoothing_factor ", "eval_loss ", "text_pooling: ", "classifier_start: ", "soup: ",
    "ensemble: ", "The head reads ", "Training met ", "Collapse in epoch ", "The run ends worse ",
    "This model is not better than a guess", "The model is the linear probe ", "Boosted: ", "Fusion: ",
    "Scores are those of ", "Predicted is ", "On validation the fusion ", "The run went on ",
)  # fmt: skip
# Of how the run was done, which ask nothing of a reader.
INFORMATION = (
    "The head reads ", "Training met ", "max_length: auto: ", "max_images: ", "picture size: ", "text_pooling: ",
    "eval_loss ", "There are no ", "Boosted: ", "Fusion: ", "Scores are those of ", "Predicted is ",
    "On validation the fusion ", "The run went on ",
)  # fmt: skip


def notes_by_section(notes: Sequence[str]) -> dict[str, list[str]]:
    """Return the notes about the data, and those about how the model was trained and what came of it."""
    of_training = [note for note in notes if note.startswith(OF_TRAINING)]
    return {"data": [note for note in notes if note not in of_training], "training": of_training}


def is_information(note: str) -> bool:
    """Tell notes of how the run was done from warnings."""
    return note.startswith(INFORMATION) or ("training windows contain" in note and "Leak:" not in note)
