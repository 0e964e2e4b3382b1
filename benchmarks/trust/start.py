"""The first picture: the command line on a photograph of a megapixel, from nothing."""

from __future__ import annotations

from bars import AT_MOST, Bar

from apps.style_transfer import EXAMPLE_STYLE
from trust.bench import Bench, photograph, program


def seconds(b: Bench) -> float:
    folder = b.place("start")
    content = photograph(folder / "photo.jpg", 1155, 866)
    ended = program("-c", content, "-s", EXAMPLE_STYLE, "-o", folder / "out.jpg", "--device", "cpu")
    if ended.status != 0:
        raise RuntimeError(ended.err[-300:])
    return ended.seconds


BARS: dict[str, Bar[Bench]] = {"start_seconds": (seconds, AT_MOST, 12)}
