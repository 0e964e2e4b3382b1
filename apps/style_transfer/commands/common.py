"""What several commands share: their options, each said once, and what is made of these."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.style_transfer.projectors import DOMAINS, PHOTO, PROJECTORS, ProjectorOptions
from apps.style_transfer.transfer import Options

STYLE = "a picture whose style to take, a saved style, or a name that style list shows"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every command has that computes."""
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    add_verbose(parser)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``--verbose``."""
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show the traceback of an error")


def add_overwrite(container: argparse._ActionsContainer) -> None:
    """Add ``--overwrite``."""
    container.add_argument("--overwrite", action="store_true", help="make anew what exists; else it is refused")


def add_style(parser: argparse.ArgumentParser, several: str, **settings: Any) -> None:
    """Add ``--style``, of which ``several`` says what becomes of more than one."""
    parser.add_argument("-s", "--style", nargs="+", help=f"{STYLE}; {several}", **settings)


def add_style_weights(parser: argparse.ArgumentParser, otherwise: str = "equal") -> None:
    """Add ``--style-weights``."""
    parser.add_argument(
        "--style-weights",
        type=float,
        nargs="+",
        metavar="W",
        help=f"shares by which several styles are blended (default: {otherwise})",
    )


def add_style_scale(parser: argparse.ArgumentParser) -> None:
    """Add ``--style-scale``."""
    parser.add_argument(
        "--style-scale",
        type=float,
        default=Options().style_scale,
        help="longest side of the style over that of the result; larger gives larger strokes (default: %(default)s)",
    )


def add_projector(parser: argparse.ArgumentParser) -> None:
    """Add what stands in the loop: ``--projector``, ``--photo`` and ``--photo-strength``."""
    add = parser.add_argument
    add("--projector", choices=PROJECTORS, help="what keeps the picture a photograph (default: none)")
    add("--photo", action="store_true", help="the best photorealistic preset; other options still override it")
    add(
        "--photo-strength",
        type=float,
        metavar="S",
        help="from 0 (artistic) to 1 (photorealistic): how much of the projector stands in the loop (default: 1)",
    )


def add_size(parser: argparse.ArgumentParser, source: str) -> None:
    """Add ``--size`` of the result; without it, it is that of the source."""
    help = f"longest side of the result in pixels (default: that of the {source})"
    parser.add_argument("--size", type=int, help=help)


def add_alpha(parser: argparse.ArgumentParser) -> None:
    """Add ``--alpha``."""
    help = "scale of every step; 0 leaves the picture as it is (default: %(default)g)"
    parser.add_argument("--alpha", type=float, default=Options().alpha, help=help)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``."""
    parser.add_argument("--weights", type=Path, default=Options().weights, help="another file of learned weights")


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add the parameters of projectors and solvers."""
    default, constraint = Options(), ProjectorOptions()
    add = parser.add_argument
    add("--k", type=float, help=f"eigenvectors of the matting projectors, or their share (default: {constraint.k})")
    add("--energy", type=float, help=f"what matting-energy leaves a pixel (default: {constraint.energy:g})")
    add(
        "--eps",
        type=float,
        help=f"of the matting Laplacian and the guided filter: where it is flat (default: {constraint.eps:g})",
    )
    add("--gamma", type=float, help=f"strength of the tikhonov projectors (default: {constraint.gamma:g})")
    add("--order", type=int, help="order of the matting-chebyshev projector (default: by the cutoff)")
    add("--radius", type=int, help=f"windows of the guided filter (default: {constraint.radius})")
    add("--domain", choices=DOMAINS, help=f"what is projected (default: {constraint.domain} from the photograph)")
    add("--steps", type=float, help="iterations (default: 4 learned, 6 with --photo, 50 exact)")
    add("--refine", type=int, default=default.refine, help="exact steps from there on (default: %(default)s)")
    add_alpha(parser)
    add("--content-weight", type=float, default=default.content_weight, help="of the exact solvers; %(default)s")
    add("--style-weight", type=float, default=default.style_weight, help="of the exact solvers; %(default)s")
    add("--photo-weight", type=float, default=default.photo_weight, help="of the luan solver; %(default)s")
    add_weights(parser)
    add("--vgg", default=default.vgg, choices=("embedded", "torchvision"), help="the trunk of the losses")


def constraint(options: argparse.Namespace) -> ProjectorOptions:
    """Return what is to stand in the loop: the preset, and what was given over it.

    What a command does not ask for, not even for the projector, has its default.
    """
    chosen = vars(options)
    strength = chosen.get("photo_strength")
    preset = PHOTO if chosen.get("photo") or strength is not None else ProjectorOptions()
    fields = given(options, ProjectorOptions) | {"name": chosen.get("projector"), "strength": strength}
    return replace(preset, **{name: value for name, value in fields.items() if value is not None})


def given(options: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """Return the options of a command line that are fields of such a record."""
    return {name: value for name, value in vars(options).items() if name in kind.__dataclass_fields__}
