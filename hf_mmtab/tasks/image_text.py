"""Pictures with texts: data, processor, model and collator of MMBT and its baselines."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from ..arguments import ENSEMBLE, ImageTextColumns, ImageTextDataArguments, MMBTModelArguments
from ..data.encoded import EncodedDataset
from ..data.image_text import ImageText
from ..data.image_text_loading import SAMPLE_PREFIX, warn_about
from ..data.pictures.files import data_files, read_as, sample_path, split_of
from ..data.reading.places import real_path
from ..data.reading.records import BadRecords, files_digest
from ..metrics.names import label_names
from ..models.mmbt import MMBTBaselineForClassification, MMBTCollator, MMBTForClassification, MMBTProcessor
from ..models.mmbt.beside_columns import fit_columns, tell_unknown
from ..pretrained_packages import require_checkpoint, resolve_checkpoint
from .fitted_lengths import choose_max_images, further_pictures_note, picture_size_note, refuse_several_pictures
from .image_text_labels import label_ids_of_model

logger = logging.get_logger(__name__)


ALL_ROWS = "all"
LONGEST_PATH = 1024
IMAGE_TEXT_PARTS = ("image_encoder", "text_encoder")


@dataclass(frozen=True)
class ImageTextTask:
    """Classify pictures with texts: MMBT and its baselines.

    Args:
        name: as a recipe's `task` says it.
        builder: reads the data; takes `data_root` and the columns.
    """

    name: str
    builder: type[ImageText]

    data_arguments = ImageTextDataArguments
    model_arguments = MMBTModelArguments
    parts = IMAGE_TEXT_PARTS
    default = "image_text"  # where a recipe names no task

    def modalities(self, rows: datasets.Dataset) -> dict[str, list[str]]:
        """Input → the row columns that carry it, for modality ablation."""
        columns = {
            "image": [c for c in ("images", "image") if c in rows.column_names],
            "text": [c for c in ("text", "sentence1", "sentence2") if c in rows.column_names],
        }
        return {name: found for name, found in columns.items() if found}

    def load(self, arguments: ImageTextDataArguments, **builder_options: Any) -> tuple[datasets.DatasetDict, list[Any]]:
        """Read all splits; also return the records that were left out (`on_bad_record: skip`)."""
        named = {one.name: getattr(arguments, one.name) for one in fields(ImageTextColumns)}
        options = {name: value for name, value in named.items() if value is not None}
        builder = self.builder(
            data_root=str(self.data_root(arguments)),
            on_bad_record=arguments.on_bad_record,
            split_seed=arguments.split_seed,
            **options,
            **builder_options,
        )
        builder.download_and_prepare()
        splits = builder.as_dataset()
        if arguments.max_rows is not None:
            for name, rows in splits.items():
                keep = min(arguments.max_rows, len(rows))
                splits[name] = rows.shuffle(seed=arguments.split_seed).select(range(keep))
        return splits, warn_about(builder.skipped)

    def data_root(self, arguments: ImageTextDataArguments) -> Path:
        """Return the folder or file that `data` names."""
        if arguments.data.startswith(SAMPLE_PREFIX):
            return sample_path(arguments.data.removeprefix(SAMPLE_PREFIX))
        return Path(arguments.data)

    def data_digest(self, arguments: ImageTextDataArguments) -> str | None:
        """Return a hash of names, sizes and times of the data files (not of pictures beside them); None: no files."""
        root = real_path(self.data_root(arguments))
        if not root.exists():
            return None
        return files_digest([source.path for source in self.builder.sources_in(root)])

    def named_pictures(self, arguments: ImageTextDataArguments) -> Iterator[Path]:
        """Yield the path of every file that the records name, be it there or not."""
        root = real_path(self.data_root(arguments))
        sources = self.builder.sources_in(root) if root.exists() else []
        for source in read_as(sources, arguments.separator, arguments.missing):
            embedded = [one.name for one in source.schema or () if pa.types.is_binary(one.type)]
            for _, record in source.records(BadRecords("skip"), skip_columns=embedded, read=()):
                cells = [one for cell in record.values() for one in (cell if isinstance(cell, list) else [cell])]
                for value in cells:
                    value = value.get("path") if isinstance(value, dict) else value
                    if isinstance(value, str) and 0 < len(value) < LONGEST_PATH and "\n" not in value:
                        yield source.path.parent / value

    def load_split(
        self, arguments: ImageTextDataArguments, split: str, config: Any
    ) -> tuple[datasets.Dataset, list[Any]]:
        """Read one split, its labels numbered as a model does; nothing but the split's own files is needed.

        Args:
            arguments: which data.
            split: train, validation, test, …; `all` for every record of a file. A single file is otherwise split
                by seed, as in training.
            config: of the model: names of the labels, one or several.

        Raises:
            ValueError: no such split (with the splits that there are), or a label that the model does not know.
        """
        root = self.data_root(arguments)
        root = root / self.name if (root / self.name).is_dir() else root
        files = sorted(data_files(root)) if root.is_dir() else [root]
        own = [file.name for file in files if split == ALL_ROWS or split_of(file.name) == split]
        if not own:
            splits, skipped = self.load(arguments, **columns_beside(config))
            if split not in splits:
                raise ValueError(f"Expected --split to be one of {[*splits, ALL_ROWS]}, found {split!r}.")
            return label_ids_of_model(splits[split], config), [one for one in skipped if one.split in (split, None)]
        splits, skipped = self.load(
            arguments,
            splits={"train": own},
            split_fractions=(1.0, 0.0, 0.0),
            label_names=label_names(config),
            multi_label=config.problem_type == "multi_label_classification",
            **columns_beside(config),
        )
        return splits["train"], skipped

    def labels(self, rows: datasets.Dataset) -> tuple[str, list[str]]:
        """Return the problem type and the names of the labels.

        Raises:
            ValueError: if the rows have no label column.
        """
        if "label" in rows.features:
            return "single_label_classification", list(rows.features["label"].names)
        if "labels" in rows.features:
            return "multi_label_classification", list(rows.features["labels"].feature.names)
        raise ValueError(
            f"Expected a label column, found columns {rows.column_names}. Name it with `label_column` in the recipe."
        )

    def label_counts(self, rows: datasets.Dataset) -> list[int]:
        """Return how many rows carry each label, in the order of the label ids."""
        problem_type, names = self.labels(rows)
        column = rows["label" if problem_type == "single_label_classification" else "labels"]
        counts = Counter(i for value in column for i in (value if isinstance(value, list) else [value]))
        return [counts[index] for index in range(len(names))]

    def processor(self, arguments: MMBTModelArguments) -> MMBTProcessor:
        """Build the processor that fits the architecture: whether the text owns [CLS], and which inputs it reads.

        Raises:
            ValueError: if the tokenizer has no word to begin texts with.
        """
        if arguments.pretrained is not None:
            return MMBTProcessor.from_pretrained(arguments.pretrained)
        architecture = arguments.architecture
        text, image = self.checkpoints(arguments)
        found = MMBTProcessor.from_text_image_pretrained(
            text,
            image,
            preset=arguments.image_preset,
            max_length=None if arguments.max_length == "auto" else arguments.max_length,
            leading_cls=architecture != "mmbt",  # in MMBT the image part owns [CLS]
            segment_offset=1 if architecture == "mmbt" else 0,
        )
        if found.tokenizer is not None and found.tokenizer.cls_token_id is found.tokenizer.bos_token_id is None:
            raise ValueError(
                f"Expected a text_model whose tokenizer has a cls_token or bos_token, found neither in {text!r} "
                f"({type(found.tokenizer).__name__}). Use an encoder such as BERT, RoBERTa or ModernBERT."
            )
        return found

    def fit_images(
        self, arguments: MMBTModelArguments, processor: MMBTProcessor, splits: datasets.DatasetDict
    ) -> list[str]:
        """Let a processor read as many pictures of a row as the recipe says; return lines about it, if there are any.

        Args:
            arguments: of the model.
            processor: of the model.
            splits: with that of training.

        Raises:
            ValueError: if rows have several and the recipe, or training, has one.
        """
        if processor.image_processor is None:
            return []
        processor.max_images, told = choose_max_images(splits["train"], arguments.max_images, processor.max_images)
        for name, rows in splits.items():
            refuse_several_pictures(rows, f"the split {name}", processor.max_images)
        read = picture_size_note(processor.image_processor)
        return [line for line in (read, told, further_pictures_note(splits, processor.max_images)) if line]

    def fit_columns(self, arguments: MMBTModelArguments, processor: MMBTProcessor, rows: datasets.Dataset) -> None:
        """Let a processor learn the columns that mmbt reads beside picture and text; no other architecture does.

        Args:
            arguments: name them.
            processor: of the model.
            rows: of training.

        Raises:
            ValueError: if a pretrained processor reads others, or a column does not fit.
        """
        named = [*arguments.number_columns, *arguments.category_columns]
        if arguments.pretrained is not None:
            before = list(processor.columns or ())
            if named and sorted(named) != sorted(before):
                raise ValueError(
                    f"Expected number_columns and category_columns of {arguments.pretrained!r}, "
                    f"{', '.join(before) or 'none'}, found {', '.join(named)}. Leave them out: the checkpoint knows "
                    "its own."
                )
        elif named and arguments.architecture == "mmbt":
            processor.columns = fit_columns(rows, arguments.number_columns, arguments.category_columns)
        elif named:
            logger.info(f"{arguments.architecture} reads no columns beside picture and text: {', '.join(named)}.")

    def model(
        self,
        arguments: MMBTModelArguments,
        problem_type: str,
        names: list[str],
        processor: MMBTProcessor,
        sentence_pairs: bool = False,
    ) -> PreTrainedModel:
        """Start a model from the pretrained checkpoints that the recipe names, or go on with a whole one.

        Args:
            arguments: which; of an ensemble, its linear probe.
            problem_type: of the labels.
            names: of the labels.
            processor: of the model.
            sentence_pairs: whether rows have a second text, which is a segment of its own.

        Raises:
            ValueError: if the whole one is of another architecture or another kind of label than the recipe.
        """
        if arguments.pretrained is not None:
            whole = self._whole_model(arguments.pretrained, arguments, problem_type)
            whole.config.max_images = processor.max_images  # no weights hang on it
            return whole
        text, image = self.checkpoints(arguments)
        config: dict[str, Any] = {
            "problem_type": problem_type,
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "num_image_embeds": arguments.num_image_embeds,
            "max_images": processor.max_images,
            "image_pooling": arguments.image_pooling,
            "modal_dropout": arguments.modal_dropout,
            "modal_dropout_text": arguments.modal_dropout_text,
            "word_dropout": arguments.word_dropout,
            "text_pooling": "mean" if arguments.text_pooling == "mean" else "cls",  # auto begins so
        }
        if arguments.attn_implementation is not None:
            config["attn_implementation"] = arguments.attn_implementation
        model: PreTrainedModel
        if arguments.architecture == "mmbt":
            assert text is not None and image is not None  # see _checkpoints
            model = MMBTForClassification.from_text_image_pretrained(
                text,
                image,
                segment_start=arguments.segment_start,
                text_position_start=arguments.text_position_start,
                num_segments=3 if sentence_pairs else 2,
                null_image=arguments.null_image,
                classifier_dropout=arguments.classifier_dropout,
                **_columns_of(processor),
                **config,
            )
        else:
            if arguments.image_pooling == "none":
                config["image_pooling"] = "avg"  # baselines put a fixed number of regions side by side
            of_words = arguments.architecture in ("bow", "concatbow")
            model = MMBTBaselineForClassification.from_text_image_pretrained(
                None if of_words else text,
                image,
                word_vectors=text if of_words else None,
                hidden_sizes=None if arguments.architecture == ENSEMBLE else arguments.hidden_sizes,
                batch_norm=arguments.hidden_batch_norm,
                hidden_dropout=arguments.hidden_dropout,
                **config,
            )
        return model

    def _whole_model(self, name: str, arguments: MMBTModelArguments, problem_type: str) -> PreTrainedModel:
        model: Any = AutoModelForSequenceClassification.from_pretrained(name, dtype="float32")
        found = (getattr(model.config, "baseline", model.config.model_type), model.config.problem_type)
        expected = (arguments.architecture, problem_type)
        if found != expected:
            raise ValueError(
                f"Expected {' with '.join(expected)} in {name!r}, as recipe and data say, found "
                f"{' with '.join(map(str, found))}. Correct `architecture`, or name another checkpoint."
            )
        return model

    def encode(self, rows: datasets.Dataset, processor: MMBTProcessor, augment: bool = False) -> EncodedDataset:
        """Rows as the model's inputs, decoded and tokenised when asked for; of data without texts each is empty.

        Raises:
            ValueError: if a row has several pictures and the model reads one, or the data has none of what it reads.
        """
        there = self.modalities(rows)
        read = {"image": ("pictures", processor.image_processor), "text": ("texts", processor.tokenizer)}
        read = {name: of for name, of in read.items() if of[1] is not None}
        if not read.keys() & there.keys():
            (name, (what, _)), *_ = read.items()
            raise ValueError(
                f"Expected {what}, which the model reads and nothing else, found data without ({name}_column: none). "
                f"Name the column in {name}_column, or take another model."
            )
        if "text" in read and "text" not in there:
            rows = rows.add_column("text", [""] * len(rows))
        if processor.image_processor is not None:
            refuse_several_pictures(rows, "the data", processor.max_images)
        tell_unknown(processor.columns or {}, rows)
        return EncodedDataset(rows, processor.encode_row, augment=augment)

    def collator(self, arguments: ImageTextDataArguments, processor: MMBTProcessor, num_labels: int) -> MMBTCollator:
        """Padding, and the random changes of training pictures."""
        return MMBTCollator(
            processor,
            num_labels=num_labels,
            pad_to_multiple_of=arguments.pad_to_multiple_of,
            augment=arguments.augment,
            min_crop=arguments.min_crop,
        )

    def checkpoints(self, arguments: MMBTModelArguments) -> tuple[str | None, str | None]:
        """Return where the text and the image come from; None for an input that the architecture does not read.

        Raises:
            ValueError: an architecture whose checkpoint the recipe does not name.
        """
        architecture = arguments.architecture
        text_key = "glove_path" if architecture in ("bow", "concatbow") else "text_model"
        needed = {text_key: architecture != "img", "image_model": architecture not in ("bow", "bert")}
        found: dict[str, str | None] = {}
        for key, reads in needed.items():
            value = getattr(arguments, key)
            if reads and value is None:
                raise ValueError(f"Architecture {architecture!r} needs {key!r} in the recipe, found none.")
            found[key] = resolve_checkpoint(value) if reads else None
            if reads and key != "glove_path":
                require_checkpoint(resolve_checkpoint(value))
        return found[text_key], found["image_model"]


def _columns_of(processor: MMBTProcessor) -> dict[str, Any]:
    """Return the fields of `MMBTConfig` about the columns that a processor reads."""
    columns = processor.columns or {}
    numbers = [name for name, learned in sorted(columns.items()) if "quantiles" in learned]
    categories = {name: len(learned["values"]) for name, learned in columns.items() if "values" in learned}
    return {"number_columns": numbers or None, "category_columns": categories or None}


def columns_beside(config: Any) -> dict[str, tuple[str, ...]]:
    """Return the columns beside picture and text that a model reads, as options of reading.

    Args:
        config: of the model, or arguments of a recipe that name them.
    """
    return {name: tuple(getattr(config, name, None) or ()) for name in ("number_columns", "category_columns")}
