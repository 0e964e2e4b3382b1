"""A projector of a large picture, computed on a reduced copy and carried up along the photograph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from apps.style_transfer.projectors import ProjectorOptions, build_projector
from apps.style_transfer.tiles.canvas import Canvas, Rectangle
from unroll import Operator


class CarriedProjector:
    r"""X -> X_c + A(p) X_c(p) + b(p) + r(p): at a size that P can be had at, it is P.

    The copies are reduced by a whole factor s, the least with at most ``pixels`` pixels, as s x s means. There the
    change P(X) - X_c is fitted by affine models of the photograph's colours,

    .. math:: (A, b) = argmin \sum_{p \in w} \| A X_c(p) + b - (P(X) - X_c)(p) \|^2 + eps |w| \|A\|^2

    over windows w of 8 x 8 of its pixels, 4 apart. The models and the residual r are enlarged bilinearly, and the
    models are applied to the colours of the photograph at its own size, so its detail changes as what surrounds it.
    What the operators of :mod:`graphs` let through is nearly of this form. With s = 1 it is P itself.

    ``share`` is m of P_m = 1 + m (P - 1), see :class:`~apps.style_transfer.projectors.Mixed`; what is not P keeps its
    own detail.

    Source: K. He, J. Sun, "Fast guided filter", 2015; J. Chen et al., "Bilateral guided upsampling", 2016.
    """

    window, eps = 4, 1e-6

    def __init__(
        self, options: ProjectorOptions, photograph: Canvas, *, pixels: int, strip: int, share: float = 1.0
    ) -> None:
        height, width = photograph.shape[1:]
        self._photograph, self._share = photograph, share
        self._factor = max(1, math.ceil(math.sqrt(height * width / pixels)))
        self._strip = max(1, strip // self._factor) * self._factor
        self._small = self._reduce(photograph)
        self._operator = cast(Operator, build_projector(replace(options, strength=1.0), self._small))

    def project(self, x: Canvas, t: int) -> None:
        """Replace a picture by its projection."""
        y = self._operator(self._reduce(x), t=t)
        if self._factor == 1:
            for strip in x.strips(self._strip):
                self._write(x, strip, y[(..., *strip.slices)])
            return
        guide, change = self._small[0], (y - self._small)[0]
        slopes, levels = self._fit(guide, change)
        models = torch.cat([slopes.flatten(0, 1), levels]).to(guide)
        whole = Rectangle(0, guide.shape[1], 0, guide.shape[2])
        residual = change - _apply(enlarge(models, self.window, whole), guide)
        for strip in x.strips(self._strip):
            photo = self._photograph.read(strip)[0]
            moved = _apply(enlarge(models, self.window * self._factor, strip), photo)
            moved += enlarge(residual, self._factor, strip)
            self._write(x, strip, (photo + moved)[None])

    def _write(self, x: Canvas, where: Rectangle, projected: Tensor) -> None:
        x.write(where, projected if self._share == 1 else torch.lerp(x.read(where), projected, self._share))

    def _reduce(self, x: Canvas) -> Tensor:
        parts = [avg_pool2d(x.read(strip), self._factor, ceil_mode=True) for strip in x.strips(self._strip)]
        return torch.cat(parts, dim=2)

    def _fit(self, guide: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (3, 3, h, w) and b (3, h, w) of windows of (3, H, W) planes, in float64."""

        def mean(planes: Tensor) -> Tensor:
            size = self.window
            return avg_pool2d(planes, 2 * size, size, size // 2, ceil_mode=True, count_include_pad=False)

        g, c = guide.double(), change.double()
        centre, level = mean(g), mean(c)
        # Plane by plane, for memory.
        covariance = torch.stack([mean(g[i] * g) - centre[i] * centre for i in range(3)])
        mixed = torch.stack([mean(c[i] * g) - level[i] * centre for i in range(3)])
        ridge = self.eps * torch.eye(3, dtype=g.dtype, device=g.device)
        slopes = torch.linalg.solve(covariance.permute(2, 3, 0, 1) + ridge, mixed.permute(2, 3, 1, 0))
        slopes = slopes.permute(3, 2, 0, 1)
        return slopes, level - (slopes * centre).sum(1)


def enlarge(planes: Tensor, factor: int, where: Rectangle) -> Tensor:
    """Return a rectangle (c, h, w) of planes enlarged by a factor, bilinearly between the centres of their pixels."""
    for dim, (start, stop) in ((1, where[:2]), (2, where[2:])):
        last = planes.shape[dim] - 1
        place = ((torch.arange(start, stop, device=planes.device) + 0.5) / factor - 0.5).clamp(0, last)
        low = place.long().clamp_max(max(0, last - 1))
        share = (place - low).to(planes).view(-1, *[1] * (2 - dim))
        below, above = planes.index_select(dim, low), planes.index_select(dim, (low + 1).clamp_max(last))
        planes = below + share * (above - below)
    return planes


def _apply(models: Tensor, photo: Tensor) -> Tensor:
    """Return A I + b for models (12, h, w) and colours (3, h, w)."""
    moved = models[9:].clone()
    for i in range(3):
        for j in range(3):
            moved[i].addcmul_(models[3 * i + j], photo[j])
    return moved
