"""Many files on the command line: names, kinds, what exists, what fails, processes, clips and cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from style_helpers import Program, draw, save_weights
from test_files_metadata import camera_block

from apps.style_transfer.batches.engines import Task
from apps.style_transfer.batches.manifest import MANIFEST
from apps.style_transfer.batches.restyling import Recipe, Restyling, summary
from apps.style_transfer.files.images import Picture, read_image, resize, to_pil, write_image
from apps.style_transfer.losses import encode_targets, reference_objective
from apps.style_transfer.transfer import Options, stylize
from apps.style_transfer.vgg import VGG19


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for i, suffix in enumerate((".jpg", ".png", ".tif")):
        write_image(
            folder / f"{i}{suffix}", Picture(draw(24, 32, phase=i), exif=camera_block(), depth=8 * (1 + i // 2))
        )
    return folder


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    folder = tmp_path / "paintings"
    folder.mkdir()
    for i in range(2):
        to_pil(draw(40, 28, phase=2.0 + i, roughness=0.2)).save(folder / f"painting{i}.png")
    return folder


def alone(content: Path, style: Path, weights: Path, **options: Any) -> torch.Tensor:
    content_image, style_image = read_image(content).rgb, read_image(style).rgb
    return stylize(content_image, style_image, Options(weights=weights, **options)).image


@pytest.mark.parametrize("jobs", [1, 2])
def test_folders_times_styles(
    program: Program, shots: Path, paintings: Path, weights: Path, tmp_path: Path, jobs: int
) -> None:
    out = tmp_path / "out"
    (shots / "broken.jpg").write_bytes((shots / "0.jpg").read_bytes()[:200])
    base = ["-c", shots, "-s", f"{paintings}/*.png", "-o", out, "--weights", weights, "--jobs", jobs, "--device", "cpu"]
    status, _, err = program(*base)
    assert status == 1
    failures = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 2
    assert all("broken.jpg" in line and "damaged or cut short" in line for line in failures)
    assert "6 made, 0 there already, 2 failed" in err
    assert "Traceback" not in err
    names = [f"{i}{s}" for i, s in ((0, "jpg"), (1, "png"), (2, "tif"))]
    made = {f"{n[0]}_stylized_painting{j}.{n[1:]}" for n in names for j in range(2)}
    assert {p.name for p in out.iterdir()} == made | {MANIFEST}
    for j in range(2):
        for n in names[1:]:
            expected = alone(shots / f"{n[0]}.{n[1:]}", paintings / f"painting{j}.png", weights)
            found = read_image(out / f"{n[0]}_stylized_painting{j}.{n[1:]}")
            assert found.depth == (16 if n.endswith("tif") else 8)
            assert float((found.rgb - expected).abs().max()) <= 0.51 / (2**found.depth - 1) + (2e-5 if jobs == 2 else 0)
    with Image.open(out / "0_stylized_painting0.jpg") as image:
        assert image.getexif()[0x010F] == "Maker"
    if jobs == 2:
        return
    status, _, err = program(*base)
    assert status == 2
    assert "6 of 8 outputs exist" in err
    (shots / "broken.jpg").unlink()
    (out / "0_stylized_painting0.jpg").unlink()
    status, out_text, err = program(*base, "--skip-existing", "--json")
    assert status == 0
    report = json.loads(out_text)
    assert (report["done"], report["skipped"], report["failed"]) == (1, 5, [])
    status, _, err = program(*base, "--skip-existing", "--alpha", "0.5")
    assert "6 of those there already, " in err
    assert program(*base, "--overwrite", "--alpha", "0.5")[0] == 0
    expected = alone(shots / "1.png", paintings / "painting1.png", weights, alpha=0.5)
    assert float((read_image(out / "1_stylized_painting1.png").rgb - expected).abs().max()) < 0.51 / 255


def test_one_picture(
    program: Program, shots: Path, paintings: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["-c", shots / "0.jpg", "-s", paintings / "painting0.png", "--weights", weights]
    assert program(*base)[0] == 0
    before = Path("0_stylized_painting0.jpg").read_bytes()
    status, _, err = program(*base, "--alpha", "0.5")
    assert status == 2
    assert "0_stylized_painting0.jpg exists: give another name with -o, or say --overwrite or --skip-existing" in err
    status, _, err = program(*base, "--alpha", "0.5", "--skip-existing")
    assert status == 0
    assert "exists and is left as it is" in err
    assert Path("0_stylized_painting0.jpg").read_bytes() == before
    assert program(*base, "--alpha", "0.5", "--overwrite")[0] == 0
    assert Path("0_stylized_painting0.jpg").read_bytes() != before
    assert program(*base, "--format", "webp", "-o", shots)[0] == 0
    assert (shots / "0_stylized_painting0.webp").exists()
    assert not (tmp_path / MANIFEST).exists()


def test_inputs_are_never_overwritten(
    program: Program, shots: Path, paintings: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.jpg").symlink_to(shots / "0.jpg")
    os.link(paintings / "painting0.png", tmp_path / "hard.png")
    before = {p: p.read_bytes() for folder in (shots, paintings) for p in folder.iterdir()}
    base = ["-c", shots / "0.jpg", "-s", paintings / "painting0.png", "--weights", weights, "--overwrite"]
    for output in (shots / "0.jpg", tmp_path / "link.jpg", tmp_path / "hard.png", paintings / "painting0.png"):
        status, _, err = program(*base, "-o", output)
        assert status == 2
        assert " is the input " in err
    assert {p: p.read_bytes() for p in before} == before


def test_what_a_killed_run_left_is_cleared(
    program: Program, shots: Path, paintings: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / ".old.partial-abcdefgh.png").write_text("half")
    base = ["-c", shots / "1.png", "-s", paintings / "painting0.png", "--weights", weights]
    assert program(*base, "-o", tmp_path / "out.png")[0] == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["-o", "out.png", "-c", "{shots}"],
            "out.png is one file, and there are several results: give a folder with -o",
        ),
        (["-c", "{shots}/*.gif"], "no picture matches"),
        (["-s", "{paintings}/nested/*.png"], "no picture matches"),
        (
            ["-s", "{paintings}", "-s", "{shots}/painting0.png"],
            "would give results of the same name: rename one of them",
        ),
        (["-c", "{shots}/0.jpg", "--jobs", "0", "-s", "{paintings}"], "--jobs must be at least 1, got 0"),
        (["-c", "{shots}/0.jpg", "--max-megapixels", "0.0001"], r"has 32 x 24 pixels, more than 0.0001 million"),
        (["-c", "{shots}/0.jpg", "--overwrite", "--skip-existing"], "not allowed with argument"),
        (["-c", "{shots}/0.jpg", "--format", "eps"], "invalid choice: 'eps'"),
        (["-c", "{shots}/0.jpg", "-o", "{shots}/out.xyz"], "no known suffix"),
    ],
)
def test_what_cannot_be(
    program: Program,
    shots: Path,
    paintings: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    to_pil(draw(20, 20)).save(shots / "painting0.png")
    filled = [a.format(shots=shots, paintings=paintings) for a in arguments]
    base = ["--weights", weights]
    base += [] if "-c" in filled else ["-c", shots / "0.jpg"]
    base += [] if "-s" in filled else ["-s", paintings / "painting0.png"]
    status, out, err = program(*base, *filled)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_clips(program: Program, paintings: Path, weights: Path, tmp_path: Path) -> None:
    frames = [to_pil(draw(24, 32, phase=p, roughness=0)) for p in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=[50, 70, 90], loop=0)
    base = ["-c", tmp_path / "clip.gif", "-s", paintings / "painting0.png", "--weights", weights]
    status, _, err = program(*base, "-o", tmp_path / "out.gif")
    assert status == 0, err
    with Image.open(tmp_path / "clip.gif") as source, Image.open(tmp_path / "out.gif") as made:
        for before, after in zip(ImageSequence.Iterator(source), ImageSequence.Iterator(made), strict=True):
            before.load()
            after.load()
            assert after.info["duration"] == before.info["duration"]
            pixels = torch.from_numpy(np.array(before.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
            expected = stylize(pixels, read_image(paintings / "painting0.png").rgb, Options(weights=weights)).image
            found = np.asarray(after.convert("RGB")).astype(float)
            assert np.abs(found - np.asarray(to_pil(expected)).astype(float)).mean() < 8
    status, _, err = program(*base, "-o", tmp_path / "out.jpg")
    assert (status, "give the output the suffix .gif or .webp" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--preserve-color", "luminance", "--style-scale", "0.7"],
        ["--preserve-color", "histogram", "--alpha", "0.5"],
        ["-s", "hokusai-great-wave", "--style-weights", "0.5", "0.5"],
        ["--size", "220"],
        ["--content-mask", "{mask}"],
        ["--photo"],
    ],
)
def test_tile_by_tile_is_the_same(
    program: Program, paintings: Path, weights: Path, tmp_path: Path, arguments: list[str]
) -> None:
    write_image(tmp_path / "in.png", Picture(draw(180, 140), torch.full((180, 140), 99, dtype=torch.uint8), depth=16))
    Image.fromarray(np.tile(np.repeat([0, 255], 70), (180, 1)).astype(np.uint8)).save(tmp_path / "mask.png")
    filled = [a.format(mask=tmp_path / "mask.png") for a in arguments]
    base = ["-c", tmp_path / "in.png", "-s", paintings / "painting0.png", "--weights", weights, "--device", "cpu"]
    base += ["--json", *filled]
    status, whole, err = program(*base, "-o", tmp_path / "whole.png")
    assert status == 0, err
    status, tiled, err = program(*base, "-o", tmp_path / "tiled.png", "--memory", "0.004")
    assert status == 0, err
    first, second = (read_image(tmp_path / f"{name}.png") for name in ("whole", "tiled"))
    assert float((first.rgb - second.rgb).abs().max()) < 1 / 255
    assert (second.depth, second.alpha is not None) == (16, True)
    assert json.loads(whole)["size"] == json.loads(tiled)["size"] == list(second.rgb.shape[:1:-1])
    total = json.loads(whole)["total_loss"][-1]
    if "luminance" in arguments:  # then the last iterate is not the picture, which is all that is kept of tiles
        content, style = (read_image(path).rgb for path in (tmp_path / "in.png", paintings / "painting0.png"))
        vgg = VGG19()
        total = float(reference_objective(vgg)(first.rgb, encode_targets(vgg, content, resize(style, 180))))
    assert total == pytest.approx(json.loads(tiled)["total_loss"][-1], rel=1e-2)
    assert not list(tmp_path.glob(".*"))


def test_a_style_is_encoded_once_for_each_size(
    shots: Path, paintings: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(shots / "3.png", Picture(draw(20, 40)))
    style = paintings / "painting0.png"
    work = Restyling(Recipe(Options(weights=weights), {"a": (str(style),)}, device="cpu"))
    calls: list[tuple[int, ...]] = []
    encode = work.solver.encode
    monkeypatch.setattr(work.solver, "encode", lambda image: (calls.append(tuple(image.shape)), encode(image))[1])
    for content in sorted(shots.iterdir()):
        work(Task(content, "a", tmp_path / f"{content.stem}.png"))
    assert calls == [(1, 3, 32, 22), (1, 3, 40, 28)]
    expected = alone(shots / "3.png", style, weights)
    assert float((read_image(tmp_path / "3.png").rgb - expected).abs().max()) <= 0.51 / 255


def test_what_tells_results_apart(tmp_path: Path, weights: Path) -> None:
    recipe = Recipe(Options(weights=weights), {})
    others = [
        Recipe(Options(weights=weights, alpha=0.5), {}),
        Recipe(Options(weights=weights), {}, size=64),
        Recipe(Options(weights=weights), {}, content_mask=tmp_path / "mask.png"),
        Recipe(Options(weights=save_weights(tmp_path / "others.safetensors", seed=1)), {}),
    ]
    assert summary(recipe) == summary(Recipe(Options(weights=weights), {}, threads=1, max_pixels=7))
    assert all(summary(other) != summary(recipe) for other in others)
    copied = save_weights(tmp_path / "copied.safetensors")
    assert summary(Recipe(Options(weights=copied), {})) == summary(recipe)
