"""The command line: its commands, one-line errors, exit status."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from tqdm.contrib.logging import logging_redirect_tqdm

from apps.style_transfer.commands import completion, demo, evaluate, export, serve, style, stylize, train, video
from apps.style_transfer.devices import out_of_memory

log = logging.getLogger("apps.style_transfer")

COMMANDS = {
    "stylize": stylize,
    "style": style,
    "train": train,
    "evaluate": evaluate,
    "demo": demo,
    "serve": serve,
    "video": video,
    "export": export,
    "completion": completion,
}
_BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """argparse with its complaint on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"{self.prog}: {message} (--help lists the options)\n")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status: 0, 1 (a fault of the program), 2 (bad input), 130 (Ctrl-C)."""
    arguments = list(arguments) or ["demo"]
    if arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["stylize", *arguments]
    options = build_parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        with _terminable(), logging_redirect_tqdm([log]):
            status = options.run(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        message = _explain(error)
        if options.verbose or message is None:
            log.exception("%s failed", options.command)
        if message is not None:
            log.error("unroll-style: %s", message)
        return 1 if message is None else _BAD_INPUT
    finally:
        log.removeHandler(handler)
    return int(status or 0)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the program, so that temporary folders go, before it ends it as it would have."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = False

    def leave(*_: object) -> NoReturn:
        nonlocal received
        received = True
        raise SystemExit

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if received:
            signal.raise_signal(signal.SIGTERM)


def _explain(error: Exception) -> str | None:
    """Return the one line for an error that the user can mend, None for a fault of the program."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        return "out of memory: make the picture smaller with --size, or choose another --device"
    if isinstance(error, ValueError):
        return text
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else text
    return None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="unroll-style",
        description="Artistic and photorealistic style transfer by learned updates and a projector of your choice.",
        epilog="Without a command, options mean stylize; with no argument at all, the demo runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, help=command.HELP))
    return parser
