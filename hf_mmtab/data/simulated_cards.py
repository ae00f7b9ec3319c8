"""A simulated card table in the schema of IBM's TabFormer data, for benchmarks and the tabular quickstart.

Every cardholder has habits: a home city, favourite merchants, hours of the day, a spending level, a share of online
purchases. Rows are ordered by user, card and time.

Fraud comes in episodes: 3 to 8 consecutive payments, minutes apart, that follow the habits of another, randomly drawn
cardholder. Every single fraudulent row is therefore an ordinary row, and only its neighbours tell that it does not
belong. Legitimate look-alikes keep a detector honest: one-off purchases, shopping sprees at the cardholder's own
merchants, trips to another city.

    python scripts/make_card_table.py --users 100 --rows 100000 --fraud-rate 0.001 --out card.csv
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np
from transformers.utils import logging

from ..files import whole_file
from .card_transactions import COLUMNS
from .simulated_world import FIRST_DAY, LAST_DAY, N_LOCAL, N_WEB, ONLINE_SHARE, VERSIONS, World, cumulative_zipf, draw

logger = logging.get_logger(__name__)

CHIP_KINDS = ["Swipe Transaction", "Chip Transaction", "Online Transaction"]
SWIPE, CHIP, ONLINE = range(3)
ERRORS = [
    "", "Insufficient Balance,", "Bad PIN,", "Technical Glitch,", "Bad PIN,Insufficient Balance,",
    "Bad CVV,", "Bad Card Number,", "Bad Expiration,", "Bad Zipcode,",
]  # fmt: skip
ERROR_RATE = 0.016
ERRORS_IN_STORE, ERRORS_IN_STORE_P = [1, 2, 3, 4], [0.62, 0.20, 0.16, 0.02]
ERRORS_ONLINE, ERRORS_ONLINE_P = [1, 3, 5, 6, 7, 8], [0.46, 0.10, 0.16, 0.14, 0.10, 0.04]

ABROAD_SHARE = 0.006
ONE_OFF_RATE = 0.05  # rows at a merchant that is not a favourite
REFUND_RATE = 0.02
TRIPS_PER_1000 = 4.0  # legitimate look-alikes, per 1000 rows
SPREES_PER_1000 = 4.0
EPISODE_MIN, EPISODE_MAX = 3, 8
N_DAYS = int((LAST_DAY - FIRST_DAY).astype(int)) + 1


def _runs(rng: np.random.Generator, n: int, count: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` runs of low to high consecutive positions in range(n): starts and lengths."""
    length = rng.integers(low, high + 1, count)
    return rng.integers(0, np.maximum(1, n - length + 1), count), length


