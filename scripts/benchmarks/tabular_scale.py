"""Tables of growing size to encoded rows in shards, in one process and on Ray: rows a second, CPU, memory and disk.

    python scripts/benchmark.py tabular-scale --rows 300000 1200000 --engines local ray

The table is simulated cards, written in blocks as CSV files of about half a million rows; beyond 24 M rows the first
24 M are repeated under other users, which is faster than simulating them. Each preparation runs in a process of its
own, whose process tree is sampled five times a second. CPU is user and system time of all processes from the moment
when the first has its libraries; memory is the largest of one process: its own (without what it shares or maps from
files, such as Ray's object store), and all that is resident of it; disk is what the kernel counts as read and written
by all, in bytes of the input (what is still in the page cache is not read). The slope is that of CPU time over rows
from one size to the next, both as logarithms.

    python scripts/benchmark.py tabular-scale --rows 100000 400000 1000000 --memory

prints another table: the largest own memory of every command that reads shards or a table, with tiny models and a few
steps, in shards of 100,000 rows, and how many bytes a row it grew by from one size to the next.
"""

import argparse
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil

ROWS_PER_USER = 12_000  # as in IBM's table
ROWS_PER_SHARD = 100_000  # under --memory: of one size at all sizes of the table
MOST_SIMULATED = 24_000_000  # rows; more are copies of them
COLUMNS = (
    "engine",
    "rows",
    "shards",
    "s",
    "rows/s",
    "CPU s",
    "µs/row",
    "slope",
    "GiB, own",
    "GiB, resident",
    "read",
    "written",
)


