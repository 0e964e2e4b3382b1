"""Regions: statistics and steps of each by itself, and the laws that hold whatever the masks."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from style_helpers import draw, random_update
from torch import Tensor
from torch.nn.functional import interpolate

from apps.style_transfer.learned.gram_step import Affine, moments, sums, whitening_map
from apps.style_transfer.learned.level import Level
from apps.style_transfer.learned.regions import Regional, pyramid, regional
from apps.style_transfer.learned.update import Architecture, GramGradient, GramUpdate, PlainGradient
from unroll import Unrolled

SMALL = Architecture(channels=(4, 6), convolutions=(2, 2), kinds=("whitening", "gradient"))


def halves(height: int, width: int, *, soft: bool = True) -> Tensor:
    """Return two masks (2, H, W), the left and the right of a picture, with a soft edge or a hard one."""
    x = torch.linspace(-1, 1, width).expand(height, width)
    right = torch.sigmoid(6 * x) if soft else (x > 0).float()
    return torch.stack([1 - right, right])


def two_styles(update: GramUpdate, masks: Tensor) -> Regional:
    return regional([update.encode(draw(24, 20, phase=p)) for p in (1, 2)], masks)


def solve(update: GramUpdate, x: Tensor, data: object) -> Tensor:
    with torch.no_grad():
        return Unrolled(update, steps=2)(x, data).x


def test_weighted_sums_against_numpy() -> None:
    f = torch.randn(1, 5, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    masks = halves(6, 7).double()
    found = moments(f, masks)
    rows = f[0].flatten(1).numpy()
    for r, m in enumerate(masks.flatten(1).numpy()):
        np.testing.assert_allclose(found.mean[r, :, 0], np.average(rows, axis=1, weights=m), rtol=1e-12)
        np.testing.assert_allclose(found.covariance[r], np.cov(rows, aweights=m, ddof=0), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(sums(f, masks, about_mean=False).moments.gram[r], rows * m @ rows.T / m.sum())


def test_a_flat_region_is_no_noise_drawn_out() -> None:
    # In a region of one colour nothing varies but by rounding, which must not be given the variance of the style.
    flat = torch.full((1, 8, 40, 40), 0.3, dtype=torch.float64) * torch.arange(1, 9)[:, None, None]
    noise = 1e-6 * torch.randn(flat.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    style = moments(draw(24, 20).double().repeat(1, 3, 1, 1)[:, :8])
    moved = [whitening_map(moments(f), style)(f) for f in (flat, flat + noise)]
    assert float((moved[0] - moved[1]).abs().max()) < 3e-3  # 5e-3 with a ridge of 1e-6 alone


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("about_mean", [False, True])
def test_sums_of_parts_merge_to_those_of_the_whole(about_mean: bool, masked: bool) -> None:
    # A nearly flat picture in float32: were the Grams added up, its variance of 1e-8 would be lost.
    f = 0.7 + 1e-4 * torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    masks = halves(8, 12, soft=False) if masked else None  # hard ones: each is empty in some part
    parts = [(slice(0, 3), slice(0, 12)), (slice(3, 8), slice(0, 5)), (slice(3, 8), slice(5, 12))]
    pieces = [sums(f[..., a, b], None if masks is None else masks[:, a, b], about_mean=about_mean) for a, b in parts]
    merged = pieces[0].merge(pieces[1]).merge(pieces[2])
    exact = sums(f.double(), None if masks is None else masks.double(), about_mean=about_mean)
    assert torch.equal(torch.as_tensor(merged.total), torch.as_tensor(exact.total).to(torch.as_tensor(merged.total)))
    torch.testing.assert_close(merged.mean, exact.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(merged.scatter, exact.scatter, rtol=1e-4, atol=1e-9 if about_mean else 1e-4)


def test_each_region_reaches_the_moments_of_its_style() -> None:
    generator = torch.Generator().manual_seed(0)
    f, s = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((1, 4, 10, 12), (2, 4, 9, 9)))
    masks, style = halves(10, 12, soft=False).double(), moments(2 * s + 1)
    step = whitening_map(moments(f, masks), style)
    scale = [
        (moments(f, masks).covariance.diagonal(dim1=1, dim2=2).mean(1) + 1e-4).sqrt(),
        (style.covariance.diagonal(dim1=1, dim2=2).mean(1) + 1e-4).sqrt(),
    ]
    strides = (masks * sum(scale)[:, None, None]).sum(0)
    reached = moments(f - strides * step(f, masks), masks)
    torch.testing.assert_close(reached.mean, style.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(reached.covariance, style.covariance, rtol=0.01, atol=5e-3)


def test_a_pixel_goes_the_way_of_its_regions_by_its_share_in_each() -> None:
    f, masks = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)), halves(4, 5)
    step = Affine(torch.randn(2, 3, 3), torch.randn(2, 3, 1))
    expected = torch.einsum(
        "rhw,rchw->chw", masks, torch.einsum("rcd,dhw->rchw", step.matrix, f[0]) + step.shift[..., None]
    )
    torch.testing.assert_close(step(f, masks)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_bare_update_is_the_gradient_of_the_mean_loss_of_the_regions() -> None:
    architecture = Architecture((4, 5, 6), (2, 1, 2), ("gradient",), bounded=False, colours=False, padding="zeros")
    update = random_update(architecture).double()
    gradient = cast(PlainGradient, update.gradients[0])
    for level in gradient.levels:
        cast(Level, level).transpose_()
    x = draw(24, 20).double().requires_grad_()
    masks = halves(24, 20).double()
    masks = masks / masks.sum(0)
    with torch.no_grad():
        styles = [update.encode(draw(24, 20, phase=p).double()) for p in (1, 2)]
    (style,) = regional(styles, masks).styles
    levels = cast(list[Tensor], pyramid(masks, 3))
    loss = torch.zeros((), dtype=torch.float64)
    for tap, m, h, log_weight in zip(gradient.features(x), levels, style, gradient.level_weights, strict=True):
        rows = tap[-1][0].flatten(1)
        for weights, target in zip(m.flatten(1), h.gram, strict=True):
            residual = (rows * weights) @ rows.T / weights.sum() - target
            share = weights.sum() / m.sum()
            loss = loss + log_weight.exp().detach() * share * residual.square().sum() / (3 * len(rows) ** 2)
    (expected,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        found = gradient(x, style, masks)
    assert float((found - expected).norm() / expected.norm()) < 1e-9


def test_one_region_is_no_region() -> None:
    update, x = random_update(SMALL), draw(25, 30)
    style = update.encode(draw(24, 20, phase=1))
    for masks in (torch.ones(1, 25, 30), torch.full((1, 25, 30), 7, dtype=torch.uint8)):
        torch.testing.assert_close(
            solve(update, x, regional([style], masks)), solve(update, x, style), rtol=0, atol=5e-6
        )


def test_the_order_of_the_regions_and_empty_ones_change_nothing() -> None:
    update, x, masks = random_update(SMALL), draw(25, 30), halves(25, 30)
    one, other, third = (update.encode(draw(24, 20, phase=p)) for p in (1, 2, 3))
    expected = solve(update, x, regional([one, other], masks))
    swapped = solve(update, x, regional([other, one], masks.flip(0)))
    more = torch.cat([masks, torch.zeros_like(masks[:1])])
    padded = solve(update, x, regional([one, other, third], more))
    torch.testing.assert_close(swapped, expected, rtol=0, atol=5e-6)
    torch.testing.assert_close(padded, expected, rtol=0, atol=5e-6)
    assert float((solve(update, x, one) - expected).abs().max()) > 0.01


def test_regions_of_one_style_image_are_those_of_its_parts() -> None:
    update, style = random_update(SMALL), draw(24, 20, phase=1)
    masks = halves(24, 20)
    together = update.encode(style, masks)
    apart = [update.encode(style, m[None]) for m in masks]
    for one, other in zip(together, regional(apart, masks).styles, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)
    gradient = cast(GramGradient, update.gradients[0])
    tap = gradient.features(style)[1][-1]
    small = interpolate(masks[None], scale_factor=0.5, mode="area")[0]
    rows, m = tap[0].flatten(1).detach().double().numpy(), small[1].flatten().double().numpy()
    a = gradient.style_maps[1].detach().double().numpy()
    expected = a @ np.cov(rows, aweights=m, ddof=0) @ a.T
    np.testing.assert_allclose(together[0][1].covariance[1].detach(), expected, rtol=1e-3, atol=1e-5)


def test_a_region_keeps_to_its_place() -> None:
    update = random_update(replace(SMALL, kinds=("whitening",)))
    x, masks = draw(16, 96), halves(16, 96, soft=False)
    one, other, third = (update.encode(draw(24, 20, phase=p)) for p in (1, 2, 3))
    with torch.no_grad():
        g = [update(x, regional([one, right], masks), 0) for right in (other, third)]
    difference = (g[0] - g[1]).abs().amax((0, 1, 2))
    assert float(difference[:30].max()) == 0
    assert float(difference[50:].min()) > 0


def test_a_batch_or_another_size_is_refused() -> None:
    update = random_update(SMALL)
    data = two_styles(update, halves(20, 20))
    for x in (draw(20, 21), draw(20, 20).repeat(2, 1, 1, 1)):
        with pytest.raises(ValueError, match="go with one image of that size"):
            update(x, data, 0)
    with pytest.raises(ValueError, match="do not lie on one style image"):
        update.encode(draw(20, 20), halves(20, 21))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (halves(9, 9)[0], r"must be \(R, H, W\)"),
        (halves(9, 9).int(), "floating or uint8"),
        (halves(9, 9)[:1], "1 masks and 2 styles"),
        (halves(9, 9) - 2, "at least 0"),
        (halves(9, 9) * torch.nan, "finite"),
        (torch.zeros(2, 9, 9), "81 pixels lie in no region"),
    ],
    ids=str,
)
def test_masks_that_make_no_sense_are_refused(masks: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_styles(random_update(SMALL), masks)


def test_regional_steps_export() -> None:
    update, x = random_update(SMALL).requires_grad_(False), draw(24, 32)
    data = two_styles(update, halves(24, 32))

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.update = update

        def forward(self, x: Tensor, masks: Tensor) -> Tensor:
            return cast(Tensor, self.update(x, Regional(data.styles, masks), 1))

    program = torch.export.export(Step().eval(), (x, data.masks))
    torch.testing.assert_close(program.module()(x, data.masks), update(x, data, 1), rtol=1e-5, atol=1e-6)
