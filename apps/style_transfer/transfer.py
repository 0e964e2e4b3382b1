"""Style transfer from Python: one function, and what it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from apps.style_transfer.colour import COLOUR_TRANSFERS, ColourUpdate, monge_kantorovich, with_chroma
from apps.style_transfer.files.images import SMALLEST_SIDE, resize, resized, to_pil
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.learned.regions import regional
from apps.style_transfer.losses import ContentLoss, StyleLoss, Targets, encode_style
from apps.style_transfer.masks import Masks, fit_masks, regional_style
from apps.style_transfer.projectors import ProjectorOptions, build_projector
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.solvers import (
    LBFGS,
    PHOTO_WEIGHT,
    STEP_SIZE,
    Descent,
    Encoded,
    Learned,
    Refined,
    StyleSolver,
    whole,
)
from apps.style_transfer.style import Style, Weights, identify, mix, shares
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import EMBEDDED_SOLVER
from unroll import Operator, Unrolled

EXACT = ("gd", "gatys", "luan", "projected")
SOLVERS = ("learned", *EXACT, *COLOUR_TRANSFERS)
PRESERVE = ("luminance", "histogram")
LARGEST_SCALE = 4
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
        iterates: x_0 (the photograph), .., x_N, not clipped, before its colours are put back; of a picture in tiles x_0
            and ``image``.
        seconds: time of the projector's set-up and of the solver, with the encoding of the style.
        projector: the name of the operator that stood in the loop.
    """

    image: Tensor
    iterates: tuple[Tensor, ...] = field(repr=False)
    seconds: float
    projector: str

    @property
    def trace(self) -> tuple[Tensor, ...]:
        """The iterates, by the name that they have in :class:`unroll.Solution`."""
        return self.iterates

    def pil(self) -> Image.Image:
        """Return the picture in 8 bits."""
        return to_pil(self.image)

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows: the photograph and the picture, side by side."""
        shown = BytesIO()
        contact_sheet([[self.iterates[0], self.image]], ["before", "after"]).save(shown, "png")
        return shown.getvalue()


@dataclass(frozen=True)
class Options:
    """How to restyle: the solver, its projector and their parameters.

    Attributes:
        solver: "learned" (four learned steps); "gd" (gradient descent), "projected" (the same with the matting
            projector in the loop), "gatys" (L-BFGS), "luan" (L-BFGS with the photorealism loss); "reinhard" and
            "monge-kantorovich", closed forms that move colours alone.
        projector: what stands in the loop; for "projected", "none" means "matting".
        steps: iterations; None is the solver's own number, with the learned one that of
            :meth:`~apps.style_transfer.projectors.ProjectorOptions.steps`. The learned solver goes on past those that
            it was trained for, with the last two in turn, and takes a fraction of a step.
        refine: exact steps from the solver's result on: L-BFGS, or gradient descent where a projector is given.
        alpha: scales every step; 0 returns the photograph.
        content_weight, style_weight, photo_weight: of the exact solvers; None is the default. The learned one has
            its weights trained in.
        style_weights: shares of several styles; None is equal ones. The learned solver mixes H^s, see
            :func:`~apps.style_transfer.style.blend`, the exact ones the Grams.
        style_scale: the longest side of the style image over that of the content, in (0, 4]: larger gives larger
            strokes.
        preserve_color: "luminance" takes the brightness of the result and the photograph's colours, see
            :func:`~apps.style_transfer.colour.with_chroma`; "histogram" gives the style image the photograph's colours
            first, by :func:`~apps.style_transfer.colour.monge_kantorovich`. Iterates, and their losses, are as the
            solver sees them.
        weights: the file of the learned solver.
        vgg: "embedded" or "torchvision" (which downloads).
    """

    solver: str = "learned"
    projector: ProjectorOptions = field(default_factory=ProjectorOptions)
    steps: float | None = None
    refine: int = 0
    alpha: float = 1.0
    content_weight: float = 1.0
    style_weight: float = 1e-4
    photo_weight: float = PHOTO_WEIGHT
    style_weights: tuple[float, ...] | None = None
    style_scale: float = 1.0
    preserve_color: str | None = None
    weights: Path = EMBEDDED_SOLVER
    vgg: str = "embedded"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 < self.style_scale <= LARGEST_SCALE:
            raise ValueError(f"style-scale must be above 0 and at most {LARGEST_SCALE}, got {self.style_scale:g}")
        if self.preserve_color not in (None, *PRESERVE):
            raise ValueError(f"unknown preserve-color {self.preserve_color!r}: choose {' or '.join(PRESERVE)}")
        if self.solver not in SOLVERS:
            raise ValueError(f"unknown solver {self.solver!r}: choose one of {', '.join(SOLVERS)}")
        if self.vgg not in ("embedded", "torchvision"):
            raise ValueError(f"unknown VGG {self.vgg!r}: choose embedded or torchvision")
        if self.steps is not None and not 0 <= self.steps < math.inf:
            raise ValueError(f"the number of steps must be at least 0, got {self.steps:g}")
        if self.steps is not None and self.solver != "learned":
            whole(self.steps)
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
    exact = partial(LBFGS, first_step=STEP_SIZE) if options.projector.idle else Descent
    return Refined(solver, exact(load_vgg(options.vgg, device), **weights), options.refine)


def load_vgg(name: str, device: torch.device) -> VGG19:
    """Return the trunk by name on a device."""
    return (VGG19.torchvision() if name == "torchvision" else VGG19()).to(device)


def stylize(
    content: Tensor,
    style: Tensor | Style | Sequence[Tensor | Style],
    options: Options | None = None,
    *,
    masks: Masks | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Restyle a photograph after a style image, or after what lies between several.

    Args:
        content: the photograph, (1, 3, H, W) RGB in [0, 1], at least 16 pixels each way; its device is used.
        style: the style image, (1, 3, H', W'); it is resized to ``style_scale`` times the longest side of the content.
            Or a :class:`~apps.style_transfer.style.Style` that the weights of the options have made; or several of
            both, which the options weigh.
        options: None is the learned artistic solver.
        masks: regions of the photograph, and of the style if there is one alone, of
            :func:`~apps.style_transfer.masks.read_masks`: each is restyled by itself. For the learned solver.
        progress: called with t after iterate t = 0..N.
    """
    options = options or Options()
    probe = None if progress is None else lambda x, t: progress(t)
    styles = [style] if isinstance(style, Tensor | Style) else list(style)
    weights = identify(options.weights) if any(isinstance(s, Style) for s in styles) else None
    check_image(content, "content")
    solver = build_solver(options, content.device)
    return restyle(solver, content, styles, options, weights=weights, masks=masks, probe=probe)


