"""The report of a run on a table: histories as they came, curves of several models, what was resampled."""

import dataclasses
import datetime

import datasets
import numpy as np
import pytest

from hf_mmtab.commands.runs.report import common_facts, write_report_and_card
from hf_mmtab.commands.runs.table_facts import table_facts
from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.evaluation.comparison import ScoredModel, compare_scored
from hf_mmtab.evaluation.decoded_histories import DecodedHistories, as_probability, as_text
from hf_mmtab.evaluation.judging import judge_splits
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.evaluation.scored_rows import judged_rows, scores_of_rows
from hf_mmtab.models.tabbert import TabBertConfig, TabBertProcessor
from hf_mmtab.tasks import PreparedTable

pytestmark = pytest.mark.figures
START = datetime.datetime(2021, 3, 1)
PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {
        "when.hour": {"kind": "time_part", "part": "hour"},
        "amount": {"kind": "money", "num_bins": 4},
        "shop": {},
    },
}
SINGLE = "single_label_classification"


@pytest.fixture(scope="module")
def dataset():
    """Rows of 25 holders, not in their order; the amount says which row of the file it is."""
    rng = np.random.default_rng(0)
    rows = 1000
    return datasets.Dataset.from_dict(
        {
            "who": [f"w{i}" for i in rng.integers(0, 25, rows)],
            "when": [START + datetime.timedelta(hours=2 * i) for i in range(rows)],
            "amount": [f"${i}.00" for i in range(rows)],
            "shop": rng.choice(["bakery", "<grocer> & $on"], rows).tolist(),
            "odd": rng.choice(["no", "yes"], rows, p=[0.8, 0.2]).tolist(),
        }
    )


@pytest.fixture(scope="module")
def table(dataset, tmp_path_factory):
    processor = TabBertProcessor(PLAN)
    rows = prepare_rows(dataset, processor, tmp_path_factory.mktemp("rows") / "rows", "time")
    return PreparedTable(rows, processor, [], dataset)


def scored_by(cut, seed):
    """Scores that know something of the label."""
    judged = judged_rows(cut)
    scored = scores_of_rows(cut, judged, np.zeros(len(judged.row)))
    noise = np.random.default_rng(seed).random(len(scored))
    return dataclasses.replace(scored, scores=0.3 * scored.labels + 0.7 * noise)


def judged(table, scored, label="last", problem_type=SINGLE, names=("no", "yes"), **changes):
    names = dict(enumerate(names))
    config = TabBertConfig(
        **table.processor.config_kwargs(), hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
        intermediate_size=16, field_hidden_size=8, field_num_heads=2, problem_type=problem_type, id2label=names,
        window_label=label, seq_len=5, threshold=0.5 if problem_type == SINGLE else None, **changes,
    )  # fmt: skip
    judged = judge_splits(scored, config, "test", 50, "auto")
    return config, RunResults(
        **judged, architecture="lstm", data="somewhere/payments.csv", window_label=label, seq_len=5, minutes=3.0,
        notes=["Nothing is shared."],
    )  # fmt: skip


def test_a_history_shows_the_rows_up_to_the_judged_one_as_they_came(dataset, table):
    cut = windows(table.rows, "test", seq_len=12, stride=1, label="last")
    scored = scored_by(cut, 1)
    shown = DecodedHistories(dataset, table.rows, table.processor.plan, cut, scored)
    assert len(shown) == len(scored)
    history = shown[40]["history"]
    assert history.columns == ["when", "odd (label)", "score", "amount", "shop"]
    assert (len(history.rows), history.judged, history.first) == (10, 9, 2)  # of 12 rows the last ten
    raw = dataset[int(table.rows.row_numbers[scored.rows[40]])]
    score = f"{scored.scores[40]:.3f}"
    told = [f"{raw['when']:%Y-%m-%d %H:%M}", raw["odd"], score, raw["amount"], raw["shop"]]
    assert history.rows[9] == told
    times = [row[0] for row in history.rows]
    assert times == sorted(times)
    numbers = [int(row[3].strip("$").split(".")[0]) for row in history.rows]
    assert len({dataset["who"][number] for number in numbers}) == 1
    first_test = next(i for i in range(len(scored)) if scored.rows[i] - scored.rows[0] == 0)
    assert shown[first_test]["history"].rows[0][2] == ""  # training rows have no score


def test_classes_that_are_stored_as_numbers_are_shown_by_name(dataset, table):
    named = dataset.cast_column("odd", datasets.ClassLabel(names=["no", "yes"]))
    cut = windows(table.rows, "test", seq_len=3, stride=1, label="last")
    plan, scored = table.processor.plan, scored_by(cut, 1)
    as_numbers = DecodedHistories(named, table.rows, plan, cut, scored)[0]["history"]
    assert as_numbers == DecodedHistories(dataset, table.rows, plan, cut, scored)[0]["history"]
    assert {row[1] for row in as_numbers.rows} <= {"no", "yes"}


def test_with_a_label_for_every_row_the_row_after_the_judged_one_is_shown_too(dataset, table):
    cut = windows(table.rows, "test", seq_len=4, stride=2, label="every")
    scored = scored_by(cut, 1)
    shown = DecodedHistories(dataset, table.rows, table.processor.plan, cut, scored)
    middle = next(i for i in range(len(scored)) if shown.judged(i)[1] + 1 < cut.index.length[shown.judged(i)[0]])
    history = shown[middle]["history"]
    assert len(history.rows) == history.judged + 2
    raw = dataset[int(table.rows.row_numbers[scored.rows[middle]])]
    assert history.rows[history.judged][3] == raw["amount"]


