"""Where pretraining pays: average precision over the share of the training labels, with and without an encoder.

    python scripts/benchmark.py tabular-labels simulated_cards_finetune --pretrained ENCODER --out FOLDER \
        --shares 0.01 0.03 0.1 0.3 1 --row_inputs surprise

Each share and seed trains three models on the same rows and judges them on the same test rows: the recipe's head on the
pretrained encoder (which has read all training rows, without labels), an LSTM on raw cells, and boosted trees on
statistics of the past. Keys of the recipe behind the options go to all three, `--row_inputs` and `--freeze` to the
first.
A model that is in FOLDER already is not trained again. Writes `curves.png` and prints a table.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from hf_mmtab.commands import finetune

MODELS = {
    "pretrained": "LSTM on the pretrained encoder",
    "raw_lstm": "LSTM on raw cells",
    "boosted": "boosted on statistics",
}
Found = dict[tuple[str, float], list[dict]]


def arguments_of(model: str, share: float, seed: int, options: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Return the arguments of `finetune` for one model."""
    found = [options.recipe, "--label_share", str(share), "--seed", str(seed), "--split_seed", str(seed), *rest]
    found += ["--overwrite", "true", "--bootstrap", str(options.bootstrap)]
    if model != "pretrained":
        return [*found, "--architecture", model, "--pretrained", options.pretrained]
    own = [("--row_inputs", options.row_inputs), ("--freeze", options.freeze)]
    own += [("--feature_cache_dir", str(Path(options.out, "_features")))]  # what a frozen encoder gives is the same
    return [*found, "--pretrained", options.pretrained, *(word for key in own if key[1] for word in key)]


def run(model: str, share: float, seed: int, options: argparse.Namespace, rest: Sequence[str]) -> dict | None:
    """Train one model unless it was trained before, and return its results; None: training had one class only."""
    folder = Path(options.out) / f"{model}_{share:g}_{seed}"
    results = folder / "results.json"
    if not results.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        arguments = arguments_of(model, share, seed, options, rest)
        try:
            with redirect_stdout(sys.stderr):
                finetune.main([*arguments, "--output_dir", str(folder)])
        except ValueError as error:
            if "Expected labels of at least two classes" not in str(error):
                raise
            return None
        for large in ("_table", "report"):
            shutil.rmtree(folder / large, ignore_errors=True)
    return json.loads(results.read_text(encoding="utf-8"))


def table_of(found: Found, shares: Sequence[float]) -> str:
    """Return a Markdown table: mean (and spread) over the seeds, validation in brackets."""
    lines = ["| share of the labels | " + " | ".join(MODELS.values()) + " |", "|---:|" + "---:|" * len(MODELS)]
    for share in shares:
        cells = []
        for model in MODELS:
            runs = found[model, share]
            test = [one["metrics"]["test"]["average_precision"] for one in runs]
            known = [one["metrics"]["validation"]["average_precision"] for one in runs]
            spread = f" ± {np.std(test, ddof=1):.3f}" if len(test) > 1 else ""
            cells.append(f"{np.mean(test):.3f}{spread} ({np.mean(known):.3f})" if test else "–")
        lines.append(f"| {share:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Found, shares: Sequence[float], title: str, file: Path) -> None:
    """Draw test average precision over the share of the labels."""
    from hf_mmtab.reports.style import COLOURS, new_figure, styled

    @styled
    def curves() -> None:
        figure = new_figure(3.6)
        axes = figure.subplots()
        for colour, (model, name) in zip(COLOURS, MODELS.items(), strict=False):
            points = [(s, one["metrics"]["test"]["average_precision"]) for s in shares for one in found[model, s]]
            mean = [(s, np.mean([value for share, value in points if share == s])) for s in shares if found[model, s]]
            axes.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.5)
            axes.plot(*zip(*mean, strict=True), color=colour, label=name)
        axes.set(xscale="log", xlabel="share of the training labels", ylabel="average precision", title=title)
        axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
        axes.minorticks_off()
        axes.legend()
        figure.savefig(file)

    curves()


def main(argv: list[str] | None = None) -> None:
    """Train what the command line names, print the table, and draw the curves."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-labels", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="of finetune, with two classes")
    parser.add_argument("--pretrained", required=True, help="the encoder's folder")
    parser.add_argument("--out", required=True, help="folder for the runs, the table and curves.png")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--row_inputs", help="what the head on the encoder reads (default: the recipe's)")
    parser.add_argument("--freeze", help="when the encoder thaws (default: the recipe's)")
    parser.add_argument("--bootstrap", type=int, default=0, help="draws of the intervals of each run")
    options, rest = parser.parse_known_args(argv)
    found: Found = {}
    for share in options.shares:
        for model in MODELS:
            runs = [run(model, share, seed, options, rest) for seed in options.seeds]
            found[model, share] = [one for one in runs if one is not None]
    table = table_of(found, options.shares)
    sys.stdout.write(table)
    Path(options.out, "curves.md").write_text(table, encoding="utf-8")
    draw(found, options.shares, options.recipe, Path(options.out, "curves.png"))


if __name__ == "__main__":
    main()
