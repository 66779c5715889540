"""How many crash points fail: the publication of each stage is killed at every durable operation in turn.

python -m benchmarks.crash_points [--every K] [--only NAME]

See `tests/harness/crash_points.py` for what is done and what must hold. Prints one JSON line for each step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.harness.crash_points import loaded, prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="try each K-th point")
    parser.add_argument("--only", help="one step")
    given = parser.parse_args()
    arguments = ["--every", str(given.every), *(["--only", given.only] if given.only else [])]
    with tempfile.TemporaryDirectory() as scratch:
        template = prepared(Path(scratch) / "template")
        sys.exit(loaded(["--template", str(template), *arguments], Path(scratch) / "crash_points.so"))


if __name__ == "__main__":
    main()
