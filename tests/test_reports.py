"""The report page: what it contains for small runs of every kind, and what it leaves out."""

import base64
import copy
import dataclasses
import io
import itertools
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from hf_mmtab.evaluation.ablation import AblationRow
from hf_mmtab.evaluation.comparison import ModelResult
from hf_mmtab.evaluation.decoded_histories import HistoryTable
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.metrics import Interval, PairedDifference, bootstrap_interval, scores_for
from hf_mmtab.metrics.names import metric_name
from hf_mmtab.reports import RunFacts, SplitPredictions, style, write_report
from hf_mmtab.reports.examples import thumbnail, worst_errors
from hf_mmtab.reports.page import duration, number, picture_of, quantity, signed
from hf_mmtab.reports.plots_alerts import alert_curves, alert_sentence
from hf_mmtab.reports.plots_classes import binary_precision_recall, confused_pairs, confusion_counts
from hf_mmtab.reports.plots_models import ablation_bars, comparison_plot
from hf_mmtab.reports.plots_scores import (
    calibration,
    calibration_bins,
    expected_calibration_error,
    score_histogram,
    wilson,
)
from hf_mmtab.reports.plots_training import audit_rows, boundaries, learning_curves, thaw_epochs
from hf_mmtab.reports.tables import headline, split_table
from hf_mmtab.reports.worth import constant_answer, harmful_inputs

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
NAMES = {0: "cat", 1: "dog", 2: "a <b>bird</b> & $5"}
PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')


def judged(scores, **more) -> RunResults:
    return RunResults("model", "data", "test", metrics={"test": scores}, **more)


