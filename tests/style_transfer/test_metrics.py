"""The figures of an evaluation against scikit-image, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from style_helpers import draw

from apps.style_transfer.evaluation.metrics import edge_ssim, matting_energy, psnr
from apps.style_transfer.evaluation.peak import peak_memory
from graphs import matting


@pytest.mark.parametrize("size", [(24, 31), (40, 40)])
def test_edge_ssim_is_that_of_scikit_image_between_scipys_edges(size: tuple[int, int]) -> None:
    x, y = draw(*size), draw(*size, phase=0.3, roughness=0.1)

    def edges(image: torch.Tensor) -> np.ndarray:
        grey = image[0].double().mean(0).numpy()
        return np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) / 4

    expected = structural_similarity(
        edges(x), edges(y), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    assert edge_ssim(x, y) == pytest.approx(expected, abs=1e-6)
    assert edge_ssim(x, x) == pytest.approx(1)


def test_edge_ssim_of_a_picture_below_the_window() -> None:
    x = draw(8, 9)
    assert edge_ssim(x, x) == pytest.approx(1)
    assert edge_ssim(x, x.flip(-1)) < 1


def test_matting_energy_is_the_quadratic_form_of_the_dense_laplacian() -> None:
    photo, x = draw(9, 11).double(), draw(9, 11, phase=1.0).double()
    laplacian = matting(photo)
    rows = x[0].flatten(1).numpy()
    expected = float(np.trace(rows @ laplacian.to_scipy().toarray() @ rows.T)) / 99
    assert matting_energy(x, laplacian) == pytest.approx(expected, rel=1e-6)


def test_psnr_of_a_constant_difference() -> None:
    x = torch.full((1, 3, 4, 5), 0.25)
    assert psnr(x, x + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(x, x) == math.inf


def test_peak_memory_sees_what_is_allocated_and_freed_inside(device: torch.device) -> None:
    with peak_memory(device) as small:
        pass
    with peak_memory(device) as large:
        torch.ones(50_000_000, device=device).sum()  # 0.2 GB
    if small.gigabytes is None or large.gigabytes is None:
        assert not torch.cuda.is_available()  # a system that does not tell
    else:
        assert large.gigabytes - small.gigabytes > 0.15
