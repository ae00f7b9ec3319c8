"""What the README's commands reach with their defaults on card tables of several kinds.

    python scripts/benchmark.py tabular-worlds --worlds tail one-year --seeds 1 2 3

Each world is a table with plain column names (account, booked_at, amount, shop, ...), so that the column plan is
guessed. The benchmark runs `hf-mmtab pretrain` and `hf-mmtab finetune` as the README shows them and prints average
precision on later rows for every architecture. Folders that an earlier start finished are read, not made again.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hf_mmtab.data.simulated_cards import CHIP_KINDS, draw_chunk, fraud_plan
from hf_mmtab.data.simulated_world import World
from hf_mmtab.evaluation.run_results import RunResults

YEAR_DAYS = 365
LOOK_ALIKES = 0.01  # honest payments of large amounts, in worlds where large amounts can be fraud
ODD_BY = 1.2  # how far, in logarithms, an odd amount is from what its shop usually takes


@dataclass(frozen=True)
class Kind:
    """One kind of card table.

    Attributes:
        accounts: how many.
        rate: share of fraudulent rows.
        episodes: share of the fraud that comes in bursts of payments by somebody else's habits.
        tail: share that is a single payment with a large amount.
        odd: share that is a single payment with an amount that is unusual for its shop.
        by_card: whether an account is one card of a holder and not all of them.
        one_year: whether the rows lie within one calendar year, so that training never sees its last months.
    """

    accounts: int = 100
    rate: float = 0.008
    episodes: float = 0.0
    tail: float = 0.0
    odd: float = 0.0
    by_card: bool = False
    one_year: bool = False


WORLDS = {
    "episodes": Kind(rate=0.004, episodes=1.0),
    "tail": Kind(tail=1.0),
    "odd": Kind(odd=1.0),
    "one-year": Kind(episodes=0.4, tail=0.3, odd=0.3, one_year=True),
    "many-accounts": Kind(accounts=1000, rate=0.01, episodes=0.4, tail=0.3, odd=0.3, by_card=True),
    "rare": Kind(rate=0.001, episodes=0.4, tail=0.3, odd=0.3),
}


def make_world(kind: Kind, rows: int, seed: int) -> pl.DataFrame:
    """Return the rows of a world, each account's in order of time."""
    world = World(kind.accounts, rows, kind.rate * kind.episodes, seed)
    plan = fraud_plan(world)
    chunks = [draw_chunk(world, first, last, plan) for first, last in world.chunks()]
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    rng = np.random.default_rng([seed, 3])
    dollars, fraud, shop = drawn["cents"] / 100, drawn["fraud"], drawn["merchant"]
    free = rng.permutation(np.flatnonzero(~fraud & (dollars > 0)))
    tail, odd = (round(kind.rate * share * rows) for share in (kind.tail, kind.odd))
    large, alike, unusual = np.split(free[: tail + odd + round(LOOK_ALIKES * rows)], [tail, -odd or len(free)])
    if tail:
        dollars[large] = np.exp(rng.normal(6.2, 0.6, len(large)))
        dollars[alike] = np.exp(rng.normal(5.6, 0.5, len(alike)))
    away = (ODD_BY + rng.exponential(0.5, len(unusual))) * rng.choice([-1, 1], len(unusual))
    dollars[unusual] = np.exp(world.merchant_mu[shop[unusual]] + away)
    fraud[large] = fraud[unusual] = True
    account = drawn["user"] * 10 + (drawn["card"] if kind.by_card else 0)
    minute = _within_a_year(drawn["minute"]) if kind.one_year else drawn["minute"]
    order = np.lexsort((minute, account))
    start = np.datetime64("2018-01-01T00:00") if kind.one_year else np.datetime64("2002-09-01T00:00")
    names = pl.DataFrame({"city": world.merchant_city, "state": world.merchant_state, "category": world.merchant_mcc})
    frame = pl.DataFrame(
        {
            "account": [f"A{number:06d}" for number in account[order].tolist()],
            "booked_at": (start + minute[order].astype("timedelta64[m]")).astype("datetime64[us]"),
            "amount": np.round(dollars[order], 2),
            "shop": [f"S{number}" for number in shop[order].tolist()],
            "channel": [CHIP_KINDS[number].split()[0] for number in drawn["chip"][order].tolist()],
        }
    )
    own = names[shop[order].tolist()].with_columns(pl.format("C{}", "category").alias("category"))
    return frame.hstack(own).with_columns(pl.Series("fraud", fraud[order].astype(np.int64)))


def _within_a_year(minute: np.ndarray) -> np.ndarray:
    """Return times with the same hours, whose days lie within one year."""
    day, clock = np.divmod(minute, 1440)
    day = (day - day.min()) * (YEAR_DAYS - 1) // max(1, int(day.max() - day.min()))
    return day * 1440 + clock


def run_world(name: str, folder: Path, rows: int, seeds: list[int], compare: list[str], more: list[str]) -> None:
    """Make a world, run both commands of the README on it and print the table of what they reach."""
    table, encoder, head = folder / f"{name}.csv", folder / f"{name}-encoder", folder / f"{name}-head"
    if not table.exists():
        make_world(WORLDS[name], rows, seed=17).write_csv(table, datetime_format="%Y-%m-%d %H:%M:%S")
    data = ["--data", str(table)]
    columns = ["--plan", "null", "--entity_columns", "account", "--label_columns", "fraud"]
    _command("pretrain", "flights_next_row_pretrain", *data, *columns, "--output_dir", str(encoder))
    arguments = [*data, "--pretrained", str(encoder), "--output_dir", str(head), "--seeds", *map(str, seeds)]
    _command("finetune", "flights_finetune", *arguments, "--compare", *compare, *more)
    sys.stdout.write(f"\n{name}, {rows:,} rows\n\n{(head / 'comparison.md').read_text(encoding='utf-8')}\n")
    for run in sorted(head.glob("*-seed*/results.json")):
        results = RunResults.read(run.parent)
        for note in results.notes if results is not None else ():
            sys.stdout.write(f"{run.parent.name}: {note}\n")
    sys.stdout.flush()


def _command(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "hf_mmtab", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"hf-mmtab {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def main(argv: list[str] | None = None) -> None:
    """Run the worlds that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmark.py tabular-worlds", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--compare", nargs="+", default=["boosted", "raw_lstm"])
    parser.add_argument("--folder", default="outputs/worlds", help="tables and runs; kept")
    arguments, more = parser.parse_known_args(argv)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.worlds:
        run_world(name, folder, arguments.rows, arguments.seeds, arguments.compare, more)


if __name__ == "__main__":
    main()