def audit_records():
    """Four steps an epoch; `text_encoder` thaws after step 4, `image_encoder` never; every second step recorded."""
    rows = []
    for step in (1, 2, 4, 5, 6, 8):
        for part in ("text_encoder", "image_encoder", "classifier"):
            frozen = part == "image_encoder" or (part == "text_encoder" and step <= 4)
            row = {
                "part": part,
                "epoch": step / 4,
                "step": step,
                "frozen": frozen,
                "trainable_share": float(not frozen),
            }
            row |= {"in_optimizer": 1.0, "missing_gradients": 0.0, "gradient_norm": None if frozen else 0.5}
            row |= {"learning_rate": 1e-4, "change": 0.0 if frozen else 1e-3}
            row |= {"change_since_start": 0.0 if frozen else step * 1e-3, "statistics_since_start": None}
            rows.append(row | {"reason": "frozen forever" if part == "image_encoder" else None})
    return rows


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet([1, 1, 1], 60) * 0.5 + np.eye(3)[labels] * 0.5
    probabilities[7] = [0.0, 0.0, 1.0] if labels[7] != 2 else [1.0, 0.0, 0.0]  # the surest mistake
    rows = [
        {"image": Image.new("RGB", (40, 20), (i, 0, 0)), "text": f"text {i} <script>", "id": f"id-{i}"}
        for i in range(60)
    ]
    scores = scores_for(SINGLE, labels, probabilities, NAMES, per_class=True)
    audit = tmp_path / "update_audit.jsonl"
    audit.write_text("".join(json.dumps(r) + "\n" for r in audit_records()))
    log = [{"loss": 1.0 / s, "learning_rate": 1e-4, "epoch": s / 4, "step": s} for s in range(1, 9)]
    log += [{"eval_loss": 0.9, "eval_accuracy": 0.5 + e / 10, "epoch": float(e)} for e in (1, 2)]
    return RunFacts(
        title="MMBT on <animals>",
        problem_type=SINGLE,
        id2label=NAMES,
        task="An animal from its picture and text.",
        results=RunResults(
            "mmbt", "animals", "test", metrics={"validation": {"accuracy": 0.75}, "test": scores},
            intervals={"test": {"accuracy": bootstrap_interval("accuracy", labels, probabilities, SINGLE)}},
            ablation=[AblationRow("image", "blank", m, 0.5, 0.85) for m in ("accuracy", "macro_f1")],
            notes=["Windows of the test split share no rows with training."],
            training_minutes=100.0, minutes=130, details={"parameters": "28.6 M"},
        ),
        predictions={"test": SplitPredictions(probabilities, labels, rows)},
        comparison=[
            ModelResult("mmbt", {"accuracy": [0.8, 0.9]}, is_own=True, seconds=100),
            ModelResult(
                "bert", {"accuracy": [0.7, 0.72]}, {"accuracy": Interval(0.71, 0.6, 0.8, 1000)},
                {"accuracy": PairedDifference(0.14, 0.05, 0.2, 0.99, 1000)}, seconds=50,
            ),
        ],
        log_history=log,
        freeze_timeline="text_encoder ░░██",
        audit_path=audit,
        bad_records={"picture cannot be decoded": 2},
        command="python -m hf_mmtab finetune recipe.yaml --seed 1",
        recipe="learning_rate: 5.0e-5",
        versions={"torch": "2.14.1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(single, tmp_path_factory):
    return write_report(single, tmp_path_factory.mktemp("page") / "made" / "report")


def test_report_of_a_single_label_run_contains_every_section(single, page):
    html = page.read_text(encoding="utf-8")
    assert page.name == "report.html"
    for section in ("comparison", "inputs", "results", "errors", "training", "freezing", "repeat"):
        assert f'id="{section}"' in html
        assert f'href="#{section}"' in html
    accuracy = single.results.metrics["test"]["accuracy"]
    assert f"<b>{accuracy:.3f}</b><span>accuracy</span>" in html
    assert "Trained in 1 h 40 min; the whole run took 2 h 10 min. Parameters: 28.6 M." in html
    assert "0.850 <small>± 0.071" in html and "+0.140 <small>+0.050 to +0.200" in html
    assert "2 input records were left out:" in html and "picture cannot be decoded (2)" in html
    assert "share no rows with training" in html
    assert "finetune recipe.yaml --seed 1" in html and "learning_rate: 5.0e-5" in html
    assert "text_encoder ░░██" in html and "frozen forever" in html
    figures = {p.name for p in (page.parent / "figures").iterdir()}
    assert figures == {
        "learning_curves.png", "update_audit.png", "comparison.png", "ablation.png",
        "confusion.png", "precision_recall.png", "calibration.png",
    }  # fmt: skip
    assert len(PNG.findall(html)) == len(figures)
    for data in PNG.findall(html):
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


def test_the_page_needs_no_other_file(page):
    html = page.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "@import" not in html and "url(" not in html


def test_texts_and_label_names_are_never_markup(page):
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html and "<b>bird</b>" not in html and "<animals>" not in html
    assert "text 7 &lt;script&gt;" in html and "a &lt;b&gt;bird&lt;/b&gt; &amp; $5" in html


def test_a_report_with_almost_no_facts_leaves_the_sections_out(tmp_path):
    html = write_report(RunFacts("Empty", SINGLE, NAMES), tmp_path).read_text(encoding="utf-8")
    assert "<h1>Empty</h1>" in html
    assert "<section" not in html and "<img" not in html and "None" not in html


def test_the_surest_mistake_comes_first_with_picture_and_text(single):
    examples = worst_errors(single, single.predictions["test"])
    labels, decided = single.main_predictions.labels, single.main_predictions.probabilities.argmax(1)
    assert len(examples) == min(24, (labels != decided).sum())
    assert examples[0].row == 7
    assert examples[0].true == NAMES[int(labels[7])] and examples[0].certainty.startswith("100.00%")
    assert examples[0].image.startswith("data:image/jpeg;base64,")
    assert (examples[0].text, examples[0].identity) == ("text 7 <script>", "id-7")


def test_report_of_a_multi_label_run(tmp_path):
    rng = np.random.default_rng(1)
    labels = (rng.random((80, 3)) < [0.5, 0.3, 0.0]).astype(int)
    probabilities = np.clip(rng.normal(0.3 + 0.4 * labels, 0.2), 0, 1)
    rows = [{"sentence1": f"first {i}", "sentence2": "second " * 100, "image": None} for i in range(80)]
    facts = RunFacts(
        "Several", MULTI, NAMES, results=judged(scores_for(MULTI, labels, probabilities, NAMES, [0.4, 0.5, 0.6]),
        thresholds=[0.4, 0.5, 0.6]), predictions={"test": SplitPredictions(probabilities, labels, rows)},
    )  # fmt: skip
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"labels", "precision_recall", "calibration"}
    assert "<span>micro-F1</span>" in html and "<th>threshold</th>" in html
    assert "wrong in at least one label" in html and "no picture" in html
    assert "first 3 — second" in html or ("first" in html and "second…" in html)
    assert "<td>classes without a positive</td><td>1</td>" in html


def test_report_of_rare_positives_over_time(tmp_path):
    rng = np.random.default_rng(2)
    labels = (rng.random(3000) < 0.02).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(-4 + 4 * labels, 1)))
    noise = rng.random(3000)
    times = np.datetime64("2019-01-01T00:00") + np.arange(3000).astype("timedelta64[h]")
    rows = [
        {"history": HistoryTable(["time", "amount"], [["1", "$3.00"], [f"at {i}", "$-99.00"]], judged=1, first=4)}
        for i in range(3000)
    ]
    predictions = SplitPredictions(
        np.stack([1 - scores, scores], 1), labels, rows, times, np.arange(3000) % 7,
        {"amount": np.stack([1 - noise, noise], 1)},
    )  # fmt: skip
    names = {0: "genuine", 1: "fraud"}
    facts = RunFacts(
        "Fraud", SINGLE, names, main_metric="average_precision", predictions={"test": predictions},
        results=judged(
            scores_for(SINGLE, labels, predictions.probabilities, names, [0.25]), thresholds=[0.25],
            resampled_by="entity", intervals={"test": {"average_precision": Interval(0.5, 0.4, 0.6, 100)}},
        ),
    )  # fmt: skip
    html = write_report(facts, tmp_path, examples=6).read_text(encoding="utf-8")
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {
        "confusion", "precision_recall", "calibration", "score_over_time", "scores", "alerts", "episodes",
    }  # fmt: skip
    assert "<h3>Episodes</h3>" in html and "<h3>Episodes</h3>" in (tmp_path / "report_public.html").read_text()
    assert "<span>recall at 0.1 % false positives</span>" in html
    examples = worst_errors(facts, predictions, 6)
    assert [e.true for e in examples] == ["fraud"] * 3 + ["genuine"] * 3  # missed ones first, alarms not forgotten
    assert f'<tr class="judged"><td>at {examples[0].row}</td><td>$-99.00</td></tr>' in html
    assert "4 earlier rows of the window" in html
    assert "bootstrap intervals over its whole histories" in html
    assert examples[0].identity == f"{examples[0].row % 7} {times[examples[0].row]}".replace("T", " ")


