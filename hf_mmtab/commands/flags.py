"""The options of commands without a recipe, parsed before torch is imported: help and mistakes come at once."""

import ast
import math
from argparse import (
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    HelpFormatter,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COLUMNS = ("image", "text", "text_pair")  # of pictures with texts, each named by a flag
CONVERTED = ("mmbt", "mmbt_transformers4", "tabformer", "lstm")
RESAMPLED = ("auto", "entity", "day", "row")
SHELLS = ("bash", "zsh")
MOST = 2**31 - 1
MOST_WORKERS, MOST_REASONS = 512, 1000


def whole_number(least: int, most: int = MOST) -> Callable[[str], int]:
    """Return a reader of an option that takes whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        is_large = text.isdecimal() and (len(text) > 20 or int(text) > most)
        if not text.isdecimal() or is_large or int(text) < least:
            limit = f" to {most}" if most != MOST or is_large else ""
            raise ArgumentTypeError(f"expected a whole number from {least}{limit}, found {text[:40]!r}")
        return int(text)

    return read


def number_above(least: float) -> Callable[[str], float]:
    """Return a reader of an option that takes finite numbers above `least`."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least < found < math.inf:
            raise ArgumentTypeError(f"expected a finite number above {least:g}, found {text[:40]!r}")
        return found

    return read


def _moment(text: str) -> datetime:
    """Return a time that is written as tables have it, in local hours."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None:
        raise ArgumentTypeError(
            f"expected a time without a zone, such as 2020-01-31 or 2020-01-31T10:30:00, found {text!r}"
        )
    return found


def parse(command: str, arguments: Sequence[str]) -> Namespace:
    """Return the options of a command, `~` followed; help and mistakes end the process as argparse has it."""
    options = PARSERS[command]().parse_args(arguments)
    for name, value in vars(options).items():
        setattr(options, name, [*map(_at_home, value)] if isinstance(value, list) else _at_home(value))
    return options


def _at_home(value: Any) -> Any:
    """Return the path that begins at `~` (a shell leaves that of `--out=~/runs` as it is), or the value as it is."""
    is_path = isinstance(value, str | Path) and str(value).partition("/")[0] == "~"
    return type(value)(Path(value).expanduser()) if is_path else value


def _new(command: str, formatter: type[HelpFormatter] = HelpFormatter) -> ArgumentParser:
    """Return a parser that says what the command's module says, which is read and not imported."""
    module = find_spec(f"hf_mmtab.commands.{command}")
    assert module is not None and module.origin is not None
    told = ast.get_docstring(ast.parse(Path(module.origin).read_text(encoding="utf-8")))
    return ArgumentParser(prog=f"hf-mmtab {command}", description=told, formatter_class=formatter)


def _scoring(command: str, batch_size: int, columns: Sequence[str] = ()) -> ArgumentParser:
    """Return a parser of what `eval_checkpoint`, `predict` and `embed` have in common; no columns: of tables alone."""
    parser = _new(command)
    parser.add_argument("checkpoint", help="folder or Hub name of a model saved with its processor")
    parser.add_argument("--task", help="which reader; default: that of the checkpoint's recipe")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise", help="default: raise")
    help_batch = f"rows or windows at a time, on each device; default: {batch_size}"
    parser.add_argument("--batch_size", type=whole_number(1), default=batch_size, help=help_batch)
    # Float32, since scores in bfloat16 differ in the third digit: they would depend on the machine that judges, and not
    # repeat those of the run's report.
    formats = "number format of the computation; auto: bf16 where it is faster here, with scores that differ in the "
    formats += "third digit; default: fp32"
    parser.add_argument("--precision", choices=["fp32", "bf16", "auto"], default="fp32", help=formats)
    short = "as --precision bf16"
    parser.add_argument("--bf16", action="store_const", const="bf16", dest="precision", help=short)
    _add_separator(parser)
    for name in columns:
        parser.add_argument(f"--{name}_column", help="default: as the recipe says, else found by its name")
    if columns:
        workers = whole_number(0, MOST_WORKERS)
        parser.add_argument("--num_workers", type=workers, default=0, help="processes that decode pictures (0)")
        empty = "keep records without a text"
        parser.add_argument("--allow_empty_text", action="store_true", help=empty)
    return parser


def _add_separator(parser: ArgumentParser) -> None:
    """Add what parts the columns of a CSV file."""
    parser.add_argument("--separator", help="of CSV files; default: as the recipe says, else by their ending")


def _add_store(parser: ArgumentParser) -> None:
    """Add where features of pictures are kept."""
    kept = "keep here what the image model gives for each picture: the next call on these pictures reads it. It is "
    kept += "computed and kept in float32, whatever --precision says: under bf16 scores differ from those without a "
    kept += "store, by up to .01"
    parser.add_argument("--feature_cache_dir", help=kept)


def _add_engine(parser: ArgumentParser) -> None:
    """Add what says where a table is scored."""
    engines = "tables: local: this process. ray: a Ray cluster, a model in each worker (extra ray); OUT without an "
    engines += "ending is then a folder of Parquet files. default: local"
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help=engines)
    address = "of a Ray cluster to join; default: RAY_ADDRESS, else one is started on this machine"
    parser.add_argument("--ray_address", help=address)


