"""The same change of a photograph through each projector: a painting's strokes, and noise.

What is projected is the difference from the photograph. Part of the change follows the photograph's own structure and
may stay; part does not, and would spoil it. Every projector keeps the first and drops the second, by its own rule.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, read_image, resize, stylize
from graphs import (
    Around,
    BandlimitedProjector,
    ChebyshevLowPass,
    GuidedFilter,
    SpectralFilter,
    Tikhonov,
    eigenbasis,
    matting,
    smoothing_step,
)


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
        "Tikhonov\ngamma = 1000": Tikhonov(laplacian, 1000),
        "SpectralFilter.heat\nscale = 3000": SpectralFilter.heat(laplacian, 3000),
        "smoothing_step\nalpha = 0.999": smoothing_step(laplacian, 0.999),
        "GuidedFilter\nradius = 8, eps = 1e-4": GuidedFilter(photo, 8, 1e-4),
    }
    figure = Figure(figsize=(16, 7), layout="constrained")
    rows = figure.subplots(4, 2 + len(projectors))
    energies = {}
    for (name, x), pair in zip(changed.items(), (rows[:2], rows[2:]), strict=True):
        results = {f"{name}\n(what goes in)": x}
        results |= {title: Around(projector, photo)(x) for title, projector in projectors.items()}
        for axes, (title, y) in zip(pair[0], {"photograph\n": photo, **results}.items(), strict=True):
            axes.imshow(y[0].permute(1, 2, 0).clamp(0, 1).numpy())
            axes.set_title(title, fontsize=10)
        for axes, y in zip(pair[1][1:], results.values(), strict=True):
            axes.imshow((0.5 + 1.5 * (y - photo)[0]).permute(1, 2, 0).clamp(0, 1).numpy())
        pair[1][0].text(
            0.5, 0.5, "the difference\nfrom the photograph\n(times 1.5, grey is 0)", ha="center", va="center"
        )
        energies[name] = {
            title.split("\n")[0]: (y - photo).square().mean().sqrt().item() for title, y in results.items()
        }
    for axes in rows.ravel():
        axes.set_axis_off()
    figure.savefig(out / "projectors_compared.png", dpi=100)
    return energies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for change, left in main(folder).items():
        for name, rms in left.items():
            print(f"{change}, {name}: {rms:.4f} root mean square difference from the photograph")
