"""A processor gives its ids in forked workers, too: nothing on the way waits for threads that a fork left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.feather as feather
import pytest
from test_processors_of_0_1 import read_rows


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_forked_workers_give_the_ids_of_the_parent(fixtures, tmp_path):
    feather.write_feather(read_rows(fixtures), tmp_path / "rows.arrow")
    script = Path(__file__).with_name("forked_workers.py")
    saved = fixtures / "processors_0_1" / "own_plan"
    done = subprocess.run(
        [sys.executable, script, saved, tmp_path / "rows.arrow", tmp_path / "model"],
        env={name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"},  # as users have it
        capture_output=True,
        text=True,
        timeout=240,  # what hangs fails
        check=False,
    )

    assert done.returncode == 0, done.stderr
