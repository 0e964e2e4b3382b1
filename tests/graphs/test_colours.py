"""Operators in other colour spaces, and with other parameters for each channel."""

import copy
import pickle

import numpy as np
import pytest
import torch
from graph_helpers import picture
from skimage import color

import graphs
from graphs import LINEAR_LIGHT, OPPONENT, ColourSpace, InColourSpace, PerChannel


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(9, 11), eps=1e-3)


def image():
    return picture(9, 11)[None]


def test_linear_light_is_that_of_scikit_image():
    x = torch.linspace(0, 1, 300, dtype=torch.float64).reshape(1, 3, 10, 10)
    # scikit-image has the way there inside rgb2xyz alone: the matrix undone leaves it.
    xyz = color.rgb2xyz(x[0].permute(1, 2, 0).numpy())
    expected = xyz @ np.linalg.inv(color.colorconv.xyz_from_rgb).T
    np.testing.assert_allclose(LINEAR_LIGHT.there(x)[0].permute(1, 2, 0), expected, atol=1e-12)


def test_spaces_lead_there_and_back_for_all_reals_with_finite_derivatives():
    x = torch.cat([torch.linspace(-2, 2, 3001, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)])
    x = x.reshape(-1, 3).requires_grad_()
    for space in (LINEAR_LIGHT, OPPONENT):
        torch.testing.assert_close(space.back(space.there(x)), x, rtol=1e-5, atol=1e-5)  # the standard's own rounding
        (gradient,) = torch.autograd.grad(space.back(x).sum(), x)
        assert gradient.isfinite().all()
    there = LINEAR_LIGHT.there(x)
    torch.testing.assert_close(LINEAR_LIGHT.there(-x), -there)
    assert (torch.autograd.grad(there.sum(), x)[0] > 0).all()


def test_opponent_colours_are_their_formulas():
    red, green, blue = torch.rand(3, 4, 5, dtype=torch.float64)
    found = OPPONENT.there(torch.stack([red, green, blue])[None])[0]
    torch.testing.assert_close(found[0], (red + green + blue) / 3**0.5)
    torch.testing.assert_close(found[1], (red - green) / 2**0.5)
    torch.testing.assert_close(found[2], (red + green - 2 * blue) / 6**0.5)


def test_an_operator_in_a_space_is_its_formula(laplacian):
    inner, v = graphs.Tikhonov(laplacian, 100.0, rtol=1e-12), image()
    lit = InColourSpace(inner, LINEAR_LIGHT)
    torch.testing.assert_close(lit(v), LINEAR_LIGHT.back(inner(LINEAR_LIGHT.there(v))))
    assert (lit(v) - inner(v)).abs().max() > 1e-3
    torch.testing.assert_close(lit(v, 0.1), LINEAR_LIGHT.back(inner(LINEAR_LIGHT.there(v), 0.1)))
    assert (lit.convex, lit.linear, lit.idempotent) == (False, False, False)
    # All channels alike: no matrix makes a difference.
    torch.testing.assert_close(InColourSpace(inner, OPPONENT)(v), inner(v))
    own = ColourSpace(lambda x: 2 * x, lambda x: x / 2)
    torch.testing.assert_close(InColourSpace(inner, own)(v), inner(v))


def test_idempotence_survives_and_the_difference_is_taken_in_the_space(laplacian):
    projector = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 9))
    photo, v = image(), torch.rand(2, 3, 9, 11, dtype=torch.float64)
    made = InColourSpace(graphs.Around(projector, LINEAR_LIGHT.there(photo)), LINEAR_LIGHT)
    assert (made.convex, made.linear, made.idempotent) == (False, False, True)
    torch.testing.assert_close(made(made(v)), made(v), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made(photo), photo, rtol=1e-4, atol=1e-4)


def test_each_channel_has_its_own_parameters(laplacian):
    operators = [graphs.Tikhonov(laplacian, gamma, rtol=1e-12) for gamma in (0.0, 10.0, 1000.0)]
    made, v = PerChannel(operators), torch.randn(2, 3, 9, 11, dtype=torch.float64)
    for i, operator in enumerate(operators):
        torch.testing.assert_close(made(v, 0.5)[:, i : i + 1], operator(v[:, i : i + 1], 0.5))
    columns = v[0].flatten(1).T
    torch.testing.assert_close(made(columns), made(v)[0].flatten(1).T)
    opponent = InColourSpace(made, OPPONENT)
    assert (opponent.convex, opponent.linear, opponent.idempotent) == (True, True, False)
    lightness = OPPONENT.there(opponent(v))[:, 0]
    torch.testing.assert_close(lightness, OPPONENT.there(v)[:, 0])  # gamma = 0
    bands = PerChannel([graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, k)) for k in (3, 9, 20)])
    assert (bands.convex, bands.linear, bands.idempotent) == (True, True, True)
    assert PerChannel([bands.operators[0], operators[0]]).idempotent is False


def test_spaces_keep_dtype_and_can_be_copied(laplacian, device):
    made = InColourSpace(PerChannel([graphs.Tikhonov(laplacian, g) for g in (1.0, 10.0, 100.0)]), OPPONENT)
    v = torch.rand(1, 3, 9, 11, device=device)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(twin(v), made(v))
    assert made(v).dtype == torch.float32
    assert made(v.bfloat16()).dtype == torch.bfloat16
    assert made.state_dict() == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ColourSpace.rotation(torch.ones(2, 3)), r"must be square, got the shape \(2, 3\)"),
        (lambda: ColourSpace.rotation(torch.ones(2, 2)), "must be orthonormal, .* reaches 2.0e\\+00"),
        (lambda: ColourSpace.rotation(torch.eye(2) * torch.nan), "must be orthonormal"),
        (lambda: OPPONENT.there(torch.zeros(1, 4, 5, 5)), r"takes signals \(n, 3\), .*, got \(1, 4, 5, 5\)"),
        (lambda: PerChannel([]), "an operator for each channel, got none"),
        (
            lambda: PerChannel([graphs.Tikhonov(graphs.grid((2, 2)), 1.0)])(torch.zeros(4)),
            r"signals \(n, 1\), .*got \(4,\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
