"""``completion``: what a shell needs to complete the commands and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shtab

from apps.style_transfer.commands.common import add_verbose

HELP = "what a shell needs to complete the commands and options of unroll-style"
SHELLS = ("bash", "zsh", "fish", "tcsh")
_FILES = {"content", "style", "photos", "paintings", "contents", "styles"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=SHELLS, help="its script goes to standard output")
    add_verbose(parser)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    from apps.style_transfer.cli import build_parser  # which holds this command too

    parser = build_parser()
    for action in _actions(parser):
        if action.type is Path or action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, options.shell) + "\n")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Return the options of a parser and of its commands, and of theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands: dict[str, Any] = action.choices
            for command in commands.values():
                yield from _actions(command)
        else:
            yield action
