"""The examples run as they stand; the longer ones with fewer steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "scripts" / "examples"
SHORTER = {"mmbt_on_a_folder.py": ["--max_steps", "2"], "fraud_from_a_csv.py": ["--epochs", "1"]}
SAID = {
    "fraud_from_a_csv.py": "'yes':",
    "is_my_bert_trained.py": "bert.encoder has trained since step 4",
    "lora.py": "text_encoder has trained since step 0",
    "mmbt_on_a_folder.py": "'score':",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / name), *SHORTER.get(name, [])]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert SAID[name] in done.stdout


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAID)
