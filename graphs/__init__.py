"""Graphs of images and points: Laplacians, their low frequencies, and projectors for unrolled solvers.

A :class:`Laplacian` is an operator on signals (n,), (n, c) or (B, C, H, W), made by :func:`matting`, :func:`grid`,
:func:`knn` or :func:`from_scipy`. :func:`eigenbasis` gives its lowest eigenvectors U_k, :func:`eigencount` and
:func:`cutoff_for` count eigenvalues without computing them. The projectors are ``unroll`` operators:

- :class:`BandlimitedProjector`: onto span(U_k), exact;
- :class:`ChebyshevLowPass`: nearly that, by matvecs alone;
- :class:`Tikhonov`: (I + gamma L)^-1, the prox of the smoothness gamma/2 Tr(X^T L X);
- :class:`Around`: any of them on the difference from a guide image.
"""

from graphs._build import from_scipy, grid, knn, matting
from graphs._laplacian import Laplacian
from graphs._projectors import Around, BandlimitedProjector, ChebyshevLowPass, Tikhonov
from graphs._spectrum import Eigenbasis, EigenCount, cutoff_for, eigenbasis, eigencount

__all__ = [
    "Around",
    "BandlimitedProjector",
    "ChebyshevLowPass",
    "EigenCount",
    "Eigenbasis",
    "Laplacian",
    "Tikhonov",
    "cutoff_for",
    "eigenbasis",
    "eigencount",
    "from_scipy",
    "grid",
    "knn",
    "matting",
]
