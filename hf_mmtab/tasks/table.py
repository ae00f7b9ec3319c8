"""Tables of events: data, processor, windows, models and collators of TabBERT."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import polars as pl
import pyarrow as pa
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers.utils import logging

from ..arguments import PretrainingArguments, TabBertModelArguments, TableDataArguments
from ..data.image_text_loading import warn_about
from ..data.reading.library_errors import no_rows
from ..data.reading.places import Place, place_of
from ..data.reading.records import BadRecord, files_digest
from ..data.reading.table_files import table_files
from ..data.shards.preparing import prepare_rows
from ..data.simulated_cards import write_csv
from ..data.simulated_world import World
from ..data.table import Table
from ..data.windows.cutting import WindowDataset, WindowLabel
from ..data.windows.encoded_rows import EncodedRows
from ..data.windows.splits import Split, windows
from ..models.tabbert import TabBertConfig, TabBertForMaskedLM, TabBertProcessor, TabGPT2Config, TabGPT2LMHeadModel
from ..models.tabbert.collating_tabbert import TabBertCollator
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.plan_guess import infer_plan
from ..typed_values import typed_value
from .guessed_plan import describe_guess, doubts, with_time_unit
from .prepared_table import PreparedTable, open_encoded, refuse_encoded, rows_digest, unplanned
from .saved_processor import open_processor
from .table_entities import keep_entities
from .table_labels import require_label
from .table_reading import guessed_time, named_plan, plan_options, used_columns

logger = logging.get_logger(__name__)

SIMULATED_CARDS = "simulated:cards"
SIMULATED_DEFAULTS = {"users": 100, "rows": 100_000, "fraud_rate": 0.001, "seed": 0, "version": 1}
PLAN_SAMPLE = 100_000  # first rows, from which a plan is guessed
PROCESSOR_FOLDER, ROWS_FOLDER = "processor", "rows"


Sample = Callable[[int], pa.Table]  # returns the first rows of a table, so many


@dataclass(frozen=True)
class TableTask:
    """Windows of a table's rows: TabBERT.

    Args:
        name: as a recipe's `task` says it.
        builder: reads the data.
        preset: column plan where the recipe names none; None: guessed from the table.
    """

    name: str
    builder: type[Table]
    preset: str | None = None

    data_arguments = TableDataArguments
    model_arguments = TabBertModelArguments
    default = "table"  # where a recipe names no task

    def prepare(
        self, arguments: TableDataArguments, folder: Path, pretrained: str | None = None, needs_label: bool = False
    ) -> PreparedTable:
        """Read the table, fit the processor on its training rows and encode all rows into `folder`; or open `rows`.

        What lies in `folder` already, from an earlier start of the same run, is used: the processor always, the
        encoded rows if the table is still the same.

        Args:
            arguments: which table.
            folder: of the run, for encoded rows, processor and generated data.
            pretrained: checkpoint whose processor is used in place of a new one.
            needs_label: whether the rows must have a label.

        Raises:
            FileNotFoundError: if there is no such checkpoint, or no processor beside it.
            ValueError: if a key does not fit the task, the table has no row, does not fit the plan, or has no label and
                needs one.
        """
        if arguments.rows is not None:
            return open_encoded(arguments, pretrained, needs_label)
        saved = folder / PROCESSOR_FOLDER
        theirs = None if pretrained is None or saved.is_dir() else open_processor(pretrained)
        builder = self.built(arguments, folder, pretrained)
        dataset, skipped = _rows_of(builder)
        if saved.is_dir():
            processor = TabBertProcessor.from_pretrained(saved)
        elif theirs is not None:
            processor = unplanned(theirs, arguments, needs_label)
        else:
            processor = self.new_processor(arguments, builder, lambda rows: dataset.with_format("arrow")[:rows])
        dataset = keep_entities(dataset, processor.plan, arguments.entities)
        label = arguments.label_columns or list(processor.plan.label)
        if needs_label:
            require_label(dataset, label)
        fractions = cast(Any, tuple(arguments.split_fractions) or None)
        split = Split(arguments.split, fractions, arguments.split_seed)
        before = EncodedRows(folder / ROWS_FOLDER).fingerprint if (folder / ROWS_FOLDER).is_dir() else None
        numbers = [name for name in builder.number_columns if name in label]
        rows = prepare_rows(dataset, processor, folder / ROWS_FOLDER, split, label, numbers)
        if saved.is_dir() and before is not None and rows.fingerprint != before:
            logger.warning(
                f"The table's files were changed or moved since this run began: {len(rows)} rows are encoded anew with "
                "the run's own processor. If the rows are others, start anew with --overwrite true."
            )
        if not saved.is_dir():
            draft = saved.with_name(f"{PROCESSOR_FOLDER}.part")
            processor.save_pretrained(draft)
            os.replace(draft, saved)
        return PreparedTable(rows, processor, skipped, dataset, label=label)

    def read(
        self, arguments: TableDataArguments, folder: Path, pretrained: str | None = None
    ) -> tuple[datasets.Dataset, list[BadRecord]]:
        """Return the table's typed rows, and the records that were left out (`on_bad_record: skip`).

        Args:
            arguments: which table.
            folder: for generated data.
            pretrained: checkpoint whose plan says what the columns are; None: the recipe's.
        """
        return _rows_of(self.built(arguments, folder, pretrained))

    def built(self, arguments: TableDataArguments, folder: Path, pretrained: str | None = None) -> Table:
        """Return the builder of the table, with its rows read; see `read`.

        Raises:
            ValueError: if the table has no row.
        """
        builder = self.builder_of(arguments, folder, pretrained)
        builder.download_and_prepare()
        if not sum(split.num_examples for split in (builder.info.splits or {}).values()):
            raise no_rows(arguments.data, builder.skipped)
        return builder

    def builder_of(self, arguments: TableDataArguments, folder: Path, pretrained: str | None = None) -> Table:
        """Return the builder of the table, which has read its first rows; see `read`."""
        options = {
            name: getattr(arguments, name)
            for name in ("types", "separator", "missing", "max_rows")
            if getattr(arguments, name) is not None
        }
        options |= plan_options(arguments, self.preset, pretrained)
        options["used"] = used_columns(arguments, self.preset, pretrained)
        root = str(self.data_root(arguments, folder))
        builder = self.builder(root, on_bad_record=arguments.on_bad_record, **options)
        if time := guessed_time(arguments, self.preset, pretrained, builder):  # no row may lack it
            options["required"] = (*options["required"], time)
            builder = self.builder(root, on_bad_record=arguments.on_bad_record, **options)
        return builder

    def data_root(self, arguments: TableDataArguments, folder: Path) -> Place:
        """Return the place that `data` names; `simulated:cards` is generated into `folder` first.

        Raises:
            ValueError: for simulated data in a task that cannot read it, or unknown keys of `simulate`.
        """
        if arguments.data != SIMULATED_CARDS:
            if arguments.simulate is not None:
                raise ValueError(
                    f"Expected data: {SIMULATED_CARDS} beside `simulate`, found {arguments.data!r}. Remove one of "
                    "them: `--simulate null` on the command line."
                )
            place = place_of(arguments.data)
            refuse_encoded(place)
            return place
        if self.name != "card_transactions":
            raise ValueError(
                f"Expected task: card_transactions for data: {SIMULATED_CARDS}, found {self.name!r}. Change the task."
            )
        given = arguments.simulate or {}
        if unknown := sorted(map(str, set(given) - set(SIMULATED_DEFAULTS))):
            raise ValueError(
                f"Expected keys of `simulate` among {', '.join(SIMULATED_DEFAULTS)}, found {', '.join(unknown)}. "
                "Correct or remove them."
            )
        given = {
            key: typed_value(value, type(SIMULATED_DEFAULTS[key]), f"simulate.{key}") for key, value in given.items()
        }
        file = folder / "cards.csv"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".part")
            with open(draft, "w", encoding="utf-8", newline="") as out:
                write_csv(World(**{**SIMULATED_DEFAULTS, **given}), out)
            os.replace(draft, file)
        return file

    def data_digest(self, arguments: TableDataArguments) -> str | None:
        """Return a hash of names, sizes and times of the table's files; None for simulated or absent ones."""
        if arguments.rows is not None:
            return rows_digest(arguments.rows)
        root = place_of(arguments.data)
        return files_digest(table_files(root)) if root.exists() else None

    def new_processor(self, arguments: TableDataArguments, builder: Table, sample: Sample) -> TabBertProcessor:
        """Return an unfitted processor with the recipe's plan, see `plan`; `builder` reads the table."""
        plan = self.plan(arguments, sample)
        month_first = [name for name in builder.month_first if name in plan.columns]
        return TabBertProcessor(plan.edit(month_first=tuple(month_first)))

    def plan(self, arguments: TableDataArguments, sample: Sample) -> ColumnPlan:
        """Return the column plan that the recipe describes.

        Args:
            arguments: of the recipe.
            sample: returns the table's first rows, so many.

        Raises:
            ValueError: if the plan cannot be read, or `plan_edits` removes a field that it does not have.
        """
        plan = named_plan(arguments, self.preset)
        if plan is None:
            frame = cast(pl.DataFrame, pl.from_arrow(sample(PLAN_SAMPLE)))
            plan = infer_plan(
                frame, list(arguments.entity_columns), arguments.time_column, list(arguments.label_columns)
            )
            logger.info(f"Column plan guessed from the first {len(frame):,} rows:\n{describe_guess(plan)}")
            for doubt in doubts(plan, frame):
                logger.warning(doubt)
        else:
            types = sample(0).schema
            is_time = plan.time in types.names and pa.types.is_temporal(types.field(plan.time).type)
            plan = plan if is_time else with_time_unit(plan, sample(PLAN_SAMPLE))
        edits = cast(dict[str, Any], arguments.plan_edits or {})
        names = [field.name for field in plan.fields]
        if absent := [name for name, settings in edits.items() if settings is None and name not in names]:
            raise ValueError(
                f"Expected plan_edits to remove fields of the plan ({', '.join(names)}), found {', '.join(absent)}."
            )
        parts = [field.name for field in plan.fields if field.kind == "time_part"]
        edits = {  # a calendar field that the user writes down stays
            name: {"keep": "always", **settings} if name in parts and isinstance(settings, dict) else settings
            for name, settings in edits.items()
        }
        if arguments.num_bins is not None:
            bins = {field.name: {"num_bins": arguments.num_bins} for field in plan.fields if field.is_binned}
            plan = plan.edit(fields=bins)
        return plan.edit(fields=edits)

    def windows(
        self,
        arguments: TableDataArguments,
        rows: EncodedRows,
        split: str,
        label: WindowLabel | None = None,
        judges: bool | None = None,
    ) -> WindowDataset:
        """Return the windows of one split; `judges` as in `hf_mmtab.data.windows.splits.windows`.

        Raises:
            ValueError: if there are none, or not every row would be judged that should be.
        """
        trains = split == "train" or arguments.split == "paper"  # the paper's splits share one set of windows
        if label == "every" and not trains and (arguments.eval_stride or 1) > arguments.seq_len:
            raise ValueError(
                f"Expected eval_stride of at most seq_len ({arguments.seq_len}) where every row is judged, found "
                f"{arguments.eval_stride}: the rows between two windows would have no score. Make it smaller."
            )
        found = windows(
            rows,
            split,
            arguments.seq_len,
            arguments.stride if trains else arguments.eval_stride or arguments.seq_len,
            label,
            max_gap=arguments.max_gap,
            pad=arguments.pad_windows,
            judges=judges,
        )
        if not len(found):
            raise ValueError(
                f"Expected windows of {arguments.seq_len} rows in the {split} split, found none in {len(rows)} rows. "
                "Choose other split_fractions, a shorter seq_len, a longer max_gap (or none), or pad_windows: true."
            )
        return found

    def masked_lm(
        self, data: TableDataArguments, arguments: TabBertModelArguments, processor: TabBertProcessor
    ) -> TabBertForMaskedLM | TabGPT2LMHeadModel:
        """Start the model for pretraining, anew or from a checkpoint.

        Raises:
            ValueError: if sizes are given beside a checkpoint, or the checkpoint has other ids.
        """
        implementation: dict[str, Any] = (
            {} if arguments.attn_implementation is None else {"attn_implementation": arguments.attn_implementation}
        )
        is_gpt = arguments.architecture == "gpt2"
        if arguments.pretrained is None and is_gpt:
            return TabGPT2LMHeadModel(self.gpt_config(data, arguments, processor, **implementation))
        if arguments.pretrained is None:
            return TabBertForMaskedLM(self.config(data, arguments, processor, **implementation))
        if given := arguments.given_sizes():
            raise ValueError(
                f"Expected no {', '.join(given)} beside `pretrained`, which has sizes of its own. Remove them, or "
                "start without `pretrained`."
            )
        kind = TabGPT2LMHeadModel if is_gpt else TabBertForMaskedLM
        model = kind.from_pretrained(arguments.pretrained, **implementation)
        model.check_processor(processor.fingerprint)
        return model

    def config(
        self, data: TableDataArguments, arguments: TabBertModelArguments, processor: TabBertProcessor, **more: Any
    ) -> TabBertConfig:
        """Return the configuration of a new model; what the recipe leaves out is the default's, or the preset's."""
        sizes: dict[str, Any] = arguments.sizes()
        numeric = str(sizes.pop("numeric", "bins"))
        of_processor = processor.config_kwargs(numeric)
        if numeric != "bins" and not (of_processor["bin_numbers"] or of_processor["cycle_ranges"]):
            raise ValueError(
                f"Expected numbers or calendar parts in the column plan beside numeric: {numeric}, found the fields "
                f"{', '.join(processor.fields)}. Take numeric out."
            )
        positions = data.seq_len * (len(processor.fields) if arguments.flatten else 1)
        sizes["max_position_embeddings"] = max(512, positions)
        if arguments.preset != "paper":
            return TabBertConfig(**of_processor, **sizes, **more)
        try:
            return TabBertConfig.paper(**of_processor, **sizes, **more)
        except StrictDataclassClassValidationError as error:
            own = {name: getattr(arguments, name) for name in arguments.given_sizes() if name != "preset"}
            if not own:
                raise
            told = ", ".join(f"{name}: {value}" for name, value in own.items())
            raise ValueError(
                f"Expected preset: paper to say the sizes, found {told} in the recipe, which do not go together with "
                f"it ({str(error.__cause__ or error).split('. ')[0]}). Take them out: "
                f"{' '.join(f'--{name} null' for name in own)}"
            ) from error

    def gpt_config(
        self, data: TableDataArguments, arguments: TabBertModelArguments, processor: TabBertProcessor, **more: Any
    ) -> TabGPT2Config:
        """Return the configuration of a new TabGPT, whose longest window is the recipe's."""
        return TabGPT2Config(
            **processor.config_kwargs(),
            bos_token_id=processor.bos_token_id,
            n_positions=1 + data.seq_len * len(processor.fields),
            **cast(dict[str, Any], arguments.gpt2_sizes()),
            **more,
        )

    def masking(
        self,
        arguments: PretrainingArguments,
        processor: TabBertProcessor,
        seed: int,
        next_row: bool = False,
        trains: bool = False,
    ) -> TabBertCollator:
        """Padding and masking of windows; the seed decides which cells. `next_row`: none is masked, all are judged.

        Args:
            arguments: of masking.
            processor: of the windows.
            seed: what is masked.
            next_row: predict whole rows.
            trains: also replace some cells by [UNK].

        Raises:
            ValueError: if no cell would ever be masked.
        """
        if not (next_row or arguments.mlm_probability or arguments.whole_row_masking):
            raise ValueError(
                "Expected cells to be masked, found mlm_probability 0 and whole_row_masking 0: there would be nothing "
                "to learn. Raise one of them."
            )
        return TabBertCollator(
            processor,
            mlm=True,
            mlm_probability=arguments.mlm_probability,
            row_probability=arguments.whole_row_masking,
            mask_share=arguments.mask_share,
            random_share=arguments.random_share,
            mask_unknown=arguments.mask_unknown,
            next_row=next_row,
            seed=seed,
            unknown_probability=arguments.unknown_probability if trains else 0.0,
        )


def _rows_of(builder: Table) -> tuple[datasets.Dataset, list[BadRecord]]:
    return cast(datasets.Dataset, builder.as_dataset(split="train")), warn_about(builder.skipped)