def test_alerts_a_day_find_what_can_be_counted_by_hand():
    times = np.array(["2024-01-01", "2024-01-01", "2024-01-03", "2024-01-03", "NaT"], dtype="datetime64[s]")
    labels, scores = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.5, 0.5, 0.1, 0.99])
    curves = alert_curves(times, labels, scores, np.array([30.0, 5.0, 10.0, np.nan, 1e9]))
    assert curves["alerts"].tolist() == [0.5, 1.5, 2.0]  # two days have rows; equal scores come together
    assert curves["recall"].tolist() == [0.5, 1.0, 1.0]
    assert curves["money"].tolist() == [0.75, 1.0, 1.0]
    assert curves["precision"].tolist() == pytest.approx([1.0, 2 / 3, 0.5])
    assert alert_curves(times, np.zeros(5), scores) is None
    assert "money" not in alert_curves(times, labels, scores, np.full(5, np.nan))


def tick_labels(figure) -> list[str]:
    figure.draw_without_rendering()
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    return [text.get_text() for axis in axes for text in axis.get_ticklabels(which="both")]


def test_logarithmic_axes_have_plain_numbers():
    rng = np.random.default_rng(3)
    labels = (rng.random(2000) < 0.02).astype(int)
    scores = np.clip(0.02 + 0.004 * rng.standard_normal(2000), 1e-3, 1)  # hardly apart: less than a decade
    for figure in (
        calibration(scores, labels, "predicted", "observed"),
        score_histogram(labels, scores, 0.0205, {0: "genuine", 1: "fraud"}),
    ):
        labels_of = tick_labels(figure)
        assert not any("$" in label for label in labels_of)
        assert {"100", "1,000"} & set(labels_of)
    assert "0.02" in labels_of and "0.01" in labels_of


def test_a_low_threshold_is_named_above_its_point():
    labels, scores = np.repeat([0, 1], [990, 10]), np.linspace(0.01, 0.03, 1000) % 0.02
    texts = {text.get_text(): text for text in binary_precision_recall(labels, scores, 0.005).axes[0].texts}
    assert texts["threshold 0.005"].xyann[1] > 12


