"""``export``: the learned solver as one file for other runtimes."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from apps.style_transfer.commands.common import (
    add_alpha,
    add_overwrite,
    add_style,
    add_style_weights,
    add_verbose,
    add_weights,
)
from apps.style_transfer.export.guided import GUIDED, PROJECTORS
from apps.style_transfer.files.writing import check_place
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.stylizer import STYLE_SIZE, Stylizer

log = logging.getLogger("apps.style_transfer")

HELP = "the learned solver as one file, for ONNX runtimes or torch.export"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("-o", "--output", type=Path, required=True, help="where to write, a name that ends in .onnx or .pt2")
    option(
        "--format",
        choices=tuple(SUFFIXES),
        help="torch: a program of torch.export (default: by the name of the output)",
    )
    add_overwrite(parser)
    fixed = "several are blended, and what comes of it is fixed in the file"
    add_style(parser, f"{fixed} (default: the image of the style is a second input)")
    add_style_weights(parser)
    option("--size", type=int, help=f"longest side that the pictures of a style are brought to (at most {STYLE_SIZE})")
    option("--projector", default="none", choices=PROJECTORS, help="what keeps the picture a photograph; %(default)s")
    option("--radius", type=int, default=GUIDED.radius, help="windows of the guided filter; %(default)s")
    option("--eps", type=float, default=GUIDED.eps, help="of the guided filter: where it is flat; %(default)g")
    add_alpha(parser)
    add_weights(parser)
    add_verbose(parser)


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
    projector = replace(GUIDED, name=options.projector, radius=options.radius, eps=options.eps)
    solver = load_solver(options.weights)
    write(trace(Portable(solver, encoded, projector=projector, alpha=options.alpha)), output, kind)
    log.info("%s: %.1f MB", output, output.stat().st_size / 1e6)
