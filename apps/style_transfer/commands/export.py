"""``export``: the learned solver as one file for other runtimes."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from apps.style_transfer.export.guided import PROJECTORS, Guided
from apps.style_transfer.files.writing import check_place
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.stylizer import STYLE_SIZE, Stylizer
from apps.style_transfer.weights import EMBEDDED_SOLVER

log = logging.getLogger("apps.style_transfer")

HELP = "the learned solver as one file, for ONNX runtimes or torch.export"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Guided()
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("-o", "--output", type=Path, required=True, help="where to write, a name that ends in .onnx or .pt2")
    option(
        "--format",
        choices=tuple(SUFFIXES),
        help="torch: a program of torch.export (default: by the name of the output)",
    )
    option("--overwrite", action="store_true", help="write anew what exists; else it is refused")
    option(
        "-s",
        "--style",
        nargs="+",
        help="a picture, a saved style, or a name that style list shows, to be fixed in the file; several are blended "
        "(default: the image of the style is a second input)",
    )
    option("--style-weights", type=float, nargs="+", metavar="W", help="shares of several styles (default: equal)")
    option("--size", type=int, help=f"longest side that the pictures of a style are brought to (at most {STYLE_SIZE})")
    option("--projector", default="none", choices=PROJECTORS, help="what keeps the picture a photograph; %(default)s")
    option("--radius", type=int, default=default.radius, help="windows of the guided filter; %(default)s")
    option("--eps", type=float, default=default.eps, help="of the guided filter: where it is flat; %(default)g")
    option("--alpha", type=float, default=1.0, help="scale of every step; %(default)g")
    option("--weights", type=Path, default=EMBEDDED_SOLVER, help="another file of learned weights")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")


def run(options: argparse.Namespace) -> None:
    """Do it."""
    from apps.style_transfer.export.program import Portable, trace, write  # torch.export takes long to import

    output: Path = options.output
    kind = options.format or next((k for k, suffix in SUFFIXES.items() if output.suffix.lower() == suffix), None)
    if kind is None:
        raise ValueError(f"{output} is of no known format: end it in .onnx or .pt2, or give --format")
    check_place(output, example="solver" + SUFFIXES[kind], overwrite=options.overwrite)
    if options.style is None and (options.style_weights is not None or options.size is not None):
        raise ValueError("--style-weights and --size are of a style that is fixed: give --style")
    encoded = None
    if options.style is not None:
        stylizer = Stylizer(options.weights, "cpu")
        encoded = stylizer.style(options.style, weights=options.style_weights, size=options.size).encoded
    projector = Guided(options.radius, options.eps) if options.projector == "guided" else None
    solver = load_solver(options.weights)
    write(trace(Portable(solver, encoded, projector=projector, alpha=options.alpha)), output, kind)
    log.info("%s: %.1f MB", output, output.stat().st_size / 1e6)