def test_a_curve_without_points_is_not_in_the_legend():
    history = [{"epoch": epoch, "eval_loss": 1 / epoch} for epoch in (1.0, 2.0)]
    legend = learning_curves(history, "accuracy", {}).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["validation"]


def test_a_single_logged_point_has_a_marker_and_a_curve_has_none():
    one = [{"epoch": 0.5, "loss": 1.0, "learning_rate": 1e-4}, {"epoch": 1.0, "eval_loss": 0.9}]
    loss, rate = learning_curves(one, "accuracy", {}).axes
    assert [axes.lines[0].get_marker() for axes in (loss, rate)] == ["o", "o"]
    more = [*one, {"epoch": 0.8, "loss": 0.9, "learning_rate": math.nan}]
    loss, rate = learning_curves(more, "accuracy", {}).axes
    assert loss.lines[0].get_marker() == "" and rate.lines[0].get_marker() == "o"
    assert len(learning_curves(more[1:], "accuracy", {}).axes) == 1  # no panel of a rate that is never finite


@pytest.mark.parametrize(("metric", "values", "end"), [("accuracy", (0.969, 1.0), 1.0), ("rmse", (3.0, 2.0), 3.15)])
def test_values_of_an_ablation_stand_beside_the_axes_which_end_at_1_for_shares(metric, values, end):
    rows = [AblationRow("image", how, metric, values[0], values[1]) for how in ("blank", "shuffle")]
    figure = ablation_bars(rows, metric)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xlim() == pytest.approx((0, end))
    labels = [text for text in axes.texts if "(" in text.get_text()]
    assert len(labels) == 2 and all(text.get_window_extent().x0 > axes.bbox.x1 for text in labels)


def test_a_model_that_is_better_without_an_input_is_told(single):
    facts = copy.copy(single)
    interval = single.intervals["accuracy"]
    rows = [AblationRow("text", "blank", "accuracy", value, interval.value) for value in (interval.high, 1.01)]
    facts.results = dataclasses.replace(single.results, ablation=rows[:1])
    assert harmful_inputs(facts) == []  # on the interval's end: not told apart
    facts.results = dataclasses.replace(single.results, ablation=rows)
    (told,) = harmful_inputs(facts)
    assert told.startswith("The model is better without its text: accuracy 1.010 with the text left blank, ")


def test_the_table_of_inputs_has_the_metric_of_the_headline_too(single, tmp_path):
    html = write_report(single, tmp_path).read_text(encoding="utf-8")
    section = html.split('<section id="inputs">')[1].split("</section>")[0]
    for row in single.results.ablation:  # accuracy is that of the headline
        name = metric_name(row.metric)
        assert f'<td class="left">{name}</td>\n<td>{row.intact:.3f}</td><td>{row.value:.3f}</td>' in section


def test_two_answers_that_are_the_same_for_all_rows_are_told_apart_by_their_names(single, tmp_path):
    facts = copy.copy(single)
    facts.comparison = [*single.comparison, ModelResult("majority", {"accuracy": [0.3]})]
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    assert "<td>majority</td>" in html and "<td>best constant on these rows, always " in html
    ticks = comparison_plot(facts.comparison, "accuracy").axes[0].get_yticklabels()
    assert "majority" in [tick.get_text() for tick in ticks]


@pytest.mark.parametrize(("kept_step", "circled"), [(10, 0.9), (None, 0.8)])
def test_the_checkpoint_that_was_kept_is_circled_not_the_best(kept_step, circled):
    history = [{"epoch": e, "step": 10 * int(e), "eval_accuracy": a} for e, a in ((1.0, 0.9), (2.0, 0.7), (3.0, 0.8))]
    axes = learning_curves(history, "accuracy", {}, kept_step).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_markersize() == 9] == [circled]
    assert f"kept, {circled:.3f}" in [text.get_text() for text in axes.texts]


def test_a_comparison_starts_at_0_and_holds_its_intervals():
    models = [
        ModelResult("mmbt", {"accuracy": [0.81, 0.83]}, {"accuracy": Interval(0.82, 0.78, 0.86, 100)}, is_own=True),
        ModelResult("bert", {"accuracy": [0.8]}, {"accuracy": Interval(0.8, 0.76, 0.95, 100)}),
    ]
    low, high = comparison_plot(models, "accuracy").axes[0].get_xlim()
    assert low == 0 and 0.95 < high < 1.05


