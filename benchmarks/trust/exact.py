"""One picture, one result: tile by tile or whole; by the command line, from Python, through the page, or in ONNX.

Differences are of pictures of 16 bits where there are any, in 1/255.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from bars import AT_LEAST, AT_MOST, Bar
from PIL import Image

from apps.style_transfer import Options, Stylizer, read_image, stylize
from apps.style_transfer.export.guided import GUIDED, PROJECTORS
from apps.style_transfer.files.images import to_pil
from trust.bench import Bench, painting, photograph, serving
from trust.resident import Resident


def values(path: Path) -> np.ndarray:
    """Return the pixels of a picture as floats, white being 255."""
    if path.suffix == ".tif":
        return tifffile.imread(path).astype(float) / 257
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def largest(a: Path, b: Path) -> float:
    return float(np.abs(values(a) - values(b)).max())


def labels(path: Path, width: int, height: int, cut: float) -> Path:
    """Write a mask of three labels."""
    mask = np.zeros((height, width, 3), np.uint8)
    mask[:, round(cut * width) :] = 255, 0, 0
    mask[round(0.6 * height) :] = 0, 0, 255
    Image.fromarray(mask).save(path)
    return path


@cache
def tiled(b: Bench) -> float:
    """The largest difference between tiled and untiled, over pictures of odd sizes and the options that matter."""
    generator, folder = b.generator("tiled"), b.place("tiled")
    style = painting(folder / "painting.png", 300)
    ways: dict[str, list[object]] = {
        "artistic": [],
        "--photo": ["--photo"],
        "half a photograph": ["--photo", "--photo-strength", round(generator.uniform(0.2, 0.8), 2)],
        "scaled masks": ["--content-mask", "MASK", "--style-mask", labels(folder / "style-mask.png", 100, 80, 0.4)],
        "luminance": ["--preserve-color", "luminance", "--alpha", round(generator.uniform(0.3, 1), 2)],
        "histogram": ["--preserve-color", "histogram"],
        "two styles": ["-s", "hokusai-great-wave", "--style-weights", 0.3, 0.7, "--style-scale", 0.8],
    }
    worst = 0.0
    with Resident() as resident:
        for name, options in ways.items() if not b.quick else [*ways.items()][3:4]:
            width, height = generator.randrange(420, 560), generator.randrange(350, 450)
            small = photograph(folder / "photo.png", width, height, turn=generator.randrange(width))
            content = folder / "photo.tif"
            tifffile.imwrite(content, np.asarray(Image.open(small)).astype(np.uint16) * 257, photometric="rgb")
            mask = labels(folder / "mask.png", *(round(n * generator.uniform(0.3, 0.9)) for n in (width, height)), 0.5)
            said = [mask if option == "MASK" else option for option in options]
            memory = round(generator.uniform(0.075, 0.11), 3)
            for output, limit in (("tiled.tif", memory), ("whole.tif", 10)):
                arguments = ["-c", content, "-s", style, *said, "-o", folder / output, "--overwrite", "--memory", limit]
                ended = resident.run(*arguments, limit=300)
                if ended.status != 0:
                    raise RuntimeError(f"{name}: {ended.err[-300:]}")
            found = largest(folder / "tiled.tif", folder / "whole.tif")
            sys.stderr.write(f"  tiled, {name}, {width} x {height} in {memory:g} GB: {found:.3f}\n")
            worst = max(worst, found)
    return worst


@cache
def ways(b: Bench) -> float:
    """The largest difference between the command line and the other ways to the same picture, in whole levels."""
    generator, folder = b.generator("ways"), b.place("ways")
    content = photograph(folder / "photo.png", generator.randrange(150, 300), generator.randrange(150, 300))
    style, found = painting(folder / "painting.png", 200), {}
    with Resident() as resident, serving(folder) as server, server.client(120) as client:
        for name, photo in (("artistic", 0.0), ("photorealistic", 1.0)):
            made = {way: folder / f"{name}-{way}.png" for way in ("cli", "stylizer", "function", "page")}
            options = ["-c", content, "--photo", "--photo-strength", photo]
            ended = resident.run(*options, "-s", style, "-o", made["cli"])
            if ended.status != 0:
                raise RuntimeError(ended.err[-300:])
            Stylizer(device="cpu")(content, style, photo=photo).pil().save(made["stylizer"])
            if not photo:
                to_pil(stylize(read_image(content).rgb, read_image(style).rgb, Options()).image).save(made["function"])
            files = {"content": ("p.png", content.read_bytes()), "style": ("s.png", style.read_bytes())}
            answer = client.post("/api/v1/stylize", files=files, data={"photo": str(photo)})
            if answer.status_code != 200:
                raise RuntimeError(answer.text[:300])
            made["page"].write_bytes(answer.content)
            found |= {path.stem: largest(made["cli"], path) for path in made.values() if path.exists()}
    for way, difference in found.items():
        sys.stderr.write(f"  {way}: {difference:.0f}\n")
    return max(found.values())


@cache
def exported(b: Bench) -> float:
    """The least PSNR, in decibels, of what onnxruntime makes of an exported solver, against the Stylizer."""
    import onnxruntime

    generator, folder, least = b.generator("onnx"), b.place("onnx"), math.inf
    stylizer = Stylizer(device="cpu")
    with Resident() as resident:
        for projector in PROJECTORS:
            solver = folder / f"{projector}.onnx"
            ended = resident.run("export", "-o", solver, "--projector", projector, limit=300)
            if ended.status != 0:
                raise RuntimeError(ended.err[-300:])
            session = onnxruntime.InferenceSession(solver, providers=["CPUExecutionProvider"])
            for i in range(b.count(3, 1)):
                width, height = (generator.randrange(100, 400) for _ in range(2))
                content = photograph(folder / f"{i}.png", width, height, turn=generator.randrange(width))
                style = painting(folder / f"painting{i}.png", max(width, height))
                images = {"content": _image(content), "style": _image(style)}
                expected = stylizer(content, style, projector=replace(GUIDED, name=projector)).image
                error = float(np.square(np.asarray(session.run(None, images)[0]) - expected.numpy()).mean())
                psnr = -10 * math.log10(max(error, 1e-12))
                sys.stderr.write(f"  onnx, {projector}, {width} x {height}: {psnr:.1f} dB\n")
                least = min(least, psnr)
    return least


def _image(path: Path) -> np.ndarray:
    return (values(path) / 255).astype(np.float32).transpose(2, 0, 1)[None]


BARS: dict[str, Bar[Bench]] = {
    "tiled_difference": (tiled, AT_MOST, 1),
    "ways_difference": (ways, AT_MOST, 1),
    "onnx_decibels": (exported, AT_LEAST, 50),
}
