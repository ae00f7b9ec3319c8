"""What lets boosted trees rank the first fraudulent payment of an episode: SHAP values, and single numbers' ROC-AUC.

    hf-mmtab finetune simulated_cards_finetune --architecture boosted --pretrained null --output_dir RUN
    python scripts/benchmark.py first-payments RUN

The first fraud of a history after an hour without one begins an episode. SHAP values are LightGBM's own
(`pred_contrib`), in log odds, against their mean over 3,000 test rows. The last table ranks first payments among
look-alikes alone: test rows at a merchant where the holder never was, in a city where he was at most twice.
"""

import argparse
import sys
from pathlib import Path

import datasets
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from transformers import AutoModelForSequenceClassification

from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.data.windows.encoded_rows import SPLITS, EncodedRows
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.tasks import PreparedTable
from hf_mmtab.tasks.table_heads import beside_ids

HOUR = 3_600_000_000  # microseconds
AMONG_LOOK_ALIKES = (
    "Merchant Name: log frequency",
    "Merchant City: log frequency",
    "User: Timestamp.hour: surprise",
    "User: Amount: beyond the mean before",
    "User: log seconds since row -1",
    "User: MCC: surprise",
)


def first_frauds(rows: EncodedRows) -> tuple[np.ndarray, np.ndarray]:
    """Return all fraudulent rows, and those that begin an episode."""
    fraud = np.flatnonzero(np.asarray(rows.labels) == 1)
    history, time = rows.entity_of(fraud), np.asarray(rows.time)[fraud]
    begins = np.ones(len(fraud), dtype=bool)
    begins[1:] = (np.diff(history) != 0) | (np.diff(time) > HOUR)
    return fraud, fraud[begins]


def main(argv: list[str] | None = None) -> None:
    """Print how first payments are ranked, and by what."""
    parser = argparse.ArgumentParser(prog="benchmark.py first-payments", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="output_dir of boosted trees on simulated cards")
    parser.add_argument("--count", type=int, default=10, help="statistics to list")
    options = parser.parse_args(argv)
    datasets.disable_progress_bars()
    folder = Path(options.run)
    rows, processor = EncodedRows(folder / "_table" / "rows"), TabBertProcessor.from_pretrained(folder)
    builder = CardTransactions(str(folder / "_table" / "cards.csv"))
    builder.download_and_prepare()
    table = PreparedTable(rows, processor, [], builder.as_dataset(split="train"))
    names = (processor.statistics or {})["names"]
    test = np.flatnonzero(np.asarray(rows.split) == SPLITS.index("test"))
    values = np.array(beside_ids(table, statistics=True, times=False)["statistics"][test])
    boosters = AutoModelForSequenceClassification.from_pretrained(folder).boosters["statistics"]  # averaged
    scores = np.mean([one.predict(values, raw_score=True) for one in boosters], axis=0)
    fraud, first = (np.isin(test, found) for found in first_frauds(rows))
    others = np.sort(scores[~fraud])
    above = len(others) - np.searchsorted(others, scores[first], side="right")
    kept = first | ~fraud
    say = sys.stdout.write
    say(f"{int(first.sum())} first payments, {int(fraud.sum())} frauds, {len(test):,} test rows\n")
    say(f"average precision: all {average_precision_score(fraud, scores):.3f}, ")
    say(f"first payments alone {average_precision_score(first[kept], scores[kept]):.3f}\n")
    say(f"honest payments above each first payment: {', '.join(map(str, np.sort(above)))}\n\n")
    usual = np.random.default_rng(0).choice(len(test), min(3000, len(test)), replace=False)
    added = [
        np.mean([one.predict(values[chosen], pred_contrib=True)[:, :-1].mean(axis=0) for one in boosters], axis=0)
        for chosen in (first, usual)
    ]
    more = added[0] - added[1]
    say("| adds log odds, mean | statistic | ROC-AUC, first payments against honest ones |\n|---:|---|---:|\n")
    for place in np.argsort(-more)[: options.count]:
        say(f"| {more[place]:+.2f} | {names[place]} | {_auc(first[kept], values[kept, place])} |\n")
    visits, city = (names.index(f"User: Merchant {kind}: rows before with this value") for kind in ("Name", "City"))
    alike = kept & (values[:, visits] == 0) & (values[:, city] <= 2)
    say(f"\n{int(alike.sum()):,} look-alikes, {int(first[alike].sum())} of them first payments\n\n")
    say(f"| ROC-AUC among look-alikes | of |\n|---:|---|\n| {_auc(first[alike], scores[alike])} | the model |\n")
    for name in AMONG_LOOK_ALIKES:
        say(f"| {_auc(first[alike], values[alike, names.index(name)])} | {name} |\n")


def _auc(labels: np.ndarray, values: np.ndarray) -> str:
    known = np.isfinite(values)
    return f"{roc_auc_score(labels[known], values[known]):.3f}" if len(set(labels[known])) == 2 else "–"


if __name__ == "__main__":
    main()