def test_of_several_labels_only_the_wrong_ones_look_wrong(tmp_path):
    names = {0: "crime", 1: "drama", 2: "war"}
    labels = np.array([[1, 0, 0], [1, 1, 0]])
    scores = np.array([[0.9, 0.8, 0.1], [0.9, 0.9, 0.1]])
    facts = RunFacts("Films", MULTI, names, predictions={"test": SplitPredictions(scores, labels)})
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    assert '<span class="right">crime</span>, <span class="wrong">drama</span>' in html


def test_labels_that_were_missed_are_marked(tmp_path):
    labels, scores = np.array([[1, 1, 0]]), np.array([[0.9, 0.2, 0.1]])
    facts = RunFacts("Films", MULTI, {0: "crime", 1: "drama", 2: "war"})
    facts.predictions = {"test": SplitPredictions(scores, labels)}
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    assert 'true <span class="right">crime</span>, <span class="wrong">drama (missed)</span>' in html


def test_report_of_a_regression(tmp_path):
    rng = np.random.default_rng(3)
    labels = rng.normal(50, 20, (100, 2))
    values = labels + rng.normal(0, 1, (100, 2))
    values[42, 1] += 90
    labels[5, 0] = np.nan
    names = {0: "PM2.5", 1: "PM10"}
    facts = RunFacts("Air", REGRESSION, names, results=judged(scores_for(REGRESSION, labels, values, names)),
                     predictions={"test": SplitPredictions(values, labels)})  # fmt: skip
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    assert "<td>RMSE, PM10</td>" in html and "The largest errors" in html
    assert [p.stem for p in (tmp_path / "figures").iterdir()] == ["regression"]
    first = worst_errors(facts, facts.main_predictions)[0]
    assert first.row == 42 and first.certainty.startswith("PM10 off by 89")


@pytest.mark.slow
def test_a_matrix_of_a_hundred_classes_is_drawn(tmp_path):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 101, 400)
    facts = RunFacts("Food", SINGLE, {i: f"dish {i}" for i in range(101)},
                     predictions={"test": SplitPredictions(rng.dirichlet(np.ones(101), 400), labels)})  # fmt: skip
    html = write_report(facts, tmp_path, examples=0).read_text(encoding="utf-8")
    assert "<details><summary>Per class</summary>" in html and 'id="errors"' not in html
    assert Image.open(tmp_path / "figures" / "confusion.png").width > 2000


def test_old_figures_are_replaced(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "ablation.png").touch()
    write_report(RunFacts("Empty", SINGLE, NAMES), tmp_path)
    assert list((tmp_path / "figures").iterdir()) == []


def test_an_audit_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(RunFacts("Run", SINGLE, NAMES, audit_path=tmp_path / "none.jsonl"), tmp_path)


def test_as_many_labels_and_rows_as_predictions_are_needed():
    with pytest.raises(ValueError, match="Expected 3 labels, one per prediction, found 2"):
        SplitPredictions(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="problem_type must be one of"):
        RunFacts("Run", "multiclass", NAMES)


# --- the parts ----------------------------------------------------------------------------------------------


def test_audit_tells_when_parts_thawed():
    records = audit_records()
    assert thaw_epochs(records) == {"text_encoder": 1.0}
    assert boundaries(records) == [4]
    rows = {row["part"]: row for row in audit_rows(records)}
    assert [rows[p]["trains_from"] for p in ("classifier", "text_encoder", "image_encoder")] == [0.0, 1.0, None]


def test_confusion_counts_and_pairs_by_hand():
    counts = confusion_counts(np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert confused_pairs(counts, {0: "a", 1: "b", 2: "c"}) == [
        {"true": "a", "predicted": "b", "count": 2, "share": pytest.approx(2 / 3)},
        {"true": "c", "predicted": "a", "count": 1, "share": 1.0},
    ]


def test_calibration_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.15, 0.15]), np.array([1, 0, 0, 0])
    mean, share, counts = calibration_bins(confidence, right)
    assert (mean.tolist(), share.tolist(), counts.tolist()) == (pytest.approx([0.15, 0.95]), [0.0, 0.5], [2, 2])
    assert expected_calibration_error(confidence, right) == pytest.approx((0.15 + 0.45) / 2)
    low, high = wilson(np.array([0.5]), np.array([100]))
    assert (low[0], high[0]) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_bins_of_rare_positives_hold_equally_many_of_them():
    rng = np.random.default_rng(0)
    right = (np.arange(10_000) < 100).astype(int)
    _, share, counts = calibration_bins(np.where(right, rng.random(10_000), 0.1 * rng.random(10_000)), right, 10, True)
    assert (share * counts).round().astype(int).tolist() == [10] * 10


