"""Style transfer from Python: one function, and what it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer.checkpoint import load_solver
from apps.style_transfer.colour import COLOUR_TRANSFERS, ColourUpdate
from apps.style_transfer.images import SMALLEST_SIDE, resize
from apps.style_transfer.losses import ContentLoss, StyleLoss, encode_targets
from apps.style_transfer.projectors import ProjectorOptions, build_projector
from apps.style_transfer.solvers import LBFGS, PHOTO_WEIGHT, Descent, Encoded, Learned, Refined, StyleSolver
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import EMBEDDED_SOLVER
from unroll import Unrolled

EXACT = ("gd", "gatys", "luan", "projected")
SOLVERS = ("learned", *EXACT, *COLOUR_TRANSFERS)
MEASURED_PIXELS = 1_000_000
"""Losses are measured on at most this many pixels."""


@dataclass(frozen=True)
class Losses:
    """The losses of N + 1 iterates, the photograph's first, on pictures of ``width`` x ``height`` clipped to [0, 1].

    The reference objective: ``total`` is 1.0 content + 1e-4 style whatever weights the solver used.
    """

    content: list[float]
    style: list[float]
    total: list[float]
    width: int
    height: int


@dataclass(frozen=True)
class Result:
    """A restyled picture.

    Attributes:
        image: (1, 3, H, W) in [0, 1].
        iterates: x_0 (the photograph), .., x_N, not clipped.
        seconds: time of the projector's set-up and of the solver, with the encoding of the style.
        projector: the name of the operator that stood in the loop.
    """

    image: Tensor
    iterates: tuple[Tensor, ...] = field(repr=False)
    seconds: float
    projector: str


@dataclass(frozen=True)
class Options:
    """How to restyle: the solver, its projector and their parameters.

    Attributes:
        solver: "learned" (four learned steps); "gd" (gradient descent), "projected" (the same with the matting
            projector in the loop), "gatys" (L-BFGS), "luan" (L-BFGS with the photorealism loss); "reinhard" and
            "monge-kantorovich", closed forms that move colours alone.
        projector: what stands in the loop; for "projected", "none" means "matting".
        steps: iterations; None is the solver's own number.
        refine: exact steps from the solver's result on: L-BFGS, or gradient descent where a projector is given.
        alpha: scales every step; 0 returns the photograph.
        content_weight, style_weight, photo_weight: of the exact solvers; None is the default. The learned one has
            its weights trained in.
        weights: the file of the learned solver.
        vgg: "embedded" or "torchvision" (which downloads).
    """

    solver: str = "learned"
    projector: ProjectorOptions = field(default_factory=ProjectorOptions)
    steps: int | None = None
    refine: int = 0
    alpha: float = 1.0
    content_weight: float = 1.0
    style_weight: float = 1e-4
    photo_weight: float = PHOTO_WEIGHT
    weights: Path = EMBEDDED_SOLVER
    vgg: str = "embedded"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.solver not in SOLVERS:
            raise ValueError(f"unknown solver {self.solver!r}: choose one of {', '.join(SOLVERS)}")
        if self.vgg not in ("embedded", "torchvision"):
            raise ValueError(f"unknown VGG {self.vgg!r}: choose embedded or torchvision")
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"the number of steps must be at least 0, got {self.steps}")
        if self.refine < 0:
            raise ValueError(f"the number of refining steps must be at least 0, got {self.refine}")
        if self.refine and self.solver in EXACT:
            raise ValueError(f"{self.solver} takes exact steps already: give it more of them with steps")
        for name in ("alpha", "content_weight", "style_weight", "photo_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name.replace('_', '-')} must be a number of at least 0, got {getattr(self, name):g}"
                )


def build_solver(options: Options, device: torch.device) -> StyleSolver:
    """Return the solver of the options, its weights on the device."""
    weights = {"content_weight": options.content_weight, "style_weight": options.style_weight}
    solver: StyleSolver
    if options.solver == "learned":
        learned = load_solver(options.weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        solver = Learned(learned, alpha=options.alpha)
    elif options.solver in COLOUR_TRANSFERS:
        recolour = Unrolled(ColourUpdate(COLOUR_TRANSFERS[options.solver]), steps=1)
        solver = Encoded(recolour, lambda style: style, alpha=options.alpha)
    elif options.solver in ("gd", "projected"):
        solver = Descent(load_vgg(options.vgg, device), alpha=options.alpha, **weights)
    else:
        photo_weight = options.photo_weight if options.solver == "luan" else 0.0
        solver = LBFGS(load_vgg(options.vgg, device), photo_weight=photo_weight, alpha=options.alpha, **weights)
    if not options.refine:
        return solver
    # A projected L-BFGS is no descent method: its history is of steps that the projector has changed.
    exact = LBFGS if options.projector.name == "none" else Descent
    return Refined(solver, exact(load_vgg(options.vgg, device), **weights), options.refine)


def load_vgg(name: str, device: torch.device) -> VGG19:
    """Return the trunk by name on a device."""
    return (VGG19.torchvision() if name == "torchvision" else VGG19()).to(device)


def stylize(
    content: Tensor,
    style: Tensor,
    options: Options | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Restyle a photograph after a style image.

    Args:
        content: the photograph, (1, 3, H, W) RGB in [0, 1], at least 16 pixels each way; its device is used.
        style: the style image, (1, 3, H', W'); it is resized to the longest side of the content.
        options: None is the learned artistic solver.
        progress: called with t after iterate t = 0..N.
    """
    options = options or Options()
    for name, image in (("content", content), ("style", style)):
        if image.ndim != 4 or image.shape[:2] != (1, 3):
            raise ValueError(f"the {name} must have the shape (1, 3, H, W), got {tuple(image.shape)}")
        if min(image.shape[-2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"the {name} is {image.shape[-1]} x {image.shape[-2]} pixels: each side needs {SMALLEST_SIDE} or more"
            )
    solver = build_solver(options, content.device)
    style = resize(style.to(content), max(content.shape[-2:]))
    if min(style.shape[-2:]) < VGG19.smallest_side:
        raise ValueError(
            f"the style is too narrow: at the content's size it has {style.shape[-1]} x {style.shape[-2]} pixels, "
            f"each side needs {VGG19.smallest_side} or more; crop it, or make the content larger"
        )

    def keep(x: Tensor, t: int) -> Tensor:
        if progress is not None:
            progress(t)
        return x

    constraint = options.projector
    if options.solver == "projected" and constraint.name == "none":
        constraint = ProjectorOptions("matting", k=constraint.k, order=constraint.order, domain=constraint.domain)
    began = time.perf_counter()
    projector = build_projector(constraint, content)
    solution = solver(content, solver.encode(style), projector=projector, steps=options.steps, probe=keep)
    if content.is_cuda:
        torch.cuda.synchronize(content.device)
    if not bool(solution.x.isfinite().all()):
        raise ValueError(f"the {options.solver} solver diverged: make its steps shorter with a smaller alpha")
    return Result(solution.x.clamp(0, 1), solution.trace, time.perf_counter() - began, constraint.name)


@torch.inference_mode()
def measure(result: Result, style: Tensor, vgg: VGG19) -> Losses:
    """Return the reference losses of every iterate; above a megapixel, those of reduced copies."""
    content = result.iterates[0]
    h, w = content.shape[-2:]
    longest = round(max(h, w) * min(1.0, (MEASURED_PIXELS / (h * w)) ** 0.5))
    targets = encode_targets(vgg, resize(content, longest), resize(style.to(content), longest))
    features = [vgg(resize(x.clamp(0, 1), longest)) for x in result.iterates]
    content_losses = [float(ContentLoss()(f, targets)) for f in features]
    style_losses = [float(StyleLoss()(f, targets)) for f in features]
    total = [c + 1e-4 * s for c, s in zip(content_losses, style_losses, strict=True)]
    height, width = resize(content, longest).shape[-2:]
    return Losses(content_losses, style_losses, total, width, height)
