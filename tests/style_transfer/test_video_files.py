"""Videos in and out: what is kept, what is refused, and runs that are taken up again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from style_helpers import Program
from video_helpers import TIME_BASE, heard, make_video, picture, seen

from apps.style_transfer.files.images import read_image
from apps.style_transfer.files.writing import lock
from apps.style_transfer.projectors import PHOTO
from apps.style_transfer.stylizer import Stylizer
from apps.style_transfer.video import restyling, writing
from apps.style_transfer.video.restyling import FrameStylizer, Look, restyle_video

Restyle = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4")


@pytest.fixture
def restyle(tmp_path: Path, style_file: Path, weights: Path) -> Restyle:
    """Restyle a video with small weights, and return the output."""

    def call(source: Path, name: str = "out.mp4", look: Look | None = None, **options: Any) -> Path:
        output = tmp_path / name
        options = {"weights": weights, "device": "cpu", **options}
        restyle_video(source, output, [str(style_file)], look, **options)
        assert not (tmp_path / f".{name}.video").exists()
        return output

    return call


@pytest.fixture
def nearly_lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writing._X264, "crf", "4")


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restyling, "SEGMENT", 2)


def difference(a: Path, b: Path) -> float:
    """Return the mean difference of two videos, in steps of 8 bits."""
    one, other = seen(a).frames, seen(b).frames
    return float(np.mean([np.abs(x.astype(int) - y).mean() for x, y in zip(one, other, strict=True)]))


# --- what is kept ---


@pytest.mark.parametrize("name", ["out.mp4", "out.MOV", "out.m4v", "out.mkv"])
def test_pictures_change_and_sound_and_times_stay(source: Path, restyle: Restyle, name: str) -> None:
    made = restyle(source, name)
    before, after = seen(source), seen(made)
    assert (after.codec, after.pixels, after.rate) == ("h264", "yuv420p", 25)
    assert len(after.frames) == 6
    # Matroska counts milliseconds, from 0 on: the sound begins before.
    slack = Fraction(1, 1000) if name.endswith("mkv") else 0
    later = heard(made)[0][0] - heard(source)[0][0]
    assert name.endswith("mkv") or later == 0
    assert all(abs(a - b - later) <= slack for a, b in zip(after.times, before.times, strict=True))
    for (time, packet), (when, same) in zip(heard(made), heard(source), strict=True):
        assert packet == same
        assert abs(time - when - later) <= slack
    assert name.endswith("mkv") or after.time_base == before.time_base
    assert difference(source, made) > 5


@pytest.mark.usefixtures("nearly_lossless")
def test_the_frames_are_those_of_the_solver(source: Path, restyle: Restyle, style_file: Path, weights: Path) -> None:
    stylizer = Stylizer(weights, "cpu")
    restyled = FrameStylizer(stylizer, stylizer.style(read_image(style_file).rgb, size=64))
    frames = [torch.from_numpy(f).permute(2, 0, 1)[None] / 255 for f in seen(source).frames]
    for frame, found in zip(frames, seen(restyle(source)).frames, strict=True):
        difference = (restyled(frame) * 255)[0].permute(1, 2, 0).numpy() - found
        # Chroma has half the size: what is left is the luma, and what H.264 makes of it.
        assert np.abs(difference @ (0.299, 0.587, 0.114)).mean() < 2


def test_frames_that_come_when_they_like(tmp_path: Path, restyle: Restyle) -> None:
    times = [1000, 1512, 2100, 2101, 9000, 9513]
    source = make_video(tmp_path / "uneven.mp4", times=times)
    assert [round((b - a) / TIME_BASE) for a, b in pairwise(seen(source).times)] == [512, 588, 1, 6899, 513]
    assert seen(restyle(source)).times == seen(source).times


@pytest.mark.parametrize(("size", "even"), [((63, 47), (64, 48)), ((64, 47), (64, 48)), ((63, 48), (64, 48))])
def test_odd_sizes_repeat_the_last_row_and_column(
    tmp_path: Path, restyle: Restyle, size: tuple[int, int], even: tuple[int, int]
) -> None:
    source = make_video(tmp_path / "odd.mp4", size=size, pixels="yuv444p")
    made = seen(restyle(source, look=Look(alpha=0.0, consistency=0.0)))
    frame = made.frames[0].astype(int)
    assert frame.shape == (even[1], even[0], 3)
    expected = np.pad(picture(size[1], size[0]), ((0, even[1] - size[1]), (0, even[0] - size[0]), (0, 0)), mode="edge")
    assert np.abs(frame - expected).mean() < 4


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_frames_are_upright(tmp_path: Path, restyle: Restyle, turns: int) -> None:
    source = make_video(tmp_path / "turned.mp4", quarter_turns=turns)
    assert seen(source).rotation % 360 == 90 * turns
    made = seen(restyle(source, look=Look(alpha=0.0, consistency=0.0)))
    assert made.rotation == 0
    assert np.abs(made.frames[0].astype(int) - np.rot90(picture(48, 64), turns)).mean() < 4


@pytest.mark.usefixtures("nearly_lossless")
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (1, 2), (5, 2), (6, 1)])
def test_colours_come_back_in_every_space(tmp_path: Path, restyle: Restyle, colours: tuple[int, int]) -> None:
    source = make_video(tmp_path / "colours.mp4", colours=colours)
    made = restyle(source, look=Look(alpha=0.0, consistency=0.0))
    assert seen(made).colours == seen(source).colours
    assert difference(source, made) < 1.2
    bias = np.mean([a.mean() - b for a, b in zip(seen(made).frames, seen(source).frames, strict=True)])
    assert abs(bias) < 0.6  # FFmpeg itself loses some in full range


def test_the_length_and_the_size(tmp_path: Path, source: Path, restyle: Restyle) -> None:
    assert seen(restyle(source, size=32)).frames[0].shape == (24, 32, 3)
    silent = make_video(tmp_path / "silent.mp4", sound=None, times=[0])
    made = restyle(silent, "silent_out.mp4")
    assert len(seen(made).frames) == 1


def test_other_codecs_and_containers_are_read(tmp_path: Path, restyle: Restyle) -> None:
    source = make_video(tmp_path / "in.avi", codec="mpeg4", sound="pcm_s16le")
    made = restyle(source, "out.mkv")
    assert [data for _, data in heard(made)] == [data for _, data in heard(source)]
    assert len(seen(made).frames) == len(seen(source).frames)


@pytest.mark.parametrize(
    "option",
    [
        {"look": Look(alpha=0.5)},
        {"look": Look(consistency=0.0)},
        {"look": Look(preserve_color="luminance")},
        {"look": Look(PHOTO)},
        {"style_scale": 2.0},
    ],
    ids=["alpha", "consistency", "preserve_color", "projector", "style_scale"],
)
def test_each_option_changes_the_result(source: Path, restyle: Restyle, option: dict[str, Any]) -> None:
    assert difference(restyle(source), restyle(source, "other.mp4", **option)) > 0.2


# --- interruptions ---


class StopError(Exception):
    pass


def stopping(after: int, error: type[BaseException] = StopError) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        assert total == 6
        if done == after:
            raise error

    return progress


@pytest.mark.usefixtures("short_segments")
def test_a_run_taken_up_again_gives_the_very_same_file(source: Path, tmp_path: Path, restyle: Restyle) -> None:
    whole = restyle(source)
    done: list[int] = []
    for stop in (1, 3, 4, 5):
        with pytest.raises(StopError):
            restyle(source, "again.mp4", progress=stopping(stop))
        assert not (tmp_path / "again.mp4").exists()
    assert sorted(path.name for path in (tmp_path / ".again.mp4.video").glob("*.nut")) == ["000000.nut", "000001.nut"]
    again = restyle(source, "again.mp4", progress=lambda n, total: done.append(n))
    assert done == [4, 5, 6]
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("short_segments")
def test_what_other_options_have_made_is_not_used(source: Path, restyle: Restyle) -> None:
    whole = restyle(source, look=Look(alpha=0.5))
    with pytest.raises(StopError):
        restyle(source, "again.mp4", progress=stopping(4))
    again = restyle(source, "again.mp4", Look(alpha=0.5))
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("short_segments")
def test_ctrl_c_says_how_to_go_on(
    source: Path, tmp_path: Path, style_file: Path, weights: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("video", source, "-s", style_file, "-o", tmp_path / "out.mp4", "--weights", weights, "--device", "cpu")
    stop = stopping(3, KeyboardInterrupt)
    with monkeypatch.context() as patch:
        patch.setattr(
            "apps.style_transfer.commands.video.restyle_video",
            lambda *args, **options: restyle_video(*args, **{**options, "progress": stop}),
        )
        status, _, said = program(*line)
    assert status == 130
    assert "the same command goes on" in said
    assert not (tmp_path / "out.mp4").exists()
    status, _, said = program(*line)
    assert (status, len(seen(tmp_path / "out.mp4").frames)) == (0, 6)


def test_a_run_that_is_killed_leaves_no_output(
    source: Path, tmp_path: Path, style_file: Path, weights: Path, restyle: Restyle
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from apps.style_transfer.video import restyling\n"
        "restyling.SEGMENT = 2\n"
        "def stop(done, total):\n    if done == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "restyling.restyle_video(Path(sys.argv[1]), Path(sys.argv[2]), [sys.argv[3]], weights=Path(sys.argv[4]),"
        " device='cpu', progress=stop)"
    )
    output = tmp_path / "out.mp4"
    killed = subprocess.run([sys.executable, "-c", code, source, output, style_file, weights], env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert len(list((tmp_path / ".out.mp4.video").glob(".*.partial-*"))) == 1
    made = restyle(source)
    assert len(seen(made).frames) == 6
    assert not list(tmp_path.glob(".*"))


def test_one_run_at_a_time(source: Path, tmp_path: Path, restyle: Restyle) -> None:
    folder = tmp_path / ".out.mp4.video"
    folder.mkdir()
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        assert lock(handle)
        with pytest.raises(ValueError, match="another run is at work"):
            restyle(source)
    finally:
        os.close(handle)


def test_an_output_that_exists_is_replaced_when_asked_alone(source: Path, restyle: Restyle, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(ValueError, match="exists: give another name with -o, or say --overwrite"):
        restyle(source)
    with pytest.raises(StopError):
        restyle(source, overwrite=True, progress=stopping(3))
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert len(seen(restyle(source, overwrite=True)).frames) == 6


# --- what is refused ---


def sound_alone(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def text(path: Path) -> Path:
    path.write_text("this is no video")
    return path


def tiny(path: Path) -> Path:
    return make_video(path, size=(16, 8))


def pcm(path: Path) -> Path:
    return make_video(path, codec="mpeg4", sound="pcm_s16le")


REFUSED: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "missing": (lambda path: path, "out.mp4", "no video at .*: check the path"),
    "text": (text, "out.mp4", "is not a video that can be read"),
    "sound alone": (sound_alone, "out.mp4", "has no video stream"),
    "too small": (tiny, "out.mp4", "is 16 x 8 pixels: each side needs 16 or more"),
    "a picture for output": (make_video, "out.png", r"is no name for a video: give it the suffix \.mp4"),
    "an animation for output": (make_video, "out.gif", r"animated picture: give \.mp4, or restyle a clip with -c"),
    "no folder": (make_video, "there/out.mp4", "the output folder .* does not exist"),
    "itself": (make_video, "in.mp4", "is the input: give another name"),
    "sound that does not fit": (pcm, "out.m4v", r"does not take the sound of .*pcm_s16le.*: give -o the suffix \.mkv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line(case: str, tmp_path: Path, style_file: Path, weights: Path, program: Program) -> None:
    make, name, words = REFUSED[case]
    source = make(tmp_path / ("in.avi" if make is pcm else "in.mp4"))
    before = source.read_bytes() if source.exists() else None
    output = tmp_path / name
    status, _, said = program(
        "video", source, "-s", style_file, "-o", output, "--overwrite", "--weights", weights, "--device", "cpu"
    )
    lines = said.strip().splitlines()
    assert (status, len(lines)) == (2, 1), said
    assert re.search(words, lines[0]), lines[0]
    assert (source.read_bytes() if source.exists() else None) == before
    assert output == source or not output.exists()


@pytest.mark.parametrize(("library", "name"), [("av", "PyAV"), ("cv2", "OpenCV")])
def test_a_missing_library_is_named(
    source: Path, restyle: Restyle, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"video needs {name}: pip install 'unroll-style\[video\]'"):
        restyle(source)


def test_a_damaged_video_is_named(tmp_path: Path, restyle: Restyle) -> None:
    source = make_video(tmp_path / "in.mkv", sound=None)
    data = bytearray(source.read_bytes())
    source.write_bytes(bytes(data[: len(data) // 3]))
    with pytest.raises(ValueError, match=r"in\.mkv"):
        restyle(source)


def test_the_cover_of_a_song_is_no_video(tmp_path: Path, restyle: Restyle) -> None:
    song = tmp_path / "song.mp4"
    with av.open(str(song), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux([*cover.encode(av.VideoFrame.from_ndarray(picture(32, 32))), *cover.encode(None)])
    with pytest.raises(ValueError, match="has no video stream"):
        restyle(song)
