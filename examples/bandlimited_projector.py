"""Noise added to a photograph, and what each projector of its matting Laplacian leaves of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from apps.style_transfer.sheet import contact_sheet
from graphs import Around, BandlimitedProjector, ChebyshevLowPass, Tikhonov, eigenbasis, matting


def main(out: Path, size: int = 96, k: int = 100) -> dict[str, float]:
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, size)
    laplacian = matting(photo)
    noisy = photo + 0.2 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    projectors = {
        "exact": BandlimitedProjector(eigenbasis(laplacian, k)),
        "Chebyshev": ChebyshevLowPass(laplacian, k=k),
        "Tikhonov": Tikhonov(laplacian, 1e3),
    }
    # The photograph itself is nearly bandlimited: it is the difference from it that is projected.
    results = {name: Around(projector, photo)(noisy) for name, projector in projectors.items()}
    pictures = [photo, noisy, *results.values()]
    contact_sheet([pictures], ["photograph", "noisy", *results], cell=240).save(out / "bandlimited_projector.png")
    return {name: float((x - photo).norm() / (noisy - photo).norm()) for name, x in results.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, kept in main(folder).items():
        print(f"{name}: {100 * kept:.1f} % of the noise is left")
