"""``stylize``: restyle photographs."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer.batches.restyling import Recipe, Restyling
from apps.style_transfer.commands.batches import add_files, may_make, run_many, styles_of, tasks_of, threads_for
from apps.style_transfer.commands.common import (
    add_common,
    add_parameters,
    add_projector,
    add_size,
    add_style,
    add_style_scale,
    add_style_weights,
    constraint,
    given,
)
from apps.style_transfer.devices import choose_device
from apps.style_transfer.files.decode import size_of
from apps.style_transfer.files.images import SMALLEST_SIDE
from apps.style_transfer.progress import step_bar
from apps.style_transfer.style import Style
from apps.style_transfer.transfer import PRESERVE, SOLVERS, Options, Result, load_vgg, measure

log = logging.getLogger("apps.style_transfer")

HELP = "restyle photographs"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Options()
    parser.set_defaults(run=run)
    option = parser.add_argument
    option(
        "-c",
        "--content",
        nargs="+",
        action="extend",
        required=True,
        help="the photograph; a folder, a quoted pattern such as 'shots/*.jpg' or several stand for many",
    )
    add_style(parser, "several, one by one", action="extend", required=True)
    add_style_weights(parser, otherwise="one by one")
    add_style_scale(parser)
    option(
        "--preserve-color",
        choices=PRESERVE,
        help="keep the photograph's colours: take the luminance of the result alone, or match the style to them first",
    )
    option("--content-mask", type=Path, help="regions of the photograph: a grey picture, labels, or colours")
    option("--style-mask", type=Path, help="regions of the style, in the colours of those that take after them")
    add_files(parser)
    option("--solver", default=default.solver, choices=SOLVERS, help="default: %(default)s")
    add_projector(parser)
    add_size(parser, "photograph")
    add_parameters(parser)
    option("--json", action="store_true", help="print figures as the last line on standard output")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """Do it, and return the exit status."""
    device = choose_device(options.device)
    weights = None if options.style_weights is None else tuple(options.style_weights)
    choice = Options(**{**given(options, Options), "projector": constraint(options), "style_weights": weights})
    if options.style_mask is not None and options.content_mask is None:
        raise ValueError("--style-mask needs the regions of the photograph: give --content-mask")
    if not 0 < options.memory < math.inf or not 0 < options.max_megapixels < math.inf:
        raise ValueError("--memory and --max-megapixels must be numbers above 0")
    if options.size is not None and options.size < SMALLEST_SIDE:
        raise ValueError(f"--size must be at least {SMALLEST_SIDE} pixels, got {options.size}")
    styles = styles_of(options)
    recipe = Recipe(
        choice,
        styles,
        device=options.device,
        size=options.size,
        content_mask=options.content_mask,
        style_mask=options.style_mask,
        max_pixels=round(options.max_megapixels * 1e6),
        memory=round(options.memory * 1e9),
        threads=threads_for(options),
    )
    tasks, several = tasks_of(options, styles)
    if several:
        return run_many(tasks, recipe, options)
    (task,) = tasks
    if may_make(task, options):
        work = Restyling(recipe)
        with step_bar(choice.solver) as advance:
            result = work.make(task, advance)
        log.info("%s: %.2f s, %s", choice.solver, result.seconds, task.output)
        if options.json:
            _report(result, task.output, [work.source(source) for source in styles[task.style]], choice, device)
    return 0


def _report(
    result: Result, output: Path, styles: Sequence[Tensor | Style], choice: Options, device: torch.device
) -> None:
    pictures = [style for style in styles if isinstance(style, Tensor)]
    # A saved style is no picture that the trunk could look at.
    known = len(pictures) == len(styles)
    losses = (
        measure(result, pictures, load_vgg(choice.vgg, device), style_weights=choice.style_weights) if known else None
    )
    report = {
        "seconds": result.seconds,
        "content_loss": losses and losses.content,
        "style_loss": losses and losses.style,
        "total_loss": losses and losses.total,
        "solver": choice.solver,
        "projector": result.projector,
        "size": list(size_of(output)),
        "losses_measured_at": losses and [losses.width, losses.height],
        "device": str(device),
        "options": {k: v for k, v in asdict(choice).items() if k != "weights"},
    }
    sys.stdout.write(json.dumps(report) + "\n")
