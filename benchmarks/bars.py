"""Bars of a benchmark: what is measured, what it is to reach, a table and one line of JSON. Nothing is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Bench = TypeVar("Bench")
AT_LEAST, AT_MOST = ">=", "<="
Bar = tuple[Callable[[Bench], float], str, float]


def report(bars: Mapping[str, Bar[Bench]], names: Iterable[str], bench: Bench) -> bool:
    """Measure the bars of these names: a readable table on standard error, the JSON on standard output.

    One that could not be measured has the value null and a "note", and the others go on. Returns whether all hold.
    """
    rows = []
    for name in names:
        measure, sense, bar = bars[name]
        row: dict[str, object] = {"name": name, "value": None, "bar": bar, "holds": False}
        try:
            value = measure(bench)
        except Exception as error:
            row["note"] = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"{name:30s}       none  {sense} {bar:<6g} {row['note']}\n")
        else:
            holds = value >= bar if sense == AT_LEAST else value <= bar
            row |= {"value": round(value, 4), "holds": holds}
            sys.stderr.write(f"{name:30s} {value:10.3f}  {sense} {bar:<6g} {'holds' if holds else 'MISSED'}\n")
        sys.stderr.flush()
        rows.append(row)
    sys.stdout.write(json.dumps({"bars": rows}) + "\n")
    return all(row["holds"] for row in rows)
