"""Data without pictures, and data without texts, from training to reasons."""

import json
import re
import shlex

import pyarrow.parquet as pq
import pytest
from running import command

from hf_mmtab.commands import finetune
from hf_mmtab.commands.finetune import load_recipe
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.tasks import ImageTextTask

NO_TEXT = ["--text_column", "none"]


def rewritten(pictures, folder, without, **more):
    """The tiny data without one key, and with further columns."""
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        rows = [{name: value for name, value in row.items() if name != without} for row in rows]
        for row in rows:
            row |= more | ({"img": str(pictures / row["img"])} if "img" in row else {})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_texts_alone_with_further_columns_train_and_show_reasons(recipe, pictures, tmp_path, capfd):
    data = rewritten(pictures, tmp_path / "data", "img", brand="Zed", photo="none.png")
    given = ["--data", data, "--image_column", "none", "--num_train_epochs", "1", "--max_length", "auto"]
    command("finetune", recipe, *given, "--reasons", "true", "--compare", "img", "frozen_linear")
    folder = tmp_path / "run" / "bert-seed1"
    told = "".join(capfd.readouterr())
    assert "image_column: none: mmbt, img would read pictures; trained is bert, beside frozen_linear." in told
    assert "computed once by image_encoder" not in told
    assert RunResults.read(folder).inputs == ["text"]
    assert re.search(r"log odds|score", (folder / "report" / "report.html").read_text())
    command("eval_checkpoint", folder, data, "--split", "test", "--out", tmp_path / "judged", "--bootstrap", "0")
    judged, trained = (RunResults.read(one).metrics["test"] for one in (tmp_path / "judged", folder))
    assert judged.keys() == trained.keys()
    for name in ("accuracy", "brier", "calibration_error", "mean_score"):  # ranks of scores that are all .49 may differ
        assert judged[name] == pytest.approx(trained[name], abs=1e-7), name
    command("predict", folder, data / "test.jsonl", tmp_path / "out.jsonl", "--explain", "1")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(first)[:4] == ["id", "text", "label", "brand"]
    with pytest.raises(ValueError, match="Expected texts, which the model reads and nothing else, found data with"):
        command("predict", folder, pictures / "test.jsonl", tmp_path / "no.jsonl", "--image_column", "img", *NO_TEXT)


def test_pictures_alone_train_with_the_default_length(recipe, pictures, tmp_path, capfd):
    data = rewritten(pictures, tmp_path / "data", "text", brand="Zed")
    given = ["--data", data, "--text_column", "none", "--num_train_epochs", "1", "--max_length", "auto"]
    command("finetune", recipe, *given, "--reasons", "true", "--compare", "bert", "frozen_linear")
    folder = tmp_path / "run" / "img-seed1"
    assert "text_column: none: mmbt, bert would read texts; trained is img, beside frozen_linear." in "".join(
        capfd.readouterr()
    )
    assert RunResults.read(folder).inputs == ["image"]
    command("predict", folder, data / "test.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column_names[:4] == ["id", "img", "label", "brand"]
    absent = ["--image_column", "none", "--text_column", "brand"]
    with pytest.raises(ValueError, match="Expected pictures, which the model reads and nothing else, found data w"):
        command("eval_checkpoint", folder, data, "--out", tmp_path / "judged", *absent)


@pytest.mark.parametrize(
    ("absent", "blank"),
    [
        pytest.param("--text_column", {"text": ""}, id="text", marks=pytest.mark.slow),
        pytest.param("--image_column", {"img": None}, id="image"),
    ],
)
def test_a_model_of_both_reads_data_without_one_as_empty(finished_pictures, pictures, tmp_path, absent, blank):
    rows = [json.loads(line) for line in (pictures / "test.jsonl").read_text().splitlines()]
    written = {"without": [{n: v for n, v in row.items() if n not in blank} for row in rows]}
    written["blank"] = [row | blank for row in rows]
    found = {}
    for name, given in (("without", [absent, "none"]), ("blank", ["--allow_empty_text"])):
        file = pictures / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in written[name]))
        command("predict", finished_pictures, file, tmp_path / f"{name}.parquet", *given, "--explain", "1")
        found[name] = pq.read_table(tmp_path / f"{name}.parquet").to_pandas().drop(columns=[*blank], errors="ignore")
        out = tmp_path / name
        command("eval_checkpoint", finished_pictures, file, "--split", "all", "--out", out, *given, "--bootstrap", "0")
        assert "log odds of" in (out / "report" / "report.html").read_text()
    assert len(found["blank"]) == len(rows) and found["without"].equals(found["blank"])
    without, blanked = (RunResults.read(tmp_path / name) for name in found)
    assert without.metrics == blanked.metrics and len(without.inputs) == 1 and not without.ablation


