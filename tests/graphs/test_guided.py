import copy
import math

import numpy as np
import pytest
import torch
from graph_helpers import picture

from graphs import GuidedFilter


def brute_force(guide, radius, eps, v):
    """Each window's ridge regression by least squares with extra rows, and the mean of the models at each pixel."""
    channels, height, width = guide.shape
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            window = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            colours, values = guide[:, *window].reshape(channels, -1).T, v[window].ravel()
            size = len(values)
            ridge = np.sqrt(eps * size) * np.eye(channels, channels + 1)
            system = np.concatenate([np.concatenate([colours, np.ones((size, 1))], axis=1), ridge])
            model = np.linalg.lstsq(system, np.concatenate([values, np.zeros(channels)]), rcond=None)[0]
            total[window] += (colours @ model[:-1] + model[-1]).reshape(total[window].shape)
            count[window] += 1
    return total / count


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-2), (2, 1e-4), (4, 1e-6), (7, 1e-3)])
def test_guided_filter_is_its_definition(channels, radius, eps):
    guide = picture(8, 11, channels)
    v = torch.randn(2, 2, 8, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = GuidedFilter(guide, radius, eps)(v)
    for sample, result in zip(v.flatten(0, 1).numpy(), found.flatten(0, 1), strict=True):
        np.testing.assert_allclose(result, brute_force(guide.numpy(), radius, eps, sample), atol=1e-7)


def test_what_is_affine_in_the_guide_stays(image):
    affine = (image * torch.tensor([0.5, -2.0, 1.0])[:, None, None]).sum(dim=0)[None, None] + 3
    keeps, smooths = GuidedFilter(image, 2, 1e-9), GuidedFilter(image, 2, 1.0)
    torch.testing.assert_close(keeps(affine), affine, rtol=0, atol=1e-4)
    assert float((smooths(affine) - affine).abs().max()) > 0.1
    constant = torch.full((1, 1, 12, 15), 0.7)
    torch.testing.assert_close(keeps(constant), constant)


def test_each_option_changes_the_result(image):
    v = torch.randn(1, 1, 12, 15, dtype=torch.float64)
    base = GuidedFilter(image, 2, 1e-3)(v)
    for other in (GuidedFilter(image, 3, 1e-3), GuidedFilter(image, 2, 1e-2), GuidedFilter(image.flip(-1), 2, 1e-3)):
        assert float((other(v) - base).abs().max()) > 1e-2


def test_it_is_linear_and_not_self_adjoint(image):
    filter = GuidedFilter(image, 2, 1e-3)
    matrix = filter(torch.eye(180, dtype=torch.float64))
    v = torch.randn(180, 3, dtype=torch.float64)
    torch.testing.assert_close(filter(v), matrix @ v)
    assert float((matrix - matrix.T).abs().max()) > 1e-3
    assert (filter.linear, filter.convex, filter.idempotent) == (False, False, False)
    # The way back is the transposed matrix.
    x = torch.randn(180, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((filter(x) * v[:, 0]).sum(), x)
    torch.testing.assert_close(gradient, matrix.T @ v[:, 0])
    torch.testing.assert_close(torch.vmap(filter)(v.T[..., None])[1, :, 0], filter(v[:, 1]))


def test_precision_batches_and_devices(image, device):
    x = torch.rand(2, 3, 12, 15, dtype=torch.float64)
    exact = GuidedFilter(image, 3, 1e-4)(x)
    filter = GuidedFilter(image[None].float(), 3, 1e-4).to(device)
    single = filter(x.float().to(device))
    assert (single.dtype, single.device.type) == (torch.float32, device.type)
    torch.testing.assert_close(single.cpu().double(), exact, rtol=0, atol=1e-4)
    assert torch.equal(copy.deepcopy(filter)(x.float().to(device)), single)
    assert not filter.state_dict()
    assert torch.equal(filter(x.to(device).half()), filter(x.to(device).half().float()).half())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1e-3), "from 1 to 11 for a guide of 12 x 15 pixels, got 0"),
        ((12, 1e-3), "from 1 to 11 for a guide of 12 x 15 pixels, got 12"),
        ((1.5, 1e-3), "got 1.5"),
        ((2, 0.0), "eps must be a positive number, got 0"),
        ((2, math.nan), "eps must be a positive number, got nan"),
    ],
)
def test_bad_options(arguments, message, image):
    with pytest.raises(ValueError, match=message):
        GuidedFilter(image, *arguments)


def test_bad_images(image):
    with pytest.raises(TypeError, match="divide by 255"):
        GuidedFilter((255 * image).byte(), 2, 1e-3)
    with pytest.raises(ValueError, match="finite"):
        GuidedFilter(image * math.nan, 2, 1e-3)
    with pytest.raises(ValueError, match=r"the signal .* has 15 x 12"):
        GuidedFilter(image, 2, 1e-3)(torch.zeros(1, 3, 15, 12))
