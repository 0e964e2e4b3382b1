"""Noise added to a photograph, and what three low-passes of the photograph's matting Laplacian make of the sum.

The photograph is almost bandlimited on the graph of its own matting Laplacian; the noise is not: of its energy the
projection onto span(U_k) leaves k / n. Chebyshev polynomials come close without an eigenvector; Tikhonov is softer.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from graphs import BandlimitedProjector, ChebyshevLowPass, Tikhonov, eigenbasis, matting


def main(out):
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, 96)
    noisy = photo + 0.2 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    laplacian = matting(photo)
    projectors = {
        "bandlimited, k = 100": BandlimitedProjector(eigenbasis(laplacian, 100)),
        "Chebyshev, k = 100": ChebyshevLowPass(laplacian, k=100),
        "Tikhonov, gamma = 1000": Tikhonov(laplacian, 1000),
    }
    pictures = {"photograph": photo, "with noise": noisy}
    pictures |= {name: projector(noisy) for name, projector in projectors.items()}
    figure = Figure(figsize=(3 * len(pictures), 2.7), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.imshow(x[0].permute(1, 2, 0).clamp(0, 1).numpy())
        axes.set_title(name)
        axes.set_axis_off()
    figure.savefig(out / "bandlimited_projector.png", dpi=100)
    return {name: -10 * torch.log10((x - photo).square().mean()).item() for name, x in list(pictures.items())[1:]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, psnr in main(folder).items():
        print(f"{name}: {psnr:.1f} dB peak signal-to-noise ratio")