def test_headline_leads_with_the_main_metric_and_the_table_hides_doubles(single):
    assert [item["name"] for item in headline(single)] == ["accuracy", "macro-F1", "mean average precision"]
    names = [row["name"] for row in split_table(single)["rows"]]
    assert names[0] == "accuracy"
    assert not {"micro-F1", "F1, cat", "classes without a positive"} & set(names)


def test_numbers_are_written_for_readers():
    assert [number(v) for v in (0.5, 20.994, 123.45, 4321.0, 0.00182, 7, None, float("nan"))] == [
        "0.500", "20.99", "123.5", "4,321", "0.00182", "7", "–", "–",
    ]  # fmt: skip
    assert number(0.0031, like=0.66) == "0.003"
    assert [signed(v) for v in (0.14, -0.5)] == ["+0.140", "−0.500"]
    assert [quantity(v) for v in (None, 0, 0.012, 3e-6)] == ["–", "0%", "1.2%", "<0.001%"]
    assert [quantity(v) for v in (1.42, 0.1234, 0.0005, 1e-5)] == ["142%", "12%", "0.050%", "0.0010%"]
    assert [duration(s) for s in (None, 70, 600, 6000, 2 * 86400)] == [
        "–",
        "70 s",
        "10 min",
        "1 h 40 min",
        "48 h 00 min",
    ]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1", "I", "F"])
def test_pictures_of_every_mode_become_thumbnails(mode):
    data, note = thumbnail(Image.new(mode, (300, 10)))
    picture = Image.open(io.BytesIO(base64.b64decode(data.split(",")[1])))
    assert (picture.mode, picture.width, note) == ("RGB", 176, "")


def test_pictures_that_are_missing_or_broken_say_so(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    buffer = io.BytesIO()
    Image.new("RGB", (1, 20_000)).save(buffer, "PNG")
    assert thumbnail(None) == (None, "no picture")
    assert thumbnail(tmp_path / "torn.png") == (None, "picture cannot be read")
    assert thumbnail({"bytes": None, "path": str(tmp_path / "none.png")}) == (None, "picture cannot be read")
    assert thumbnail({"bytes": buffer.getvalue(), "path": None})[0].startswith("data:image/jpeg")


def test_pictures_from_outside_of_the_data_are_not_shown(tmp_path):
    for name in ("data/mine.png", "private/secret.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    data = tmp_path / "data"
    paths = [data / "mine.png", data / ".." / "private" / "secret.png", tmp_path / "private" / "secret.png"]
    rows = [{"image": Image.open(path)} for path in paths] + [{"image": {"path": str(paths[1])}}]
    predictions = SplitPredictions(np.eye(2)[[1] * 4], np.array([0] * 4), rows, picture_folder=data)
    facts = RunFacts("x", "single_label_classification", {0: "no", 1: "yes"}, predictions={"test": predictions})
    shown = {one.row: one for one in worst_errors(facts, predictions)}
    assert shown[0].image is not None
    assert [shown[row].image for row in (1, 2, 3)] == [None] * 3
    assert "outside of the data's folder" in shown[1].note


def test_the_public_page_has_the_results_and_no_row(single, tmp_path):
    page = write_report(single, tmp_path / "acme-bank" / "report").with_name("report_public.html").read_text()
    assert 'id="errors"' not in page and "data:image/jpeg" not in page
    assert 'id="results"' in page and "acme-bank" not in page


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", ["The model gives one answer, cat, for all 60 rows.", "no better than a constant"]),
        ("weak", ["not told apart from a constant"]),
        ("good", []),
    ],
)
def test_a_model_that_is_no_better_than_a_constant_says_so_first(kind, expected, tmp_path):
    labels = np.array([0] * 40 + [1] * 20)
    right = {"constant": 40, "weak": 44, "good": 58}[kind]
    predicted = labels.copy()
    predicted[60 - (60 - right) :] = 0
    probabilities = np.eye(2)[predicted] * 0.8 + 0.1
    names = {0: "cat", 1: "dog"}
    scores = scores_for(SINGLE, labels, probabilities, names)
    facts = RunFacts(
        "a", SINGLE, names, main_metric="accuracy", predictions={"test": SplitPredictions(probabilities, labels)},
        results=RunResults(
            "mmbt", "x", "test", metrics={"test": scores},
            intervals={"test": {"accuracy": Interval(scores["accuracy"], scores["accuracy"] - 0.1, 1.0, 100)}},
        ),
    )  # fmt: skip
    html = write_report(facts, tmp_path).read_text()
    box = re.search(r'role="alert">(.*?)</div>', html, re.S)
    told = box.group(1) if box else ""
    assert all(sentence in told for sentence in expected), told
    assert bool(box) == bool(expected)
    assert "Constant: the best answer that is the same for every row of “test”, always cat." in html
    assert "<dt>accuracy</dt>" in html


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (0.6, "none of the 6 rows of fraud is called fraud, and all 2 alerts are wrong."),
        (0.9, "none of the 6 rows of fraud is called fraud, and there is no alert."),
        (0.4, None),
    ],
)
def test_a_threshold_at_which_nothing_is_found_is_told_first(cut, expected, tmp_path):
    labels = np.array([0] * 54 + [1] * 6)
    scores = np.where(labels == 1, 0.5, 0.1)  # ranked well: the average precision is far above the guess
    scores[:2] = 0.8
    probabilities = np.stack([1 - scores, scores], axis=1)
    names = {0: "fine", 1: "fraud"}
    metrics = scores_for(SINGLE, labels, probabilities, names, cut)
    facts = RunFacts(
        "a", SINGLE, names, main_metric="average_precision",
        predictions={"test": SplitPredictions(probabilities, labels)},
        results=RunResults("lstm", "x", "test", metrics={"test": metrics}, thresholds=cut),
    )  # fmt: skip
    html = write_report(facts, tmp_path).read_text()
    assert metrics["average_precision"] > 0.5
    if expected is None:
        assert "nothing is found" not in html
    else:
        box = re.search(r'role="alert">(.*?)</div>', html, re.S)
        assert f"At the chosen threshold ({cut}) nothing is found: {expected}" in box.group(1)


