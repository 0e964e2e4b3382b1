"""Bad input: exit status 2, one line that says what, where and how to mend it, nothing written."""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from style_helpers import Program, draw, save_weights

from apps.style_transfer import transfer
from apps.style_transfer.files import encode
from apps.style_transfer.files.images import to_pil
from apps.style_transfer.learned.checkpoint import read_checkpoint
from apps.style_transfer.weights import EMBEDDED_VGG

Make = Callable[[Path], Path]


def truncated(path: Path) -> Path:
    to_pil(draw(64, 64)).save(path.with_suffix(".jpg"), quality=95)
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])
    return path.with_suffix(".jpg")


def text(path: Path) -> Path:
    path.write_text("this is no picture")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def small(path: Path) -> Path:
    to_pil(draw(8, 8)).save(path)
    return path


def thin(path: Path) -> Path:
    to_pil(draw(16, 200)).save(path)
    return path


BAD_PICTURES: dict[str, tuple[Make, str]] = {
    "missing": (lambda path: path, "no picture at .*: check the path"),
    "truncated": (truncated, "damaged or cut short .*: export the picture again"),
    "text": (text, "is not a picture that can be read: give a JPEG"),
    "empty": (empty, r"is empty \(0 bytes\)"),
    "folder": (folder, "is a folder without pictures"),
    "8 x 8": (small, "is 8 x 8 pixels: each side needs 16 or more"),
}


def assert_says(line: str, words: str) -> None:
    assert re.search(words, line), line


@pytest.fixture
def refused(
    program: Program, content_file: Path, style_file: Path, weights: Path, tmp_path: Path
) -> Callable[..., str]:
    """Run a stylisation that must fail, check how it does, and return its one line."""
    out = tmp_path / "out"
    out.mkdir()

    def call(*arguments: object, command: str = "stylize") -> str:
        base = ["-o", out / "out.png", "--weights", weights]
        base += [] if "-c" in arguments else ["-c", content_file]
        base += [] if "-s" in arguments else ["-s", style_file]
        status, output, err = program(command, *(base if command == "stylize" else []), *arguments)
        assert (status, output) == (2, "")
        assert err.count("\n") == 1, err
        assert err.startswith("unroll-style")
        assert "Traceback" not in err
        assert os.listdir(out) == []
        return err

    return call


@pytest.mark.parametrize("role", ["-c", "-s"])
@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_bad_pictures(refused: Callable[..., str], tmp_path: Path, role: str, kind: str) -> None:
    make, words = BAD_PICTURES[kind]
    path = make(tmp_path / "bad.png")
    assert_says(refused(role, path), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--bogus", "unrecognized arguments: --bogus"),
        ("--solver magic", "invalid choice: 'magic' .*learned.*gatys"),
        ("--projector magic", "invalid choice: 'magic' .*tikhonov"),
        ("--size many", "invalid int value: 'many'"),
        ("--size 8", "--size must be at least 16 pixels, got 8"),
        ("--size -5", "--size must be at least 16"),
        ("--size 17", "is 17 x 11 pixels: each side needs 16"),
        ("--solver gatys --steps 2.5", "the number of steps must be whole, got 2.5"),
        ("--steps -1", "steps must be at least 0"),
        ("--steps -1 --solver gatys", "steps must be at least 0"),
        ("--projector matting --k 2000", "from 1 to n = 1536"),
        ("--projector matting-chebyshev --k 2000", "from 1 to n = 1536"),
        ("--projector matting --k 0", "k must be a whole number"),
        ("--projector matting --k 2.5", "k must be a whole number"),
        ("--k nan", "k must be a whole number"),
        ("--k inf", "k must be a whole number"),
        ("--projector tikhonov --gamma -1", "gamma must be a number of at least 0"),
        ("--projector tikhonov --gamma nan", "gamma must be a number of at least 0"),
        ("--projector matting-chebyshev --order 0", "order must be at least 1"),
        ("--photo-strength 2", "strength of a projector .--photo-strength. is from 0 to 1, got 2"),
        ("--photo-strength nan", "is from 0 to 1, got nan"),
        ("--style-scale 0", "style-scale must be above 0 and at most 4, got 0"),
        ("--style-scale inf", "style-scale must be above 0 and at most 4, got inf"),
        ("--preserve-color hue", "invalid choice: 'hue' .*luminance"),
        ("--style-weights 1 2", "1 styles want 1 weights, got 2"),
        ("-s hokusai", "no style hokusai: give a picture, a saved style, or a name that style list shows"),
        ("--alpha nan", "alpha must be a number of at least 0"),
        ("--alpha inf", "alpha must be a number of at least 0"),
        ("--solver gatys --alpha -1", "alpha must be a number of at least 0"),
        ("--solver gd --style-weight nan", "style-weight must be a number of at least 0"),
        ("--solver gd --content-weight -1", "content-weight must be a number of at least 0"),
        ("--solver luan --photo-weight inf", "photo-weight must be a number of at least 0"),
        ("--solver gd --steps 10 --style-weight 1000", "the gd solver diverged"),
    ],
)
def test_bad_options(refused: Callable[..., str], arguments: str, words: str) -> None:
    assert_says(refused(*arguments.split()), words)


