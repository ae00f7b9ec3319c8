"""`hf_mmtab.serving` answers as the pipelines do, where torch and transformers cannot be imported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from exported_models import HISTORY, save_boosted, save_pairs, save_table
from PIL import Image
from transformers import pipeline

from hf_mmtab import TabBertProcessor
from hf_mmtab.exporting import export_checkpoint
from hf_mmtab.models.tabbert.processing.values import as_table
from hf_mmtab.serving import Predictor

# Runs where the heavy packages cannot be imported; prints the answers as JSON.
ALONE = """
import json, sys
BARRED = ("torch", "torchvision", "transformers", "datasets", "huggingface_hub", "sklearn")
class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BARRED:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bar())
from hf_mmtab.serving import Predictor
folder, given = sys.argv[1:]
print(json.dumps([Predictor(folder).many(json.loads(given), rows=rows, top_k=None) for rows in RULES]))
"""


def answers_alone(folder, given, *rules):
    """Return the answers by each rule of rows."""
    code = ALONE.replace("RULES", repr(rules))
    done = subprocess.run([sys.executable, "-c", code, str(folder), json.dumps(given)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same(found, expected):
    """Compare labels and scores, whatever the nesting."""
    if isinstance(expected, dict):
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
    else:
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


def imported(statement: str) -> list[str]:
    """Return which heavy packages a statement imports in a new process."""
    code = f"import sys\n{statement}\nprint([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    return eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_serving_imports_neither_torch_nor_transformers():
    assert imported("import hf_mmtab.serving") == []
    assert imported("from hf_mmtab.serving import Predictor") == []
    assert imported("import importlib; importlib.import_module('hf_mmtab.serving.app')") == []


@pytest.mark.nightly  # as after a command's start, in `tests/test_command_line.py`
@pytest.mark.parametrize("asked", ["from hf_mmtab import MMBTConfig", "import hf_mmtab.models.tabbert, hf_mmtab.api"])
def test_the_auto_classes_are_registered_as_soon_as_anything_else_is_asked_for(asked):
    known = "from transformers import AutoConfig\nassert AutoConfig.for_model('tabbert').model_type == 'tabbert'"
    assert imported(f"import hf_mmtab.serving\n{asked}\n{known}") == ["torch", "transformers", "datasets"]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["window", "row"])
def test_a_table_model_answers_alone_as_the_pipeline_does(level, exported, tmp_path):
    if level == "window":
        folder = exported("table")
    else:
        folder = tmp_path
        export_checkpoint(save_table(folder / "model", label_level=level), folder / "out")
    model = str(folder / "model")
    judge = pipeline("tabular-sequence-classification", model=model)
    histories = [HISTORY, HISTORY[:1], HISTORY[3:20]]
    rules = ("last", "every")
    for rows, found in zip(rules, answers_alone(folder / "out", histories, *rules), strict=True):
        assert_same(found, judge([as_table(one) for one in histories], rows=rows, top_k=None))
    served = Predictor(folder / "out")
    assert_same(served(HISTORY), judge(HISTORY))
    for given, options, message in (
        ([{"amount": 1.0}], {}, "Expected columns"),
        ([*HISTORY, {**HISTORY[0], "who": 2}], {}, "Expected the rows of one entity"),
        (HISTORY, {"rows": "first"}, 'Expected rows to be "last" or "every"'),
    ):
        with pytest.raises(ValueError, match=message):
            served(given, **options)


def test_boosted_trees_answer_alone_as_the_pipeline_does(tmp_path):
    model = save_boosted(tmp_path / "model")
    said = export_checkpoint(model, tmp_path / "out")
    assert said[0] == "scores come from nothing but boosted trees in LightGBM's own format: services need `lightgbm`"
    assert said[1].startswith("statistics (group lately, group usual) count rows of other histories")
    judge = pipeline("tabular-sequence-classification", model=model)
    histories = [HISTORY, HISTORY[:1], HISTORY[3:20]]
    expected = judge([as_table(one) for one in histories], rows="every", top_k=None)
    assert_same(answers_alone(tmp_path / "out", histories, "every")[0], expected)
    assert len({round(one["score"], 3) for row in expected[0] for one in row}) > 10
    (tmp_path / "out" / "statistics_trees_0.txt").write_text("tree\n")
    with pytest.raises(ValueError, match=r"found another statistics_trees_0\.txt, or a damaged one"):
        Predictor(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
def test_a_picture_model_answers_alone_as_the_pipeline_does(legacy, exported, tmp_path):
    if legacy:
        folder = tmp_path
        export_checkpoint(save_pairs(folder, legacy), folder / "out")
    else:
        folder = exported("pairs")
    model = str(folder / "model")
    judge = pipeline("image-text-classification", model=model)
    rng = np.random.default_rng(0)
    paths = []
    for size in ((300, 200), (57, 211), (1000, 40)):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8)).resize(size)
        paths.append(str(tmp_path / f"{size[0]}.png"))
        coarse.save(paths[-1])
    texts = ["the old sea", "", "a land unknown of in the sea " * 9, "new"]
    examples = [{"image": path, "text": text} for path, text in zip([*paths, None], texts, strict=True)]
    assert_same(answers_alone(folder / "out", examples, "last")[0], judge(examples, top_k=None))
    served = Predictor(folder / "out")
    assert_same(served(image=Image.open(paths[0]), text=texts[0]), judge(examples[0]))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("model.onnx", lambda content: content[:-100], "found another model.onnx, or a damaged one"),
        ("tokenizer.json", None, "found no tokenizer.json"),
        ("processor_config.json", lambda content: b"{}", "found another processor_config.json"),
        ("serving.json", lambda content: content[:20], "Expected the settings of an export in"),
        ("serving.json", lambda content: b"{}", "found JSON of something else"),
    ],
)
@pytest.mark.slow
def test_an_export_whose_files_are_not_as_they_were_written_is_refused(exported, tmp_path, name, change, said):
    folder = Path(shutil.copytree(exported("pairs") / "out", tmp_path / "out"))
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{said}.*hf-mmtab export CHECKPOINT OUT"):
        Predictor(folder)


@pytest.mark.slow
def test_a_processor_of_other_rows_is_refused(exported, tmp_path):
    folder = Path(shutil.copytree(exported("table") / "out", tmp_path / "out"))
    processor = TabBertProcessor.from_pretrained(folder)
    rows = pl.DataFrame(HISTORY[:7]).with_columns(pl.col("when").str.to_datetime())
    other = TabBertProcessor(processor.plan).fit(rows)
    assert other.fingerprint != processor.fingerprint
    other.save_pretrained(folder)
    with pytest.raises(ValueError, match="as they were written, found another"):
        Predictor(folder)


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected an export in"):
        Predictor(tmp_path)
