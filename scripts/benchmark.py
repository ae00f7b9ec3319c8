"""Measure the package: `python scripts/benchmark.py NAME`.

`NAME` is one of `BENCHMARKS`, a module of `scripts/benchmarks/`; arguments after its name go to it (`--help` lists
them).
"""

import importlib
import sys
from pathlib import Path

BENCHMARKS = (
    "mmbt",
    "freeze",
    "tabular-prep",
    "tabular-pretrain",
    "tabular-finetune",
    "tabular-labels",
    "tabular-statistics",
    "tabular-worlds",
    "tabular-scale",
    "first-payments",
    "precision",
    "serving",
)


def main() -> None:
    """Run the benchmark that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python scripts/benchmark.py {{{','.join(BENCHMARKS)}}} [options]")
    sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
    module = importlib.import_module(sys.argv[1].replace("-", "_"))
    module.main(sys.argv[2:])


if __name__ == "__main__":
    main()