def test_a_missing_option(program: Program) -> None:
    status, out, err = program("-s", "style.png")
    assert (status, out) == (2, "")
    assert (
        err == "unroll-style stylize: the following arguments are required: -c/--content (--help lists the options)\n"
    )


def test_a_style_that_is_too_thin_for_the_content(refused: Callable[..., str], tmp_path: Path) -> None:
    assert_says(refused("-s", thin(tmp_path / "thin.png")), "the style is too narrow: .* 48 x 4 pixels")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert_says(refused("--device", name), f"there is no {name} device here: leave --device out")


def test_bad_outputs(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_says(refused("-o", tmp_path / "absent" / "out.png"), "absent does not exist: create it first")
    assert_says(refused("-o", tmp_path / "out" / "out.xyz"), "no known suffix: end it in .png")

    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert_says(refused(), r"cannot write into .*out \(Permission denied\): choose another folder")


def test_a_full_disk_leaves_nothing_behind(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def save(image: Image.Image, target: Path, **options: object) -> None:
        target.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encode, "save", save)
    assert_says(refused(), "cannot write .*out.png .No space left on device.: free some space")


def broken_weights(kind: str, path: Path, whole: Path) -> Path:
    checkpoint = read_checkpoint(whole)
    tensors, header = dict(checkpoint.tensors), dict(checkpoint.header)
    match kind:
        case "truncated":
            path.write_bytes(whole.read_bytes()[:-100])
        case "noise":
            path.write_bytes(bytes(range(256)) * 8)
        case "pickle":
            path.write_bytes(pickle.dumps({"weight": [1.0]}))
        case "torch file":
            torch.save({"weight": torch.ones(2)}, path)
        case "trunk":
            return EMBEDDED_VGG
        case "folder":
            path.mkdir()
        case "other shapes":
            save_file(tensors, path, {**header, "architecture": header["architecture"].replace("[4, 6]", "[4, 8]")})
        case "tensor missing":
            tensors.pop(next(iter(tensors)))
            save_file(tensors, path, header)
        case "unknown architecture":
            save_file(tensors, path, {**header, "architecture": '{"channels": [4, 6], "attention": true}'})
        case "no architecture":
            save_file(tensors, path, {"format": header["format"]})
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no weights at .*: give the path of a .safetensors file"),
        ("truncated", "is not a whole safetensors file .*: fetch or train it again"),
        ("noise", "is not a whole safetensors file"),
        ("pickle", "is not a whole safetensors file"),
        ("torch file", "is not a whole safetensors file"),
        ("folder", "no weights at"),
        ("trunk", "does not hold a solver of this program"),
        ("other shapes", "does not fit its architecture"),
        ("tensor missing", "does not fit its architecture"),
        ("unknown architecture", "architecture that this version does not know"),
        ("no architecture", "architecture that this version does not know"),
    ],
)
def test_bad_weights(refused: Callable[..., str], tmp_path: Path, weights: Path, kind: str, words: str) -> None:
    path = broken_weights(kind, tmp_path / "bad.safetensors", weights)
    line = refused("--weights", path)
    assert_says(line, words)
    assert str(path) in line


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    ],
    ids=["python", "cuda", "cpu", "mps"],
)
def test_out_of_memory(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(transfer, "build_projector", fail)
    assert_says(refused(), "out of memory: make the picture smaller with --size, or choose another --device")


def test_an_eigenbasis_that_misses_its_tolerance(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("the eigenpairs missed their tolerance: residual 1; try a smaller k than 12")

    monkeypatch.setattr("graphs._bandlimited.eigenbasis", fail)
    line = refused("--projector", "matting", "--k", "12")
    assert_says(line, "missed their tolerance.*take matting-chebyshev or tikhonov")


def test_verbose_shows_the_traceback(program: Program, style_file: Path) -> None:
    status, _, err = program("-c", "absent.png", "-s", style_file, "-o", "out.png", "-v")
    assert status == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("unroll-style: no picture at absent.png")


def test_a_fault_of_the_program_is_not_hidden(
    program: Program, monkeypatch: pytest.MonkeyPatch, content_file: Path, style_file: Path, tmp_path: Path
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(transfer, "build_projector", fail)
    status, _, err = program("-c", content_file, "-s", style_file, "-o", tmp_path / "out.png")
    assert status == 1
    assert "Traceback" in err


def test_ctrl_c_ends_quietly(
    program: Program, monkeypatch: pytest.MonkeyPatch, content_file: Path, style_file: Path, tmp_path: Path
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "build_projector", interrupt)
    status, out, err = program("-c", content_file, "-s", style_file, "-o", tmp_path / "out.png")
    assert (status, out, err) == (130, "", "")
    assert not (tmp_path / "out.png").exists()


def test_logging_is_left_as_it_was(program: Program, style_file: Path) -> None:
    handlers = list(logging.getLogger("apps.style_transfer").handlers)
    program("-c", "absent.png", "-s", style_file, "-o", "out.png")
    assert logging.getLogger("apps.style_transfer").handlers == handlers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "give the budget of the training as --steps or as --minutes"),
        ("--steps 1 --minutes 1", "give the budget of the training as --steps or as --minutes"),
        ("--steps 0", "--steps must be a number of at least 1"),
        ("--minutes nan", "--minutes must be a positive number"),
        ("--steps 1 --batch 0", "--batch must be a number of at least 1"),
        ("--steps 1 --size 8", "--size must be a number of at least 16"),
        ("--steps 1 --rate -1", "--rate must be a positive number"),
        ("--steps 1 --decay 1.5", "--decay must be a share between 0 and 1, got 1.5"),
        ("--steps 1 --plain-share -1", "--plain-share must be a share between 0 and 1, got -1.0"),
        ("--steps 1 --ema 1", "--ema must be at least 0 and less than 1, got 1.0"),
        ("--steps 1", "no photographs to train on in .*: name folders with JPEG or PNG files"),
        ("--steps 1 --photos absent", "no folder at absent"),
    ],
)
def test_bad_trainings(refused: Callable[..., str], tmp_path: Path, arguments: str, words: str) -> None:
    (tmp_path / "none").mkdir()
    base = ["--photos", tmp_path / "none", "--paintings", tmp_path / "none", "--out", tmp_path / "run"]
    assert_says(refused(*base, *arguments.split(), command="train"), words)


def test_training_names_the_broken_picture(refused: Callable[..., str], tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos")
    text(photos / "trained-0.png")
    base = ["--photos", photos, "--paintings", photos, "--out", tmp_path / "run", "--steps", "1"]
    assert_says(refused(*base, command="train"), "trained-0.png is not a picture that can be read")


def test_training_starts_from_its_own_architecture_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos")
    to_pil(draw(20, 20)).save(photos / "trained-0.png")
    start = save_weights(tmp_path / "start.safetensors")
    base = ["--photos", photos, "--paintings", photos, "--out", tmp_path / "run", "--steps", "1"]
    assert_says(refused(*base, "--start-from", start, command="train"), "start.safetensors is of another architecture")
