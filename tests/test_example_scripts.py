"""The examples run as they stand; the longer ones with fewer steps."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hf_mmtab.data.pictures.files import sample_path

EXAMPLES = Path(__file__).resolve().parents[1] / "scripts" / "examples"
SHORTER = {"mmbt_on_a_folder.py": ["../sample", "--max_steps", "2"], "fraud_from_a_csv.py": ["--epochs", "1"]}
ROWS = {"train": 64, "validation": 16, "test": 4}  # of the sample that ships with the package
NEEDS_SPARK = "tables_on_spark.py"
SAID = {
    "fraud_from_a_csv.py": "'yes':",
    "is_my_bert_trained.py": "bert.encoder has trained since step 4",
    "lora.py": "text_encoder has trained since step 0",
    "mmbt_on_a_folder.py": "'score':",
    NEEDS_SPARK: "20,000 rows encoded by processor",
}


# Starts each example in a fork of a process that has imported what all of them need of others.
STARTS = """
import gc, json, os, runpy, sys
gc.disable()
import accelerate, datasets, evaluate, matplotlib.pyplot, peft, polars, sklearn.metrics, torch, torchvision
import transformers.trainer
gc.freeze()
gc.enable()
for script, folder, *arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open("stdout", os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(os.open("stderr", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(os.path.join(folder, "status"), "w") as file:
        file.write(str(status))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder for each example, with its exit status and what it said."""
    root = tmp_path_factory.mktemp("examples")
    names = sorted(set(SAID) - (set() if has_spark() else {NEEDS_SPARK}))
    for name in names:
        (root / name).mkdir()
    (root / "sample").mkdir()
    for split, count in ROWS.items():
        file = f"{split}.parquet"
        rows = pq.read_table(sample_path("openclipart") / file, filters=[("label", "<", 2)])  # in each split
        pq.write_table(rows.slice(0, count), root / "sample" / file)
    asked = [[str(EXAMPLES / name), str(root / name), *SHORTER.get(name, [])] for name in names]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", STARTS, json.dumps(asked)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def has_spark() -> bool:
    return shutil.which("java") is not None and importlib.util.find_spec("pyspark") is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name, ran):
    if name == NEEDS_SPARK and not has_spark():
        pytest.skip("needs Java and pyspark (apt-get install default-jre-headless, pip install pyspark)")
    status, out, errors = ((ran / name / one).read_text() for one in ("status", "stdout", "stderr"))
    assert status == "0", errors[-3000:]
    assert SAID[name] in out
    if name == NEEDS_SPARK:
        found, whole = re.findall(r"([0-9a-f]{16})", out)
        assert found == whole


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAID)
