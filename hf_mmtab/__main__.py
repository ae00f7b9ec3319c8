"""`python -m hf_mmtab COMMAND …`: what the scripts do, without the checkout."""

import difflib
import gc
import signal
import sys
from importlib import import_module

from hf_mmtab import __version__

# command → what it does; each is a module of hf_mmtab.commands with `main(arguments)`.
COMMANDS = {
    "pretrain": "pretrain TabBERT on a table: RECIPE.yaml [--field value ...]",
    "prepare": "read a table once into shards of encoded rows: RECIPE.yaml [--engine local|ray]",
    "finetune": "train and evaluate a classifier: RECIPE.yaml [--field value ...]",
    "eval_checkpoint": "evaluate a saved model: CHECKPOINT DATA --split S --out DIR",
    "report": "finished runs beside each other on one page: RUN RUN ... --out FOLDER",
    "predict": "classify new rows: CHECKPOINT INPUT OUT",
    "drift": "how a table differs from the training rows: CHECKPOINT TABLE OUT.html",
    "generate": "draw new rows from a TabGPT: CHECKPOINT OUT [--condition TABLE]",
    "embed": "write TabBERT's embeddings of rows: CHECKPOINT INPUT OUT.parquet",
    "export": "write a model as ONNX, checked against torch: CHECKPOINT OUT [--int8]",
    "serve": "answer over HTTP with an exported model, without torch: FOLDER [--port 8000]",
    "demo": "a page to try a model on, with the reasons for what it says: CHECKPOINT",
    "convert_checkpoint": "bring a checkpoint of an original over, or back: KIND SRC DST [--reverse]",
    "completion": "print a script that completes commands and keys: bash or zsh",
    "push_to_hub": "upload a run's model, processor, card and report: CHECKPOINT REPO_ID [--public]",
}
USAGE = "\n".join(
    [
        "usage: hf-mmtab COMMAND ...",
        "       accelerate launch -m hf_mmtab COMMAND ...   (several processes)",
        "",
        *(f"  {name:18} {text}" for name, text in COMMANDS.items()),
        "  --version          print the version",
        "",
        "`hf-mmtab COMMAND --help` lists the options of a command, `hf-mmtab finetune RECIPE.yaml --help` its keys,",
        "`--help-all` those of transformers too.",
        "Exit status: 0 done, 1 an error in recipe, keys, input or files (one message), 2 no such command or option,",
        "130 interrupted, 143 told to end (SIGTERM).",
        "",
    ]
)


def main() -> None:
    """Run one command; `accelerate launch -m hf_mmtab COMMAND …` runs it on several processes."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help", "--version", "-V"):
        sys.stdout.write(USAGE if name in ("-h", "--help") else f"hf-mmtab {__version__}\n")
        return
    if name not in COMMANDS:
        known = {one.replace("-", "_"): one for one in (*COMMANDS, "--version", "--help")}
        near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.4)
        meant = f" Did you mean {known[near[0]]}?" if near else ""
        given = f"Expected a command, found {name!r}.{meant}\n" if name else ""
        sys.stderr.write(given + USAGE)
        raise SystemExit(2)
    if name == "serve":
        import_module("hf_mmtab.commands.serve").main(sys.argv[2:])
        return
    from hf_mmtab.commands.flags import PARSERS

    if name in PARSERS:  # help and mistakes end here; the command parses again
        PARSERS[name]().parse_args(sys.argv[2:])
    # torch and transformers are imported from here on, and what they make stays: no collection looks through it
    gc.disable()
    is_plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else Ctrl-C is ignored, as under nohup
    if is_plain:  # nothing is begun: Ctrl-C ends the process at once, without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import_module("hf_mmtab.api")  # registers both families
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"Expected the packages that hf-mmtab needs, found no {error.name}: `hf-mmtab serve` alone works without. "
            "Install them: pip install hf-mmtab\n"
        )
        raise SystemExit(1) from error
    from hf_mmtab.commands.console import run

    command = import_module(f"hf_mmtab.commands.{name}").main
    gc.freeze()
    gc.enable()
    if is_plain:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run(command, sys.argv[2:])


if __name__ == "__main__":
    main()