def check_image(image: Tensor, name: str) -> None:
    """Raise ValueError unless this is an image (1, 3, H, W) of 16 pixels or more each way."""
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise ValueError(f"the {name} must have the shape (1, 3, H, W), got {tuple(image.shape)}")
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"the {name} is {image.shape[-1]} x {image.shape[-2]} pixels: each side needs {SMALLEST_SIDE} or more"
        )


def style_at(style: Tensor, longest: int) -> Tensor:
    """Return a style image (1, 3, H, W) with its longest side brought to ``longest`` pixels. Raises ValueError."""
    check_style(style, longest)
    return resize(style, longest)


def check_style(style: Tensor, longest: int) -> None:
    """Raise ValueError where an image is no style, or too narrow for one when its longest side is so long."""
    check_image(style, "style")
    height, width = resized(style, longest)
    if min(height, width) < VGG19.smallest_side:
        raise ValueError(
            f"the style is too narrow: at the size of {longest} it has {width} x {height} pixels, "
            f"each side needs {VGG19.smallest_side} or more; crop it, or take a larger size"
        )


def restyle(
    solver: StyleSolver,
    content: Tensor,
    styles: Sequence[Tensor | Style],
    options: Options,
    *,
    weights: Weights | None = None,
    masks: Masks | None = None,
    projector: Operator | None = None,
    probe: Callable[[Tensor, int], None] | None = None,
) -> Result:
    """Run a solver that :func:`build_solver` has made with these options, on a content that was checked.

    Args:
        solver, content, styles, options, masks: as in :func:`stylize`.
        weights: those of the solver, where one of the styles is encoded already.
        projector: what stands in the loop, in the place of the one that the options name.
        probe: called with (x_t, t) after iterate t = 0..N; what it raises ends the call.
    """

    def keep(x: Tensor, t: int) -> Tensor:
        if probe is not None:
            probe(x, t)
        return x

    constraint = options.projector
    if options.solver == "projected" and constraint.name == "none":
        constraint = replace(constraint, name="matting")
    name = "none" if constraint.idle else constraint.name
    began = time.perf_counter()
    encoded = encode_styles(solver, content, styles, options, weights, masks)
    steps = steps_of(solver, options)
    if projector is None:
        projector = build_projector(constraint, content, steps=math.ceil(steps) + options.refine)
    else:
        name = type(projector).__name__
    solution = solver(content, encoded, projector=projector, steps=steps, probe=keep)
    if content.is_cuda:
        torch.cuda.synchronize(content.device)
    if not bool(solution.x.isfinite().all()):
        raise ValueError(f"the {options.solver} solver diverged: make its steps shorter with a smaller alpha")
    image = solution.x.clamp(0, 1)
    if options.preserve_color == "luminance":
        image = with_chroma(image, content)
    return Result(image, solution.trace, time.perf_counter() - began, name)


