import io
import sys

import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs
from graphs import plotting


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(7, 8), eps=1e-3)


@pytest.fixture(scope="module")
def basis(laplacian):
    return graphs.eigenbasis(laplacian, 56)


@pytest.fixture(autouse=True)
def _no_global_figure():
    yield
    import matplotlib.pyplot

    assert matplotlib.pyplot.get_fignums() == []


def saved(axes_or_figure):
    stream = io.BytesIO()
    (getattr(axes_or_figure, "figure", None) or axes_or_figure).savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")


def test_eigenvectors_are_drawn_as_images_about_zero(basis):
    figure = plotting.eigenvectors(basis, (7, 8), which=[1, 5, 9], columns=2)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 4
    assert len(shown) == 3
    for axes, i in zip(shown, (1, 5, 9), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), basis.vectors[:, i].reshape(7, 8))
        low, high = axes.images[0].get_clim()
        assert low == -high == -basis.vectors[:, i].abs().max()
        assert axes.get_title().startswith(f"{i + 1}: ")
        assert f"{float(basis.eigenvalues[i]):.2g}" in axes.get_title()
    saved(figure)
    part = figure.subfigures(1, 2)[0]
    assert plotting.eigenvectors(basis, (7, 8), which=[0], figure=part) is part
    assert len(plotting.eigenvectors(graphs.Eigenbasis(basis.eigenvalues[:5], basis.vectors[:, :5]), (7, 8)).axes) == 8


def test_a_spectrum_is_the_energy_in_each_eigenvector(basis):
    x = torch.rand(1, 3, 7, 8, dtype=torch.float64)
    low = graphs.Eigenbasis(basis.eigenvalues[:20], basis.vectors[:, :20])
    axes = plotting.spectrum(low, {"noise": x, "in band": low.vectors[:, :2]})
    noise, inside = axes.lines
    expected = (x.flatten(2)[0] @ low.vectors).square().sum(dim=0) / x.square().sum()
    np.testing.assert_allclose(noise.get_ydata(), expected)
    np.testing.assert_allclose(inside.get_ydata()[:2], 0.5)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"noise, {100 * (1 - float(expected.sum())):.2g} % beyond", "in band, 0 % beyond"]
    assert [text.get_text() for text in plotting.spectrum(basis, x).get_legend().get_texts()] == ["0 % beyond"]
    saved(axes)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_responses_are_drawn_over_the_eigenvalues(log, known, laplacian, basis):
    heat, bank = graphs.SpectralFilter.heat(laplacian), graphs.FilterBank.itersine(laplacian, 3)
    behind = basis.eigenvalues if known else graphs.spectral_density(laplacian, order=40)
    axes = plotting.response({"heat": heat, "itersine": bank}, behind, log=log)
    assert [line.get_label() for line in axes.lines] == ["heat", "itersine 1", "itersine 2", "itersine 3"]
    assert axes.get_xscale() == ("log" if log else "linear")
    where = torch.from_numpy(np.asarray(axes.lines[0].get_xdata()))
    for line, curve in zip(axes.lines, [heat.response(where), *bank.response(where)], strict=True):
        np.testing.assert_allclose(line.get_ydata(), curve)
    twin = next(other for other in axes.figure.axes if other is not axes)
    if known:
        counted = sum(bar.get_height() for bar in twin.patches)
        assert counted == pytest.approx(55 if log else 56, abs=1)  # zero has no logarithm
    else:
        assert len(twin.collections) == 1
    saved(axes)


def test_a_filter_without_a_name_has_no_legend(laplacian, basis):
    assert plotting.response(graphs.SpectralFilter.heat(laplacian), basis.eigenvalues).get_legend() is None


def test_edges_of_a_crop_have_the_widths_of_their_weights(laplacian):
    axes = plotting.edges(laplacian, picture(7, 8), (2, 3, 3, 4))
    dense = laplacian.to_scipy().toarray().reshape(7, 8, 7, 8)
    inner = dense[2:5, 3:7, 2:5, 3:7].reshape(12, 12)
    largest, drawn = np.abs(np.triu(inner, 1)).max(), 0
    for lines, sign in zip(axes.collections, (1, -1), strict=True):
        for (a, b), width in zip(lines.get_segments(), lines.get_linewidths(), strict=True):
            weight = -dense[int(a[1]), int(a[0]), int(b[1]), int(b[0])]
            assert weight * sign > 0
            assert 2 <= min(a[1], b[1]) <= max(a[1], b[1]) < 5
            assert 3 <= min(a[0], b[0]) <= max(a[0], b[0]) < 7
            assert width == pytest.approx(4 * abs(weight) / largest)
            drawn += 1
    assert drawn == np.count_nonzero(np.triu(inner, 1))
    np.testing.assert_allclose(axes.images[0].get_array(), picture(7, 8)[:, 2:5, 3:7].permute(1, 2, 0), rtol=1e-6)
    saved(axes)


def test_graphs_of_points():
    points = torch.rand(20, 2, dtype=torch.float64)
    laplacian = graphs.knn(points, 3)
    signal = torch.randn(20)
    axes = plotting.graph(laplacian, points, signal=signal)
    lines, _, dots = axes.collections
    assert len(lines.get_segments()) == (laplacian.to_scipy().nnz - 20) / 2
    np.testing.assert_allclose(dots.get_offsets(), points)
    np.testing.assert_allclose(dots.get_array(), signal)
    assert dots.get_clim()[0] == -dots.get_clim()[1]
    assert plotting.graph(laplacian, points, signal=signal, limits=(0, 2)).collections[2].get_clim() == (0, 2)
    saved(axes)
    saved(plotting.graph(laplacian, points.numpy()))


def test_drawing_on_given_axes(laplacian, basis):
    from matplotlib.figure import Figure

    figure = Figure()
    for axes, draw in zip(
        figure.subplots(2, 2).ravel(),
        (
            lambda axes: plotting.spectrum(basis, basis.vectors[:, 0], axes=axes),
            lambda axes: plotting.response(graphs.SpectralFilter.heat(laplacian), basis.eigenvalues, axes=axes),
            lambda axes: plotting.edges(laplacian, picture(7, 8)[None], (0, 0, 3, 3), axes=axes),
            lambda axes: plotting.graph(laplacian, torch.rand(56, 2), axes=axes),
        ),
        strict=True,
    ):
        assert draw(axes) is axes
    saved(figure)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda L, b: plotting.eigenvectors(b, (8, 8)), "56 entries, an image of 8 x 8 has 64"),
        (lambda L, b: plotting.eigenvectors(b, (7, 8), which=[56]), r"from 0 to 55, got \[56\]"),
        (
            lambda L, b: plotting.edges(L, picture(8, 7), (0, 0, 2, 2)),
            r"of an image \(7, 8\), got an image \(3, 8, 7\)",
        ),
        (lambda L, b: plotting.edges(L, picture(7, 8), (5, 0, 3, 2)), "leaves the image of 7 x 8"),
        (lambda L, b: plotting.graph(L, torch.zeros(5, 2)), r"must be \(56, 2\), got \(5, 2\)"),
    ],
)
def test_bad_input(draw, message, laplacian, basis):
    with pytest.raises(ValueError, match=message):
        draw(laplacian, basis)


def test_matplotlib_is_asked_for_when_it_is_missing(basis, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'unroll-style\[plot\]'"):
        plotting.eigenvectors(basis, (7, 8))
