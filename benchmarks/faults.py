"""What each fault that a training survives costs: seconds until it trains again, and images trained twice.

python -m benchmarks.faults [--only NAME]

See `tests/harness/faults.py` for what is measured. Prints one JSON line for each fault; the tests run the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.harness.faults import FAULTS, workers_of
from tests.harness.trainings import undisturbed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS)
    given = parser.parse_args()
    expected: dict[str, str] = {}
    for name in [given.only] if given.only else FAULTS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            workers = workers_of(name)
            try:
                found = FAULTS[name](folder)
                if "model" in found:
                    if workers not in expected:
                        expected[workers] = undisturbed(folder, workers)
                    found["same_bits"] = found.pop("model") == expected[workers]
            except AssertionError as error:
                found = {"failed": str(error)[-2000:]}
        print(json.dumps({"fault": name, **found}), flush=True)


if __name__ == "__main__":
    main()
