"""The coarse Tikhonov projector on pictures too large for memory: exactly, tile by tile."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from apps.style_transfer.tiles.canvas import Canvas, Rectangle
from apps.style_transfer.tiles.tiling import Tile, Tiling
from graphs import Laplacian, matting
from graphs._affine import AffineSpace, _hats
from graphs._chebyshev import apply, fourth_kind
from graphs._coarse import Shifted

Floats = NDArray[np.float64]


class TiledTikhonov:
    r"""X -> X_c + S T C T^T S (X - X_c), :class:`graphs.CoarseTikhonov` around the photograph.

    Its parts are local or sums over pixels: the Laplacian has a reach of 2 pixels, the polynomial S of degree 8 one of
    16; T^T T, T^T L T and T^T v are sums, and T a is local once the coefficients a are known. So it takes two passes,
    T^T S v and then S T a, either of which builds the Laplacian of a tile anew. The set-up is a third, in blocks of two
    nodes a side.

    Args:
        photograph: X_c.
        tiling: of the passes.
        gamma: >= 0.
        eps: of the matting Laplacian.
        around: whether X - X_c is projected, or X.
        share: m of P_m = 1 + m (P - 1), see :class:`~apps.style_transfer.projectors.Mixed`.
    """

    nodes, smoothing = 40, 8

    def __init__(
        self, photograph: Canvas, tiling: Tiling, gamma: float, *, eps: float, around: bool = True, share: float = 1.0
    ) -> None:
        self._photograph, self._gamma, self._eps, self._around, self._share = photograph, gamma, eps, around, share
        self._tiles = tiling.with_halo(2 * self.smoothing + 2)
        self._space = _TiledSpace(photograph, self.nodes, tiling.strip, eps)
        pencil = self._space.pencil(None)  # type: ignore[arg-type]  # its products need none
        self._columns, self._shifted = pencil.columns, Shifted(pencil.mass, pencil.stiffness)

    def project(self, x: Canvas, t: int) -> None:
        """Replace a picture by its projection."""
        space = self._space
        moments = torch.zeros(3, 4, space.ny, space.nx, dtype=torch.float64)
        for tile in self._tiles:
            photo, laplacian = self._local(tile)
            v = x.read(tile.outer) - photo if self._around else x.read(tile.outer)
            smooth = tile.inner(self._smooth(laplacian, v[0]))
            moments += space.restrict_part(smooth, tile.inner(photo)[0], tile.core)
        a = self._correct(moments)
        for tile in self._tiles:
            photo, laplacian = self._local(tile)
            y = self._smooth(laplacian, space.prolong_part(a, photo[0], tile.outer))[None]
            projected = tile.inner(y + photo if self._around else y)
            before = x.read(tile.core)
            x.write(tile.core, projected if self._share == 1 else torch.lerp(before, projected, self._share))

    def _local(self, tile: Tile) -> tuple[Tensor, Laplacian]:
        photo = self._photograph.read(tile.outer)
        laplacian = matting(photo, eps=self._eps).to(dtype=torch.float32)
        laplacian.lambda_max = self._space.lambda_max
        return photo, laplacian

    def _smooth(self, laplacian: Laplacian, planes: Tensor) -> Tensor:
        return apply(laplacian, fourth_kind(self.smoothing), planes.flatten(1).contiguous()).view_as(planes)

    def _correct(self, moments: Tensor) -> Tensor:
        """Return C a for coefficients (m, F, ny, nx), in float32."""
        by_node = moments.movedim(1, -1)
        columns = self._columns
        found = columns @ self._shifted.solve(columns.T @ by_node.reshape(len(moments), -1).numpy().T, self._gamma)
        laid = torch.from_numpy(np.ascontiguousarray(found.T)).view(by_node.shape)
        return laid.movedim(-1, 1).float()


class _TiledSpace(AffineSpace):
    """The space of local affine models of a photograph on disk; ``lambda_max`` is that of its matting Laplacian."""

    def __init__(self, photograph: Canvas, nodes: int, strip: int, eps: float) -> None:
        self._photograph, self._eps = photograph, eps
        _, self.height, self.width = photograph.shape
        self.step = max(max(self.height, self.width) / (nodes - 1), 2)  # 2, the reach of the Laplacian
        self.ny, self.nx = (max(2, int((side - 1) / self.step) + 1) for side in (self.height, self.width))
        self._hats = _hats(self.height, self.ny), _hats(self.width, self.nx)
        sums = [photograph.read(s).double().sum((0, 2, 3)) for s in photograph.strips(strip)]
        self._mean = torch.stack(sums).sum(0) / (self.height * self.width)
        self.lambda_max = 0.0

    def restrict_part(self, planes: Tensor, photo: Tensor, where: Rectangle) -> Tensor:
        """Return what the pixels of a rectangle add to T^T v, coefficients (m, F, ny, nx) in float64."""
        rows, columns = self._hats_of(where, planes.dtype)
        parts = [rows.T @ (planes * f) @ columns for f in self._colours(photo)]
        return torch.stack(parts, dim=1).double()

    def prolong_part(self, coefficients: Tensor, photo: Tensor, where: Rectangle) -> Tensor:
        """Return T a at the pixels of a rectangle, planes (m, h, w)."""
        rows, columns = self._hats_of(where, coefficients.dtype)
        terms = [(rows @ coefficients[:, c] @ columns.T) * f for c, f in enumerate(self._colours(photo))]
        return torch.stack(terms).sum(0)

    def _products(self, laplacian: Laplacian | None) -> list[sparse.csr_array]:
        """Return T^T T and T^T L T, added up over blocks of pixels; and find ``lambda_max`` on the way."""
        side = min(max(2 * int(self.step), 8), 256)
        size = 4 * self.ny * self.nx
        totals = [sparse.csr_array((size, size)) for _ in range(2)]
        for top in range(0, self.height, side):
            line = [
                self._block(Rectangle(top, min(top + side, self.height), left, min(left + side, self.width)))
                for left in range(0, self.width, side)
            ]
            places = [np.concatenate([block[i] for block in line]) for i in (0, 1)]
            for k, total in enumerate(totals):
                values = np.concatenate([block[2][k] for block in line])
                totals[k] = total + sparse.csr_array((values, (places[0], places[1])), shape=(size, size))
        return [sparse.csr_array((matrix + matrix.T) / 2) for matrix in totals]

    def _block(self, core: Rectangle) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[Floats, Floats]]:
        """Return the entries (i, j) that the pixels of a block add to, and what they add to T^T T and T^T L T."""
        outer = Rectangle(
            max(0, core.top - 2),
            min(self.height, core.bottom + 2),
            max(0, core.left - 2),
            min(self.width, core.right + 2),
        )
        tile = Tile(core, outer)
        photo = self._photograph.read(outer).double()
        laplacian = matting(photo, eps=self._eps)
        sums = laplacian.absolute_sums().view(1, *photo.shape[-2:])
        self.lambda_max = min(9.0, max(self.lambda_max, float(tile.inner(sums).max())))
        rows, columns = self._hats_of(outer, torch.float64)
        y, x = (torch.nonzero(hats.amax(0)).flatten() for hats in (rows, columns))
        across = torch.einsum("hy,wx,fhw->yxfhw", rows[:, y], columns[:, x], self._colours(photo[0]))
        signals = across.reshape(1, -1, *photo.shape[-2:])
        inner = [tile.inner(s)[0].flatten(1) for s in (signals, laplacian.matvec(signals))]
        index = ((y[:, None] * self.nx + x)[..., None] * 4 + torch.arange(4)).flatten().numpy()
        i, j = (places.ravel() for places in np.meshgrid(index, index, indexing="ij"))
        mass, stiffness = ((inner[0] @ s.T).flatten().numpy() for s in inner)
        return i, j, (mass, stiffness)

    def _hats_of(self, where: Rectangle, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        rows, columns = self._hats
        return (
            torch.from_numpy(rows[where.top : where.bottom]).to(dtype),
            torch.from_numpy(columns[where.left : where.right]).to(dtype),
        )

    def _colours(self, photo: Tensor) -> Tensor:
        """Return f, (F, h, w): the constant and the centred colours."""
        centred = photo - self._mean.to(photo)[:, None, None]
        return torch.cat([torch.ones_like(centred[:1]), centred])
