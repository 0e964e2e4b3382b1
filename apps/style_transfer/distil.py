"""Where training starts: forward maps that imitate VGG-19 and, where they are gated, backward maps that transpose them.

The idea is to begin as a descent on an approximate style loss, rather than as noise. The shipped weights began so; in
the one comparison made, 100 steps from a random start went as far.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import trange

from apps.style_transfer.losses import gram
from apps.style_transfer.update import GramGradient, GramUpdate, Level

log = logging.getLogger(__name__)

# Root mean square of the first update, in units of the image: a visible step, far from the bound.
_FIRST_STEP = 0.03


def distil(
    update: GramUpdate,
    vgg: nn.Module,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    *,
    steps: int,
    rate: float = 2e-3,
    pca_batches: int = 12,
    bfloat16: bool = True,
    interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Initialise an update in place, by ``steps`` of regression on the images of ``batch(step)``.

    The taps of level l learn the c_l first principal components of VGG's conv{l}_2, one scale for each level; then all
    gradients t = 0..N-1 are given these forward maps. Where backward maps are gated they are given the transposes too,
    scaled so that every level contributes alike and the first update has a root mean square of 0.03; those with ReLUs
    of their own keep their random start. Needs an architecture of four levels; ValueError otherwise.
    """
    if len(update.architecture.channels) != 4:
        raise ValueError(
            f"distillation needs the four levels of VGG, the architecture has {len(update.architecture.channels)}: "
            "train with --distil-steps 0"
        )
    student = cast(GramGradient, update.gradients[0])
    projections = _principal_components(vgg, batch, pca_batches, update.architecture.channels)
    parameters = [p for level in student.levels for p in cast(Level, level).forward_parameters()]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    errors: list[float] = []
    for step in (bar := trange(steps, desc="distilling", unit="step", disable=None)):
        if interrupted():
            return
        images = torch.cat(batch(step))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            with torch.no_grad():
                targets = [p(f) for p, f in zip(projections, vgg(images), strict=True)]
            taps = [tap for _, tap in student.features(images)]
            terms = [(tap.float() - target).square().mean() for tap, target in zip(taps, targets, strict=True)]
            loss = torch.stack(terms).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        errors.append(loss.item())
        bar.set_postfix_str(f"error {sum(errors[-20:]) / len(errors[-20:]):.3f}")
        if step % 50 == 49:
            log.info("distilling: step %d, errors by level %s", step + 1, [round(term.item(), 3) for term in terms])
    if update.architecture.gated:
        _mirror(student, *batch(steps))
    for gradient in list(update.gradients)[1:]:
        own = gradient.state_dict()
        kept = {} if update.architecture.gated else {k: v for k, v in own.items() if ".backward_" in k}
        gradient.load_state_dict({**student.state_dict(), **kept})


@torch.no_grad()
def _principal_components(
    vgg: nn.Module, batch: Callable[[int], tuple[Tensor, Tensor]], batches: int, channels: tuple[int, ...]
) -> list[Callable[[Tensor], Tensor]]:
    """Return for each level the map from VGG's features to their first components, at a root mean square of one."""
    sums: list[tuple[Tensor, Tensor]] = []
    for step in range(batches):
        features = [f.double() for f in vgg(torch.cat(batch(step)))]
        found = [(f.mean((0, 2, 3)), gram(f).mean(0)) for f in features]
        sums = [(m + a, g + b) for (m, g), (a, b) in zip(sums, found, strict=True)] if sums else found
    projections: list[Callable[[Tensor], Tensor]] = []
    for (mean, second), c in zip(sums, channels, strict=True):
        mean, covariance = mean / batches, second / batches - torch.outer(mean, mean) / batches**2
        values, vectors = torch.linalg.eigh(covariance)
        basis = vectors[:, -c:] / values[-c:].mean().sqrt()
        projections.append(partial(_project, mean.float()[:, None, None], basis.float()))
    return projections


def _project(mean: Tensor, basis: Tensor, features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return torch.einsum("bchw,ck->bkhw", features.float() - mean, basis)


@torch.no_grad()
def _mirror(gradient: GramGradient, contents: Tensor, styles: Tensor) -> None:
    """Make the backward maps the transposes, then scale them level by level."""
    levels = [cast(Level, level) for level in gradient.levels]
    for level in levels:
        level.transpose_()
    style = gradient.encode(styles)
    # Each level is heard alone, from its own D down; what it passes on below is scaled to a share of the first step.
    maps = gradient.features(contents)
    directions = [gradient.direction(tap, h) for (_, tap), h in zip(maps, style, strict=False)]
    for l, level in enumerate(levels):
        alone = [torch.zeros_like(d) for d in directions[:l]]
        d = gradient.carry([*alone, directions[l]], maps, contents)
        scale = _FIRST_STEP / len(levels) ** 0.5 / float(d.square().mean().sqrt())
        # The levels below have been scaled already: what they do to d is in the measurement.
        level.backward_second.weight.mul_(scale)