# Recipes of --memory: models that take no time.
SIZES = dict(field_hidden_size=16, field_num_heads=2, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
STEPS = dict(max_steps=20, per_device_train_batch_size=8, eval_strategy="no", save_strategy="no", report_to="none")
COMMON = {"task": "card_transactions", "seq_len": 64, "stride": 64, **STEPS, "per_device_eval_batch_size": 128}
PRETRAIN = {**COMMON, **SIZES, "intermediate_size": 64, "next_row": True}
FINETUNE = {**COMMON, "architecture": "lstm", "row_inputs": "surprise", "lstm_hidden_size": 8, "window_label": "every"}
FINETUNE |= {"eval_stride": 64, "feature_cache": False}


def main(argv: list[str] | None = None) -> None:
    """Measure the sizes and engines that the command line names and print a table."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[300_000, 1_200_000])
    parser.add_argument("--engines", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    parser.add_argument("--shards", type=int, help="default: one for 128 MiB of the table")
    all_of_them = "also make the statistics that look at all histories, beside the rows with their values"
    parser.add_argument("--of_all_histories", action="store_true", help=all_of_them)
    parser.add_argument("--workers", type=int, default=2, help="of Ray (2)")
    parser.add_argument("--object_store", type=float, help="GiB of Ray's object store (default: Ray's)")
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the generated tables for the next run (needs --folder)"
    )
    parser.add_argument("--memory", action="store_true", help="of prepare, pretrain, finetune, predict and embed")
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "TABLE"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        prepare(options.one[0], options.one[1], options)
        return
    folder = Path(options.folder or tempfile.mkdtemp(prefix="tabular-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = ("command", "rows", "GiB, own", "bytes/row") if options.memory else (*COLUMNS, "load")
    sys.stdout.write(f"{os.cpu_count()} cores\n" + "".join(f"{name:>14}" for name in names) + "\n")
    earlier: dict[str, dict[str, Any]] = {}
    try:
        for rows in options.rows:
            table = generate(folder / f"cards-{rows}", rows)
            if options.memory:
                report_memory(table, rows, earlier)
            for engine in options.engines if not options.memory else []:
                found = measure(engine, table, rows, options)
                report(engine, found, earlier.get(engine))
                earlier[engine] = found
            if not options.keep:
                shutil.rmtree(table)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


def generate(folder: Path, rows: int) -> Path:
    """Write a table in files of half a million rows, block after block; keep one that is there.

    More rows than `MOST_SIMULATED` are a whole number of copies.
    """
    from hf_mmtab.data.simulated_cards import write_csv
    from hf_mmtab.data.simulated_world import World

    if (folder / "part-00000.csv").exists():
        return folder
    draft = folder.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    parts, simulated = Parts(draft), min(rows, MOST_SIMULATED)
    users = max(20, simulated // ROWS_PER_USER)
    write_csv(World(users, simulated, 0.002, seed=17), parts, parts.turn)  # type: ignore[arg-type]
    parts.close()
    originals = sorted(draft.iterdir())
    for copy in range(1, rows // simulated):
        for file in originals:
            renamed = pl.col("User").cast(pl.Int64) + copy * users
            pl.read_csv(file, infer_schema=False).with_columns(renamed).write_csv(draft / f"copy-{copy:03}-{file.name}")
    draft.rename(folder)
    return folder


class Parts:
    """A text file that goes on in another file after each block of rows; each begins with the header."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.header = folder, 0, ""
        self._open()

    def _open(self) -> None:
        file = self.folder / f"part-{self.number:05}.csv"
        self.file = open(file, "w", encoding="utf-8", newline="")  # noqa: SIM115

    def write(self, text: str) -> None:
        """Write to the file at hand."""
        if not self.header:
            self.header = text
            self.file.write(text)
        else:
            if not self.file.tell():
                self.file.write(self.header)
            self.file.write(text)

    def turn(self, _rows: int) -> None:
        """Go on in the next file."""
        self.file.close()
        self.number += 1
        self._open()

    def close(self) -> None:
        """Remove the last file, in which no block began."""
        self.file.close()
        Path(self.file.name).unlink()


def report_memory(table: Path, rows: int, earlier: dict[str, dict[str, Any]]) -> None:
    """Run every command on a table, print its largest own memory, and how much more a row that is than before."""
    made = table.with_name(f"{table.name}-memory")
    shards, encoder, head, scores = (str(made / name) for name in ("shards", "encoder", "head", "scores.parquet"))
    made.mkdir()
    for name, recipe in (("pretrain", PRETRAIN), ("finetune", {**FINETUNE, "pretrained": encoder})):
        (made / f"{name}.yaml").write_text(json.dumps({"data": str(table), **recipe}), encoding="utf-8")
    of = {name: str(made / f"{name}.yaml") for name in ("pretrain", "finetune")}
    commands = {
        "prepare": [of["pretrain"], "--rows", shards, "--shards", str(-(-rows // ROWS_PER_SHARD))],
        "pretrain": [of["pretrain"], "--rows", shards, "--output_dir", encoder],
        "finetune": [of["finetune"], "--rows", shards, "--output_dir", head],
        "predict": [head, str(table), scores],
        "embed": [encoder, str(table), str(made / "embeddings.parquet")],
    }
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    for name, arguments in commands.items():
        with tempfile.TemporaryFile("w+") as told:
            command = [sys.executable, "-m", "hf_mmtab", name, *arguments]
            process = subprocess.Popen(command, stdout=told, stderr=told, env=environment)
            tree = Tree(process.pid)
            while process.poll() is None:
                tree.sample()
                time.sleep(0.05)
            told.seek(0)
            if process.returncode:
                raise RuntimeError(f"{name} of {rows} rows failed:\n{told.read()}")
        before = earlier.get(name)
        grown = "" if before is None else f"{(tree.own[0] - before['own']) / (rows - before['rows']):.0f}"
        sys.stdout.write("".join(f"{cell:>14}" for cell in (name, rows, f"{tree.own[0] / 2**30:.2f}", grown)) + "\n")
        sys.stdout.flush()
        earlier[name] = {"own": tree.own[0], "rows": rows}
    shutil.rmtree(made)


def prepare(engine: str, table: str, options: argparse.Namespace) -> None:
    """Prepare a table in this process; write when each step was done."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    import hf_mmtab

    steps = Steps()
    for name in ("hf_mmtab", "hf_mmtab.tasks.sharded_table"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("hf_mmtab.tasks.sharded_table").addHandler(steps)
    if engine == "ray":
        import ray

        store = None if options.object_store is None else int(options.object_store * 2**30)
        own = {"num_cpus": options.workers, "object_store_memory": store}
        ray.init(address="local", include_dashboard=False, log_to_driver=False, **own)
    steps.mark("started")
    out = Path(table).with_name(f"{Path(table).name}-{engine}")
    keys: dict[str, Any] = {"shards": options.shards, "of_all_histories": options.of_all_histories}
    made = hf_mmtab.prepare_table(table, out, engine, task="card_transactions", **keys)  # type: ignore[arg-type]
    steps.mark("finished")
    shutil.rmtree(out)
    sys.stdout.write("\n" + json.dumps({"shards": len(made.facts["shards"]), "steps": steps.times}))


class Steps(logging.Handler):
    """Notes when the log says that a step is done."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[str, float, float]] = []

    def mark(self, name: str) -> None:
        """Note a moment: wall clock and CPU time of this process."""
        self.times.append((name, time.time(), time.process_time()))

    def emit(self, record: logging.LogRecord) -> None:
        """Note a step."""
        self.mark(record.getMessage())


def measure(engine: str, table: Path, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Prepare a table in a process of its own and sample its process tree."""
    command = [sys.executable, __file__, "--one", engine, str(table), "--workers", str(options.workers)]
    for name in ("shards", "object_store"):
        command += [f"--{name}", str(given)] if (given := getattr(options, name)) else []
    command += ["--of_all_histories"] * options.of_all_histories
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        tree = Tree(process.pid)
        while process.poll() is None:
            tree.sample()
            time.sleep(0.2)
        out.seek(0), errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"Preparing {rows} rows by engine {engine} failed:\n{errors.read()}")
        found = json.loads(out.read().splitlines()[-1])  # Ray may have written lines before
    begin, end = found["steps"][0][1], found["steps"][-1][1]
    size = sum(file.stat().st_size for file in table.iterdir())
    used = tree.totals()
    used["cpu"] += found["steps"][-1][2] - found["steps"][0][2]
    return found | {"rows": rows, "wall": end - begin, "bytes": size, "load": os.getloadavg()[0], **used}


class Tree:
    """What a process and all its descendants use."""

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)
        self.seen: dict[int, tuple[float, int, int]] = {}
        self.own = self.resident = (0, "")  # bytes of the largest process, and its title

    def sample(self) -> None:
        """Look at all processes once."""
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                with process.oneshot():
                    times, memory, disk = process.cpu_times(), process.memory_info(), process.io_counters()
                    title = " ".join(process.cmdline())[:40]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self.seen[process.pid] = (times.user + times.system, disk.read_bytes, disk.write_bytes)
            self.own = max(self.own, (memory.rss - getattr(memory, "shared", 0), title))  # Linux tells what is shared
            self.resident = max(self.resident, (memory.rss, title))

    def totals(self) -> dict[str, Any]:
        """Return CPU seconds of all but the first process, bytes read and written, and peaks of memory in GiB."""
        cpu, read, written = (sum(one[i] for one in self.seen.values()) for i in range(3))
        cpu -= self.seen[self.root.pid][0]
        peaks = {"own": self.own[0] / 2**30, "resident": self.resident[0] / 2**30}
        return {"cpu": cpu, "read": read, "written": written, "largest": (self.own[1], self.resident[1]), **peaks}


def report(engine: str, found: dict[str, Any], earlier: dict[str, Any] | None) -> None:
    """Print one line of the table, and the steps below it."""
    rows, cpu = found["rows"], found["cpu"]
    slope = "" if earlier is None else f"{math.log(cpu / earlier['cpu']) / math.log(rows / earlier['rows']):.2f}"
    cells = (
        *(engine, f"{rows}", f"{found['shards']}", f"{found['wall']:.1f}", f"{rows / found['wall']:.0f}"),
        *(f"{cpu:.1f}", f"{cpu / rows * 1e6:.2f}", slope, f"{found['own']:.2f}", f"{found['resident']:.2f}"),
        *(f"{found[name] / found['bytes']:.2f}" for name in ("read", "written")),
    )
    sys.stdout.write("".join(f"{cell:>14}" for cell in cells) + f"{found['load']:>10.1f}\n")
    sys.stdout.write(f"    largest processes: own {found['largest'][0]!r}, resident {found['largest'][1]!r}\n")
    before = found["steps"][0]
    for step in found["steps"][1:]:
        told = f"{step[1] - before[1]:8.1f} s, {step[2] - before[2]:6.1f} CPU s in the first process: {step[0]}\n"
        sys.stdout.write(told)
        before = step
    sys.stdout.flush()


if __name__ == "__main__":
    main()
