"""The bench of trust itself, on its cheap rows, so that it does not rot."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from trust import mutate

BENCH = Path(__file__).parents[2] / "benchmarks" / "trust.py"


def test_the_cheap_rows_hold() -> None:
    rows = ["weights", "kill"]
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--seed", "3", "--only", *rows], capture_output=True, text=True
    )
    bars = json.loads(done.stdout.splitlines()[-1])["bars"]
    assert [bar["name"] for bar in bars] == ["weights_faults", "kill_faults"]
    assert all(bar["holds"] for bar in bars), done.stderr
    assert done.returncode == 0


def test_the_cases_follow_from_the_seed_and_differ() -> None:
    first, again, other = ([mutate.mutant(random.Random(f"{seed}/{i}")) for i in range(40)] for seed in (1, 1, 2))
    assert first == again
    assert not {data for _, _, data in first} & {data for _, _, data in other}
    assert {suffix for _, suffix, _ in first} >= {"png", "jpg", "tif", "webp", "gif"}
