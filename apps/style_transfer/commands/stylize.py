"""``stylize``: restyle one photograph."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from apps.style_transfer.commands.common import add_common, add_parameters, constraint, given
from apps.style_transfer.devices import choose_device
from apps.style_transfer.images import (
    SMALLEST_SIDE,
    Picture,
    check_output,
    read_image,
    resize,
    resize_alpha,
    write_image,
)
from apps.style_transfer.progress import step_bar
from apps.style_transfer.projectors import PROJECTORS
from apps.style_transfer.transfer import SOLVERS, Options, load_vgg, measure, stylize

log = logging.getLogger("apps.style_transfer")

HELP = "restyle one photograph"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Options()
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("-c", "--content", type=Path, required=True, help="the photograph")
    option("-s", "--style", type=Path, required=True, help="the picture whose style it takes")
    option("-o", "--output", type=Path, help="where to write (default: CONTENT_stylized_STYLE.png here)")
    option("--solver", default=default.solver, choices=SOLVERS, help="default: %(default)s")
    option("--projector", choices=PROJECTORS, help="what keeps the picture a photograph (default: none)")
    option("--photo", action="store_true", help="the best photorealistic preset; other options still override it")
    option("--size", type=int, help="longest side of the result in pixels (default: that of the photograph)")
    add_parameters(parser)
    option("--json", action="store_true", help="print figures as the last line on standard output")
    add_common(parser)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    device = choose_device(options.device)
    choice = Options(**{**given(options, Options), "projector": constraint(options)})
    output = options.output or Path(f"{options.content.stem}_stylized_{options.style.stem}.png")
    check_output(output)
    photograph, painting = read_image(options.content), read_image(options.style)
    content = photograph.rgb
    if options.size is not None:
        if options.size < SMALLEST_SIDE:
            raise ValueError(f"--size must be at least {SMALLEST_SIDE} pixels, got {options.size}")
        content = resize(content, options.size)
    content, style = content.to(device), painting.rgb.to(device)
    with step_bar(choice.solver) as advance:
        result = stylize(content, style, choice, progress=advance)
    alpha = None if photograph.alpha is None else resize_alpha(photograph.alpha, result.image.shape[-2:])
    write_image(output, Picture(result.image, alpha, photograph.icc_profile))
    log.info("%s: %.2f s, %s", choice.solver, result.seconds, output)
    if options.json:
        losses = measure(result, style, load_vgg(choice.vgg, device))
        report = {
            "seconds": result.seconds,
            "content_loss": losses.content,
            "style_loss": losses.style,
            "total_loss": losses.total,
            "solver": choice.solver,
            "projector": result.projector,
            "size": list(result.image.shape[:1:-1]),
            "losses_measured_at": [losses.width, losses.height],
            "device": str(device),
            "options": {k: v for k, v in asdict(choice).items() if k != "weights"},
        }
        sys.stdout.write(json.dumps(report) + "\n")