def test_notes_of_how_a_run_was_done_are_no_warnings(tmp_path):
    notes = ["The head reads surprise of each row, by f1 on validation.", "Values that training never had are [UNK]."]
    facts = RunFacts("a", SINGLE, {0: "fine", 1: "fraud"}, results=RunResults("lstm", "x", "test", notes=notes))
    html = write_report(facts, tmp_path).read_text()
    box = re.search(r'<div class="notes">(.*?)</div>', html, re.S)
    assert notes[1] in box.group(1) and notes[0] not in box.group(1)
    assert f'<p class="soft">{notes[0]}</p>' in html


def test_errors_of_one_history_do_not_stand_together(tmp_path):
    labels = np.array([1] * 6 + [0] * 4)
    scores = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.99, 0.98, 0.1, 0.1])  # the first six are missed
    groups = np.array(["ann"] * 3 + ["bob", "cid", "cid", "ann", "ann", "dan", "eve"])
    table = HistoryTable(["when", "shop"], [["today", "bakery"]], 0)
    predictions = SplitPredictions(
        np.stack([1 - scores, scores], axis=1), labels, [{"history": table}] * 10, groups=groups
    )
    facts = RunFacts("a", SINGLE, {0: "fine", 1: "fraud"}, predictions={"test": predictions})
    assert [one.row for one in worst_errors(facts, predictions)] == [0, 3, 4, 1, 5, 2, 6, 7]
    html = write_report(facts, tmp_path).read_text()
    opened, _, folded = html.partition("<details><summary>4 more</summary>")
    assert opened.count('class="history"') == folded.count('class="history"') == 4
    assert "missed ones first, one of each history before a second." in html


def test_the_constant_answer_of_a_regression_is_the_mean(tmp_path):
    labels = np.arange(20.0)
    facts = RunFacts(
        "a", "regression", {0: "y"}, predictions={"test": SplitPredictions(labels * 0 + 3, labels)},
        results=RunResults("lstm", "x", "test", metrics={"test": {"rmse": 8.7, "r2": -1.0}}),
    )  # fmt: skip
    html = write_report(facts, tmp_path).read_text()
    assert "The model gives the same values for all 20 rows." in html
    assert "RMSE 8.700 against 5.766 of the best constant answer (always the mean). It is not worth using." in html