def test_columns_beside_texts_alone_need_one_blank_picture(recipe, pictures, tmp_path, capfd):
    data = rewritten(pictures, tmp_path / "data", "img", price=3.5)
    given = [
        "--data",
        data,
        "--image_column",
        "none",
        "--number_columns",
        "[price]",
        "--freeze",
        "{image_encoder: forever}",
    ]
    command("finetune", recipe, *given, "--num_train_epochs", "1", "--reasons", "true")
    told = "".join(capfd.readouterr())
    assert "each picture that mmbt reads is a missing one" in told
    computed = re.findall(r"([\d,]+) examples? computed once by image_encoder", told)
    assert set(computed) == {"1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image_column", "none", "--architecture", "img"], "reads no pictures, .*found img. .*--architecture bert`"),
        (["--image_column", "none", "--architecture", "ensemble"], "reads no pictures, .*found ensemble"),
        (["--text_column", "none", "--architecture", "bert"], "reads no texts, .*found bert. .*--architecture img`"),
        (
            ["--text_column", "none", "--number_columns", "[a]"],
            "reads no texts, .*found mmbt with number_columns. .*leave them out",
        ),
        (["--text_column", "none", "--pretrained", "x"], "reads no texts, .*found mmbt with pretrained"),
    ],
)
def test_what_reads_the_absent_input_alone_is_refused_before_the_data(recipe, given, message, monkeypatch):
    monkeypatch.setattr(ImageTextTask, "load", lambda *_, **__: pytest.fail("the data was read"))
    with pytest.raises(ValueError, match=f"Expected an architecture that {message}"):
        finetune.main([str(recipe), *given])


@pytest.mark.parametrize(
    ("given", "taken", "compare"),
    [
        (["--image_column", "none", "--compare", "concatbert", "frozen_linear_image", "frozen_linear_text"],
         "bert", ["frozen_linear_text"]),
        (["--image_column", "none", "--architecture", "bert", "--compare", "mmbt"], "bert", []),
        (["--text_column", "none", "--architecture", "concatbert", "--compare", "mmbt", "img"], "img", []),
        (["--image_column", "none", "--pretrained", "x", "--compare", "img"], "mmbt", []),
        (["--compare", "img"], "mmbt", ["img"]),
    ],
)  # fmt: skip
def test_what_reads_the_input_that_is_there_takes_the_place(recipe, given, taken, compare):
    found = load_recipe([str(recipe), *given])
    assert (found.model.architecture, found.run.compare) == (taken, compare)


def test_the_command_in_a_report_repeats_the_whole_call(recipe, tmp_path, capfd):
    command("finetune", recipe, "--num_train_epochs", "1", "--compare", "bert", "--bootstrap", "0")
    page = (tmp_path / "run" / "mmbt-seed1" / "report" / "report.html").read_text()
    printed = re.search(r"python -m hf_mmtab finetune ([^<]*)", page)[1]
    files = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    finetune.main(shlex.split(printed))
    assert capfd.readouterr().err.count("holds this run already") >= 2 and sorted(tmp_path.rglob("*")) == files
    with pytest.raises(ValueError, match="to hold runs, found the files of one run: others would lie in it"):
        command(
            "finetune",
            recipe,
            "--num_train_epochs",
            "1",
            "--compare",
            "bert",
            "--output_dir",
            tmp_path / "run" / "mmbt-seed1",
        )
