"""The same change of a photograph through each projector, in two domains: a painting's strokes, and noise.

Part of a change follows the photograph's own structure and may stay; part does not, and would spoil it. Every projector
keeps the first and drops the second, by its own rule. Projecting the difference from the photograph keeps all of the
photograph's detail; projecting the image itself keeps only what lies in the band, though that is most of a photograph.
"""

import argparse
from itertools import zip_longest
from pathlib import Path

import torch
from matplotlib.figure import Figure

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, read_image, resize, stylize
from graphs import (
    Around,
    BandlimitedProjector,
    ChebyshevLowPass,
    CoarseLowPass,
    CoarseTikhonov,
    GuidedFilter,
    SpectralFilter,
    Tikhonov,
    eigenbasis,
    matting,
    smoothing_step,
)


def draw(row, images, titles):
    for axes, image, title in zip_longest(row, images, titles, fillvalue=""):
        axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()


def main(out):
    photo, style = (resize(read_image(path).rgb, 128) for path in (EXAMPLE_CONTENT, EXAMPLE_STYLE))
    changed = {
        "stylised": stylize(photo, style).image,
        "noise": photo + 0.2 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)),
    }
    laplacian = matting(photo)
    projectors = {
        "BandlimitedProjector\nk = 200": BandlimitedProjector(eigenbasis(laplacian, 200)),
        "ChebyshevLowPass\nk = 200": ChebyshevLowPass(laplacian, k=200),
        "CoarseLowPass\nk = 200": CoarseLowPass(laplacian, 200),
        "Tikhonov\ngamma = 1000": Tikhonov(laplacian, 1000),
        "CoarseTikhonov\ngamma = 1000": CoarseTikhonov(laplacian, 1000),
        "SpectralFilter.heat\nscale = 3000": SpectralFilter.heat(laplacian, 3000),
        "smoothing_step\nalpha = 0.999": smoothing_step(laplacian, 0.999),
        "GuidedFilter\nradius = 8, eps = 1e-4": GuidedFilter(photo, 8, 1e-4),
    }
    domains = {
        "difference": {title: Around(projector, photo) for title, projector in projectors.items()},
        "image": projectors,
    }
    figure = Figure(figsize=(17, 9), layout="constrained")
    rows = iter(figure.subplots(6, 1 + len(projectors)))
    found = {}
    for change, x in changed.items():
        for domain, operators in domains.items():
            results = {"what goes in": x, **{title: operator(x) for title, operator in operators.items()}}
            found |= {(change, domain, title.split("\n")[0]): y for title, y in results.items()}
            if domain == "difference":
                draw(next(rows), [y[0] for y in results.values()], [change, *projectors])
            scaled = [0.5 + 1.5 * (y - photo)[0] for y in results.values()]
            draw(next(rows), scaled, [f"the {domain} projected:\nwhat is left, times 1.5"])
    figure.savefig(out / "projectors_compared.png", dpi=90)
    return {", ".join(names): (y - photo).square().mean().sqrt().item() for names, y in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, rms in main(folder).items():
        print(f"{name}: {rms:.4f} root mean square difference from the photograph")
