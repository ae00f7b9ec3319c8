"""Reasons in a report: for alerts and errors, within a time, and never on the page for others."""

import re
import sys

import numpy as np
import pytest

from hf_mmtab.commands import eval_checkpoint
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.reports import RunFacts, SplitPredictions, write_report
from hf_mmtab.reports import page as page_module
from hf_mmtab.reports.examples import worst_errors
from hf_mmtab.reports.reasons import EXPLAINED, add_reasons, highest_alerts

SINGLE = "single_label_classification"


def facts_with(explain) -> RunFacts:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(200), rng.integers(0, 2, 200)
    times = np.datetime64("2024-01-01T00:00", "us") + np.arange(200) * np.timedelta64(1, "h")
    predictions = SplitPredictions(
        np.stack([1 - scores, scores], 1), labels, None, times, np.array([f"card {i % 5}" for i in range(200)]),
        amounts=np.arange(200.0), explain=explain,
    )  # fmt: skip
    results = RunResults("lstm", "cards", "test", metrics={"test": {"average_precision": 0.5}}, thresholds=[0.9])
    return RunFacts("Cards", SINGLE, {0: "no", 1: "fraud"}, results=results, predictions={"test": predictions})


def test_the_highest_alerts_and_the_errors_have_reasons_on_the_private_page_alone(tmp_path):
    asked: list[int] = []
    facts = facts_with(lambda i, label: asked.append(i) or [f"log odds of fraud: <shop {i}> +1.00", "amount = 3 −0.50"])
    page = write_report(facts, tmp_path).read_text(encoding="utf-8")
    predictions = facts.predictions["test"]
    top = np.argsort(-predictions.probabilities[:, 1])[:EXPLAINED].tolist()
    assert asked[:EXPLAINED] == top and len(asked) == 2 * EXPLAINED
    assert "The highest alerts" in page and page.count("log odds of fraud: &lt;shop ") == 2 * EXPLAINED
    assert f"card {top[0] % 5} 2024-01-0" in page and "<shop" not in page
    lists = re.findall(r'<ul class="why">(.*?)</ul>', page)
    assert len(lists) == EXPLAINED and all(one.count("<li>") == 2 for one in lists)
    assert page.count(f"Reasons are shown for the first {EXPLAINED} alone") == 1
    public = (tmp_path / "report_public.html").read_text(encoding="utf-8")
    assert "log odds" not in public and "card 1" not in public and "The highest alerts" not in public
    assert all(alert.row in top for alert in highest_alerts(facts, predictions))


def test_reasons_take_a_bounded_time_and_a_page_without_captum_says_so(tmp_path):
    facts = facts_with(lambda i, label: ["x"])
    shown = highest_alerts(facts, facts.predictions["test"])
    assert add_reasons(facts.predictions["test"], shown, seconds=-1) == (
        f"{EXPLAINED} rows have no reasons: explaining them would take longer than -1 s."
    )
    assert not any(one.reasons for one in shown)

    def absent(i, label):
        raise ImportError('Install it: `pip install "hf-mmtab[explain]"`.')

    page = write_report(facts_with(absent), tmp_path).read_text(encoding="utf-8")
    assert "Reasons are not shown. Install it:" in page and "hf-mmtab[explain]" in page
    assert "Reasons are not shown" not in write_report(facts_with(None), tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("problem_type", "scores", "truth", "expected"),
    [
        # the likeliest label of each row is right: one is missed, one falsely given
        ("multi_label_classification", [[0.99, 0.1, 0.0], [0.99, 0.0, 0.8]], [[1, 1, 0], [1, 0, 0]], {0: 1, 1: 2}),
        (SINGLE, [[0.2, 0.5, 0.3]], [0], {0: 1}),
        ("regression", [[10.0, 2.0], [30.0, 9.0]], [[10.0, 2.0], [30.0, 3.0]], {1: 1}),
    ],
)
def test_the_reasons_of_an_error_are_those_of_the_label_that_is_wrong(problem_type, scores, truth, expected):
    asked: dict[int, int | None] = {}
    predictions = SplitPredictions(
        np.array(scores), np.array(truth), explain=lambda row, label: asked.update({row: label}) or ["x"]
    )
    results = RunResults("mmbt", "pictures", "test")
    facts = RunFacts("Some", problem_type, dict(enumerate("abc")), results=results, predictions={"test": predictions})
    add_reasons(predictions, [one for one in worst_errors(facts, predictions) if one.row in expected])
    assert asked == expected


@pytest.mark.parametrize(("run", "data"), [("lstm", "payments.csv"), ("mmbt", "pictures")])
def test_an_evaluation_tells_the_reasons_unless_they_are_switched_off(fixtures, tmp_path, monkeypatch, run, data):
    given = [str(fixtures / "runs_0_1" / run), str(fixtures / "runs_0_1" / data), "--bootstrap", "0", "--no_ablation"]
    monkeypatch.chdir(fixtures / "runs_0_1")
    monkeypatch.setattr(page_module, "_draw", lambda *_: {})  # takes the most time
    pages = []
    for name, more in (("with", []), ("without", ["--no_reasons"])):
        eval_checkpoint.main([*given, "--out", str(tmp_path / name), *more])
        pages.append((tmp_path / name / "report" / "report.html").read_text(encoding="utf-8"))
    assert "log odds of" in pages[0] and "log odds of" not in pages[1]

    monkeypatch.setitem(sys.modules, "captum.attr", None)  # as where it is not installed
    eval_checkpoint.main([*given, "--out", str(tmp_path / "absent")])
    page = (tmp_path / "absent" / "report" / "report.html").read_text(encoding="utf-8")
    assert "Reasons are not shown. Expected the package captum for explanations" in page