def _spread(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The positions of runs, one after another, and the place of each inside its run."""
    run = np.repeat(np.arange(len(start)), length)
    place = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
    return start[run] + place, run, place


def _minute_of_day(rng: np.random.Generator, world: World, who: np.ndarray) -> np.ndarray:
    evening = (rng.random(len(who)) < 0.55).astype(int)
    hour = world.hour[who, evening] + world.hour_sd[who] * rng.standard_normal(len(who))
    if world.version > 2:
        return np.floor(hour * 60).astype(np.int64) % 1440
    return np.clip(hour * 60, 0, 1439).astype(np.int64)


def before_the_end(world: World, minute: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Return the minutes of runs; a run that would end after the last day begins earlier by whole days."""
    last = np.zeros(run.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(last, run, minute)
    late = np.maximum(0, last // 1440 - N_DAYS + 1) if world.version > 2 else np.zeros_like(last)
    return minute - late[run] * 1440


def _habitual_merchant(rng: np.random.Generator, world: World, who: np.ndarray, web_share: np.ndarray) -> np.ndarray:
    """A merchant by the habits of `who`, online with probability `web_share`."""
    n = len(who)
    merchant = world.local[who, draw(rng, cumulative_zipf(N_LOCAL), n)]
    online = rng.random(n) < web_share
    web = world.web[who, draw(rng, cumulative_zipf(N_WEB), n)]
    return np.where(online, web, merchant)


def _drawn_by_rows(rng: np.random.Generator, world: World, n: int) -> np.ndarray:
    """Draw cardholders by their number of rows."""
    return draw(rng, world.first_row[1:] / world.rows, n)


def fraud_plan(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Episodes for the whole file: first row, length; rows sum to the asked-for rate."""
    rng = np.random.default_rng([world.seed, 1])
    total = round(world.fraud_rate * world.rows)
    start, length = [], []
    taken = np.zeros(world.rows // EPISODE_MAX + 2, dtype=bool)  # one episode per slot of 8 rows
    left, tries = total, 0
    while left > 0:
        n = max(16, left // 3)
        s = rng.integers(0, world.rows // EPISODE_MAX, n)
        ln = rng.integers(EPISODE_MIN, EPISODE_MAX + 1, n)
        for slot, k in zip(s.tolist(), ln.tolist(), strict=True):
            k = min(k, left)
            first = slot * EPISODE_MAX
            user = np.searchsorted(world.first_row, first, side="right") - 1
            # leave the user some history before the episode, and keep slots apart
            if first - world.first_row[user] < 10 or first + k > world.first_row[user + 1]:
                continue
            if taken[slot] or taken[slot + 1] or (slot and taken[slot - 1]):
                continue
            taken[slot] = True
            start.append(first)
            length.append(k)
            left -= k
            if left == 0:
                break
        tries += 1
        if tries > 50:
            break  # too many for so few rows: settle for fewer
    order = np.argsort(start)
    return np.array(start, dtype=np.int64)[order], np.array(length, dtype=np.int64)[order]


def draw_chunk(
    world: World, first_user: int, last_user: int, plan: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the rows of users `first_user` to `last_user - 1` as integer arrays, one per column."""
    rng = np.random.default_rng([world.seed, 2, first_user])
    offset = world.first_row[first_user]
    user = np.repeat(np.arange(first_user, last_user), world.rows_of[first_user:last_user])
    n = len(user)
    card = (rng.random(n) ** 1.5 * world.cards_of[user]).astype(np.int64)

    # when: days uniform over the user's years, minutes by the user's hours
    minute = (world.start[user] + (rng.random(n) * world.span[user]).astype(np.int64)) * 1440
    minute += _minute_of_day(rng, world, user)
    order = np.lexsort((minute, card, user))
    card, minute = card[order], minute[order]  # user is sorted already

    # where: favourites, sometimes a one-off, seldom abroad
    habits = user.copy()
    merchant = _habitual_merchant(rng, world, user, world.web_share[user])
    one_off = rng.random(n) < ONE_OFF_RATE
    online = rng.random(n) < ONLINE_SHARE
    web = rng.integers(world.web_start, world.n_merchants, n)
    store = rng.integers(0, world.n_city_merchants, n)
    elsewhere = np.where(online, web, store)
    if world.version > 1:
        stranger = _drawn_by_rows(rng, world, n)
        elsewhere = _habitual_merchant(rng, world, stranger, world.web_share[stranger])
    merchant = np.where(one_off, elsewhere, merchant)
    abroad = rng.random(n) < ABROAD_SHARE
    merchant = np.where(abroad, rng.integers(world.abroad_start, world.web_start, n), merchant)

    # look-alike 1: trips, opened by a travel row, in one other city, over days
    begin, length = _runs(rng, n, rng.poisson(TRIPS_PER_1000 * n / 1000), 4, 9)
    at, run, place = _spread(begin, length)
    same = (user[at] == user[begin[run]]) & (card[at] == card[begin[run]])
    at, run, place = at[same], run[same], place[same]
    city = rng.integers(0, world.n_cities, len(begin))[run]
    # Row 1 of a journey is the hotel.
    shop = city * world.in_city + rng.integers(0, world.in_city, len(at))
    if world.version > 1:  # where somebody who lives there buys
        host = _drawn_by_rows(rng, world, len(begin))[run]
        city, shop = world.home[host], world.local[host, draw(rng, cumulative_zipf(N_LOCAL), len(at))]
    merchant[at] = np.where(place == 1, city * world.in_city, shop)
    if len(world.travel_web):
        first = at[place == 0]
        merchant[first] = world.travel_web[rng.integers(0, len(world.travel_web), len(first))]
    depart = minute[begin][run]
    day = depart // 1440 + np.minimum(place, 1) * 7 + place // 2
    minute[at] = before_the_end(world, day * 1440 + _minute_of_day(rng, world, user[at]), run)

    # look-alike 2: sprees, minutes apart, at the user's own merchants
    begin, length = _runs(rng, n, rng.poisson(SPREES_PER_1000 * n / 1000), EPISODE_MIN, EPISODE_MAX)
    at, run, place = _spread(begin, length)
    same = (user[at] == user[begin[run]]) & (card[at] == card[begin[run]])
    at, run, place = at[same], run[same], place[same]
    merchant[at] = _habitual_merchant(rng, world, user[at], world.web_share[user[at]])
    minute[at] = before_the_end(world, minute[begin][run] + place * 9 + rng.integers(0, 8, len(at)), run)

    # fraud: a burst by the habits of a donor
    fraud = np.zeros(n, dtype=bool)
    start, length = plan
    mine = (start >= offset) & (start < offset + n)
    begin, length = start[mine] - offset, length[mine]
    at, run, place = _spread(begin, length)
    fraud[at] = True
    card[at] = card[begin][run]
    # donors are drawn by their number of rows, so that fraud has the mix of all rows
    donor = _drawn_by_rows(rng, world, len(begin))
    donor = np.where(donor == user[begin], (donor + 1) % world.users, donor)
    habits[at] = donor[run]
    web_episode = rng.random(len(begin)) < world.web_share[donor]
    merchant[at] = _habitual_merchant(rng, world, habits[at], web_episode[run].astype(float))
    opening = minute[begin] // 1440 * 1440 + _minute_of_day(rng, world, donor)
    minute[at] = before_the_end(world, opening[run] + place * 9 + rng.integers(0, 8, len(at)), run)

    # how much: merchant, then the spending level of whoever's habits these are
    level = world.merchant_mu[merchant] + world.spend[habits]
    cents = np.exp(level + world.merchant_sd[merchant] * rng.standard_normal(n)) * 100
    cents = np.maximum(1, np.rint(cents)).astype(np.int64)
    cents = np.where(rng.random(n) < REFUND_RATE, -cents, cents)

    # how: by channel and year; errors by channel
    is_web = merchant >= world.web_start
    chip = np.where(minute // 1440 >= world.chip_from[user], CHIP, SWIPE)
    chip = np.where(rng.random(n) < 0.08, SWIPE, chip)
    chip = np.where(is_web, ONLINE, chip)
    online = np.array(ERRORS_ONLINE)[draw(rng, np.cumsum(ERRORS_ONLINE_P), n)]
    in_store = np.array(ERRORS_IN_STORE)[draw(rng, np.cumsum(ERRORS_IN_STORE_P), n)]
    error = np.where(is_web, online, in_store)
    error = np.where(rng.random(n) < ERROR_RATE, error, 0)

    minute = np.minimum(minute, N_DAYS * 1440 - 1)
    order = np.lexsort((minute, card, user))
    drawn = {"card": card, "minute": minute, "cents": cents, "chip": chip, "merchant": merchant}
    drawn |= {"error": error, "fraud": fraud}
    return {"user": user, **{name: values[order] for name, values in drawn.items()}}


def write_csv(world: World, out: TextIO, progress: Callable[[int], None] | None = None) -> tuple[int, int]:
    """Write header and rows to a text file; returns how many rows and fraudulent rows."""

    def quoted(*fields: object) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields)
        return line.getvalue()

    places = (world.merchant_city, world.merchant_state, world.merchant_zip)
    merchants = zip(world.merchant_name.tolist(), *places, world.merchant_mcc.tolist(), strict=True)
    merchant_text = [quoted(*merchant) for merchant in merchants]
    days = np.arange(FIRST_DAY, LAST_DAY + np.timedelta64(1, "D"))
    day_text = [",".join(str(int(part)) for part in str(day).split("-")) for day in days]
    clock_text = [f"{m // 60:02d}:{m % 60:02d}" for m in range(1440)]
    error_text = [f'"{e}"' if "," in e else e for e in ERRORS]
    fraud_text = ["No", "Yes"]
    plan = fraud_plan(world)
    rows = frauds = 0
    out.write(",".join(COLUMNS) + "\n")
    for first, last in world.chunks():
        c = draw_chunk(world, first, last, plan)
        day, clock = np.divmod(c["minute"], 1440)
        pieces = (
            c["user"].astype(str).tolist(),
            c["card"].astype(str).tolist(),
            [day_text[i] for i in day.tolist()],
            [clock_text[i] for i in clock.tolist()],
            [f"${cents / 100:.2f}" for cents in c["cents"].tolist()],
            [CHIP_KINDS[i] for i in c["chip"].tolist()],
            [merchant_text[i] for i in c["merchant"].tolist()],
            [error_text[i] for i in c["error"].tolist()],
            [fraud_text[i] for i in c["fraud"].tolist()],
        )
        out.write("\n".join(map(",".join, zip(*pieces, strict=True))))
        out.write("\n")
        rows += len(c["user"])
        frauds += int(c["fraud"].sum())
        if progress:
            progress(rows)
    return rows, frauds


def is_replaceable(file: Path) -> bool:
    """Tell whether a file is absent, empty, or has the header that `write_csv` writes."""
    if not file.exists():
        return True
    with open(file, "rb") as opened:
        return opened.readline(10_000).strip() in (b"", ",".join(COLUMNS).encode())


def main(argv: list[str] | None = None) -> None:
    """Write a table as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fraud-rate", type=float, default=0.001, help="share of rows (default 0.001)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", type=int, choices=VERSIONS, default=1, help="version of the habits (see World)")
    parser.add_argument("--out", required=True, help="CSV file to write, - for standard output")
    arguments = parser.parse_args(argv)
    try:
        world = World(arguments.users, arguments.rows, arguments.fraud_rate, arguments.seed, arguments.world)
    except (ValueError, OverflowError) as error:
        parser.error(f"{error} Correct the options.")
    if arguments.out == "-":
        rows, frauds = write_csv(world, sys.stdout)
    else:
        if not is_replaceable(Path(arguments.out)):
            parser.error(
                f"Expected --out to be new or a table of this command, found another file at {arguments.out!r}. Choose "
                "another name, or move that file elsewhere."
            )
        with whole_file(Path(arguments.out).resolve()) as draft, open(draft, "w", encoding="utf-8", newline="") as out:
            rows, frauds = write_csv(world, out)
    logger.warning(f"{rows} rows, {frauds} fraudulent, {arguments.users} users, {world.n_merchants} merchants.")
