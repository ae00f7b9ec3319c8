"""Statistics of the past beside preparing the same rows, and beside LightGBM's own training and scoring on them.

    python scripts/benchmark.py tabular-statistics --rows 400000 4000000

Each size runs in a process of its own, on card payments of the generator, training on the first 70 % in time. CPU time
is user and system time of all threads; peak memory is the process' largest resident set so far, of which files that
are mapped are a part.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from tabular_prep import ROWS_PER_USER, cpu_seconds, peak_gib

STAGES = ("read and encode", "statistics, fitted", "statistics of all rows", "LightGBM, training", "LightGBM, scoring")
MOST_TRAINING_ROWS = 2_000_000  # LightGBM holds its rows in memory


def measure(csv: Path, folder: Path) -> dict:
    """Go through the stages once; return what each took."""
    import datasets
    import lightgbm
    import numpy as np

    from hf_mmtab.data.card_transactions import CardTransactions
    from hf_mmtab.data.shards.preparing import prepare_rows
    from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor
    from hf_mmtab.statistics import RowStatistics
    from hf_mmtab.statistics.reading import read_columns

    datasets.disable_progress_bars()
    marks = [(cpu_seconds(), 0.0)]

    def mark() -> None:
        marks.append((cpu_seconds(), peak_gib()))

    builder = CardTransactions(csv, cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    table, processor = builder.as_dataset(split="train"), TabBertProcessor("card")
    rows = prepare_rows(table, processor, folder / "rows", "time")
    mark()
    columns = read_columns(table, rows, processor)
    training = np.flatnonzero(np.asarray(rows.split) == 0)
    statistics = RowStatistics.fit(columns, training)
    mark()
    found = statistics.table(columns)
    mark()
    chosen = training[:: max(1, len(training) // MOST_TRAINING_ROWS)]
    labels = np.asarray(rows.labels)
    settings = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.05, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(np.ascontiguousarray(found[chosen]), labels[chosen])
    booster = lightgbm.train(settings, data, num_boost_round=100)
    mark()
    for start in range(0, len(rows), 100_000):
        booster.predict(found[start : start + 100_000], num_threads=1)
    mark()
    return {
        "rows": len(rows),
        "statistics": len(statistics.names),
        "trained on": len(chosen),
        "cpu": [after[0] - before[0] for before, after in pairwise(marks)],
        "peak": [peak for _, peak in marks[1:]],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure the sizes that the command line names and print a table."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-statistics", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[400_000])
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
            sys.stdout.write(json.dumps(measure(Path(arguments.one), Path(scratch))))
        return
    from hf_mmtab.data.simulated_cards import write_csv
    from hf_mmtab.data.simulated_world import World

    sys.stdout.write(
        "| rows | stage | CPU s | of reading and encoding | peak GiB so far |\n|---:|---|---:|---:|---:|\n"
    )
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
            csv = Path(scratch) / "cards.csv"
            with open(csv, "w", encoding="utf-8", newline="") as out:
                write_csv(World(max(2, rows // ROWS_PER_USER), rows, 0.002, seed=17), out)
            command = [sys.executable, __file__, "--one", str(csv), "--folder", scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{rows} rows failed:\n{done.stderr}")
        found = json.loads(done.stdout)
        for stage, cpu, peak in zip(STAGES, found["cpu"], found["peak"], strict=True):
            told = f" ({found['statistics']})" if stage == STAGES[2] else ""
            told = f" on {found['trained on']:,} rows, 100 trees" if stage == STAGES[3] else told
            sys.stdout.write(
                f"| {found['rows']:,} | {stage}{told} | {cpu:.1f} | {cpu / found['cpu'][0]:.2f} | {peak:.2f} |\n"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
