"""Whether the style-transfer app can be trusted with a folder of originals, and with strangers.

    python benchmarks/trust.py [--seed 0] [--only ROW ...] [--quick]

Files that are broken, bombs, kills, full disks, crowds, attacks; and whether what it makes is right. Every random case
follows from the seed. A readable table goes to standard error, where each fault is told as it is found, and the last
line on standard output is one JSON object, {"bars": [{"name", "value", "bar", "holds"}, ...]}. The exit status is 1
where a bar is missed. ``--keep`` leaves the files of the cases where they can be looked at. It is for Linux.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bars import report
from trust import attacks, crowd, disk, exact, fuzz, kill, large, start, weights
from trust.bench import Bench

ROWS = {
    "fuzz": fuzz.BARS,
    "kill": kill.BARS,
    "disk": disk.BARS,
    "crowd": crowd.BARS,
    "attacks": attacks.BARS,
    "weights": weights.BARS,
    "exact": exact.BARS,
    "start": start.BARS,
    "large": large.BARS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="fewer cases of each row")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the files of the cases are left")
    options = parser.parse_args(arguments)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="trust-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        bars = {name: bar for row in options.only for name, bar in ROWS[row].items()}
        return 0 if report(bars, bars, Bench(options.seed, folder, options.quick)) else 1
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
