"""transformers' own tests over our models. They take minutes and a download, so they run with the slow tests.

The source distribution of transformers 5.24 holds the tests of models, configurations, processors and pipelines, not
those of Trainer. One class alone: `pytest -o addopts= tests/upstream/models.py -k MMBTTest`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import suites

HERE = Path(__file__).parent


# Twenty-five forms of attention and the loading in each number format take as long as all else: of classes that inherit
# both from the same base, CI runs one of each family.
OF_ONE = "not (eager_matches_sdpa or bc_torch_dtype) or MMBTTest or TabBertForMaskedLMTest"


@pytest.mark.parametrize(
    "chosen",
    [pytest.param(OF_ONE, marks=pytest.mark.slow, id="CI"), pytest.param("", marks=pytest.mark.nightly, id="all")],
)
def test_our_classes_pass_transformers_tests(chosen):
    pytest.importorskip("parameterized")
    if (reason := suites.fetch()) is not None:
        pytest.skip(f"needs transformers' source distribution: {reason}")
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "--tb=short", "-p", "no:warnings"]
    command += [str(HERE / "models.py"), str(HERE / "processors.py"), "-k", chosen]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout[-8000:]
