"""The learned update: in its bare form it is the gradient of the style loss, in any form it is well behaved."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import pytest
import torch
from style_helpers import draw, random_update
from torch import Tensor

from apps.style_transfer.update import Architecture, GramGradient, GramUpdate, Level
from graphs import Around, BandlimitedProjector, eigenbasis, matting
from unroll import Box, Unrolled

SMALL = Architecture(channels=(4, 6), steps=2, gated=True)
BARE = Architecture(
    channels=(4, 5, 6, 7), steps=1, step="gram", normalised=False, gated=True, colours=False, padding="zeros"
)


def bare_gradient(seed: int) -> GramGradient:
    """Return the bare gradient structure in float64: random maps and biases, exact transposes, identity style maps."""
    gradient = cast(GramGradient, random_update(BARE, seed=seed).double().gradients[0])
    with torch.no_grad():
        for a, level in zip(gradient.style_maps, gradient.levels, strict=True):
            a.copy_(torch.eye(len(a)))
            cast(Level, level).transpose_()
    return gradient


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 40)])
def test_the_bare_update_is_the_gradient_of_its_style_loss(height: int, width: int) -> None:
    gradient = bare_gradient(seed=height)
    x = torch.rand(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    style = torch.rand(2, 3, 32, 16, dtype=torch.float64)

    def grams(image: Tensor) -> list[Tensor]:
        rows = [tap.flatten(2) for _, tap in gradient.features(image)]
        return [r @ r.mT / r.shape[-1] for r in rows]

    loss = sum((g - h).square().sum() / h.shape[-1] ** 2 / 4 for g, h in zip(grams(x), grams(style), strict=True))
    (expected,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        found = gradient(x, gradient.encode(style))
    assert float((found - expected).norm() / expected.norm()) < 1e-10


def test_a_wrong_transpose_is_noticed() -> None:
    gradient = bare_gradient(seed=0)
    x, style = (torch.rand(1, 3, 16, 16, dtype=torch.float64) for _ in range(2))
    level = cast(Level, gradient.levels[3])
    with torch.no_grad():
        right = gradient(x, gradient.encode(style))
        level.backward_second.weight.copy_(level.forward_second.weight)
        wrong = gradient(x, gradient.encode(style))
    assert float((wrong - right).norm() / right.norm()) > 1e-3


def test_the_style_is_encoded_by_the_forward_maps_and_the_style_maps() -> None:
    update = random_update(SMALL)
    gradient, style = cast(GramGradient, update.gradients[1]), draw(24, 18)
    encoded = update.encode(style)
    assert [len(levels) for levels in encoded] == [3, 3]
    for (_, tap), a, found in zip(gradient.features(style), gradient.style_maps, encoded[1], strict=False):
        rows = tap.flatten(2)
        mapped = a @ rows
        torch.testing.assert_close(found.mean, mapped.mean(-1, keepdim=True), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.gram, mapped @ mapped.mT / rows.shape[-1], rtol=1e-4, atol=1e-5)
    colours = (style - 0.5).flatten(2)
    torch.testing.assert_close(encoded[1][-1].gram, colours @ colours.mT / colours.shape[-1])


NOISE = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
HOSTILE = {
    "picture": draw(20, 20),
    "loud noise": 1e3 * NOISE,
    "huge": 1e6 * NOISE,
    "constant": torch.full((1, 3, 20, 20), 0.5),
    "black": torch.zeros(1, 3, 20, 20),
}


@pytest.mark.parametrize("step", ["whitening", "gram"])
@pytest.mark.parametrize("style", HOSTILE)
@pytest.mark.parametrize("image", HOSTILE)
def test_normalised_updates_are_bounded_for_any_input(step: str, image: str, style: str) -> None:
    update = random_update(replace(SMALL, step=step))  # type: ignore[arg-type]
    with torch.no_grad():
        g = update(HOSTILE[image], update.encode(HOSTILE[style]), 1)
    assert bool(g.isfinite().all())
    assert float(g.abs().max()) < 1


@pytest.mark.parametrize("step", ["whitening", "gram"])
def test_hardly_any_step_where_the_style_is_the_content(step: str) -> None:
    torch.manual_seed(0)
    update = GramUpdate(replace(SMALL, step=step))  # type: ignore[arg-type]
    x, other = draw(24, 24), draw(24, 24, phase=1)
    with torch.no_grad():
        here, there = (update(x, update.encode(style), 0).norm() for style in (x, other))
    assert float(here) < 0.05 * float(there)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (16, 23), (33, 18)])
@pytest.mark.parametrize("channels", [(4, 6), (4, 5, 6, 7)])
def test_any_size_from_16_on_comes_out_the_same(size: tuple[int, int], channels: tuple[int, ...]) -> None:
    update = random_update(replace(SMALL, channels=channels))
    x = draw(*size)
    g = update(x, update.encode(draw(19, 27, phase=1)), 0)
    assert g.shape == x.shape
    assert bool((g != 0).any(1).all()), "no pixel is left out, at the borders neither"


def test_permuting_the_batch_permutes_the_result(device: torch.device) -> None:
    update = random_update(SMALL).to(device)
    x, style = (torch.cat([draw(18, 21, phase=p + i) for i in range(3)]).to(device) for p in (0, 4))
    order = [1, 2, 0]
    with torch.no_grad():
        together = update(x, update.encode(style), 1)
        permuted = update(x[order], update.encode(style[order]), 1)
        alone = update(x[1:2], update.encode(style[1:2]), 1)
    torch.testing.assert_close(permuted, together[order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": (4, 7)},
        {"step": "gram"},
        {"normalised": False, "step": "gram"},
        {"gated": False},
        {"colours": False},
        {"padding": "zeros"},
    ],
    ids=str,
)
def test_each_option_of_the_architecture_changes_the_result(change: dict[str, object]) -> None:
    x, style = draw(20, 20), draw(20, 20, phase=1)

    def g(architecture: Architecture) -> Tensor:
        update = random_update(architecture)
        return update(x, update.encode(style), 0).detach()

    assert not torch.allclose(g(SMALL), g(replace(SMALL, **change)), rtol=1e-3)  # type: ignore[arg-type]


def test_the_steps_are_untied_and_limited() -> None:
    update = random_update(SMALL)
    x, style = draw(20, 20), draw(20, 20, phase=1)
    data = update.encode(style)
    assert not torch.allclose(update(x, data, 0), update(x, data, 1))
    pointers = [p.data_ptr() for p in update.parameters()]
    assert len(set(pointers)) == len(pointers)
    with pytest.raises(ValueError, match="has parameters for 2 steps, 3 were asked for"):
        Unrolled(update, steps=2)(x, data, steps=3)


@pytest.mark.parametrize("gated", [True, False])
def test_gradients_reach_all_parameters(gated: bool) -> None:
    update = random_update(replace(SMALL, gated=gated))
    x, style = draw(20, 20).requires_grad_(), draw(20, 20, phase=1).requires_grad_()
    Unrolled(update, steps=2)(x, update.encode(style)).x.square().sum().backward()
    for name, tensor in [*update.named_parameters(), ("x", x), ("style", style)]:
        assert tensor.grad is not None, name
        assert bool(tensor.grad.isfinite().all()), name
        assert bool((tensor.grad != 0).any()), name


def test_a_deep_copy_lives_by_itself() -> None:
    update = random_update(SMALL)
    x, style = draw(20, 20), draw(20, 20, phase=1)
    twin = copy.deepcopy(update)
    before = update(x, update.encode(style), 0)
    torch.testing.assert_close(twin(x, twin.encode(style), 0), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    torch.testing.assert_close(update(x, update.encode(style), 0), before, rtol=0, atol=0)


def test_the_projector_is_an_argument_of_the_call_alone() -> None:
    solver = Unrolled(random_update(SMALL), steps=2)
    x, data = draw(20, 20), solver.update.encode(draw(20, 20, phase=1))  # type: ignore[operator]
    before = {k: v.clone() for k, v in solver.state_dict().items()}
    free, boxed = solver(x, data).x, solver(x, data, projector=Box(0.4, 0.6)).x
    assert list(solver.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in solver.state_dict().items())
    assert torch.equal(boxed, boxed.clamp(0.4, 0.6))
    assert not torch.allclose(free, boxed)
    torch.testing.assert_close(solver(x, data).x, free, rtol=0, atol=0)


def test_with_a_bandlimited_projector_the_change_lies_in_its_span() -> None:
    content = draw(16, 17).double()
    solver = Unrolled(random_update(SMALL).double(), steps=2)
    data = solver.update.encode(draw(20, 20, phase=1).double())  # type: ignore[operator]
    vectors = eigenbasis(matting(content), 10).vectors
    with torch.no_grad():
        x = solver(content, data, projector=Around(BandlimitedProjector(vectors), content)).x
    change = (x - content).flatten(2)[0].T
    outside = change - vectors @ (vectors.T @ change)
    assert float(change.norm()) > 1e-3
    assert float(outside.norm()) < 1e-10 * float(change.norm())
