"""Animated GIF and WebP: every frame, its time, how it is left and how often all is played."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from apps.style_transfer.files.clips import Clip, read_clip, write_clip
from apps.style_transfer.files.images import ImageError, read_image

TIMES = (100, 20, 300, 40, 50)


def frames(*, cut_out: bool, muted: bool = False) -> list[Image.Image]:
    """Return a square that wanders over a ramp, or over nothing; muted, in colours that every space has."""
    drawn = []
    for i in range(5):
        pixels = np.zeros((40, 60, 4), np.uint8)
        if not cut_out:
            pixels[..., 1], pixels[..., 3] = np.arange(60) * 4, 255
        pixels[5 + 3 * i : 15 + 3 * i, 10:20] = [200, 30 * i, 10, 255]
        if muted:
            pixels[..., :3] = 90 + pixels[..., :3] // 4
        drawn.append(Image.fromarray(pixels if cut_out else pixels[..., :3]))
    return drawn


def save(path: Path, *, cut_out: bool = False, muted: bool = False, **options: Any) -> Path:
    first, *others = frames(cut_out=cut_out, muted=muted)
    if path.suffix == ".webp":
        options["lossless"] = True
    first.save(path, save_all=True, append_images=others, duration=list(TIMES), **options)
    return path


def shown(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Return what a player shows, by Pillow alone."""
    with Image.open(path) as image:
        return [np.array(frame.convert("RGBA")).astype(int) for frame in ImageSequence.Iterator(image)]


def clip_of(path: Path) -> Clip:
    clip = read_clip(path)
    assert clip is not None
    return clip


@pytest.mark.parametrize("cut_out", [False, True])
@pytest.mark.parametrize("target", [".gif", ".webp"])
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (".gif", {"loop": 0, "disposal": 2}),
        (".gif", {"loop": 3, "disposal": 1}),
        (".gif", {}),
        (".gif", {"loop": 0, "disposal": [1, 1, 2, 3, 1]}),
        (".webp", {"loop": 3}),
        (".webp", {"loop": 0}),
        (".webp", {"loop": 1}),
    ],
)
def test_clips_come_and_go(tmp_path: Path, source: str, options: dict[str, Any], target: str, cut_out: bool) -> None:
    clip = clip_of(save(tmp_path / f"in{source}", cut_out=cut_out, **options))
    assert clip.durations == TIMES
    assert clip.loop == {1: None}.get(options.get("loop", 1), options.get("loop"))
    write_clip(tmp_path / f"out{target}", clip, clip)
    again = clip_of(tmp_path / f"out{target}")
    assert (again.durations, again.loop) == (TIMES, clip.loop)
    assert clip.cut_out == again.cut_out == cut_out
    if source == target == ".gif":
        kept = tuple(1 if disposal == 3 else disposal for disposal in clip.disposals)
        assert again.disposals == ((2,) * 5 if cut_out else kept)
    for before, after in zip(shown(clip.path), shown(again.path), strict=True):
        np.testing.assert_array_equal(before[..., 3], after[..., 3])
        seen = before[..., 3] > 0
        difference = np.abs(before[..., :3] - after[..., :3])[seen]
        assert difference.mean() < (2 if source == target == ".gif" else 7)


def test_frames_are_restyled_each_by_itself(tmp_path: Path) -> None:
    clip = clip_of(save(tmp_path / "in.gif", loop=0))
    calls = []

    def inverted() -> Any:
        for frame in clip:
            calls.append(frame.rgb.shape)
            yield replace(frame, rgb=1 - frame.rgb)

    write_clip(tmp_path / "out.gif", inverted(), clip)
    assert calls == [(1, 3, 40, 60)] * 5
    for before, after in zip(shown(clip.path), shown(tmp_path / "out.gif"), strict=True):
        assert np.abs(255 - before[..., :3] - after[..., :3]).mean() < 2


def test_profile_and_notes_of_a_webp_are_kept(tmp_path: Path) -> None:
    from test_files_colour import WIDE
    from test_files_metadata import XMP, camera_block

    path = save(tmp_path / "in.webp", muted=True, icc_profile=WIDE, exif=camera_block(), xmp=XMP)
    clip = clip_of(path)
    write_clip(tmp_path / "out.webp", clip, clip)
    with Image.open(tmp_path / "out.webp") as image:
        assert image.info["icc_profile"] == WIDE
        assert image.getexif()[0x010F] == "Maker"
        assert b'xmp:Rating="4"' in image.info["xmp"]
    for before, after in zip(shown(path), shown(tmp_path / "out.webp"), strict=True):
        assert np.abs(before - after).mean() < 4


def test_one_picture_is_no_clip(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp", ".png"):
        frames(cut_out=False)[0].save(tmp_path / f"one{suffix}")
        assert read_clip(tmp_path / f"one{suffix}") is None
    first = read_image(save(tmp_path / "in.gif"))
    assert torch.equal(first.rgb, next(iter(clip_of(tmp_path / "in.gif"))).rgb)


def test_a_clip_goes_into_no_still(tmp_path: Path) -> None:
    clip = clip_of(save(tmp_path / "in.gif"))
    with pytest.raises(ImageError, match=r"is an animation of 5 frames: give the output the suffix .gif or .webp"):
        write_clip(tmp_path / "out.jpg", clip, clip)


def test_a_frame_that_fails_leaves_nothing(tmp_path: Path) -> None:
    clip = clip_of(save(tmp_path / "in.gif"))

    def failing() -> Any:
        yield from list(clip)[:2]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_clip(tmp_path / "out.gif", failing(), clip)
    assert [path.name for path in tmp_path.iterdir()] == ["in.gif"]
