"""Pairs of fields of generated rows against real ones: closed forms, and which pair is told."""

import numpy as np
import polars
import pytest

from hf_mmtab import TabBertProcessor
from hf_mmtab.data.windows.encoded_rows import SPLITS
from hf_mmtab.evaluation.generated_pairs import OTHERS, field_pairs, mutual_information
from hf_mmtab.reports.drift_page import DRAWN, drift_page


class Rows:
    """Ids of rows as `EncodedRows` gives them."""

    def __init__(self, processor, table, split="test"):
        self.ids = processor(table, return_tensors="np")["input_ids"][0]
        self.split = np.full(len(self.ids), SPLITS.index(split))

    def __len__(self):
        return len(self.ids)

    def take(self, places):
        return self.ids[places]


def payments(seed, joined, rows=3000):
    rng = np.random.default_rng(seed)
    shop = rng.integers(0, 4, rows)
    city = shop if joined else rng.integers(0, 4, rows)
    names = np.array(["a", "b", "c", None])
    return polars.DataFrame(
        {
            "shop": names[shop].tolist(),
            "city": [f"city {i}" for i in city],
            "amount": rng.normal(10.0 * shop, 1.0).round(3),
        }
    )


def test_mutual_information_is_that_of_the_textbook():
    assert mutual_information(np.outer([0.25, 0.75], [0.5, 0.5])) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(np.diag([0.5, 0.5])) == pytest.approx(np.log(2))


def test_a_pair_that_generated_rows_do_not_keep_is_told_and_drawn():
    plan = {"fields": {"shop": {}, "city": {}, "amount": {"kind": "numeric", "num_bins": 20}}}
    processor = TabBertProcessor(plan).fit(payments(0, joined=True))
    real, apart = Rows(processor, payments(1, joined=True)), Rows(processor, payments(2, joined=False, rows=2500))
    found = {pair.fields: pair for pair in field_pairs(apart, real, processor)}
    kept, lost = found["shop", "amount"], found["shop", "city"]
    assert kept.shared[0] == pytest.approx(kept.shared[1], abs=0.03) and kept.distance < 0.1
    assert lost.shared == pytest.approx((np.log(4), 0.0), abs=0.01) and lost.distance == pytest.approx(0.75, abs=0.02)
    assert sorted(lost.groups[0]) == [OTHERS, "a", "b", "c"] and lost.real.shape == lost.generated.shape == (4, 4)
    for pair in found.values():
        assert pair.real.sum() == pytest.approx(1) and pair.generated.sum() == pytest.approx(1)
    again = field_pairs(Rows(processor, payments(3, joined=True)), real, processor)
    assert max(pair.distance for pair in again) < 0.1
    page = drift_page("Title", [], "", [], "1", list(found.values()))
    assert page.count("<figure><img") == len(found) == 3 <= DRAWN
    assert "Shares of shop with city: 1.39 nats shared among test rows, 0.00 among generated rows, of which 7" in page


def test_without_pairs_the_page_has_no_pictures():
    page = drift_page("Title", [], "", [], "1")
    assert "<figure" not in page.split("</style>")[1] and "Pairs of fields" not in page
