"""Motion, warping, the temporal term and the flicker figure, against what is known of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from style_helpers import draw
from torch import Tensor
from video import Clip, pan, sprite, zoom

from apps.style_transfer import EXAMPLE_STYLE, PHOTO, Stylizer, build_projector
from apps.style_transfer.files.images import read_image, resize
from apps.style_transfer.solvers import Learned
from apps.style_transfer.style import Style
from apps.style_transfer.video.flicker import flicker
from apps.style_transfer.video.flow import Motion, motion, warp
from apps.style_transfer.video.restyling import HOLD, FrameStylizer, Look
from apps.style_transfer.video.temporal import Temporal
from unroll import Compose


@pytest.fixture(scope="module")
def stylizer() -> Stylizer:
    return Stylizer(device="cpu")


@pytest.fixture(scope="module")
def style(stylizer: Stylizer) -> Style:
    return stylizer.style(read_image(EXAMPLE_STYLE).rgb, size=96)


def known(clip: Clip, k: int) -> Motion:
    found = clip.motions[k]
    assert found is not None
    return found


# --- the operator ---


def test_the_temporal_term_solves_its_linear_system() -> None:
    torch.manual_seed(0)
    v, w, m = torch.randn(12).double(), torch.randn(12).double(), torch.rand(12).double()
    tau, weights = 0.7, (0.5, 0.0, 2.0)
    term = Temporal(w, m, weights)
    for t, weight in [(0, 0.5), (1, 0.0), (2, 2.0), (5, 2.0), (None, 2.0)]:
        matrix = torch.eye(12).double() + tau * weight * torch.diag(m)
        assert torch.allclose(term(v, tau, t=t), torch.linalg.solve(matrix, v + tau * weight * m * w))
    assert term(v.float()).dtype == torch.float32
    assert not term.state_dict()


@pytest.mark.parametrize(
    ("mask", "weight", "words"),
    [
        (torch.full((2,), 1.5), 1.0, "the mask must lie in"),
        (torch.full((2,), torch.nan), 1.0, "the mask must lie in"),
        (torch.ones(2), -1.0, "the weight must be"),
        (torch.ones(2), (1.0, float("inf")), "the weight must be"),
        (torch.ones(2), (), "the weight must be"),
    ],
)
def test_it_refuses_what_means_nothing(mask: Tensor, weight: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Temporal(torch.zeros(2), mask, weight)


# --- motion and warping ---


def test_warping_reads_each_pixel_where_it_was() -> None:
    image, flow = draw(9, 12), torch.randn(1, 2, 9, 12, generator=torch.Generator().manual_seed(0))
    y, x = np.mgrid[:9, :12] + flow[0].flip(0).numpy()
    expected = [map_coordinates(plane, (y, x), order=1, mode="nearest") for plane in image[0].numpy()]
    np.testing.assert_allclose(warp(image, flow, smooth=False)[0], expected, atol=1e-5)
    whole = torch.tensor([3.0, -2.0])[None, :, None, None].expand(1, 2, 9, 12)
    for smooth in (True, False):
        assert torch.allclose(warp(image, whole, smooth=smooth)[..., 2:, :9], image[..., :-2, 3:], atol=1e-5)


def test_smooth_warping_is_sharper() -> None:
    image = draw(24, 32)
    half = torch.full((1, 2, 24, 32), 0.5)
    there_and_back = [(warp(warp(image, half, smooth=s), -half, smooth=s) - image).abs().mean() for s in (True, False)]
    assert there_and_back[0] < 0.85 * there_and_back[1]


@pytest.mark.parametrize("make", [pan, zoom])
def test_the_flow_of_a_camera_is_found(make: Callable[..., Clip]) -> None:
    clip = make(2, 96, 128)
    truth, found = known(clip, 1), motion(*clip.frames)
    error = (found.flow - truth.flow).norm(dim=1, keepdim=True)
    assert float((error * truth.mask).sum() / truth.mask.sum()) < 0.5
    assert float((found.mask * truth.mask).sum() / truth.mask.sum()) > 0.7
    assert float((found.mask * (1 - truth.mask)).sum()) < 0.02 * float((1 - truth.mask).sum()) + 1e-6


def test_what_a_sprite_has_hidden_is_not_believed() -> None:
    clip = sprite(4, 144, 192)
    for k in (1, 2, 3):
        truth, found = known(clip, k), motion(clip.frames[k - 1], clip.frames[k])
        hidden = 1 - truth.mask
        assert float((found.mask * hidden).sum() / hidden.sum()) < 0.2
        assert float((found.mask * truth.mask).sum() / truth.mask.sum()) > 0.6


# --- the figure ---


def test_flicker_is_the_mean_of_what_the_motion_leaves() -> None:
    previous, current = draw(6, 8), draw(6, 8, phase=1.0)
    flow = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 6, 8)
    mask = torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(1))
    total, count = 0.0, 0.0
    for i in range(6):
        for j in range(8):
            m = float(mask[0, 0, i, j])
            total += m * float((current[0, :, i, j] - previous[0, :, i, min(j + 1, 7)]).abs().mean())
            count += m
    assert flicker(previous, current, flow, mask) == pytest.approx(255 * total / count, rel=1e-5)


@pytest.mark.parametrize("make", [pan, zoom, sprite])
def test_the_true_motion_of_the_clips_is_true(make: Callable[..., Clip]) -> None:
    clip = make(3, 96, 128, noise=0.0)
    truth = known(clip, 2)
    moved, unmoved = (flicker(*clip.frames[1:], flow, truth.mask) for flow in (truth.flow, 0 * truth.flow))
    assert moved < 0.6 * unmoved


# --- frames one after another ---


def test_a_frame_is_what_the_composed_operators_make_of_it(stylizer: Stylizer, style: Style) -> None:
    clip = pan(2, 48, 64)
    restyled = FrameStylizer(stylizer, style, Look(PHOTO, consistency=2.0))
    first, second = (restyled(frame) for frame in clip.frames)
    photo = build_projector(PHOTO, clip.frames[0])
    assert torch.equal(first, stylizer(clip.frames[0], style, projector=photo, steps=6).image)
    flow, mask = motion(*clip.frames)
    term = Temporal(warp(first, flow, smooth=True).clamp(0, 1), mask, [2 * weight for weight in HOLD])
    both = Compose([build_projector(PHOTO, clip.frames[1]), term])
    by_hand = Learned(stylizer._solver)(clip.frames[1], style.encoded, projector=both, steps=6).x.clamp(0, 1)
    assert torch.allclose(second, by_hand, atol=1e-6)


def test_flicker_halves_and_style_stays(stylizer: Stylizer, style: Style) -> None:
    clip = pan(6, 72, 96)
    found = {}
    for consistency in (0.0, 1.0, 3.0):
        restyled = FrameStylizer(stylizer, style, Look(consistency=consistency))
        made = [restyled(frame) for frame in clip.frames]
        truths = [known(clip, k) for k in range(2, 6)]
        found[consistency] = sum(flicker(made[k - 1], made[k], *truths[k - 2]) for k in range(2, 6)) / 4
    assert found[1.0] < 0.55 * found[0.0]
    assert found[3.0] < found[1.0]


def test_without_consistency_each_frame_is_restyled_by_itself(stylizer: Stylizer, style: Style) -> None:
    clip = pan(2, 48, 64)
    restyled = FrameStylizer(stylizer, style, Look(consistency=0.0, alpha=0.5, preserve_color="luminance"))
    made = [restyled(frame) for frame in clip.frames]
    alone = stylizer(clip.frames[1], style, alpha=0.5, preserve_color="luminance").image
    assert torch.equal(made[1], alone)


def test_nothing_is_carried_over_a_cut(stylizer: Stylizer, style: Style) -> None:
    shots = [pan(1, 48, 64).frames[0], resize(read_image(EXAMPLE_STYLE).rgb, 64)[..., :48, :64]]
    shots[1] = torch.nn.functional.interpolate(shots[1], (48, 64))
    restyled = FrameStylizer(stylizer, style)
    made = [restyled(frame) for frame in (*shots, shots[0] * 0, shots[0])]
    assert restyled.cuts == 3
    assert torch.equal(made[1], stylizer(shots[1], style).image)
    assert torch.equal(made[3], made[0])
    steady = FrameStylizer(stylizer, style)
    for frame in pan(3, 48, 64).frames:
        steady(frame)
    assert steady.cuts == 0


def test_the_next_frame_is_held_to_the_colours_of_the_solver(stylizer: Stylizer, style: Style) -> None:
    frame = pan(1, 48, 64).frames[0]
    restyled = FrameStylizer(stylizer, style, Look(preserve_color="luminance"))
    restyled(frame)
    assert restyled.before is not None
    assert torch.equal(restyled.before[1], stylizer(frame, style).image)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"consistency": -1.0}, "consistency must be"), ({"preserve_color": "histogram"}, "histograms change")],
)
def test_a_look_refuses_what_means_nothing(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Look(**wrong)  # type: ignore[arg-type]
