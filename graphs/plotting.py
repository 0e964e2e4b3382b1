"""Pictures of graphs, spectra and filters, by matplotlib (``pip install unroll-style[plot]``), imported on first use.

Each function draws on the ``axes`` given, or on a figure of its own, and returns what it drew on; ``axes.figure`` has
``savefig``. No state of pyplot is touched, so nothing shows by itself and nothing needs closing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._density import SpectralDensity
from graphs._laplacian import FloatArray, Laplacian
from graphs._signals import to_planes
from graphs._spectrum import Eigenbasis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

DIVERGING = "RdBu_r"


class Filter(Protocol):
    """What has a response: :class:`graphs.SpectralFilter`, `ChebyshevLowPass`, `Tikhonov`, a `FilterBank`."""

    def response(self, eigenvalues: Tensor) -> Tensor:
        """Return h at frequencies, in the shape given."""


def eigenvectors(
    basis: Eigenbasis,
    grid_shape: tuple[int, int],
    *,
    which: Sequence[int] | None = None,
    columns: int = 4,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Draw eigenvectors as images: red above zero, blue below, white at it, each on a scale of its own.

    ``which`` are indices from 0, all of them by default; the titles count from 1. ``grid_shape`` is (H, W). ``figure``
    may be a subfigure too. Raises ValueError where they do not fit the basis.
    """
    n, k = basis.vectors.shape
    height, width = grid_shape
    which = range(k) if which is None else which
    if height * width != n:
        raise ValueError(f"the eigenvectors have {n} entries, an image of {height} x {width} has {height * width}")
    if not which or not all(0 <= i < k for i in which):
        raise ValueError(f"which must be indices from 0 to {k - 1}, got {list(which)}")
    columns = min(columns, len(which))
    rows = -(-len(which) // columns)
    figure = _figure(2.6 * columns, rows * (2.6 * height / width + 0.35)) if figure is None else figure
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, i in zip(grid, which, strict=False):
        picture = basis.vectors[:, i].detach().cpu().double().reshape(height, width).numpy()
        reach = float(np.abs(picture).max()) or 1.0
        axes.imshow(picture, cmap=DIVERGING, vmin=-reach, vmax=reach)
        axes.set_title(f"{i + 1}: $\\lambda$ = {_short(float(basis.eigenvalues[i]))}", fontsize=9)
    return figure


def spectrum(basis: Eigenbasis, signals: Tensor | Mapping[str, Tensor], *, axes: Axes | None = None) -> Axes:
    """Draw the energy of signals in each eigenvector, ||u_i^T x||^2 / ||x||^2 over all channels, against i.

    ``signals`` is one, (n,), (n, c) or (B, C, H, W), or several by name. On a logarithmic scale; what they have beyond
    the basis is said in the legend.
    """
    axes = _figure(6, 3.5).subplots() if axes is None else axes
    vectors = basis.vectors.detach().cpu().double()
    named = {"": signals} if isinstance(signals, Tensor) else signals
    for name, signal in named.items():
        planes = to_planes(signal.detach().cpu().double(), len(vectors))
        total = float(planes.square().sum()) or 1.0
        energy = (planes @ vectors).square().sum(dim=0) / total
        rest = 1 - float(energy.sum())
        beyond = f"{100 * rest if rest > 1e-12 else 0:.2g} % beyond"
        axes.plot(np.arange(1, len(energy) + 1), energy.numpy(), ".", ms=4, label=f"{name}, {beyond}".lstrip(", "))
    axes.set_yscale("log")
    axes.set_xlabel("eigenvector $i$, from low frequencies to high")
    axes.set_ylabel(r"share of energy, $\|u_i^T x\|^2 / \|x\|^2$")
    axes.legend(fontsize=8)
    return axes


def response(
    filters: Filter | Mapping[str, Filter],
    eigenvalues: Tensor | SpectralDensity,
    *,
    log: bool = False,
    axes: Axes | None = None,
) -> Axes:
    """Draw the response of filters over the eigenvalues, and these behind them, in grey.

    ``eigenvalues`` are known ones (k,), drawn as a histogram, or what :func:`graphs.spectral_density` returns. With
    ``log`` frequencies are on a logarithmic scale and the grey area is a density per octave: for photographs there is
    most to see at the low end. A filter bank's ``response`` is drawn as so many curves.
    """
    axes = _figure(6, 3.5).subplots() if axes is None else axes
    behind = axes.twinx()
    behind.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    behind.set_yticks([])
    if isinstance(eigenvalues, SpectralDensity):
        x, height = eigenvalues.frequencies.numpy(), eigenvalues.density.numpy()
        height = height * x if log else height
        behind.fill_between(x, height, color="0.85", lw=0)
        highest = float(np.quantile(height, 0.95))  # it is infinite at the ends of the spectrum
    else:
        x = np.sort(eigenvalues.detach().cpu().double().numpy())
        x = x[x > 1e-9 * x[-1]] if log else x
        edges = np.geomspace(x[0], x[-1], 41) if log else np.linspace(0, x[-1], 41)
        highest = float(behind.hist(x, bins=edges.tolist(), color="0.85")[0].max())  # type: ignore[union-attr]
    low, high = float(x[0] if log else 0), float(x[-1])
    behind.set_ylim(0, 1.1 * highest)
    where = np.geomspace(low, high, 1000) if log else np.linspace(low, high, 1000)
    for name, made in (filters if isinstance(filters, Mapping) else {"": filters}).items():
        curves = made.response(torch.from_numpy(where)).detach().reshape(-1, len(where)).numpy()
        for i, curve in enumerate(curves):
            axes.plot(where, curve, label=name if len(curves) == 1 else f"{name} {i + 1}".strip())
    axes.set_xscale("log" if log else "linear")
    axes.set_xlim(low, high)
    axes.set_xlabel(r"eigenvalue $\lambda$ (grey: how many there are)")
    axes.set_ylabel(r"response $h(\lambda)$")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8)
    return axes


