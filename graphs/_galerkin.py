"""Low-passes for large images, computed where it is cheap and carried back along the photograph."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csc_array, linalg
from torch import Tensor

from graphs import _chebyshev
from graphs._affine import AffineSpace
from graphs._coarse import Shifted, symmetric_factor
from graphs._laplacian import FloatArray, Laplacian, StencilLaplacian
from graphs._memory import require_memory
from graphs._projectors import ChebyshevLowPass, Tikhonov
from graphs._signals import from_planes, self_adjoint
from graphs._spectrum import dimension
from unroll import ProximalOperator


class _Galerkin(ProximalOperator):
    """v -> S T C T^T S v: a smoother S, the coarse space T, and a positive semi-definite C on its coefficients."""

    linear = True

    def __init__(self, laplacian: Laplacian, nodes: int, smoothing: int) -> None:
        super().__init__()
        if not isinstance(laplacian, StencilLaplacian) or laplacian.grid_shape is None:
            raise ValueError(
                f"{type(self).__name__} needs the Laplacian of an image (matting or grid), got {laplacian!r}"
            )
        if smoothing < 0:
            raise ValueError(f"the order of the smoother must be at least 0, got {smoothing}")
        features = 1 if laplacian.near_kernel is None else 1 + laplacian.near_kernel.shape[1]
        require_memory(
            laplacian.n * (4.0 * len(laplacian._shifts) + 24.0 * features),
            f"a coarse space of {laplacian.n} pixels",
            "use a smaller image",
        )
        # The set-up needs weights in float64, the smoother does not, and of a large image they are most of the memory.
        self.laplacian = laplacian.to(dtype=torch.float32)
        self.nodes, self.smoothing = nodes, smoothing
        self._space = AffineSpace(laplacian, nodes)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return S T C T^T S v."""
        planes = self.laplacian.planes(v)
        return from_planes(self_adjoint(planes, lambda p: self._filter(p, tau)), v)

    def _filter(self, planes: Tensor, tau: float) -> Tensor:
        coefficients = self._space.restrict(self._smooth(planes))
        return self._smooth(self._space.prolong(self._correct(coefficients, tau)))

    def _smooth(self, planes: Tensor) -> Tensor:
        return _chebyshev.apply(self.laplacian, _chebyshev.fourth_kind(self.smoothing), planes)

    def _correct(self, coefficients: Tensor, tau: float) -> Tensor:
        """Return C a for coefficients (m, F, ny, nx)."""
        raise NotImplementedError


class CoarseLowPass(_Galerkin):
    r"""The bandlimited projector of large images: the projection onto k Ritz vectors of L, smoothed.

    The Ritz vectors V, V^T V = 1, span the k-dimensional part of lowest energy Tr(V^T L V) of a space T of signals that
    are affine in the image, with coefficients that vary slowly over it (a grid of ``nodes`` by as many as fit). P = S V
    V^T S with a polynomial S of degree ``smoothing``, S(0) = 1, that takes from V what the space cannot say finely:

    .. math:: S(\lambda) = W_m(1 - 2 \lambda / \lambda_{max}) / (2 m + 1), \qquad
              \lambda S(\lambda)^2 \le \lambda_{max} / (2 m + 1)^2,

    W_m the Chebyshev polynomial of the fourth kind. P is linear, self-adjoint and between 0 and 1, so the prox of a
    convex quadratic; it is idempotent only with ``smoothing=0``, for which the class does not speak. ``tau`` is idle.

    Args:
        laplacian: of :func:`matting` or :func:`grid`.
        k: how many vectors; an integer, or a fraction of n in (0, 1).
        nodes: of the grid of models, on the longest side; more is closer to the exact projection and slower to set up.
            None takes 40, beyond k = 200 more, as the root of k.
        smoothing: degree m of S; 2 m matvecs a call. None takes 8 for each pixel between two nodes, up to 128, measured
            to bring the energy near that of the exact projection; but where the band would suffer, sqrt(lambda_max /
            theta_k), theta_k the last Ritz value. Degrees like 12 cost less and leave up to twice the energy. Beyond
            2^20 pixels, where the energy would be left 2.6 times too high at twice as many, up to 128 for each 2^20.

    Cost: the set-up is a pass over the image, about as long as ten matvecs, and a sparse eigenproblem whose size
    depends on ``nodes`` alone; a call is 2 m matvecs and some 30 operations a pixel and channel. Nothing of size n k is
    stored, and L in float32. Signals as in :class:`Laplacian`, in float32 or float64 and on their device. Raises
    ValueError, and MemoryError, before it begins, for images that are too large.

    Attributes: ``eigenvalues`` (k,), the Ritz values, each at least the eigenvalue of the same rank (but for the
    penalty of the space, which only raises them).

    Source: G. Puy and P. Perez, arXiv:1806.05285, for the projector; J. Chen et al., "Bilateral guided upsampling",
    2016, for the space; J. Lottes, "Optimal polynomial smoothers for multigrid V-cycles", 2023, for S. Putting them
    together is ours.
    """

    _vectors: Tensor

    def __init__(
        self, laplacian: Laplacian, k: int | float, *, nodes: int | None = None, smoothing: int | None = None
    ) -> None:
        k = dimension(k, laplacian.n)
        super().__init__(laplacian, nodes or max(40, math.ceil(40 * math.sqrt(k / 200))), smoothing or 0)
        self.k = k
        pencil = self._space.pencil(laplacian)
        size = pencil.mass.shape[0]
        if self.k > size // 2:
            raise ValueError(
                f"k = {self.k} is more than half of the {size} dimensions of a grid of {self.nodes} nodes: "
                "take more nodes, or a smaller k"
            )
        values, vectors = _lowest(pencil.stiffness, pencil.mass, self.k)
        self.eigenvalues = torch.from_numpy(values)
        if smoothing is None:
            edge = math.sqrt(laplacian.lambda_max / max(float(values[-1]), 1e-12))
            self.smoothing = _degree(laplacian.n, self._space.step, edge)
        # Coefficients (F, ny, nx) a vector, as the space lays them out; in float64 until a signal says otherwise.
        shape = self._space.ny, self._space.nx, -1, self.k
        vectors = (pencil.columns @ vectors).reshape(shape).transpose(2, 0, 1, 3)
        self.register_buffer("_vectors", torch.from_numpy(vectors.reshape(-1, self.k).copy()), persistent=False)

    def _correct(self, coefficients: Tensor, tau: float) -> Tensor:
        vectors = self._vectors.to(coefficients)
        return (coefficients.flatten(1) @ vectors @ vectors.T).view_as(coefficients)

    def distance(self, v: Tensor) -> float:
        """Return ||P v - Q v|| / ||Q v||, Q the :meth:`ChebyshevLowPass.sharper` form of the exact projection.

        The cutoff of Q is found by counting eigenvalues, and known to a few of them. On the changes that a solver makes
        to a photograph, Q itself is off by some 2 per cent. Cost: a call of Q, a minute or more a megapixel.
        """
        with torch.no_grad():
            fine = ChebyshevLowPass(self.laplacian, k=self.k).sharper()(v)
            return float((self(v) - fine).norm() / fine.norm())


