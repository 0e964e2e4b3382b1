"""Signals that are affine in the image, with coefficients that vary slowly: where large images are cheap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._laplacian import FloatArray, IntArray, StencilLaplacian


class Pencil(NamedTuple):
    """A coarse problem: ``stiffness`` V^T L V and ``mass`` V^T V (N, N) of the signals V = T Q, Q = ``columns``."""

    stiffness: sparse.csc_array
    mass: sparse.csc_array
    columns: sparse.csr_array


class AffineSpace:
    r"""The signals x = T a on an image, affine in the near kernel f of its Laplacian (the constant and the colours):

    .. math:: x(p) = \sum_b w_b(p) \sum_c f_c(p) a_{cb}

    The w_b are the bilinear hats of a grid of ``nodes`` along the longest side, fewer than a node every two pixels, so
    the size of the coarse problems does not grow with the image. The low eigenvectors of a matting Laplacian are nearly
    of this kind: x^T L x is small for what is affine in the colours in every window, and the coefficients of the lowest
    ones vary over large parts of the image.

    Shapes: planes (m, n), coefficients (m, F, ny, nx). Cost: F m products of (H, W) planes with the (H, ny) and (W, nx)
    hats; F + 1 planes of memory.

    Source: J. Chen et al., "Bilateral guided upsampling", 2016, for signals carried by local affine models; the
    Galerkin use for Laplacians is ours.
    """

    def __init__(self, laplacian: StencilLaplacian, nodes: int) -> None:
        if laplacian.grid_shape is None:
            raise ValueError("a space of local affine models needs the Laplacian of an image, with a grid (H, W)")
        if nodes < 2:
            raise ValueError(f"the grid of local models needs at least 2 nodes, got {nodes}")
        self.laplacian = laplacian
        self.height, self.width = laplacian.grid_shape
        # Two pixels between nodes, the reach of the stencil: then only nodes at most two apart meet in the stiffness.
        reach = max(1, _reach(laplacian._shifts, self.width))
        step = max(max(self.height, self.width) / (nodes - 1), reach)
        self.ny, self.nx = (max(2, int((side - 1) / step) + 1) for side in (self.height, self.width))
        features = np.zeros((laplacian.n, 0)) if laplacian.near_kernel is None else laplacian.near_kernel
        stack = np.concatenate([np.ones((1, laplacian.n)), (features - features.mean(axis=0)).T])
        self._parts = tuple(
            torch.from_numpy(part)
            for part in (
                stack.reshape(-1, self.height, self.width),
                _hats(self.height, self.ny),
                _hats(self.width, self.nx),
            )
        )
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def prolong(self, coefficients: Tensor) -> Tensor:
        """Return T a, planes (m, n)."""
        features, rows, columns = self._like(coefficients)
        planes = [((rows @ a @ columns.T) * features).sum(0).flatten() for a in coefficients]
        return torch.stack(planes)

    def restrict(self, planes: Tensor) -> Tensor:
        """Return T^T v, coefficients (m, F, ny, nx)."""
        features, rows, columns = self._like(planes)
        return torch.stack([rows.T @ (v.view(self.height, self.width) * features) @ columns for v in planes])

    def _like(self, x: Tensor) -> tuple[Tensor, ...]:
        key = (x.device, x.dtype)
        if key not in self._copies:
            self._copies[key] = tuple(part.to(x) for part in self._parts)
        return self._copies[key]

    def pencil(self) -> Pencil:
        """Return L and the identity on this space, in a basis that is orthonormal at every node.

        Where the image varies too little around a node for a direction of colour to be told from a constant, that
        direction is left out. Directions that neighbours have in common (a ramp is affine in either's models) make the
        mass singular; the stiffness then carries a small penalty on the colour coefficients, 1e-4 of its median
        diagonal, so that they come last in the spectrum instead of first.
        """
        hats = self._mass()
        columns, colour = self._orthonormal(hats)
        mass, stiffness = (sparse.csc_array(columns.T @ matrix @ columns) for matrix in (hats, self._stiffness()))
        penalty = sparse.diags_array(1e-4 * float(np.median(stiffness.diagonal())) * colour)
        ridge = 1e-9 * sparse.eye_array(mass.shape[0])
        return Pencil(sparse.csc_array(stiffness + penalty), sparse.csc_array(mass + ridge), columns)

    def _mass(self) -> sparse.csr_array:
        """Return T^T T by products of neighbouring hats."""
        features, rows, columns = self._parts
        found = _Entries(self.ny, self.nx, len(features))
        for dy, dx, share in ((0, 0, 0.5), (0, 1, 1.0), (1, -1, 1.0), (1, 0, 1.0), (1, 1, 1.0)):
            # Column b of a product is hat b times hat b + 1 (or b itself, or b - 1), where there is one.
            products = [hats * _shifted(hats, d) for hats, d in ((rows, dy), (columns, dx))]
            for c, feature in enumerate(features):
                block = products[0].T @ (feature * features) @ products[1]
                found.add(c, share * block.numpy(), dy, dx)
        return found.symmetric()

    def _stiffness(self) -> sparse.csr_array:
        """Return T^T L T, by applying L to the hats of every fifth node at once: those do not meet."""
        # In float64: in float32 the constant leaves the kernel by some 1e-7, which a solve multiplies by gamma.
        features, rows, columns = self._parts
        found = _Entries(self.ny, self.nx, len(features))
        y, x = np.mgrid[: self.ny, : self.nx]
        for top, left in np.ndindex(min(5, self.ny), min(5, self.nx)):
            hats = rows[:, top::5].sum(1)[:, None] * columns[:, left::5].sum(1)
            met = self.restrict(self.laplacian.combine((hats * features).flatten(1)))
            dy, dx = (top - y + 2) % 5 - 2, (left - x + 2) % 5 - 2
            for c, block in enumerate(met.numpy()):
                found.add(c, block / 2, dy, dx)
        return found.symmetric()

    def _orthonormal(self, mass: sparse.csr_array) -> tuple[sparse.csr_array, FloatArray]:
        """Return the change of basis that makes the diagonal blocks of the mass identities, and 1 where for colours."""
        f, nodes = len(self._parts[0]), self.ny * self.nx
        place = np.arange(nodes)[:, None, None] * f
        i, j = place + np.arange(f)[:, None], place + np.arange(f)
        blocks = mass[(i + 0 * j).ravel(), (j + 0 * i).ravel()].reshape(nodes, f, f)
        weight = blocks[:, 0, 0]
        mean = blocks[:, 0, 1:] / weight[:, None]
        powers, axes = np.linalg.eigh(blocks[:, 1:, 1:] - mean[:, :, None] * mean[:, None, :] * weight[:, None, None])
        kept = powers > 1e-6 * weight[:, None]
        axes = axes * np.where(kept, 1 / np.sqrt(np.where(kept, powers, 1.0)), 0.0)[:, None, :]
        change = np.zeros((nodes, f, f))
        change[:, 0, 0] = 1 / np.sqrt(weight)
        change[:, 1:, 1:] = axes
        change[:, 0, 1:] = -np.einsum("nc,ncd->nd", mean, axes)
        used = np.concatenate([np.ones((nodes, 1), dtype=bool), kept], axis=1)
        full = sparse.csr_array((change.ravel(), ((i + 0 * j).ravel(), (j + 0 * i).ravel())), shape=(nodes * f,) * 2)
        colour = np.broadcast_to(np.arange(f) > 0, used.shape)[used].astype(np.float64)
        return sparse.csr_array(full[:, np.flatnonzero(used.ravel())]), colour


class _Entries:
    """Collects blocks of a matrix that couples the F coefficients of each node with those of nodes near it."""

    def __init__(self, ny: int, nx: int, features: int) -> None:
        self.ny, self.nx, self.features = ny, nx, features
        self.parts: list[tuple[IntArray, IntArray, FloatArray]] = []

    def add(self, c: int, block: FloatArray, dy: IntArray | int, dx: IntArray | int) -> None:
        """Add block[d, y, x], the entry of (d, node (y, x)) and (c, node (y + dy, x + dx)), where that node exists."""
        y, x = np.mgrid[: self.ny, : self.nx]
        there_y, there_x = y + dy, x + dx
        inside = (there_y >= 0) & (there_y < self.ny) & (there_x >= 0) & (there_x < self.nx)
        here, there = (y * self.nx + x)[inside], (there_y * self.nx + there_x)[inside]
        for d in range(self.features):
            self.parts.append((here * self.features + d, there * self.features + c, block[d][inside]))

    def symmetric(self) -> sparse.csr_array:
        """Return the sum of all that was added, and of its transpose."""
        rows, columns, values = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        size = self.ny * self.nx * self.features
        matrix = sparse.csr_array((values, (rows, columns)), shape=(size, size))
        return sparse.csr_array(matrix + matrix.T)


def _hats(pixels: int, nodes: int) -> FloatArray:
    """Return (pixels, nodes) hats, the first and last node on the first and last pixel."""
    place = np.linspace(0, nodes - 1, pixels)
    hats: FloatArray = np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(nodes)))
    return hats


def _shifted(hats: Tensor, by: int) -> Tensor:
    """Return the hats with column b + by in the place of column b, zero where there is none."""
    shifted = torch.zeros_like(hats)
    source = hats[:, max(by, 0) : hats.shape[1] + min(by, 0)]
    shifted[:, max(-by, 0) : hats.shape[1] + min(-by, 0)] = source
    return shifted


def _reach(shifts: IntArray, width: int) -> int:
    """Return the most rows or columns between pixels that flat shifts connect."""
    rows = (shifts + width // 2) // width
    return int(max(rows.max(initial=0), np.abs(shifts - rows * width).max(initial=0)))
