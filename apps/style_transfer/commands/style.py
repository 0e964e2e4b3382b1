"""``style``: keep a style in a file, and list those that are shipped."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from apps.style_transfer.commands.common import STYLE, add_common, add_style_weights, add_weights
from apps.style_transfer.style import STYLE_SUFFIX, gallery
from apps.style_transfer.stylizer import STYLE_SIZE, Stylizer

log = logging.getLogger("apps.style_transfer")

HELP = "keep a style in a file, or list the shipped ones"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    save = actions.add_parser("save", help="encode pictures once, to be used wherever a style is asked for")
    save.set_defaults(run=_save)
    option = save.add_argument
    option("style", nargs="+", help=f"{STYLE}; several are blended")
    option("-o", "--output", type=Path, required=True, help=f"where to write, a name that ends in {STYLE_SUFFIX}")
    add_style_weights(save)
    option(
        "--size",
        type=int,
        help="longest side that the pictures are brought to: that of the photographs, for strokes as large as with the "
        f"picture itself (default: at most {STYLE_SIZE})",
    )
    add_weights(save)
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
