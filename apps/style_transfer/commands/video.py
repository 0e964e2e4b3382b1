"""``video``: restyle a video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm import tqdm

from apps.style_transfer.commands.common import (
    add_alpha,
    add_common,
    add_overwrite,
    add_projector,
    add_size,
    add_style,
    add_style_scale,
    add_style_weights,
    add_weights,
    constraint,
)
from apps.style_transfer.transfer import Options
from apps.style_transfer.video.restyling import Look, restyle_video

log = logging.getLogger("apps.style_transfer")

HELP = "restyle a video, steady from frame to frame"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Look()
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("source", type=Path, metavar="IN", help="the video")
    add_style(parser, "several are blended", required=True)
    option("-o", "--output", type=Path, required=True, help="where to write: .mp4, .mov, .m4v or .mkv")
    add_overwrite(parser)
    add_style_weights(parser)
    add_style_scale(parser)
    option("--preserve-color", choices=("luminance",), help="take the luminance of the result and the video's colours")
    add_projector(parser)
    option(
        "--consistency",
        type=float,
        default=default.consistency,
        metavar="LAMBDA",
        help="how much a frame is held to the one before; 0 restyles each by itself (default: %(default)s)",
    )
    add_size(parser, "video")
    add_alpha(parser)
    add_weights(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    look = Look(
        projector=constraint(options),
        consistency=options.consistency,
        alpha=Options(alpha=options.alpha).alpha,
        preserve_color=options.preserve_color,
    )
    with tqdm(unit="frame", disable=None, leave=False) as bar:

        def progress(done: int, total: int | None) -> None:
            if bar.total is None:  # what an earlier run has made says nothing of the time that is left
                bar.initial = bar.n = done
            bar.total = total
            bar.update(done - bar.n)

        try:
            restyle_video(
                options.source,
                options.output,
                options.style,
                look,
                style_weights=options.style_weights,
                style_scale=options.style_scale,
                size=options.size,
                weights=options.weights,
                device=options.device,
                overwrite=options.overwrite,
                progress=progress,
            )
        except KeyboardInterrupt:
            log.info("stopped: the same command goes on from the last whole segment")
            raise
    log.info("%s: restyled, with the sound of %s", options.output, options.source)
