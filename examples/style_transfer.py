"""Style transfer from Python: one solver, one set of weights, and a projector that is an argument of the call."""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from apps.style_transfer import (
    EXAMPLE_CONTENT,
    EXAMPLE_STYLE,
    PHOTO,
    ProjectorOptions,
    build_projector,
    load_solver,
    read_image,
    resize,
)
from graphs import matting


def main(out):
    content, style = (resize(read_image(path).rgb, 256) for path in (EXAMPLE_CONTENT, EXAMPLE_STYLE))
    solver = load_solver()
    statistics = solver.update.encode(style)  # H^s, in one pass: any style will do
    projectors = {
        "artistic (no projector)": None,
        "photorealistic (PHOTO)": build_projector(PHOTO, content),
        "bandlimited (k = 200)": build_projector(ProjectorOptions("matting-chebyshev", k=200), content),
    }
    results = {name: solver(content, statistics, projector=p).x.clamp(0, 1) for name, p in projectors.items()}
    pictures = {"content": content, "style": style, **results}
    figure = Figure(figsize=(3 * len(pictures), 3.2), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.imshow(x[0].permute(1, 2, 0).numpy())
        axes.set_title(name)
        axes.set_axis_off()
    figure.savefig(out / "style_transfer.png", dpi=120)
    # How far the change is from an affine function of the photograph's colours, in windows of 3 x 3 pixels.
    laplacian = matting(content)
    return {name: laplacian.quadratic(x - content).item() / laplacian.n for name, x in results.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, energy in main(folder).items():
        print(f"{name}: {energy:.1e} matting energy of the change")
