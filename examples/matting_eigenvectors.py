"""What the matting eigenvectors see: the lowest frequencies of a photograph's own matting Laplacian, as images.

Each is almost an affine function of the photograph's colours, window by window. So they are smooth where it is smooth
and may jump where it has an edge: together they are the ways in which a photograph can change and remain one. The graph
says why: its weights tie pixels of one surface together, and across an edge they come in both signs and cancel.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from graphs import eigenbasis, grid, matting, plotting

CROP = (46, 14, 9, 11)  # top, left, height, width


def main(out):
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, 128)
    laplacian = matting(photo, eps=1e-5)
    basis = eigenbasis(laplacian, 60)
    figure = Figure(figsize=(13, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.8])
    first, second, third, last = above.subplots(1, 4, width_ratios=[1.25, 1, 1, 1.25])
    first.imshow(photo[0].permute(1, 2, 0).numpy())
    top, left, height, width = CROP
    first.plot(left + np.array([0, width, width, 0, 0]), top + np.array([0, 0, height, height, 0]), "magenta", lw=1.5)
    first.set_title("the photograph, and a crop of it")
    plotting.edges(grid(photo, neighbours=8), photo, CROP, axes=second)
    second.set_title("grid: like neighbours\nare tied")
    plotting.edges(laplacian, photo, CROP, axes=third)
    third.set_title("matting: tied (green) or\npushed apart (magenta)")
    for axes in (first, second, third):
        axes.set_axis_off()
    plotting.spectrum(basis, {"photograph": photo, "mirrored": photo.flip(-1)}, axes=last)
    last.set_title("almost all of a photograph is in its\nown lowest eigenvectors, not in others'", fontsize=10)
    below.suptitle("matting eigenvectors, by number and frequency: red above zero, blue below")
    plotting.eigenvectors(basis, photo.shape[2:], which=[1, 3, 4, 7, 10, 20, 25, 59], figure=below)
    figure.savefig(out / "matting_eigenvectors.png", dpi=100)
    planes = {"photograph": photo, "mirrored photograph": photo.flip(-1)}
    rows = {name: x.double().flatten(2)[0] for name, x in planes.items()}
    return {name: 1 - ((x @ basis.vectors).norm() / x.norm()).item() ** 2 for name, x in rows.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, share in main(folder).items():
        print(f"energy beyond the first 60 eigenvectors, {name}: {100 * share:.3f} %")