def test_cells_are_written_as_a_person_would():
    assert as_text(None) == as_text(float("nan")) == "–"
    assert as_text(datetime.datetime(2021, 3, 1, 7, 30)) == "2021-03-01 07:30"
    assert as_text(datetime.date(2021, 3, 1)) == "2021-03-01"
    assert as_text(12.0) == "12"
    assert as_text(0.123456789) == "0.123457"
    assert as_probability(0.25) == "0.250"
    assert as_probability(0.00002) == "2e-05"
    assert as_text("x" * 40) == "x" * 27 + "…"


def test_the_report_has_the_models_side_by_side_and_the_histories_of_the_errors(dataset, table, tmp_path):
    cut = {s: windows(table.rows, s, seq_len=5, stride=1, label="last") for s in ("validation", "test")}
    scored = {split: scored_by(found, 1) for split, found in cut.items()}
    other = scored_by(cut["test"], 2)
    config, results = judged(table, scored)
    names = {0: "no", 1: "yes"}
    models = {"lstm": [ScoredModel(scored["test"])], "amount": [ScoredModel(other)]}
    compared = compare_scored(models, SINGLE, names, bootstrap=50)
    own = table_facts(results, config, table, cut, scored, {"amount": other}) | {"comparison": compared}
    page = write_report_and_card(common_facts(tmp_path, results, "do it again", own), tmp_path)
    html = page.read_text(encoding="utf-8")
    figures = {p.stem for p in (tmp_path / "report" / "figures").iterdir()}
    assert figures == {
        "comparison",
        "confusion",
        "precision_recall",
        "scores",
        "calibration",
        "score_over_time",
        "alerts",
        "episodes",
    }
    assert "<title>TabBERT (lstm) on payments.csv</title>" in html
    assert "Predicts odd: judged is the last row of windows of up to 5 rows." in html
    assert "<span>average precision</span>" in html
    assert "bootstrap intervals over its whole histories" in html
    assert "Nothing is shared." in html
    assert html.count('<tr class="judged">') == 24
    assert "&lt;grocer&gt; &amp; $on" in html and "<grocer>" not in html
    assert "Brier score" in html
    assert "amount: boosted trees on the amount alone. " in html


def test_the_report_of_several_targets_names_each_of_them(dataset, tmp_path):
    rng = np.random.default_rng(3)
    heat = dataset.add_column("PM10", rng.normal(50, 9, 1000)).add_column("PM2.5", [None, *rng.random(999)])
    processor = TabBertProcessor(PLAN | {"label": ["PM10", "PM2.5"]})
    rows = prepare_rows(heat, processor, tmp_path / "rows")
    table = PreparedTable(rows, processor, [], heat)
    cut = {"test": windows(table.rows, "test", seq_len=5, stride=1, label="last")}
    rows = judged_rows(cut["test"])
    scored = {"test": scores_of_rows(cut["test"], rows, rng.normal(50, 9, (len(rows.row), 2)))}
    config, results = judged(table, scored, problem_type="regression", names=("PM10", "PM2.5"))
    own = table_facts(results, config, table, cut, scored)
    page = write_report_and_card(common_facts(tmp_path, results, "do it again", own), tmp_path / "run")
    html = page.read_text(encoding="utf-8")
    assert "Predicts PM10, PM2.5: judged is the last row" in html
    assert "<td>RMSE, PM2.5</td>" in html
    assert "<th>PM10 (label)</th>" in html and "<th>score</th>" not in html
    assert [p.stem for p in (tmp_path / "run" / "report" / "figures").iterdir()] == ["regression"]


def test_times_that_are_no_dates_are_not_drawn_over_time(dataset, tmp_path):
    numbered = dataset.remove_columns("when").add_column("when", list(range(1000)))
    plan = PLAN | {"fields": {"shop": {}}}
    processor = TabBertProcessor(plan)
    rows = prepare_rows(numbered, processor, tmp_path / "rows", "time")
    table = PreparedTable(rows, processor, [], numbered)
    cut = {"test": windows(table.rows, "test", seq_len=5, stride=1, label="last")}
    scored = {"test": scored_by(cut["test"], 1)}
    config, results = judged(table, scored)
    assert table_facts(results, config, table, cut, scored)["predictions"]["test"].times is None


@pytest.mark.parametrize(
    ("change", "warns"),
    [
        ({}, True),
        ({"next_row": True}, False),
        ({"next_row": True, "lstm_bidirectional": True}, True),
        ({"architectures": ["TabBertRawLstmForSequenceClassification"]}, False),
        ({"window_label": "last"}, False),
    ],
)
def test_a_model_that_reads_on_behind_the_judged_row_is_said_to(table, change, warns):
    cut = {"test": windows(table.rows, "test", seq_len=5, stride=2, label="every")}
    scored = {"test": scored_by(cut["test"], 1)}
    config, results = judged(table, scored, label="every")
    for name, value in change.items():
        setattr(config, name, value)
    notes = table_facts(results, config, table, cut, scored)["results"].notes
    assert any("come after the judged one" in note for note in notes) == warns
