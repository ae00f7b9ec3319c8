"""The fixed part of the simulated card table: cities, merchants and cardholders with habits of their own."""

from itertools import pairwise

import numpy as np

# (code, share of merchants, median amount in $, log-sd, sold online)
MCC_TABLE = [
    (5411, 0.14, 38.0, 0.80, 0), (5541, 0.09, 31.0, 0.55, 0), (5812, 0.11, 24.0, 0.60, 0),
    (5814, 0.10, 9.5, 0.45, 0), (5912, 0.05, 22.0, 0.80, 1), (5310, 0.05, 47.0, 0.80, 1),
    (5300, 0.05, 62.0, 0.75, 0), (5499, 0.04, 14.0, 0.70, 0), (5942, 0.03, 21.0, 0.60, 1),
    (5651, 0.03, 58.0, 0.65, 1), (5661, 0.02, 66.0, 0.55, 1), (5732, 0.03, 120.0, 0.95, 1),
    (5813, 0.03, 26.0, 0.60, 0), (7538, 0.02, 140.0, 0.90, 0), (7832, 0.02, 19.0, 0.40, 0),
    (7996, 0.01, 55.0, 0.60, 0), (8011, 0.02, 95.0, 0.80, 0), (8021, 0.01, 120.0, 0.80, 0),
    (4121, 0.03, 16.0, 0.60, 0), (4784, 0.02, 7.0, 0.50, 0), (4829, 0.02, 85.0, 0.60, 1),
    (4900, 0.02, 105.0, 0.45, 1), (4899, 0.02, 48.0, 0.35, 1), (4814, 0.01, 60.0, 0.40, 1),
    (5815, 0.02, 12.0, 0.50, 1), (5816, 0.01, 18.0, 0.60, 1), (5211, 0.02, 88.0, 0.85, 1),
    (5719, 0.01, 70.0, 0.70, 1), (5921, 0.01, 33.0, 0.50, 0), (5977, 0.01, 28.0, 0.50, 1),
    (7230, 0.01, 35.0, 0.40, 0), (3504, 0.01, 160.0, 0.60, 0), (4511, 0.01, 260.0, 0.60, 1),
]  # fmt: skip
TRAVEL_MCC = (3504, 4511)

STATES = [
    "AL", "AZ", "CA", "CO", "CT", "FL", "GA", "IA", "IL", "IN", "KS", "KY", "LA", "MA", "MD", "MI",
    "MN", "MO", "MS", "NC", "NE", "NJ", "NM", "NV", "NY", "OH", "OK", "OR", "PA", "SC", "TN", "TX",
    "UT", "VA", "WA", "WI",
]  # fmt: skip
ABROAD = [
    ("Mexico", "Mexico City"), ("Italy", "Rome"), ("Canada", "Toronto"), ("United Kingdom", "London"),
    ("France", "Paris"), ("Japan", "Tokyo"), ("Germany", "Berlin"), ("Spain", "Madrid"),
    ("Jamaica", "Kingston"), ("Haiti", "Cap Haitien"),
]  # fmt: skip
CITY_HEAD = [
    "Ash", "Bear", "Cedar", "Clear", "Eagle", "Fair", "Glen", "Green", "Haw", "Iron", "Lake", "Maple",
    "Mill", "North", "Oak", "Pine", "River", "Rose", "Silver", "Spring", "Stone", "Sun", "West", "Wood",
]  # fmt: skip
CITY_TAIL = [
    "bury", "dale", "field", "ford", "haven", "mont", "port", "ridge", "side", "ton", "view", "ville",
    " Beach", " City", " Grove", " Heights", " Park", " Springs",
]  # fmt: skip

FIRST_DAY, LAST_DAY = np.datetime64("2002-09-01"), np.datetime64("2020-02-28")
CHIP_DAY = np.datetime64("2014-06-01")

VERSIONS = (1, 2, 3)
ONLINE_SHARE = 0.11  # of all rows, fraudulent or not
IN_CITY = 30  # merchants per city
N_LOCAL, N_WEB = 24, 8  # favourites per user, in store and online
CHUNK_ROWS = 500_000  # fixed: the output depends on it


def cumulative_zipf(n: int, power: float = 1.0) -> np.ndarray:
    """Return the cumulative distribution of ranks 1 to n, each as likely as 1 / rank ** power."""
    weights = 1.0 / np.arange(1, n + 1) ** power
    return np.cumsum(weights / weights.sum())


def draw(rng: np.random.Generator, cdf: np.ndarray, size: int) -> np.ndarray:
    """Return `size` random places in a cumulative distribution."""
    return np.minimum(np.searchsorted(cdf, rng.random(size)), len(cdf) - 1)


