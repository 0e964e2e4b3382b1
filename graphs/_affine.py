"""Signals that are affine in the image, with coefficients that vary slowly: where large images are cheap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._laplacian import FloatArray, IntArray, Laplacian, StencilLaplacian


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
    hats; F planes of memory for each dtype and device met, and F in float64 while :meth:`pencil` is at work.

    Source: J. Chen et al., "Bilateral guided upsampling", 2016, for signals carried by local affine models; the
    Galerkin use for Laplacians is ours.
    """

    def __init__(self, laplacian: StencilLaplacian, nodes: int) -> None:
        if laplacian.grid_shape is None:
            raise ValueError("a space of local affine models needs the Laplacian of an image, with a grid (H, W)")
        if nodes < 2:
            raise ValueError(f"the grid of local models needs at least 2 nodes, got {nodes}")
        self._near_kernel = laplacian.near_kernel
        self.height, self.width = laplacian.grid_shape
        if min(self.height, self.width) < 2:
            raise ValueError(f"a space of local affine models needs 2 x 2 pixels, got {self.height} x {self.width}")
        # Two pixels between nodes, the reach of the stencil: then only nodes at most two apart meet in the stiffness.
        reach = max(1, _reach(laplacian._shifts, self.width))
        self.step = max(max(self.height, self.width) / (nodes - 1), reach)
        self.ny, self.nx = (max(2, int((side - 1) / self.step) + 1) for side in (self.height, self.width))
        self._hats = _hats(self.height, self.ny), _hats(self.width, self.nx)
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def prolong(self, coefficients: Tensor) -> Tensor:
        """Return T a, planes (m, n)."""
        features, rows, columns = self._like(coefficients)
        planes = coefficients.new_zeros(len(coefficients), self.height, self.width)
        for plane, a in zip(planes, coefficients, strict=True):
            for feature, values in zip(features, a, strict=True):
                plane.addcmul_(rows @ values @ columns.T, feature)
        return planes.flatten(1)

    def restrict(self, planes: Tensor) -> Tensor:
        """Return T^T v, coefficients (m, F, ny, nx)."""
        features, rows, columns = self._like(planes)
        images = planes.view(-1, self.height, self.width)
        return torch.stack([torch.stack([rows.T @ (v * feature) @ columns for feature in features]) for v in images])

    def _like(self, x: Tensor) -> tuple[Tensor, ...]:
        key = (x.device, x.dtype)
        if key not in self._copies:
            parts = (self._features(x.dtype), *map(torch.from_numpy, self._hats))
            self._copies[key] = tuple(part.to(x) for part in parts)
        return self._copies[key]

    def _features(self, dtype: torch.dtype) -> Tensor:
        """Return f, (F, H, W): the constant and the centred near kernel."""
        channels = () if self._near_kernel is None else self._near_kernel.T
        features = torch.ones(1 + len(channels), self.height, self.width, dtype=dtype)
        for feature, channel in zip(features[1:], channels, strict=True):
            feature.copy_(torch.from_numpy(channel - channel.mean()).view_as(feature))
        return features

    def pencil(self, laplacian: Laplacian) -> Pencil:
        """Return L and the identity on this space, which was made for L, in a basis that is orthonormal at every node.

        Where the image varies too little around a node for a direction of colour to be told from a constant, that
        direction is left out. Directions that neighbours have in common (a ramp is affine in either's models) make the
        mass singular; the stiffness then carries a small penalty on the colour coefficients, 1e-4 of its median
        diagonal, so that they come last in the spectrum instead of first.
        """
        products = self._products(laplacian)
        columns, colour = self._orthonormal(products[0])
        mass, stiffness = (sparse.csc_array(columns.T @ matrix @ columns) for matrix in products)
        penalty = sparse.diags_array(1e-4 * float(np.median(stiffness.diagonal())) * colour)
        ridge = 1e-9 * sparse.eye_array(mass.shape[0])
        return Pencil(sparse.csc_array(stiffness + penalty), sparse.csc_array(mass + ridge), columns)

    def _products(self, laplacian: Laplacian) -> list[sparse.csr_array]:
        """Return T^T T and T^T L T, the coefficients in the order of the nodes."""
        from graphs._kernels import hat_products

        assert isinstance(laplacian, StencilLaplacian)  # this space is made for no other
        # In float64: in float32 the constant leaves the kernel by some 1e-7, which a solve multiplies by gamma.
        features = self._features(torch.float64).numpy()
        rows, columns = (np.ascontiguousarray(hats.T) for hats in self._hats)
        shifts, weights = laplacian._shifts, laplacian._entries.cpu().numpy()
        count, ny, nx = len(features), self.ny, self.nx
        found = np.zeros((2, count, count, 5, 5, ny, nx))
        hat_products(ny, shifts, weights, features, rows, columns, _reach(shifts, self.width), found)
        d, c, e, g, y, x = np.indices(found.shape[1:])
        y2, x2 = y + e - 2, x + g - 2
        met = (y2 >= 0) & (y2 < ny) & (x2 >= 0) & (x2 < nx)
        places = ((y2 * nx + x2) * count + d)[met], ((y * nx + x) * count + c)[met]
        size = ny * nx * count
        matrices = [sparse.csr_array((block[met], places), shape=(size, size)) for block in found]
        # Each pair was met twice, with roundings of its own.
        return [sparse.csr_array((matrix + matrix.T) / 2) for matrix in matrices]

    def _orthonormal(self, mass: sparse.csr_array) -> tuple[sparse.csr_array, FloatArray]:
        """Return the change of basis that makes the diagonal blocks of the mass identities, and 1 where for colours."""
        nodes = self.ny * self.nx
        f = mass.shape[0] // nodes
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


def _hats(pixels: int, nodes: int) -> FloatArray:
    """Return (pixels, nodes) hats, the first and last node on the first and last pixel."""
    place = np.linspace(0, nodes - 1, pixels)
    hats: FloatArray = np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(nodes)))
    return hats


def _reach(shifts: IntArray, width: int) -> int:
    """Return the most rows or columns between pixels that flat shifts connect."""
    rows = (shifts + width // 2) // width
    return int(max(rows.max(initial=0), np.abs(shifts - rows * width).max(initial=0)))
