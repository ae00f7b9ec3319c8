"""From a card table's CSV to a fitted processor and encoded windows on disk: time, CPU time and peak memory.

    python scripts/benchmark.py tabular-prep --rows 400000 4000000 24000000

Each size runs in a process of its own. Measured: reading the CSV into typed columns, the time split, fitting
on the training rows, encoding all rows, writing them, cutting the windows of all splits, saving the
processor. Not measured: generating the CSV, importing the libraries. CPU time is user and system time of all
threads; peak memory is the process' largest resident set, libraries included.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

# CPU seconds of the original on 400,000 rows of the same generator: encode 9.4, per-user rows 9.5, samples
# 4.9.
ORIGINAL_ROWS, ORIGINAL_CPU_SECONDS = 400_000, 23.9
ROWS_PER_USER = 12_000  # as in IBM's table: 24.4 million rows of 2,000 users


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_gib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


def prepare(csv: Path, folder: Path, plan: str, split: str) -> dict:
    """Run the preparation once and return what it took, stage by stage."""
    import datasets

    from hf_mmtab.data.card_transactions import CardTransactions
    from hf_mmtab.data.shards.preparing import prepare_rows
    from hf_mmtab.data.windows.splits import windows
    from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

    datasets.disable_progress_bars()
    imported, load = peak_gib(), os.getloadavg()[0]
    marks = [(cpu_seconds(), time.perf_counter())]

    builder = CardTransactions(csv, cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    table = builder.as_dataset(split="train")
    marks.append((cpu_seconds(), time.perf_counter()))
    processor = TabBertProcessor(plan)
    rows = prepare_rows(table, processor, folder / "rows", split)
    marks.append((cpu_seconds(), time.perf_counter()))
    cut = {name: len(windows(rows, name, seq_len=10, stride=5)) for name in ("train", "validation", "test")}
    processor.save_pretrained(folder / "processor")
    marks.append((cpu_seconds(), time.perf_counter()))

    return {
        "rows": len(rows),
        "ids": processor.vocab_size,
        "windows": sum(cut.values()),
        "cpu": [after[0] - before[0] for before, after in pairwise(marks)],
        "wall": [after[1] - before[1] for before, after in pairwise(marks)],
        "peak": peak_gib(),
        "imported": imported,
        "load": load,
        "disk": sum(f.stat().st_size for f in (folder / "rows").iterdir()) / 2**20,
    }


def main(argv: list[str] | None = None) -> None:
    """Measure the sizes that the command line names and print a table."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-prep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[400_000])
    parser.add_argument("--plan", default="card", help="card (default) or paper_card")
    parser.add_argument("--split", default="time", help="time (default), entity or paper")
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the generated CSV for the next run (needs --folder)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
            found = prepare(Path(arguments.one), Path(scratch), arguments.plan, arguments.split)
        sys.stdout.write(json.dumps(found))
        return
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="tabular-prep-"))
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("rows", "ids", "windows", "CSV s", "prepare s", "all s", "CPU s", "CPU/original", "peak GiB", "MiB")
    sys.stdout.write(f"{os.cpu_count()} cores\n" + "".join(f"{c:>13}" for c in columns) + "      load\n")
    try:
        for rows in arguments.rows:
            report(measure(rows, folder, arguments))
    finally:
        if not arguments.folder:
            shutil.rmtree(folder)


def measure(rows: int, folder: Path, arguments: argparse.Namespace) -> dict:
    """Generate a table of `rows` rows and prepare it in a process of its own."""
    from hf_mmtab.data.simulated_cards import write_csv
    from hf_mmtab.data.simulated_world import World

    csv = folder / f"cards_{rows}.csv"
    if not csv.exists():
        with open(csv, "w", encoding="utf-8", newline="") as out:
            write_csv(World(max(2, rows // ROWS_PER_USER), rows, 0.002, seed=17), out)
    command = [sys.executable, __file__, "--one", str(csv), "--folder", str(folder)]
    command += ["--plan", arguments.plan, "--split", arguments.split]
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if not arguments.keep:
        csv.unlink()
    if done.returncode:
        raise RuntimeError(f"Preparing {rows} rows failed:\n{done.stderr}")
    return json.loads(done.stdout)


def report(found: dict) -> None:
    """Print one line of the table."""
    cpu, wall = sum(found["cpu"]), sum(found["wall"])
    original = ORIGINAL_CPU_SECONDS * found["rows"] / ORIGINAL_ROWS  # linear in rows, to its credit
    cells = (
        f"{found['rows']}",
        f"{found['ids']}",
        f"{found['windows']}",
        f"{found['wall'][0]:.1f}",
        f"{found['wall'][1] + found['wall'][2]:.1f}",
        f"{wall:.1f}",
        f"{cpu:.2f}",
        f"1/{original / cpu:.0f}",
        f"{found['peak']:.2f} ({found['imported']:.2f})",
        f"{found['disk']:.0f}",
    )
    sys.stdout.write("".join(f"{c:>13}" for c in cells) + f"{found['load']:>10.1f}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
