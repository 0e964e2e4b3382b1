"""The lowest eigenpairs of large Laplacians, by block Lanczos on an inverse that is factored once."""

from __future__ import annotations

import math
from functools import partial
from typing import Never, Protocol

import numpy as np
import scipy.linalg
from scipy import sparse
from scipy.sparse import csgraph
from tqdm import tqdm

from graphs._coarse import symmetric_factor
from graphs._laplacian import FloatArray, Laplacian
from graphs._memory import require_memory
from graphs._threads import shared

SHIFT = 1e-7  # of lambda_max, below zero: L itself is singular
BLOCK = 16
CHUNK = 128  # vectors of the basis that lie side by side in memory
SLICE = 4096  # nodes that are worth a thread


class Solver(Protocol):
    """A factored matrix."""

    def solve(self, b: FloatArray, /) -> FloatArray:
        """Return A^-1 b for b (n, p)."""
        ...


def lowest_pairs(
    laplacian: Laplacian, k: int, tolerance: float, progress: bool = False
) -> tuple[FloatArray, FloatArray] | None:
    """Return the k lowest eigenvalues and vectors (k, n) of L, or None where Lanczos would need all n.

    Those of the known kernel are exact and the rest is orthogonal to them. A space grown from a block of p vectors
    meets p copies of a multiple eigenvalue at most, and may pass by what its start hardly held: a fresh block of random
    vectors, orthogonal to all that was found, looks for lower eigenvalues than the k-th, and where it sees one the
    search begins again with blocks four times as wide.
    """
    _require_room(laplacian.n, k)
    matrix = laplacian.to_scipy()
    shift, kernel = SHIFT * laplacian.lambda_max, known_kernel(laplacian, matrix, k)
    wanted, n = k - len(kernel), laplacian.n
    if wanted == 0:
        return np.zeros(k), kernel
    solver = factored(laplacian, sparse.csr_array(matrix + shift * sparse.eye_array(n)), k)
    del matrix
    block = BLOCK
    with tqdm(total=wanted, desc="eigenpairs", unit="pair", leave=False, disable=not progress) as bar:
        while wanted + len(kernel) + 3 * block <= n:
            found = _search(_Krylov(solver, kernel, block, n), wanted, shift, tolerance, bar)
            if found is None:
                return None
            values, vectors = found
            vectors = np.concatenate([kernel, vectors])
            if not _missed(_Krylov(solver, vectors, block, n, seed=1), 1 / (values[-1] + shift)):
                return np.concatenate([np.zeros(len(kernel)), values]), vectors
            block *= 4
    return None


def known_kernel(laplacian: Laplacian, matrix: sparse.csr_array, most: int) -> FloatArray:
    """Return orthonormal vectors (m, n) that L maps to zero, m <= most: on each component, the constant or D^1/2 1.

    Empty where L, given as a matrix too, maps neither to zero, to 1e-12 lambda_max.
    """
    candidates = [np.ones(laplacian.n)]
    if laplacian.near_kernel is not None:
        candidates.append(laplacian.near_kernel[:, 0])
    for signal in candidates:
        size = np.abs(signal)
        if size.min() > 0 and np.abs(matrix @ signal).max() <= 1e-12 * laplacian.lambda_max * size.max():
            _, member = csgraph.connected_components(matrix, directed=False)
            parts: FloatArray = np.stack(
                [np.where(member == part, signal, 0.0) for part in range(min(most, member.max() + 1))]
            )
            parts /= np.linalg.norm(parts, axis=1, keepdims=True)
            return parts
    return np.zeros((0, laplacian.n))


def factored(laplacian: Laplacian, matrix: sparse.csr_array, k: int) -> Solver:
    """Return the matrix L + s, factored: by nested dissection on grids with a short stencil, else SuperLU."""
    if laplacian.spatial_shape is not None:
        from graphs._dissection import Dissection, grid_reach

        reach = grid_reach(matrix, laplacian.spatial_shape)
        if max(reach) <= 8:
            dissection = Dissection(matrix, laplacian.spatial_shape, reach)
            del matrix
            _require_room(laplacian.n, k, dissection.size)
            return dissection.factor()
    factor: Solver = symmetric_factor(sparse.csc_array(matrix))
    return factor


