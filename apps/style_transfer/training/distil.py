"""Where training starts: forward maps that imitate VGG-19.

The learned Gram step sees a difference of styles only as far as its features do. Maps that start at random learn a few
features that suffice for one step, and once their Grams agree the later steps have nothing left to see. Imitating VGG's
features first, one step of the solver reached 0.72 of the content's loss where it had reached 0.85 (mean over held-back
pairs at 128 pixels, some 250 training steps each).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm, trange

from apps.style_transfer.learned.update import GramGradient, GramUpdate, Level, PlainGradient
from apps.style_transfer.losses import gram
from apps.style_transfer.training.pool import Pool
from unroll import Loss

log = logging.getLogger(__name__)

_BATCH = 8


def distil(
    update: GramUpdate,
    vgg: nn.Module,
    objective: Loss,
    pool: Pool,
    *,
    steps: int,
    rate: float = 2e-3,
    optimised: int = 25,
    bfloat16: bool = True,
    seed: int = 0,
    interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Initialise the forward maps of an update in place, by ``steps`` of regression on the pictures of a pool.

    The taps of level l learn the first c_l principal components of VGG's conv{l}_2, scaled to lambda_i^(1/4): halfway
    between VGG's own scale, by which the loss weighs them, and whitened, as the learned step uses them. Beside the
    pool's crops they learn ``optimised`` batches of 8 contents after 2, 4 and 8 steps of Adam on the pixels, for they
    will see half-stylised pictures. All gradients t = 0..N-1 are then given these forward maps, and the plain ones
    their transposes as backward maps, which makes them Polyak steps on a loss much like VGG's.

    Needs an update of four levels; ValueError otherwise. Memory: 1 MB a picture at 128 pixels. Nothing is
    changed where it is interrupted before the regression starts.
    """
    student = max((cast(GramGradient, g) for g in update.gradients), key=lambda g: len(g.levels))
    if len(student.levels) != 4:
        raise ValueError(
            f"distillation needs the four levels of VGG, the updates have {len(student.levels)}: "
            "train with --distil-steps 0"
        )
    generator = torch.Generator().manual_seed(seed)
    device = next(update.parameters()).device
    half = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    pictures = list(torch.split(pool.pictures(), _BATCH))
    with half:
        for _ in trange(optimised, desc="stylising by Adam", leave=False, delay=1, disable=None):
            if interrupted():
                return
            pictures += _optimise(objective, pool, generator)
        projections = _principal_components(vgg, pictures, update.architecture.channels, generator, device)
        targets: list[list[Tensor]] = []
        with torch.no_grad():
            for batch in tqdm(pictures, desc="encoding pictures", leave=False, delay=1, disable=None):
                if interrupted():
                    return
                features = vgg(_image(batch, device))
                projected = [_project(f, p) for f, p in zip(features, projections, strict=True)]
                targets.append([t.to("cpu", torch.bfloat16) for t in projected])
    scales = [torch.stack([t[l].float().square().mean() for t in targets]).mean().to(device) for l in range(4)]

    parameters = [p for level in student.levels for p in cast(Level, level).forward_maps.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(2, steps), pct_start=0.05)
    for step in (bar := trange(steps, desc="distilling", unit="step", disable=None)):
        if interrupted():
            return
        i = int(torch.randint(len(pictures), (), generator=generator))
        with half:
            taps = [outputs[-1] for outputs in student.features(_image(pictures[i], device))]
        errors = torch.stack(
            [
                (tap.float() - target.to(device).float()).square().mean() / scale
                for tap, target, scale in zip(taps, targets[i], scales, strict=True)
            ]
        )
        optimiser.zero_grad(set_to_none=True)
        errors.sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 19:
            bar.set_postfix_str("errors " + " ".join(f"{error:.2f}" for error in errors.tolist()))
        if step % 200 == 199:
            log.info("distilling: step %d, errors by level %s", step + 1, [round(e, 3) for e in errors.tolist()])
    forward = {k: v for k, v in student.state_dict().items() if ".forward_maps." in k}
    for gradient in update.gradients:
        gradient.load_state_dict(forward, strict=False)
        if isinstance(gradient, PlainGradient):
            gradient.transpose_()


def _image(pictures: Tensor, device: torch.device) -> Tensor:
    return (pictures.to(device).float() / 255).contiguous(memory_format=torch.channels_last)


def _optimise(objective: Loss, pool: Pool, generator: torch.Generator) -> list[Tensor]:
    """Return a batch of contents after 2, 4 and 8 steps of Adam on the pixels, in 8 bits."""
    batch = pool.batch(generator, _BATCH)
    x = batch.contents.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.03)
    found = []
    for step in range(1, 9):
        optimiser.zero_grad()
        objective(x, batch.targets).sum().backward()
        optimiser.step()
        if step in (2, 4, 8):
            found.append((x.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8))
    return found


@torch.no_grad()
def _principal_components(
    vgg: nn.Module,
    pictures: Sequence[Tensor],
    channels: Sequence[int],
    generator: torch.Generator,
    device: torch.device,
) -> list[Tensor]:
    """Return for each level the (features, c_l) projection of VGG's features to their first components."""
    some = torch.randperm(len(pictures), generator=generator)[:12].tolist()
    sums: list[Tensor] = []
    for i in some:
        found = [gram(f).mean(0).double() for f in vgg(_image(pictures[i], device))]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    projections = []
    for second, c in zip(sums, channels, strict=True):
        values, vectors = torch.linalg.eigh(second / len(some))
        values, vectors = values[-c:].clamp_min(1e-9), vectors[:, -c:]
        projections.append((vectors * values**-0.25 / values.sqrt().mean().sqrt()).float())
    return projections


def _project(features: Tensor, projection: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return torch.einsum("bchw,ck->bkhw", features.float(), projection)
