"""``video``: restyle a video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm import tqdm

from apps.style_transfer.commands.common import add_common, constraint
from apps.style_transfer.projectors import PROJECTORS
from apps.style_transfer.transfer import Options
from apps.style_transfer.video.restyling import Look, restyle_video

log = logging.getLogger("apps.style_transfer")

HELP = "restyle a video, steady from frame to frame"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default, look = Options(), Look()
    # The rest of what constraint() looks at has its default.
    parser.set_defaults(run=run, k=None, energy=None, eps=None, gamma=None, order=None, domain=None)
    option = parser.add_argument
    option("source", type=Path, metavar="IN", help="the video")
    option(
        "-s",
        "--style",
        nargs="+",
        required=True,
        help="the picture whose style it takes, a saved style, or a name that style list shows; several are blended",
    )
    option("-o", "--output", type=Path, required=True, help="where to write: .mp4, .mov, .m4v or .mkv")
    option("--overwrite", action="store_true", help="replace what exists; else it is refused")
    option("--style-weights", type=float, nargs="+", metavar="W", help="shares of several styles (default: equal)")
    option(
        "--style-scale",
        type=float,
        default=default.style_scale,
        help="longest side of the style over that of the result; larger gives larger strokes (default: %(default)s)",
    )
    option("--preserve-color", choices=("luminance",), help="take the luminance of the result and the video's colours")
    option("--projector", choices=PROJECTORS, help="what keeps a frame a photograph (default: none)")
    option("--photo", action="store_true", help="the best photorealistic preset")
    option("--photo-strength", type=float, metavar="S", help="from 0 (artistic) to 1 (photorealistic)")
    option(
        "--consistency",
        type=float,
        default=look.consistency,
        metavar="LAMBDA",
        help="how much a frame is held to the one before; 0 restyles each by itself (default: %(default)s)",
    )
    option("--size", type=int, help="longest side of the result in pixels (default: that of the video)")
    option("--alpha", type=float, default=default.alpha, help="scale of every step (default: %(default)s)")
    option("--weights", type=Path, default=default.weights, help="another file of learned weights")
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