def _require_room(n: int, k: int, factor: int = 0) -> None:
    """Raise MemoryError where the factor and the vectors, some 2.4 k to find k, have no room."""
    require_memory(
        8.0 * (n * (2.6 * k + 6 * BLOCK) + factor),
        f"a basis of {k} eigenvectors on {n} nodes",
        "take a smaller k or graph, or ChebyshevLowPass",
    )


def gram(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the inner products a b^T of long rows, summed by parts on each thread."""
    parts = shared(lambda start, stop: a[:, start:stop] @ b[:, start:stop].T, a.shape[1], SLICE)
    total: FloatArray = np.sum(parts, axis=0)
    return total


def _subtract(block: FloatArray, inner: FloatArray, rows: FloatArray, start: int, stop: int) -> None:
    block[:, start:stop] -= inner @ rows[:, start:stop]


class _Krylov:
    """Block Lanczos for A^-1 on the complement of some vectors: A^-1 Q = Q T + Q_next R, T block tridiagonal.

    Orthogonalised against everything at each step. Directions in which a block has nothing left, where the space
    is invariant, go on from random vectors. Rows are vectors: Q is (m, n), in chunks.

    Source: G. Golub, R. Underwood, "The block Lanczos method for computing eigenvalues", 1977.
    """

    def __init__(self, solver: Solver, found: FloatArray, block: int, n: int, seed: int = 0) -> None:
        self.solver, self.block, self.n = solver, block, n
        self.found, self._chunks, self._last = found, list[FloatArray](), 0
        self._random = np.random.default_rng(seed)
        self._diagonal, self._below, self._previous = list[FloatArray](), list[FloatArray](), np.empty((0, n))
        start = self._random.standard_normal((block, n))
        self._append(self._orthonormal(self._project(start), 0.0)[0])

    @property
    def dimension(self) -> int:
        """Of the space Q whose image is known."""
        return self.block * len(self._diagonal)

    @property
    def room(self) -> int:
        """How many more blocks there are dimensions for."""
        return (self.n - len(self.found) - self.dimension) // self.block - 1

    def grow(self) -> None:
        """Add a block to the space."""
        current = self._chunks[-1][self._last - self.block : self._last]
        image = np.ascontiguousarray(self.solver.solve(np.ascontiguousarray(current.T)).T)
        scale = float(np.linalg.norm(image))
        inner = gram(current, image)
        self._diagonal.append((inner + inner.T) / 2)
        # What is large goes first: the sweep over all would leave errors of it, as large as their own defect.
        image -= inner.T @ current
        if self._below:
            image -= self._below[-1] @ self._previous
        self._previous = current
        following, root = self._orthonormal(self._project(image), scale)
        self._below.append(root)
        self._append(following)

    def ritz(self, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the largest Ritz values theta of A^-1, descending, their coefficients Y, and R Y's last rows."""
        p, m = self.block, self.dimension
        matrix = np.zeros((m, m))
        for i, inner in enumerate(self._diagonal):
            here = slice(i * p, i * p + p)
            matrix[here, here] = inner
            if i:
                matrix[here, i * p - p : i * p] = self._below[i - 1]
        # eigh reads the lower triangle alone.
        theta, y = scipy.linalg.eigh(matrix, subset_by_index=[m - count, m - 1])
        theta, y = theta[::-1], y[:, ::-1]
        return theta, y, self._below[-1] @ y[-p:]

    def combined(self, coefficients: FloatArray) -> FloatArray:
        """Return [Q, Q_next] c as rows, for c (m + p, count <= m), written over Q, which ends here."""
        chunks, parts, first = self._rows(), list[FloatArray](), 0
        for chunk in chunks:
            parts.append(np.ascontiguousarray(coefficients[first : first + len(chunk)].T))
            first += len(chunk)
        starts = range(0, coefficients.shape[1], len(chunks[0]))

        def combine(start: int, stop: int) -> None:
            for left in range(start, stop, SLICE):
                nodes = slice(left, min(left + SLICE, stop))
                combined = parts[0] @ chunks[0][:, nodes]
                for part, chunk in zip(parts[1:], chunks[1:], strict=True):
                    combined += part @ chunk[:, nodes]
                for first, chunk in zip(starts, chunks, strict=False):
                    piece = combined[first : first + len(chunk)]
                    chunk[: len(piece), nodes] = piece

        shared(combine, self.n, SLICE)
        del chunks[len(starts) :], self._chunks[len(starts) :]
        return np.concatenate(chunks)[: coefficients.shape[1]]

    def _rows(self) -> list[FloatArray]:
        return [*self._chunks[:-1], self._chunks[-1][: self._last]] if self._chunks else []

    def _append(self, block: FloatArray) -> None:
        if not self._chunks or self._last == len(self._chunks[-1]):
            self._chunks.append(np.empty((max(1, CHUNK // self.block) * self.block, self.n)))
            self._last = 0
        self._chunks[-1][self._last : self._last + self.block] = block
        self._last += self.block

    def _project(self, block: FloatArray) -> FloatArray:
        """Take from the block, in place, all that lies in the space or in what was found."""
        for rows in (self.found, *self._rows()):
            inner = gram(block, rows)
            shared(partial(_subtract, block, inner, rows), self.n, SLICE)
        return block

    def _orthonormal(self, block: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
        """Return orthonormal rows V and R, block = R^T V to 1e-6 of its norm, random rows of V where R has none."""
        squares, axes = np.linalg.eigh(gram(block, block))
        kept = squares > max(1e-13 * float(squares[-1]), (1e-12 * scale) ** 2)
        lengths = np.sqrt(np.where(kept, squares, 1.0))[:, None]
        rows, root = axes.T @ block / lengths, np.where(kept, lengths.T, 0.0).T * axes.T
        if not kept.all():
            rows[~kept] = self._random.standard_normal((int((~kept).sum()), self.n)) / math.sqrt(self.n)
        if squares[0] < (1e-3 * scale) ** 2:  # the rounding errors of the image are as much larger now
            rows = self._project(rows)
        lower = np.linalg.cholesky(gram(rows, rows))
        return scipy.linalg.solve_triangular(lower, rows, lower=True), lower.T @ root


def _search(
    krylov: _Krylov, wanted: int, shift: float, tolerance: float, bar: tqdm[Never]
) -> tuple[FloatArray, FloatArray] | None:
    """Grow the space until the residuals of the lowest pairs are at most the tolerance, or None if it is full before.

    With x = Q y and A^-1 x = theta x + r, r = Q_next R y_last: x' = x + r / theta has A x' - x' / theta = -r / theta^2,
    whatever the norm of A. The rows returned are the Ritz vectors of A in the span of the x'.
    """
    check = max(wanted + krylov.block, 3 * wanted // 2)
    while True:
        krylov.grow()
        if krylov.dimension < check and krylov.room:
            continue
        theta, y, rest = krylov.ritz(wanted)
        size = np.linalg.norm(rest, axis=0)
        # The second term: eigenvalues to 1e-4 of theirs, and none passed by, where the tolerance is wider than they.
        good = (size <= 0.9 * tolerance * theta**2) & (size <= 1e-2 * theta)
        bar.update(int(good.sum()) - bar.n)
        if good.all():
            break
        if not krylov.room:
            return None
        check = krylov.dimension + max(krylov.block, krylov.dimension // 16)
    coefficients = np.concatenate([y, rest / theta])
    values, turn = scipy.linalg.eigh(np.diag(1 / theta), coefficients.T @ coefficients)
    return values - shift, krylov.combined(coefficients @ turn)


def _missed(krylov: _Krylov, theta: float) -> bool:
    """Say whether four blocks, or as many as there is room for, see an eigenvalue of A^-1 more than 1 % above theta."""
    for _ in range(min(4, krylov.room)):
        krylov.grow()
    return bool(krylov.ritz(1)[0][0] > 1.01 * theta)
