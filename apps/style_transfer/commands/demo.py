"""``demo``: the shipped example."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from apps.style_transfer.commands.common import add_common
from apps.style_transfer.demo import demo
from apps.style_transfer.devices import choose_device

log = logging.getLogger("apps.style_transfer")

HELP = "restyle the shipped example and draw a contact sheet"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(run=run)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the sheet; default: %(default)s")
    add_common(parser)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    sheet = demo(options.out, choose_device(options.device))
    log.info("the pictures are in %s, side by side in %s", options.out, sheet)