def _completion() -> ArgumentParser:
    parser = _new("completion")
    parser.add_argument("shell", choices=SHELLS)
    return parser


def _convert_checkpoint() -> ArgumentParser:
    parser = _new("convert_checkpoint", RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=CONVERTED)
    parser.add_argument("src", type=Path, help="checkpoint of the original; with --reverse, folder of ours")
    parser.add_argument("dst", type=Path, help="folder to write; must not exist")
    parser.add_argument("--reverse", action="store_true", help="ours → the original's (mmbt, tabformer)")
    mmbt = parser.add_argument_group("what the files of a run may not tell (mmbt, mmbt_transformers4)")
    mmbt.add_argument("--args", type=Path, help="args.pt, if it does not lie beside the checkpoint")
    mmbt.add_argument("--model", help="mmbt, bow, img, bert, concatbow or concatbert")
    mmbt.add_argument("--task", help="mmimdb, food101 or vsnli")
    mmbt.add_argument("--task_type", help="multilabel or classification")
    mmbt.add_argument("--labels", nargs="+", help="names in the order of outputs, or a file of one a line")
    mmbt.add_argument("--tokenizer", help="folder or Hub name, in place of the run's vocabulary")
    mmbt.add_argument("--num_image_embeds", type=whole_number(1))
    mmbt.add_argument("--img_embed_pool_type", choices=["avg", "max"])
    mmbt.add_argument("--max_seq_len", type=whole_number(1))
    mmbt.add_argument("--num_attention_heads", type=whole_number(1), help="of a BERT that is neither base nor large")
    table = parser.add_argument_group("tabformer, lstm")
    table.add_argument("--config", type=Path, help="config.json of the pretraining, or its folder")
    table.add_argument("--vocab", type=Path, help="vocab.nb, vocab_token2id.bin; mmbt: vocab.txt, GloVe")
    table.add_argument("--encoder_fit", type=Path, help="encoder_fit.pkl of the run")
    table.add_argument("--field_ce", action=BooleanOptionalAction, help="how a flat model was trained, if unknown")
    return parser


def _demo() -> ArgumentParser:
    parser = _new("demo")
    parser.add_argument("checkpoint", help="folder or Hub name of a fine-tuned model with its processor")
    parser.add_argument("--examples", help="of tables: file with histories to choose from, as training read them")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=whole_number(1, 65535), default=7860)
    return parser


def _drift() -> ArgumentParser:
    parser = _new("drift")
    parser.add_argument("checkpoint", help="folder or Hub name of a TabBERT with its processor")
    parser.add_argument("input", help="CSV, TSV, Parquet or Arrow file, or a folder of them")
    parser.add_argument("out", help="page to write: .html")
    parser.add_argument("--scores", help="file of predictions for this table")
    _add_separator(parser)
    parser.add_argument("--generated", action="store_true", help="the table was generated by this run's model")
    parser.add_argument("--task", help="which reader; default: that of the checkpoint's recipe, else table")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise")
    return parser


def _embed() -> ArgumentParser:
    parser = _scoring("embed", 256)
    parser.add_argument("input", help="CSV, TSV, Parquet or Arrow file, or a folder of them")
    parser.add_argument("out", help="Parquet file to write")
    _add_engine(parser)
    parser.add_argument(
        "--what", choices=["states", "statistics"], default="states", help="of each row; default: states"
    )
    parser.add_argument("--level", choices=["row", "window"], default="row", help="default: row")
    parser.add_argument("--seq_len", type=whole_number(1), help="rows of a window; default: as trained")
    parser.add_argument("--float16", action="store_true", help="half the bytes: embeddings in float16")
    return parser