class CoarseTikhonov(_Galerkin):
    r"""The prox of the smoothness gamma/2 Tr(x^T L x) on signals that are locally affine in the image, smoothed.

    .. math:: P(v) = S T a, \qquad a = \arg\min_a \frac{\gamma}{2} (T a)^T L (T a) + \frac12 \| T a - S v \|^2

    T and S are those of :class:`CoarseLowPass`. Against :class:`Tikhonov`, which keeps every signal and only damps it,
    this drops what is not affine in the image over a cell of the grid, however small gamma is. Linear, self-adjoint and
    between 0 and 1: the prox of a convex quadratic. ``tau`` multiplies gamma.

    Args:
        laplacian: of :func:`matting` or :func:`grid`.
        gamma: >= 0; frequencies of 1 / gamma are halved.
        nodes, smoothing: as in :class:`CoarseLowPass`.

    Cost: the set-up is that of :class:`CoarseLowPass` with one sparse factorisation, on the CPU, in the place of the
    eigenproblem; a call is 2 m matvecs, a solve, and some 30 operations a pixel and channel. Raises ValueError.
    """

    def __init__(self, laplacian: Laplacian, gamma: float, *, nodes: int = 40, smoothing: int = 8) -> None:
        super().__init__(laplacian, nodes, smoothing)
        if not (gamma >= 0 and math.isfinite(gamma)):
            raise ValueError(f"gamma must be a number of at least 0, got {gamma}")
        self.gamma = gamma
        pencil = self._space.pencil(laplacian)
        self._columns, self._shifted = pencil.columns, Shifted(pencil.mass, pencil.stiffness)

    def _correct(self, coefficients: Tensor, tau: float) -> Tensor:
        columns = self._columns
        # The space orders coefficients by feature, the pencil by node.
        moments = coefficients.movedim(1, -1).reshape(len(coefficients), -1).double().cpu().numpy()
        found = columns @ self._shifted.solve(columns.T @ moments.T, tau * self.gamma)
        laid = torch.from_numpy(np.ascontiguousarray(found.T)).view(coefficients.movedim(1, -1).shape)
        return laid.movedim(-1, 1).to(coefficients)

    def distance(self, v: Tensor) -> float:
        """Return ||P v - Q v|| / ||Q v||, Q v = (I + gamma L)^-1 v exactly (:class:`Tikhonov`, at its cost)."""
        exact = Tikhonov(self.laplacian, self.gamma)(v)
        return float((self(v) - exact).norm() / exact.norm())


def _degree(n: int, step: float, edge: float) -> int:
    """Return the default degree of the smoother; see CoarseLowPass."""
    # Of large images the Ritz values lie far above the eigenvalues, and say no longer where the band would suffer.
    most = min(128.0, edge) if n <= 2**20 else 128.0 * n / 2**20
    return round(min(most, 8 * (step - 1)))


def _lowest(stiffness: csc_array, mass: csc_array, k: int) -> tuple[FloatArray, FloatArray]:
    """Return the lowest k pairs of K y = theta M y, M-orthonormal, by Lanczos on (K + s M)^-1."""
    shift = 1e-3 * float(stiffness.diagonal().min())
    factor = symmetric_factor(csc_array(stiffness + shift * mass))
    inverse = linalg.LinearOperator(stiffness.shape, matvec=factor.solve, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(stiffness.shape[0])
    values, vectors = linalg.eigsh(stiffness, k, mass, sigma=-shift, OPinv=inverse, v0=start, which="LM", tol=1e-5)
    order = np.argsort(values)
    return values[order], vectors[:, order]
