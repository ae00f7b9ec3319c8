"""The benchmark of fine-tuning runs, and its reference computes what our model computes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "benchmark.py"


@pytest.mark.nightly  # it starts itself for each variant
def test_reference_and_ours_have_the_same_loss_with_the_same_weights():
    sizes = ["--windows", "40", "--epochs", "2", "--hidden", "96", "--layers", "1", "--reference-steps", "1"]
    command = [sys.executable, str(SCRIPT), "tabular-finetune", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    reference, ours = re.findall(r"(\d\.\d{6}) \(", done.stdout)
    assert float(reference) == pytest.approx(float(ours), abs=2e-6)
    assert [line.split("|")[1].strip()[:9] for line in done.stdout.splitlines() if "ours, " in line] == [
        "ours, the"
    ] + ["ours, hie"] * 2
