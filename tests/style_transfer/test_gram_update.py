"""The learned update: in its bare form it is the gradient of the style loss, in any form it is well behaved."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import pytest
import torch
from style_helpers import draw, random_update
from torch import Tensor, nn
from torch.nn.functional import softsign

from apps.style_transfer.learned.level import gate
from apps.style_transfer.learned.update import Architecture, GramGradient, GramUpdate, Kind, Level, PlainGradient
from apps.style_transfer.training.grow import grow
from graphs import Around, BandlimitedProjector, eigenbasis, matting
from unroll import Box, Unrolled

KINDS: tuple[Kind, ...] = ("whitening", "gradient")
SMALL = Architecture(channels=(4, 6), convolutions=(2, 3), kinds=KINDS)
BARE = Architecture(
    channels=(4, 5, 6, 7),
    convolutions=(2, 1, 3, 2),
    kinds=("gradient",),
    bounded=False,
    colours=False,
    padding="zeros",
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
        rows = [outputs[-1].flatten(2) for outputs in gradient.features(image)]
        return [r @ r.mT / r.shape[-1] for r in rows]

    weights = cast(PlainGradient, gradient).level_weights.detach().exp()
    loss = sum(
        w * (g - h).square().sum() / h.shape[-1] ** 2 / 4
        for w, g, h in zip(weights, grams(x), grams(style), strict=True)
    )
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
        cast(nn.Conv2d, level.backward_maps[1]).weight.copy_(cast(nn.Conv2d, level.forward_maps[1]).weight)
        wrong = gradient(x, gradient.encode(style))
    assert float((wrong - right).norm() / right.norm()) > 1e-3


def test_the_style_is_encoded_by_the_forward_maps_and_the_style_maps() -> None:
    update = random_update(SMALL)
    gradient, style = cast(GramGradient, update.gradients[1]), draw(24, 18)
    encoded = update.encode(style)
    assert [len(levels) for levels in encoded] == [3, 3]
    for outputs, a, found in zip(gradient.features(style), gradient.style_maps, encoded[1], strict=False):
        rows = outputs[-1].flatten(2)
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


@pytest.mark.parametrize("t", range(2), ids=KINDS)
@pytest.mark.parametrize("style", HOSTILE)
@pytest.mark.parametrize("image", HOSTILE)
def test_updates_are_bounded_for_any_input(t: int, image: str, style: str) -> None:
    update = random_update(SMALL)
    with torch.no_grad():
        g = update(HOSTILE[image], update.encode(HOSTILE[style]), t)
    assert bool(g.isfinite().all())
    assert float(g.abs().max()) < 1


@pytest.mark.parametrize("t", range(2), ids=KINDS)
def test_no_step_where_the_style_is_the_content(t: int) -> None:
    """Whatever the maps are, as long as H^s is not carried elsewhere: with biases on the way down it had moved."""
    update = random_update(SMALL)
    with torch.no_grad():
        for gradient in update.gradients:
            for a in cast(GramGradient, gradient).style_maps:
                a.copy_(torch.eye(len(a)))
        x, other = draw(24, 24), draw(24, 24, phase=1)
        here, there = (update(x, update.encode(style), t).norm() for style in (x, other))
    assert float(here) < 1e-4 * float(there)


def hard(update: GramUpdate) -> GramUpdate:
    """Return the update with the gates of backpropagation, which jump at 0."""
    for module in update.modules():
        if hasattr(module, "ramp"):
            module.ramp = 0.0
    return update


def test_gates_are_those_of_backpropagation_but_for_a_ramp_and_pass_no_gradient() -> None:
    y = torch.tensor([-1.0, -1e-9, 0.0, 5e-4, 1e-3, 2.0], requires_grad=True)
    torch.testing.assert_close(gate(y, 1e-3), torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0, 1.0]))
    assert gate(y, 0.0).tolist() == [False, False, False, True, True, True]
    assert not gate(y, 1e-3).requires_grad


def test_rounding_does_not_decide_what_a_gate_lets_through() -> None:
    y = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    other = y + 1e-6 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    assert float((gate(y, 1e-3) - gate(other, 1e-3)).abs().max()) < 1e-2
    assert not torch.equal(gate(y, 0.0), gate(other, 0.0))


def test_the_gradient_kind_starts_as_polyaks_step_on_its_style_loss() -> None:
    architecture = replace(SMALL, kinds=("gradient",), padding="zeros", colours=False)
    torch.manual_seed(0)
    gradient = cast(GramGradient, hard(GramUpdate(architecture).double()).gradients[0])
    x, style = (torch.rand(1, 3, *size, dtype=torch.float64) for size in ((16, 24), (24, 20)))
    x.requires_grad_()

    def grams(image: Tensor) -> list[Tensor]:
        rows = [outputs[-1].flatten(2) for outputs in gradient.features(image)]
        return [r @ r.mT / r.shape[-1] for r in rows]

    terms = [(g - h).square().sum() / h.shape[-1] ** 2 / 2 for g, h in zip(grams(x), grams(style), strict=True)]
    loss = torch.stack(terms).sum()
    (slope,) = torch.autograd.grad(loss, x)
    expected = softsign(0.5 * loss * slope / slope.square().sum())
    with torch.no_grad():
        torch.testing.assert_close(gradient(x, gradient.encode(style)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (16, 23), (33, 18)])
@pytest.mark.parametrize("channels", [(4, 6), (4, 5, 6, 7)])
def test_any_size_from_16_on_comes_out_the_same(size: tuple[int, int], channels: tuple[int, ...]) -> None:
    update = random_update(replace(SMALL, channels=channels, convolutions=(2,) * len(channels)))
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
        {"convolutions": (2, 2)},
        {"kinds": KINDS[::-1]},
        {"whitening_levels": 1},
        {"bounded": False},
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


@pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1]], ids=str)
def test_gradients_reach_all_parameters(kinds: tuple[Kind, ...]) -> None:
    update = random_update(replace(SMALL, kinds=kinds))
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


def test_a_grown_update_is_the_function_that_it_was() -> None:
    old = hard(random_update(replace(SMALL, convolutions=(2, 2))))
    name = "gradients.2.levels.1.forward_maps.2.weight"
    larger = replace(SMALL, convolutions=(3, 4), kinds=(*KINDS, KINDS[0]))
    new = hard(grow(old, larger, noise=0.0))
    noisy = grow(old, larger)
    x, style = draw(20, 20), draw(20, 20, phase=1)
    with torch.no_grad():
        for t, source in enumerate((0, 1, 0)):
            expected, found = (u(x, u.encode(style), i) for u, i in ((old, source), (new, t)))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(old(x, old.encode(style), 0), old(x, old.encode(style), 1), rtol=0.05)
    assert not torch.equal(noisy.state_dict()[name], new.state_dict()[name])
    shared = {p.data_ptr() for p in old.parameters()} & {p.data_ptr() for p in new.parameters()}
    assert not shared


@pytest.mark.parametrize(
    "change", [{"channels": (4, 7)}, {"convolutions": (2, 2)}, {"kinds": KINDS[::-1]}, {"colours": False}], ids=str
)
def test_what_cannot_grow_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="do not grow into"):
        grow(random_update(SMALL), replace(SMALL, **change))  # type: ignore[arg-type]
    single = replace(SMALL, convolutions=(1, 2))
    with pytest.raises(ValueError, match="do not grow into"):
        grow(random_update(single), replace(single, convolutions=(2, 2)))


@pytest.mark.parametrize("convolutions", [(2,), (2, 2, 2), (2, 0), ()])
def test_levels_and_convolutions_must_agree(convolutions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each level wants channels and at least one convolution"):
        replace(SMALL, convolutions=convolutions)


def test_whitening_updates_have_the_first_levels_alone() -> None:
    """What a style is encoded as, and what is computed, ends there; deeper levels belong to the other kind."""
    short, long = (random_update(replace(SMALL, whitening_levels=n)) for n in (1, 2))
    style = draw(20, 20, phase=1)
    sizes = [[level.mean.shape[1] for level in levels] for levels in short.encode(style)]
    assert sizes == [[4, 3], [4, 6, 3]]
    with torch.no_grad():  # the longer one, its second level silenced, is the shorter one
        long.load_state_dict(short.state_dict(), strict=False)
        cast(Level, cast(GramGradient, long.gradients[0]).levels[1]).backward_maps[0].weight.zero_()  # type: ignore[operator,union-attr]
    x = draw(20, 20)
    assert torch.equal(long(x, long.encode(style), 0), short(x, short.encode(style), 0))


@pytest.mark.parametrize("levels", [0, -1])
def test_no_levels_are_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="whitening updates have at least one level"):
        Architecture(whitening_levels=levels)


@pytest.mark.parametrize("kinds", [(), ("whitening", "guess")])
def test_unknown_kinds_are_refused(kinds: tuple[Kind, ...]) -> None:
    with pytest.raises(ValueError, match="each update is one of whitening, gradient"):
        replace(SMALL, kinds=kinds)
