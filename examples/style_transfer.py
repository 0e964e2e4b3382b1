"""Style transfer from Python: the same weights, artistic and photorealistic; only the projector differs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, Options, load_solver, read_image, resize
from apps.style_transfer.sheet import contact_sheet
from graphs import Around, Tikhonov, matting


def main(out: Path, size: int = 256, gamma: float = 1e3) -> dict[str, float]:
    content, style = (resize(read_image(path).rgb, size) for path in (EXAMPLE_CONTENT, EXAMPLE_STYLE))
    solver = load_solver(Options().weights)
    laplacian = matting(content)
    projectors = {"artistic": None, "photorealistic": Around(Tikhonov(laplacian, gamma), content)}
    with torch.no_grad():
        encoded = solver.update.encode(style)
        results = {name: solver(content, encoded, projector=p).x.clamp(0, 1) for name, p in projectors.items()}
    sheet = contact_sheet([[content, style, *results.values()]], ["content", "style", *results], cell=size)
    sheet.save(out / "style_transfer.png")
    return {name: float(laplacian.quadratic(x - content)) / laplacian.n for name, x in results.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"))
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, energy in main(options.out, options.size).items():
        print(f"{name}: matting energy of the change {energy:.2e}")
