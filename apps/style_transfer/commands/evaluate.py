"""``evaluate``: figures and a report of solvers on pairs of pictures."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from apps.style_transfer.commands.common import add_common, add_parameters, constraint, given
from apps.style_transfer.devices import choose_device
from apps.style_transfer.evaluation.evaluate import IN_THE_LOOP, Evaluation, evaluate, methods_of, summary
from apps.style_transfer.evaluation.report import write_csv, write_html, write_json
from apps.style_transfer.projectors import ProjectorOptions
from apps.style_transfer.transfer import SOLVERS, Options

log = logging.getLogger("apps.style_transfer")

HELP = "figures and a report of solvers on pairs of pictures"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Evaluation(Path(), Path(), Path("out/evaluation"))
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("--contents", type=Path, required=True, help="folder of photographs")
    option("--styles", type=Path, required=True, help="folder of pictures whose style they take")
    option("--pairs", type=Path, help="file with a content's and a style's file name on each line, with a tab between")
    option("--count", type=int, default=default.count, help="pairs drawn where no file names them; %(default)s")
    option("--seed", type=int, default=default.seed, help="of the drawing; %(default)s")
    option("--held-back", action="store_true", help="draw only pictures that the training holds back by their name")
    option("--solvers", type=_names(SOLVERS), default=("learned",), help=f"with commas, of {', '.join(SOLVERS)}")
    option(
        "--projectors", type=_names(IN_THE_LOOP), default=("none",), help=f"with commas, of {', '.join(IN_THE_LOOP)}"
    )
    option("--size", type=int, default=default.size, help="longest side in pixels; %(default)s")
    option(
        "--gatys", type=int, default=default.gatys, help="L-BFGS iterations of the yardstick; %(default)s, 0 for none"
    )
    option("--warm-only", dest="cold", action="store_false", help="leave out the time of the whole program")
    add_parameters(parser)
    option("--work", type=Path, default=default.work, help="folder for pictures and finished rows; %(default)s")
    option("--json", type=Path, help="write medians, quartiles and all rows here")
    option("--csv", type=Path, help="write all rows here")
    option("--html", type=Path, help="write one page with figures and pictures here")
    add_common(parser)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}: choose from {', '.join(known)}")
        return names

    return read


def run(options: argparse.Namespace) -> None:
    """Do it."""
    for path in (options.json, options.csv, options.html):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{path} cannot be written: give a file name in a folder that exists")
    fields = {
        "methods": methods_of(options.solvers, options.projectors, constraint(options)),
        "options": Options(**{**given(options, Options), "projector": ProjectorOptions()}),
        "device": str(choose_device(options.device)),
    }
    evaluation = Evaluation(**{**given(options, Evaluation), **fields})
    rows = evaluate(evaluation)
    if options.json:
        write_json(options.json, rows)
    if options.csv:
        write_csv(options.csv, rows)
    if options.html:
        write_html(options.html, rows, options.work)
    for method, figures in summary(rows).items():
        shown = "  ".join(f"{name} {found['median']:.4g}" for name, found in figures.items())
        log.info("%s: %s", method, shown)
