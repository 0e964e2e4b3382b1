"""``serve``: a page and an HTTP API."""

from __future__ import annotations

import argparse
import logging
import socket
from contextlib import closing

from apps.style_transfer.commands.common import add_common, add_weights
from apps.style_transfer.serve.limits import Limits

log = logging.getLogger("apps.style_transfer")

MEMORY = 500_000_000
"""Bytes that a step may take: a third of the command line's, for strangers choose the pictures."""

HELP = "a page in the browser, and an HTTP API"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Limits()
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="address to listen on; default: %(default)s, this machine alone")
    option("--port", type=int, default=7860, help="default: %(default)s; 0 takes a free one")
    option("--allow-host", action="append", default=[], metavar="NAME", help="a name that a proxy asks for it by")
    option("--max-queue", type=int, default=default.queue, help="pictures waiting or at work; %(default)s")
    option("--max-megapixels", type=float, default=default.pixels / 1e6, help="of an upload; %(default)g")
    option(
        "--max-result-megapixels",
        type=float,
        default=default.result_pixels / 1e6,
        help="of a result, beyond the first at 60 MB of memory for each; %(default)g",
    )
    option("--max-megabytes", type=float, default=default.bytes / 1e6, help="of a file; %(default)g")
    option("--keep-minutes", type=float, default=default.keep_seconds / 60, help="a result is kept; %(default)g")
    add_weights(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> None:
    """Do it, until it is interrupted."""
    limits = Limits(
        queue=options.max_queue,
        pixels=round(options.max_megapixels * 1e6),
        result_pixels=round(options.max_result_megapixels * 1e6),
        bytes=round(options.max_megabytes * 1e6),
        keep_seconds=options.keep_minutes * 60,
    )
    try:
        import uvicorn

        from apps.style_transfer.serve.api import create_app
    except ImportError as error:
        raise ValueError(f"serve needs {error.name}: pip install 'unroll-style[serve]'") from None
    from apps.style_transfer.serve.jobs import Jobs
    from apps.style_transfer.serve.patience import patient
    from apps.style_transfer.serve.work import Restyler
    from apps.style_transfer.stylizer import Stylizer

    listening = _listen(options.host, options.port)
    address, port = listening.getsockname()[:2]
    local = address in ("127.0.0.1", "::1")
    if not local:
        log.warning("everybody who reaches %s can use this server: it asks for no password", address)
    hosts = frozenset((*LOOPBACK, *options.allow_host)) if local or options.allow_host else None
    restyler = Restyler(Stylizer(options.weights, options.device, memory=MEMORY))
    shown = f"[{address}]" if ":" in address else address
    with closing(listening), closing(Jobs(restyler, limits)) as jobs:
        settings = uvicorn.Config(
            create_app(jobs, hosts=hosts),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            ws="none",
            http=patient(),
        )
        log.info("the page is at http://%s:%d (Ctrl-C ends it)", shown, port)
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; ValueError where the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot listen on {host}, port {port} ({reason}): choose another with --host, --port"
        ) from None