def edges(laplacian: Laplacian, image: Tensor, crop: tuple[int, int, int, int], *, axes: Axes | None = None) -> Axes:
    """Draw the graph on a crop of its image: lines between pixels, the thicker the larger the weight.

    Green where the weight W_ij = -L_ij is positive and the pixels are held together, magenta where it is negative and
    they are pushed apart. ``image`` is (C, H, W) or (1, C, H, W) in [0, 1], with 1 or 3 channels, on the pixels of the
    graph, ``crop`` = (top, left, height, width). Cost: to_scipy() of the whole graph. Raises ValueError.
    """
    image = image[0] if image.ndim == 4 else image
    top, left, height, width = crop
    if laplacian.grid_shape is None or image.ndim != 3 or tuple(image.shape[1:]) != laplacian.grid_shape:
        raise ValueError(f"the graph is that of an image {laplacian.grid_shape}, got an image {tuple(image.shape)}")
    _, h, w = image.shape
    if min(top, left) < 0 or min(height, width) < 1 or top + height > h or left + width > w:
        raise ValueError(f"the crop (top, left, height, width) = {crop} leaves the image of {h} x {w} pixels")
    axes = _figure(6, 6 * height / width).subplots() if axes is None else axes
    y, x = np.mgrid[top : top + height, left : left + width].reshape(2, -1)
    nodes = y * w + x
    pixels = image[:, top : top + height, left : left + width].detach().cpu().float().permute(1, 2, 0).numpy()
    extent = (left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
    axes.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1, extent=extent)
    _draw_lines(axes, laplacian.to_scipy()[nodes][:, nodes], np.stack([x, y], axis=1), 4.0)
    axes.plot(x, y, "o", ms=2.5, mfc="white", mec="black", mew=0.4)
    return axes


def graph(
    laplacian: Laplacian,
    points: Tensor | FloatArray,
    *,
    signal: Tensor | None = None,
    limits: tuple[float, float] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw a graph of points in the plane: its edges in grey, its nodes in the colours of a signal (n,), if any.

    ``points`` are (n, 2). ``limits`` of the colours; symmetric about zero by default. Raises ValueError.
    """
    places = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, dtype=np.float64)
    if places.shape != (laplacian.n, 2):
        raise ValueError(
            f"the graph has {laplacian.n} nodes, the points must be ({laplacian.n}, 2), got {places.shape}"
        )
    axes = _figure(5, 5).subplots() if axes is None else axes
    matrix = laplacian.to_scipy()
    _draw_lines(axes, matrix, places, 0.8, colours=("0.8", "0.8"))
    if signal is None:
        axes.plot(*places.T, "o", ms=3, color="0.2")
    else:
        values = to_planes(signal.detach().cpu(), laplacian.n)[0].numpy()
        reach = float(np.abs(values).max()) or 1.0
        low, high = (-reach, reach) if limits is None else limits
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=14,
            c=values,
            cmap=DIVERGING,
            vmin=low,
            vmax=high,
            lw=0.2,
            edgecolors="0.3",
            zorder=2,
        )
    axes.set_aspect("equal")
    axes.set_axis_off()
    return axes


def _draw_lines(
    axes: Axes,
    matrix: sparse.csr_array,
    places: FloatArray,
    width: float,
    *,
    colours: tuple[str, str] = ("limegreen", "magenta"),
) -> None:
    """Draw the edges of L between places (n, 2), the thickest ``width`` points wide, negative weights on top."""
    from matplotlib.collections import LineCollection

    upper = sparse.coo_array(sparse.triu(matrix, 1))
    weights = -upper.data
    largest = float(np.abs(weights).max()) if len(weights) else 1.0
    for colour, kept in zip(colours, (weights > 0, weights < 0), strict=True):
        ends = np.stack([places[upper.row[kept]], places[upper.col[kept]]], axis=1)
        widths = width * np.abs(weights[kept]) / largest
        axes.add_collection(LineCollection(list(ends), linewidths=widths.tolist(), colors=colour, zorder=1.5))


def _short(value: float) -> str:
    """Return a number of two digits, as 0.0012 or 3.4e-07, and 0 for rounding errors of it."""
    return "0" if abs(value) < 1e-12 else f"{value:.2g}"


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("graphs.plotting needs matplotlib: pip install 'unroll-style[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")
