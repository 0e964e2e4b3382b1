"""``style``: keep a style in a file, and list those that are shipped."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from apps.style_transfer.commands.common import add_common
from apps.style_transfer.style import STYLE_SUFFIX, gallery
from apps.style_transfer.stylizer import STYLE_SIZE, Stylizer
from apps.style_transfer.weights import EMBEDDED_SOLVER

log = logging.getLogger("apps.style_transfer")

HELP = "keep a style in a file, or list the shipped ones"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    save = actions.add_parser("save", help="encode pictures once, to be used wherever a style is asked for")
    save.set_defaults(run=_save)
    option = save.add_argument
    option("style", nargs="+", help="a picture, a saved style, or a name that style list shows; several are blended")
    option("-o", "--output", type=Path, required=True, help=f"where to write, a name that ends in {STYLE_SUFFIX}")
    option("--style-weights", type=float, nargs="+", metavar="W", help="shares of several styles (default: equal)")
    option(
        "--size",
        type=int,
        help="longest side that the pictures are brought to: that of the photographs, for strokes as large as with the "
        f"picture itself (default: at most {STYLE_SIZE})",
    )
    option("--weights", type=Path, default=EMBEDDED_SOLVER, help="another file of learned weights")
    add_common(save)
    shown = actions.add_parser("list", help="names, titles and painters of the shipped styles")
    shown.set_defaults(run=_list)
    add_common(shown)


def _save(options: argparse.Namespace) -> None:
    stylizer = Stylizer(options.weights, options.device)
    style = stylizer.style(options.style, weights=options.style_weights, size=options.size)
    style.save(options.output)
    log.info("%s: %s, %d kB", options.output, style.name, options.output.stat().st_size // 1000)


def _list(options: argparse.Namespace) -> None:
    entries = gallery().values()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        sys.stdout.write(f"{entry.name:{width}}  {entry.title}. {entry.credit}\n")
