"""The examples run as they stand; the longer ones with fewer steps."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "scripts" / "examples"
SHORTER = {"mmbt_on_a_folder.py": ["--max_steps", "2"], "fraud_from_a_csv.py": ["--epochs", "1"]}
NEEDS_SPARK = "tables_on_spark.py"
SAID = {
    "fraud_from_a_csv.py": "'yes':",
    "is_my_bert_trained.py": "bert.encoder has trained since step 4",
    "lora.py": "text_encoder has trained since step 0",
    "mmbt_on_a_folder.py": "'score':",
    NEEDS_SPARK: "20,000 rows encoded by processor",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name, tmp_path):
    if name == NEEDS_SPARK and (shutil.which("java") is None or importlib.util.find_spec("pyspark") is None):
        pytest.skip("needs Java and pyspark (apt-get install default-jre-headless, pip install pyspark)")
    command = [sys.executable, str(EXAMPLES / name), *SHORTER.get(name, [])]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert SAID[name] in done.stdout
    if name == NEEDS_SPARK:
        found, whole = re.findall(r"([0-9a-f]{16})", done.stdout)
        assert found == whole


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAID)
