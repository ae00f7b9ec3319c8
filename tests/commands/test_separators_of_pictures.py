"""CSV files of pictures with other separators and texts for missing values: in training, judging and predicting."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from hf_mmtab.commands import eval_checkpoint, predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text

SHOWN = {";": '";"', "\t": r'"\\t"', "|": r'"\|"'}


def write_csv(folder, pictures, separator, note="of the shop"):
    """The tiny data as CSV; every fifth training row has no picture, written NA."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(["image", "text", "label", note])
            for number, row in enumerate(rows):
                image = "NA" if split == "train" and number % 5 == 0 else str(pictures / row["img"])
                writer.writerow([image, row["text"], row["label"], f"x{number}"])
    return folder


@pytest.mark.parametrize("separator", SHOWN)
@pytest.mark.parametrize("note", ["note", "a, b"])  # with the comma, the header has two names
def test_another_separator_is_named_where_it_is_not_given(pictures, tmp_path, separator, note):
    folder = write_csv(tmp_path / "csv", pictures, separator, note)
    with pytest.raises(ValueError, match=rf"`separator: {SHOWN[separator]}`"):
        ImageText(folder, cache_dir=str(tmp_path / "cache"))
    builder = ImageText(folder, cache_dir=str(tmp_path / "cache"), separator=separator, missing=("NA",))
    builder.download_and_prepare()
    rows = builder.as_dataset("train").with_format("arrow")[:]
    assert len(rows) == 48 and rows["image"].null_count == 10 and note in rows.column_names


@pytest.mark.parametrize("separator", ["::", "", '"', "é"])
def test_a_separator_that_is_none_is_told(pictures, tmp_path, separator):
    folder = write_csv(tmp_path / "csv", pictures, ",")
    if separator:
        with pytest.raises(ValueError, match="Expected `separator` to be one character"):
            ImageText(folder, cache_dir=str(tmp_path / "cache"), separator=separator)
    else:  # none
        assert ImageText(folder, cache_dir=str(tmp_path / "cache"), missing=("NA",), separator=separator).own_columns


def test_texts_for_missing_values_hold_in_files_of_every_kind(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"image": one, "text": "NA sea", "kind": one}) + "\n" for one in ("NA", None, "N/A"))
    )
    (tmp_path / "rows.csv").write_text('image,text,kind\nNA,NA sea,NA\n"N/A",x,\n')
    options = {"missing": ("NA", "N/A"), "cache_dir": str(tmp_path / "cache"), "check_images": "off"}
    rows = read_image_text(tmp_path / "rows.jsonl", **options).rows
    assert rows["image"][:] == rows["kind"][:] == [None] * 3 and set(rows["text"]) == {"NA sea"}
    rows = read_image_text(tmp_path / "rows.csv", **options).rows.with_format("arrow")[:]
    assert rows["kind"].to_pylist() == [None, ""] and rows["image"].to_pylist()[0] is None
    assert rows["image"].to_pylist()[1]["path"].endswith("N/A")  # what is quoted is a text, as in tables


@pytest.mark.slow
def test_a_run_with_semicolons_trains_is_judged_and_predicts(recipe, pictures, tmp_path):
    folder = write_csv(tmp_path / "csv", pictures, ";")
    given = ["--data", str(folder), "--separator", ";", "--missing", "[NA]", "--num_train_epochs", "1"]
    main([str(recipe), *given])
    run = tmp_path / "run"
    eval_checkpoint.main([str(run), str(folder), "--out", str(tmp_path / "judged"), "--no_reasons"])
    predict.main([str(run), str(folder / "test.csv"), str(tmp_path / "scores.parquet")])
    commas = write_csv(tmp_path / "commas", pictures, ",")
    with pytest.raises(ValueError, match='`separator: ","`'):
        predict.main([str(run), str(commas / "test.csv"), str(tmp_path / "others.parquet")])
    predict.main([str(run), str(commas / "test.csv"), str(tmp_path / "others.parquet"), "--separator", ","])
    name = next(one for one in pq.read_schema(tmp_path / "scores.parquet").names if one.startswith("probability"))
    scores = [pq.read_table(tmp_path / f"{file}.parquet")[name].to_pylist() for file in ("scores", "others")]
    expected = pq.read_table(run / "predictions/test.parquet")[name].to_pylist()
    assert scores[0] == scores[1] == pytest.approx(expected, abs=1e-5)


def test_tables_are_scored_with_a_separator_of_their_own(runs):
    text = (runs / "payments.csv").read_text()
    assert ";" not in text
    (runs / "semicolons.csv").write_text(text.replace(",", ";"))
    predict.main(["lstm", "payments.csv", "expected.csv"])
    predict.main(["lstm", "semicolons.csv", "found.csv", "--separator", ";"])
    assert (runs / "found.csv").read_text() == (runs / "expected.csv").read_text()
    given = ["--out", "judged", "--no_reasons", "--split", "all", "--separator", ";", "--bootstrap", "0"]
    eval_checkpoint.main(["lstm", "semicolons.csv", *given])