def _eval_checkpoint() -> ArgumentParser:
    parser = _scoring("eval_checkpoint", 32, (*COLUMNS, "label"))
    parser.add_argument("data", help="folder or file of the data, sample:openclipart or simulated:cards")
    parser.add_argument(
        "--split", default="test", help="train, validation, test, …, or all records of a file; default: test"
    )
    parser.add_argument("--out", required=True, help="folder for metrics, predictions and report")
    parser.add_argument("--bootstrap", type=whole_number(0), default=1000, help="resamples of the intervals; 0: none")
    drawn = "what the intervals of a table draw; default: auto"
    parser.add_argument("--resample_by", choices=RESAMPLED, default="auto", help=drawn)
    why = "the report shows no reasons for its errors and alerts (which need hf-mmtab[explain])"
    parser.add_argument("--no_reasons", action="store_false", dest="reasons", help=why)
    parser.add_argument("--no_ablation", action="store_true", help="do not blank and shuffle the inputs")
    _add_store(parser)
    return parser


def _export() -> ArgumentParser:
    parser = _new("export")
    parser.add_argument("checkpoint", help="folder or Hub name of a model with its processor")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--int8", action="store_true", help="weights in 8 bits; the cost in scores is said")
    return parser


def _generate() -> ArgumentParser:
    parser = _new("generate", RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub name of a TabGPT with its processor")
    parser.add_argument("out", help="file to write: .parquet, .jsonl or .csv")
    parser.add_argument("--rows", type=whole_number(1), default=10, help="new rows of each history (10)")
    parser.add_argument("--condition", metavar="TABLE", help="file or folder whose histories go on")
    parser.add_argument(
        "--entities",
        nargs="+",
        metavar="NAME",
        help="first entity column: which histories of TABLE go on (all); without TABLE names of new histories (new)",
    )
    _add_separator(parser)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of what is drawn (0)")
    parser.add_argument("--temperature", type=number_above(0), default=1.0, help="below 1: likelier values more often")
    parser.add_argument("--start", type=_moment, help="new histories: the time before their first row (2020-01-01)")
    parser.add_argument("--batch_size", type=whole_number(1), default=64, help="histories at once (64)")
    parser.add_argument("--task", help="which reader of TABLE; default: that of the checkpoint's recipe, else table")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise")
    return parser


def _predict() -> ArgumentParser:
    parser = _scoring("predict", 32, COLUMNS)
    parser.add_argument(
        "input",
        help="of pictures and texts: JSONL, CSV or Parquet; of tables: CSV (.gz), Parquet or Arrow; a folder of them. "
        "Labels are not needed",
    )
    parser.add_argument("out", help="file to write: .parquet, .jsonl or .csv")
    _add_engine(parser)
    parser.add_argument(
        "--spreadsheet_safe",
        action="store_true",
        help="CSV: put ' before each text that a spreadsheet would run as a formula (=, +, -, @); default: as it is",
    )
    parser.add_argument(
        "--explain",
        type=whole_number(0, MOST_REASONS),
        default=0,
        metavar="N",
        help="add the N strongest reasons for each prediction, with what each adds to its log odds or number; of "
        "several labels for the likeliest that is given (explained_label); of tables with two classes for rows that "
        "are called positive (needs hf-mmtab[explain])",
    )
    parser.add_argument(
        "--state",
        help="tables: folder that keeps the rows of every call; the input is then new rows alone, and gets the scores "
        "that the whole table would get",
    )
    parser.add_argument(
        "--level",
        choices=["row", "window"],
        help="tables: a score for each row (with the rows before it), or for each window of rows; default: as trained",
    )
    _add_store(parser)
    return parser


def _push_to_hub() -> ArgumentParser:
    parser = _new("push_to_hub")
    parser.add_argument("checkpoint", help="folder of a run, or of one of its checkpoints")
    parser.add_argument("repo_id", help="repository on the Hub: USER/NAME, or NAME for one of your own")
    switches = {
        "public": "create a public repository, or push to one that is public; without it the repository is private",
        "private": "the default: an existing public one is refused",
        "examples": "send the report with its examples: rows, texts and pictures of the data; default: without",
        "standalone": "put the code of the model's classes into the folder and send it too: it then loads without this "
        "package",
        "dry_run": "list what would be sent, and stop",
    }
    for name, help in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=help)
    parser.add_argument("--revision", help="branch to commit to, created if need be; default: main")
    parser.add_argument("--commit_message", help="default: Upload model and processor")
    return parser


def _report() -> ArgumentParser:
    parser = _new("report")
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", required=True, help="folder of the page")
    parser.add_argument(
        "--bootstrap", type=whole_number(0), default=1000, help="resamples for the intervals (1000); 0: none"
    )
    return parser


PARSERS: dict[str, Callable[[], ArgumentParser]] = {
    "completion": _completion,
    "convert_checkpoint": _convert_checkpoint,
    "demo": _demo,
    "drift": _drift,
    "embed": _embed,
    "eval_checkpoint": _eval_checkpoint,
    "export": _export,
    "generate": _generate,
    "predict": _predict,
    "push_to_hub": _push_to_hub,
    "report": _report,
}