class World:
    """Cities, merchants and cardholders: what stays fixed while rows are drawn.

    Args:
        users, rows: how many.
        fraud_rate: share of fraudulent rows, 0 to 0.2.
        seed: of everything that is random.
        version: 1: one-off purchases and trips go to any merchant alike, which tells the first payment of a fraud: it
            goes where others often buy. 2: they go to merchants as popular as those of fraud. 3: as 2, and no payments
            are heaped on one minute, as those of trips that would go on after the last day are on its last minute.
    """

    def __init__(self, users: int, rows: int, fraud_rate: float, seed: int, version: int = 1) -> None:
        if not 1 <= users <= rows:
            raise ValueError(f"users must be between 1 and rows={rows}, got {users}.")
        if not 0.0 <= fraud_rate <= 0.2:
            raise ValueError(f"fraud_rate must be between 0 and 0.2, got {fraud_rate}.")
        if fraud_rate > 0 and users < 2:
            raise ValueError("Fraud needs at least 2 users: one borrows the habits of the other.")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}.")
        if version not in VERSIONS:
            raise ValueError(f"version must be one of {', '.join(map(str, VERSIONS))}, got {version}.")
        self.users, self.rows, self.fraud_rate, self.seed, self.version = users, rows, fraud_rate, seed, version
        rng = np.random.default_rng([seed, 0])
        self._cities(rng)
        self._merchants(rng)
        self._cardholders(rng)

    def _cities(self, rng: np.random.Generator) -> None:
        n = int(np.clip(self.rows // 1500, 8, 4000))
        self.n_cities = n
        names = [h + t for h in CITY_HEAD for t in CITY_TAIL]
        names = [names[i] for i in rng.permutation(len(names))]
        self.city_name = [names[i % len(names)] for i in range(n)]
        self.city_state = [STATES[i] for i in rng.integers(0, len(STATES), n)]
        zips = np.arange(1001, 99951)
        self.city_zip = zips[rng.permutation(len(zips))[: n * 3]].reshape(n, 3)  # 3 ZIP codes a city

    def _merchants(self, rng: np.random.Generator) -> None:
        """Merchants lie in blocks: each city's, then abroad, then online."""
        in_city = IN_CITY
        n_city, n_abroad = self.n_cities * in_city, 4 * len(ABROAD)
        n_web = max(40, n_city // 12)
        n = n_city + n_abroad + n_web
        self.in_city, self.n_city_merchants = in_city, n_city
        self.abroad_start, self.web_start, self.n_merchants = n_city, n_city + n_abroad, n

        code, share, median, sd, web = (np.array(c) for c in zip(*MCC_TABLE, strict=True))
        kind = np.empty(n, dtype=np.int64)
        in_store = np.where(code == 4511, 0, share)
        kind[: self.web_start] = draw(rng, np.cumsum(in_store / in_store.sum()), self.web_start)
        online = share * web
        kind[self.web_start :] = draw(rng, np.cumsum(online / online.sum()), n_web)
        hotel = int(np.flatnonzero(code == 3504)[0])
        kind[0:n_city:in_city] = hotel  # every city has an hotel, its first merchant
        self.merchant_mcc = code[kind]
        self.merchant_mu = np.log(median[kind]) + rng.normal(0, 0.25, n)
        self.merchant_sd = sd[kind]

        names = rng.integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, n)
        self.merchant_name = names
        zip_pick = rng.integers(0, 3, n_city)
        self.merchant_city, self.merchant_state, self.merchant_zip = [], [], []
        for m in range(n):
            if m < n_city:
                c = m // in_city
                city, state = self.city_name[c], self.city_state[c]
                code_zip = f"{self.city_zip[c, zip_pick[m]]}.0"
            elif m < self.web_start:
                (state, city), code_zip = ABROAD[(m - n_city) // 4], ""
            else:
                city, state, code_zip = "ONLINE", "", ""
            self.merchant_city.append(city)
            self.merchant_state.append(state)
            self.merchant_zip.append(code_zip)
        is_travel = np.isin(self.merchant_mcc[self.web_start :], TRAVEL_MCC)
        self.travel_web = self.web_start + np.flatnonzero(is_travel)

    def _cardholders(self, rng: np.random.Generator) -> None:
        u = self.users
        weight = rng.gamma(3.0, 1.0, u)
        self.rows_of = 1 + rng.multinomial(self.rows - u, weight / weight.sum())
        self.cards_of = np.minimum(1 + rng.poisson(1.6, u), 8)
        self.home = rng.integers(0, self.n_cities, u)
        # favourites: mostly at home, some in the next city; the order is the preference
        rank = np.argsort(rng.random((u, self.in_city)), axis=1)[:, :N_LOCAL]
        home = self.home[:, None]
        city = np.where(rng.random((u, N_LOCAL)) < 0.12, (home + 1) % self.n_cities, home)
        self.local = city * self.in_city + rank
        n_web = self.n_merchants - self.web_start
        self.web = self.web_start + rng.integers(0, n_web, (u, N_WEB))
        self.web_share = rng.beta(0.8, 0.8 * (1 - ONLINE_SHARE) / ONLINE_SHARE, u)
        self.spend = rng.normal(0, 0.35, u)  # log scale
        self.hour = np.stack([rng.normal(12.0, 2.5, u), rng.normal(18.5, 2.0, u)], axis=1)
        self.hour_sd = rng.uniform(0.7, 2.0, u)
        days = (LAST_DAY - FIRST_DAY).astype(int)
        self.start = rng.integers(0, int(days * 0.6), u)
        self.span = days - self.start
        self.chip_from = (CHIP_DAY - FIRST_DAY).astype(int) + rng.integers(0, 700, u)
        self.first_row = np.concatenate([[0], np.cumsum(self.rows_of)])

    def chunks(self) -> list[tuple[int, int]]:
        """Return ranges of users whose rows are drawn together (about CHUNK_ROWS rows)."""
        cut = [0]
        for user in range(self.users):
            if self.first_row[user + 1] - self.first_row[cut[-1]] >= CHUNK_ROWS:
                cut.append(user + 1)
        if cut[-1] != self.users:
            cut.append(self.users)
        return list(pairwise(cut))
