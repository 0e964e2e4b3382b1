"""Graphs of images and points: Laplacians, their low frequencies, and projectors for unrolled solvers.

A :class:`Laplacian` is an operator on signals (n,), (n, c), (B, C, H, W) or (B, C, D, H, W), made by :func:`matting`,
:func:`grid`, :func:`knn` (of :func:`pixel_features`, say), or from a matrix, edges or another library's graph by
:func:`from_scipy`, :func:`from_adjacency`, :func:`from_edges`, :func:`from_networkx`, :func:`from_pygsp`.
:func:`eigenbasis` gives its lowest eigenvectors U_k, :func:`eigencount` and :func:`cutoff_for` count eigenvalues
without computing them. The projectors are ``unroll`` operators:

- :class:`Bandlimited`: onto span(U_k) by what is affordable, of which there are
- :class:`BandlimitedProjector`: exact, of eigenvectors;
- :class:`ChebyshevLowPass`: nearly that, by matvecs alone;
- :class:`Tikhonov`: (I + gamma L)^-1, the prox of the smoothness gamma/2 Tr(X^T L X);
- :class:`DirichletBall`: onto the signals of at most so much of that smoothness, by the gamma that it takes;
- :class:`CoarseLowPass`, :class:`CoarseTikhonov`: both for large images, by local models affine in the image;
- :class:`SpectralFilter`: any function of L, h(L), by a polynomial; :class:`FilterBank`: several at once, and back;
- :class:`GuidedFilter`: the local stand-in for the matting Laplacian's low-pass;
- :func:`smoothing_step`: Li et al.'s, Tikhonov on the normalised Laplacian;
- :class:`Around`: any of them on the difference from a guide image; :class:`InColourSpace`: in linear light, say, or
  opponent colours; :class:`PerChannel`: another one for each channel.

:func:`spectral_density` estimates where the eigenvalues are; ``graphs.plotting`` draws all this with matplotlib.
"""

from graphs._bandlimited import Bandlimited
from graphs._colours import LINEAR_LIGHT, OPPONENT, ColourSpace, InColourSpace, PerChannel
from graphs._convert import from_adjacency, from_edges, from_networkx, from_pygsp, from_scipy
from graphs._density import SpectralDensity, spectral_density
from graphs._dirichlet import DirichletBall
from graphs._filterbank import FilterBank
from graphs._filters import SpectralFilter
from graphs._galerkin import CoarseLowPass, CoarseTikhonov
from graphs._grid import grid
from graphs._guided import GuidedFilter
from graphs._knn import knn
from graphs._laplacian import Laplacian
from graphs._matting import matting
from graphs._pixels import pixel_features
from graphs._projectors import Around, BandlimitedProjector, ChebyshevLowPass, Tikhonov
from graphs._smoothing import smoothing_step
from graphs._spectrum import Eigenbasis, EigenCount, cutoff_for, eigenbasis, eigencount

__all__ = [
    "LINEAR_LIGHT",
    "OPPONENT",
    "Around",
    "Bandlimited",
    "BandlimitedProjector",
    "ChebyshevLowPass",
    "CoarseLowPass",
    "CoarseTikhonov",
    "ColourSpace",
    "DirichletBall",
    "EigenCount",
    "Eigenbasis",
    "FilterBank",
    "GuidedFilter",
    "InColourSpace",
    "Laplacian",
    "PerChannel",
    "SpectralDensity",
    "SpectralFilter",
    "Tikhonov",
    "cutoff_for",
    "eigenbasis",
    "eigencount",
    "from_adjacency",
    "from_edges",
    "from_networkx",
    "from_pygsp",
    "from_scipy",
    "grid",
    "knn",
    "matting",
    "pixel_features",
    "smoothing_step",
    "spectral_density",
]
