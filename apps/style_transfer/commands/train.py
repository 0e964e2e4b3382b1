"""``train``: train the learned solver."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from apps.style_transfer.commands.common import add_common, given
from apps.style_transfer.devices import choose_device
from apps.style_transfer.training.train import OPTIMISERS, Training, train

log = logging.getLogger("apps.style_transfer")

HELP = "train the learned solver"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = Training(photos=(), paintings=(), out=Path(), steps=1)
    parser.set_defaults(run=run)
    option = parser.add_argument
    option("--photos", type=Path, nargs="+", required=True, help="folders of photographs")
    option("--paintings", type=Path, nargs="+", required=True, help="folders of paintings")
    option("--out", type=Path, required=True, help="folder for weights, checkpoint, log and contact sheet")
    option("--steps", type=int, help="budget in steps")
    option("--minutes", type=float, help="budget in minutes")
    option("--batch", type=int, default=default.batch)
    option("--size", type=int, default=default.size, help="side of the crops; %(default)s")
    option("--large-size", type=int, default=default.large_size, help="side of the crops of the last part")
    option("--large-from", type=float, default=default.large_from, help="share of the budget where it begins")
    option("--distil-steps", type=int, default=default.distil_steps, help="of the forward maps; %(default)s")
    option("--single-steps", type=int, default=default.single_steps, help="of g_0 alone; %(default)s")
    option(
        "--pool",
        type=int,
        default=default.pool,
        help="crops whose features are kept, and steps they serve; %(default)s",
    )
    option(
        "--early", type=float, default=default.early, help="share of the batches that stop before step N; %(default)s"
    )
    option("--hardness", type=float, default=default.hardness, help="0 weighs all pairs alike; %(default)s")
    option("--rate", type=float, default=default.rate, help="of the optimiser; %(default)s")
    option("--optimiser", default=default.optimiser, choices=tuple(OPTIMISERS), help="default: %(default)s")
    option(
        "--plain-share",
        type=float,
        default=default.plain_share,
        help="of that rate for plain gradient steps; %(default)s",
    )
    option("--decay", type=float, default=default.decay, help="share of the budget over which it falls to zero, last")
    option(
        "--ema",
        type=float,
        default=default.ema,
        help="of the averaged weights, which are those that are kept; %(default)s",
    )
    option("--seed", type=int, default=default.seed)
    option("--resume", action="store_true", help="go on from the checkpoint in OUT, if there is one")
    option("--start-from", type=Path, help="begin with the weights of this file")
    option("--save-minutes", type=float, default=default.save_minutes)
    option("--validation-size", type=int, default=default.validation_size)
    option("--threads", type=int)
    option(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="train in mixed precision (default: where the device has it in hardware)",
    )
    add_common(parser)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    fields = {"photos": tuple(options.photos), "paintings": tuple(options.paintings)}
    weights = train(Training(**{**given(options, Training), **fields, "device": str(choose_device(options.device))}))
    log.info("weights: %s", weights)