def test_the_constant_answer_of_several_labels_is_the_set_with_the_highest_micro_f1():
    rng = np.random.default_rng(1)
    for _ in range(10):
        labels = (rng.random((40, 4)) < rng.random(4) * 0.6).astype(int)
        names = dict(enumerate("abcd"))
        facts = RunFacts(
            "a", "multi_label_classification", names, predictions={"test": SplitPredictions(labels * 0.5, labels)},
            results=RunResults("mmbt", "x", "test", metrics={"test": {"micro_f1": 0.5}}),
        )  # fmt: skip
        found = constant_answer(facts)
        sets = [np.broadcast_to(np.array(one, float), labels.shape) for one in itertools.product([0, 1], repeat=4)]
        best = max(scores_for(facts.problem_type, labels, one, names)["micro_f1"] for one in sets if one.any())
        assert found.scores["micro_f1"] == pytest.approx(best)
        assert found.words.startswith("always ")


WIDTH = (
    "<script>addEventListener('load', () => document.body.setAttribute('data-width', "
    "document.documentElement.scrollWidth + ' of ' + innerWidth))</script>"
)


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 768, 1400])  # chromium makes no narrower window
def test_no_page_is_wider_than_its_window(width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    probabilities = np.stack([1 - labels, labels], axis=1) * 0.2 + rng.random((60, 2)) * 0.6
    table = HistoryTable(["when", "a long name of a column", "shop"] * 3, [["2024-01-01 10:30:00"] * 9] * 8, 7)
    rows = [{"history": table, "id": f"row {i}"} for i in range(60)]
    names = {0: "no", 1: "yes"}
    facts = RunFacts(
        "a", SINGLE, names, predictions={"test": SplitPredictions(probabilities, labels, rows)},
        results=RunResults(
            "lstm", "t" * 60, "test", metrics={"test": scores_for(SINGLE, labels, probabilities, names)},
            notes=["A note about " + "averylongnameofacolumn" * 6], details={"encoder": "/".join(["folder"] * 20)},
        ),
    )  # fmt: skip
    page = write_report(facts, tmp_path / "report")
    page.write_text(page.read_text() + WIDTH)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path / 'browser'}", f"--window-size={width},900", "--virtual-time-budget=3000"]
    shown = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, timeout=90).stdout
    found = re.search(r'data-width="(\d+) of (\d+)"', shown)
    assert found is not None
    assert int(found[1]) <= int(found[2])


def test_alerts_at_the_threshold_are_told_in_words():
    times = np.array(["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-02"], dtype="datetime64[s]")
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.1])
    amounts = np.array([30.0, 5.0, 10.0, 1.0])
    told = alert_sentence(alert_curves(times, labels, scores, amounts), 0.5, "fraud")
    expected = "The threshold makes 1 alert a day, 50% right; together they find 50% of the rows of fraud"
    assert told == f"{expected} and 75% of their money."
    assert alert_sentence(alert_curves(times, labels, scores), 0.95, "fraud") == ""  # no alert


def test_a_number_that_is_nearly_0_has_no_sign():
    assert number(-1e-9) == "0.000" and number(-0.5) == "-0.500"


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("falling", [False, True])
def test_a_line_of_many_points_looks_the_same_with_few_of_them(monkeypatch, log, falling):
    rng = np.random.default_rng(3)
    x = np.sort(rng.random(100_000)) + 1e-4
    y = np.cumsum(rng.normal(size=len(x))) / 300
    y[50_000] = 4.0  # a single one that stands out
    x = x[::-1] if falling else x
    pictures, points = [], []
    for most in (len(x), style.MOST_POINTS):
        monkeypatch.setattr(style, "MOST_POINTS", most)
        figure, axes = style.new_axes(3.0)
        axes.set(xscale="log" if log else "linear", xlim=(x.min(), x.max()), ylim=(-5, 5))
        style.draw_steps(axes, x, y, log=log, color="black", linewidth=1)
        points.append(len(axes.lines[0].get_xdata()))
        drawn = Image.open(io.BytesIO(picture_of("alerts", "", figure).png)).convert("L")
        pictures.append(np.asarray(drawn, dtype=float))
    assert points[0] == len(x) and points[1] <= 4 * (style.COLUMNS + 1)
    assert (pictures[0] < 128).sum() > 1_000
    assert (np.abs(pictures[0] - pictures[1]) > 150).sum() < 10  # edges of lines; every 25th point alone has 70 to 160