def steps_of(solver: StyleSolver, options: Options) -> float:
    """Return the steps that were asked for, or those that the solver takes with this projector."""
    return solver.steps_with(options.projector) if options.steps is None else options.steps


def encode_styles(
    solver: StyleSolver,
    content: Tensor,
    styles: Sequence[Tensor | Style],
    options: Options,
    weights: Weights | None,
    masks: Masks | None,
) -> Any:
    """Return what the solver needs of the styles, mixed; those without a share are not looked at."""
    parts = [(s, w) for s, w in zip(styles, shares(options.style_weights, len(styles)), strict=True) if w]
    if options.solver in COLOUR_TRANSFERS and len(parts) > 1:
        raise ValueError(f"{options.solver} takes the colours of one picture: give one style")
    learned = solver if isinstance(solver, Learned) else None
    if learned is None and masks is not None:
        raise ValueError("masks serve the learned steps alone: leave out --solver and --refine")
    if masks is not None and masks.style.shape[-2:] != (1, 1):  # which stands for none
        only = parts[0][0]
        if learned is None or len(parts) > 1 or isinstance(only, Style):
            raise ValueError("a style mask lies on the picture of one style: give that alone, or leave the mask out")
        return regional_style(learned.update, style_as_seen(only, content, options), masks, content.shape[-2:])
    encoded = []
    for style, _ in parts:
        if isinstance(style, Tensor):
            encoded.append(solver.encode(style_as_seen(style, content, options)))
            continue
        if learned is None:
            raise ValueError("a saved style serves the learned steps alone: give the picture of the style")
        if options.preserve_color == "histogram" or options.style_scale != 1:
            raise ValueError("a saved style has its colours and its size: give the picture of the style")
        assert weights is not None  # the callers' business
        style.belongs_to(weights)
        encoded.append(style.on(content))
    mixed = mix(encoded, [w for _, w in parts])
    if masks is None:
        return mixed
    return regional([mixed] * len(masks.content), fit_masks(masks.content, content.shape[-2:], "content mask"))


def style_size(style: Tensor, size: Sequence[int], scale: float) -> int:
    """Return the longest side that a style image is brought to beside a photograph (H, W): ``scale`` times its longest.

    Less where the style would have more than twice the photograph's pixels, as a square one has beside a photograph of
    2 to 1, and more than a megapixel, for the sake of time and memory: beside a panorama.
    """
    h, w = style.shape[-2:]
    most = max(2 * size[-2] * size[-1], MEASURED_PIXELS) * scale**2
    return round(min(scale * max(size), math.sqrt(most * max(h, w) / min(h, w))))


def style_as_seen(style: Tensor, content: Tensor, options: Options) -> Tensor:
    """Return a style image as the solver is to see it beside the photograph: its size, its colours."""
    image = style_at(style.to(content), style_size(style, content.shape[-2:], options.style_scale))
    return monge_kantorovich(image, content).clamp(0, 1) if options.preserve_color == "histogram" else image


@torch.inference_mode()
def measure(
    result: Result, style: Tensor | Sequence[Tensor], vgg: VGG19, *, style_weights: Sequence[float] | None = None
) -> Losses:
    """Return the reference losses of every iterate; above a megapixel, those of reduced copies.

    Of several styles, the Grams are mixed by their weights, as the exact solvers do.
    """
    styles = [style] if isinstance(style, Tensor) else style
    content = result.iterates[0]
    h, w = content.shape[-2:]
    longest = round(max(h, w) * min(1.0, (MEASURED_PIXELS / (h * w)) ** 0.5))
    grams = [encode_style(vgg, resize(s.to(content), longest)) for s in styles]
    targets = Targets(vgg(resize(content, longest))[-1], mix(grams, shares(style_weights, len(styles))))
    features = [vgg(resize(x.clamp(0, 1), longest)) for x in result.iterates]
    content_losses = [float(ContentLoss()(f, targets)) for f in features]
    style_losses = [float(StyleLoss()(f, targets)) for f in features]
    total = [c + 1e-4 * s for c, s in zip(content_losses, style_losses, strict=True)]
    height, width = resize(content, longest).shape[-2:]
    return Losses(content_losses, style_losses, total, width, height)
