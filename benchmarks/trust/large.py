"""A photograph of 12 megapixels, artistic and photorealistic: memory, time, and what stands beside the pixels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bars import AT_MOST, Bar
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE
from trust.bench import Bench, Ended, program, told

WIDTH, HEIGHT = 4032, 3024
GIGABYTES = 4.0


def shot(path: Path, size: tuple[int, int]) -> Path:
    """Write the shipped photograph, enlarged, lying on its side, with EXIF, GPS and a profile."""
    block = Image.Exif()
    block[0x010F], block[0x0112] = "Maker", 6  # to be turned by a quarter
    block.get_ifd(0x8769).update(
        {0x9003: "2024:05:06 07:08:09", 0x829A: IFDRational(1, 250), 0x927C: bytes(range(200))}
    )
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 9.5), 3: "E", 4: (11.0, 34.0, 1.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(EXAMPLE_CONTENT) as image:
        whole = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    whole.save(path, quality=92, exif=block, icc_profile=profile, dpi=(300, 300))
    return path


@cache
def made(b: Bench, photo: bool) -> tuple[Ended, Path, Path]:
    """Return how it went, the photograph and the result."""
    folder = b.place("large")
    content = shot(folder / "shot.jpg", (WIDTH, HEIGHT) if not b.quick else (WIDTH // 6, HEIGHT // 6))
    output = folder / f"out{photo:d}.jpg"
    arguments = ["-c", content, "-s", EXAMPLE_STYLE, "-o", output, "--device", "cpu"]
    ended = program(*arguments, *(["--photo"] if photo else []), limit=1200)
    if ended.status != 0:
        raise RuntimeError(ended.err[-300:] if ended.status is not None else "hung")
    sys.stderr.write(
        f"  large, {'--photo' if photo else 'artistic'}: {ended.seconds:.0f} s, {ended.peak / 1e9:.2f} GB\n"
    )
    return ended, content, output


def lost(b: Bench) -> Iterator[str]:
    """Tell what of the metadata is not there, or not right."""
    for photo in (False, True):
        _, content, output = made(b, photo)
        with Image.open(content) as before, Image.open(output) as after:
            if after.size != before.size[::-1]:
                yield f"{before.size} lying became {after.size}"
            was, now = before.getexif(), after.getexif()
            if now.get(0x0112, 1) != 1:
                yield f"orientation {now.get(0x0112)}"
            if now.get(0x010F) != "Maker" or now.get_ifd(0x8825) != was.get_ifd(0x8825):
                yield "the maker or the place is lost"
            for tag in (0x9003, 0x829A, 0x927C):
                if now.get_ifd(0x8769).get(tag) != was.get_ifd(0x8769).get(tag):
                    yield f"the EXIF entry {tag:#x} is lost"
            if after.info.get("icc_profile") != before.info["icc_profile"]:
                yield "the profile is lost"
            if after.info.get("dpi") != before.info["dpi"]:
                yield "the resolution is lost"


BARS: dict[str, Bar[Bench]] = {
    "large_gigabytes": (lambda b: made(b, False)[0].peak / 1e9, AT_MOST, GIGABYTES),
    "large_photo_gigabytes": (lambda b: made(b, True)[0].peak / 1e9, AT_MOST, GIGABYTES),
    "large_metadata_faults": (lambda b: told("large", lost(b)), AT_MOST, 0),
}
