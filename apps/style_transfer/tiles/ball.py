"""The projector of ``--photo`` on pictures too large for memory, tile by tile."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from apps.style_transfer.tiles.canvas import Canvas
from apps.style_transfer.tiles.tiling import Tile, Tiling
from graphs import DirichletBall, matting


class TiledBall:
    r"""X -> X_c + P(X - X_c), P of :class:`graphs.DirichletBall`: onto {D : Tr(D^T L D) / n <= energy}.

    P is (I + mu L)^-1, local but for mu: what lies r pixels away counts by exp(-r / sqrt(mu)) or less, so a tile with a
    halo of 64 has it to an 8-bit step's thousandth for the mu of some ten that pictures take. The energy is a sum over
    tiles, and mu the root of 1 / sqrt(energy(mu)) - 1 / sqrt(bound), nearly linear in mu: a Newton step from 0, then
    secants, to 1e-4 of the bound, for what a step leaves over grows tenfold in the next two. Each is a pass, and each
    builds the Laplacian of a tile anew.

    Args:
        photograph: X_c.
        tiling: of the passes.
        energy, eps: as in :class:`~apps.style_transfer.projectors.ProjectorOptions`.
        around: whether X - X_c is projected, or X.
    """

    halo, passes = 64, 12

    def __init__(self, photograph: Canvas, tiling: Tiling, energy: float, *, eps: float, around: bool = True) -> None:
        self._photograph, self._energy, self._eps, self._around = photograph, energy, eps, around
        self._tiles, self._strip = tiling.with_halo(self.halo), tiling.strip
        self._bound = energy * photograph.shape[1] * photograph.shape[2]

    def project(self, x: Canvas, t: int) -> None:
        """Replace a picture by its projection."""
        mu = self._multiplier(x)
        if mu == 0:
            return
        # The halos of the tiles to come want what stood there before.
        with Canvas.create(x.path.with_suffix(".projected"), x.shape) as projected:
            for tile in self._tiles:
                y, photo, _ = self._damped(x, tile, mu)
                projected.write(tile.core, tile.inner(y + photo if self._around else y))
            for strip in x.strips(self._strip):
                x.write(strip, projected.read(strip))

    def _multiplier(self, x: Canvas) -> float:
        energy, slope = self._measure(x, 0.0)
        if energy <= self._bound:
            return 0.0
        target = 1 / math.sqrt(self._bound)
        before, at_before = 0.0, 1 / math.sqrt(energy)
        # d/dmu energy^(-1/2) = |L v|^2 energy^(-3/2) at 0.
        mu = (target - at_before) * math.pow(energy, 1.5) / slope
        for _ in range(self.passes):
            energy, _ = self._measure(x, mu)
            if abs(energy / self._bound - 1) < 1e-4:
                break
            now = 1 / math.sqrt(energy)
            mu, before, at_before = mu + (target - now) * (mu - before) / (now - at_before), mu, now
        return mu

    def _measure(self, x: Canvas, mu: float) -> tuple[float, float]:
        """Return Tr(y^T L y) and ||L y||^2 of y = (I + mu L)^-1 v, added up over the tiles."""
        energy = slope = 0.0
        for tile in self._tiles:
            y, _, ball = self._damped(x, tile, mu)
            product = ball.laplacian.matvec(y)
            energy += float(tile.inner(y * product).double().sum())
            slope += float(tile.inner(product).double().square().sum())
        return energy, slope

    def _damped(self, x: Canvas, tile: Tile, mu: float) -> tuple[Tensor, Tensor, DirichletBall]:
        photo = self._photograph.read(tile.outer)
        v = x.read(tile.outer) - photo if self._around else x.read(tile.outer)
        ball = DirichletBall(matting(photo, eps=self._eps).to(dtype=torch.float32), self._energy)
        return (ball.damped(v, mu) if mu else v), photo, ball
