"""What several commands share: their options, and what is made of these."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.style_transfer.projectors import DOMAINS, PHOTO, ProjectorOptions
from apps.style_transfer.transfer import Options


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show the traceback of an error")


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add the parameters of projectors and solvers."""
    default, constraint = Options(), ProjectorOptions()
    add = parser.add_argument
    add("--k", type=float, help=f"eigenvectors of the matting projectors, or their share (default: {constraint.k})")
    add("--energy", type=float, help=f"what matting-energy leaves a pixel (default: {constraint.energy:g})")
    add("--eps", type=float, help=f"of the matting Laplacian: where it is flat (default: {constraint.eps:g})")
    add("--gamma", type=float, help=f"strength of the tikhonov projectors (default: {constraint.gamma:g})")
    add("--order", type=int, help="order of the matting-chebyshev projector (default: by the cutoff)")
    add("--domain", choices=DOMAINS, help=f"what is projected (default: {constraint.domain} from the photograph)")
    add("--steps", type=int, help="iterations (default: 4 learned, 50 exact)")
    add("--refine", type=int, default=default.refine, help="exact steps from there on (default: %(default)s)")
    add("--alpha", type=float, default=default.alpha, help="scale of every step; 0 returns the photograph")
    add("--content-weight", type=float, default=default.content_weight, help="of the exact solvers; %(default)s")
    add("--style-weight", type=float, default=default.style_weight, help="of the exact solvers; %(default)s")
    add("--photo-weight", type=float, default=default.photo_weight, help="of the luan solver; %(default)s")
    add("--weights", type=Path, default=default.weights, help="another file of learned weights")
    add("--vgg", default=default.vgg, choices=("embedded", "torchvision"), help="the trunk of the losses")


def constraint(options: argparse.Namespace) -> ProjectorOptions:
    """Return what is to stand in the loop: the preset, and what was given over it."""
    preset = PHOTO if options.photo or options.photo_strength is not None else ProjectorOptions()
    given = {
        "name": options.projector,
        "k": options.k,
        "energy": options.energy,
        "eps": options.eps,
        "gamma": options.gamma,
    }
    given |= {"order": options.order, "domain": options.domain, "strength": options.photo_strength}
    return replace(preset, **{name: value for name, value in given.items() if value is not None})


def given(options: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """Return the options of a command line that are fields of such a record."""
    return {name: value for name, value in vars(options).items() if name in kind.__dataclass_fields__}
