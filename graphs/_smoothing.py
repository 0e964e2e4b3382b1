"""The smoothing step of photorealistic stylisation, which is Tikhonov's on the normalised Laplacian."""

from __future__ import annotations

from graphs._laplacian import Laplacian
from graphs._projectors import Tikhonov


def smoothing_step(
    laplacian: Laplacian, alpha: float = 0.9999, *, rtol: float = 1e-4, max_iter: int = 1000
) -> Tikhonov:
    """Return v -> (1 - alpha) (I - alpha S)^-1 v, S = D^-1/2 W D^-1/2 the normalised affinity of the graph.

    With W = D - L, S = I - L_n for L_n = ``laplacian.normalized()``, and the map is that of :class:`Tikhonov` on L_n
    with gamma = alpha / (1 - alpha):

        (1 - alpha) (I - alpha S)^-1 = (I + gamma L_n)^-1,    argmin_x gamma/2 x^T L_n x + 1/2 ||x - v||^2

    What stays as it is is D^1/2 1 and not the constant: a flat signal comes back a little uneven. Of Li et al. it is
    the second half, after any stylisation v, on the :func:`matting` Laplacian of the photograph; their lambda is
    1 / gamma, 1e-4 by default there and here.

    Args:
        laplacian: L = D - W, its normalised form is taken.
        alpha: in [0, 1); nearer to 1 is smoother.
        rtol, max_iter: as in :class:`Tikhonov`.

    Raises ValueError.

    Source: Y. Li, M.-Y. Liu, X. Li, M.-H. Yang, J. Kautz, "A closed-form solution to photorealistic image stylization",
    ECCV 2018.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha}")
    return Tikhonov(laplacian.normalized(), alpha / (1 - alpha), rtol=rtol, max_iter=max_iter)
