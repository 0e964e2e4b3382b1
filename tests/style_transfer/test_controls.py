"""What a user turns without retraining: strength, scale, colours, regions, and what each of them promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2ycbcr
from style_helpers import Program
from torch import Tensor

from apps.style_transfer import EXAMPLE_CONTENT, PHOTO, Options, ProjectorOptions, Stylizer, load_solver, stylize
from apps.style_transfer.colour import monge_kantorovich, with_chroma
from apps.style_transfer.evaluation.metrics import edge_ssim
from apps.style_transfer.files.images import read_image, resize
from apps.style_transfer.learned.regions import regional
from apps.style_transfer.masks import read_masks, regional_style
from apps.style_transfer.projectors import Mixed, build_projector, share_of
from apps.style_transfer.solvers import Learned
from apps.style_transfer.transfer import style_size
from unroll import LearnedUpdate, Operator, Subspace, Unrolled


@pytest.fixture(scope="module")
def stylizer(weights: Path) -> Stylizer:
    return Stylizer(weights, "cpu")


@pytest.fixture(scope="module")
def halves(photo: Tensor) -> np.ndarray[Any, Any]:
    """Labels of the photograph: 0 on the left, 255 on the right."""
    labels = np.zeros(photo.shape[-2:], dtype=np.uint8)
    labels[:, 20:] = 255
    return labels


class Nothing(Operator):
    """v -> 0."""

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        return torch.zeros_like(v)


class Constant(LearnedUpdate):
    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        return data


@pytest.mark.parametrize("steps", [1, 4, 50])
@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_a_strength_is_the_share_of_the_strokes_that_goes(strength: float, steps: int) -> None:
    mixed = Mixed(Nothing(), share_of(strength, steps))
    g = torch.tensor([1.0, -2.0], dtype=torch.float64)
    left = Unrolled(Constant(), steps=steps)(0 * g, g, projector=mixed).x
    torch.testing.assert_close(left, -(1 - strength) * steps * g)


def test_a_mixed_projection_is_as_convex_and_linear_as_its_matrix() -> None:
    basis = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    mixed = Mixed(Subspace(basis), 0.3)
    assert mixed.linear
    assert mixed.convex
    assert not mixed.idempotent
    matrix = 0.7 * torch.eye(6, dtype=torch.float64) + 0.3 * basis @ basis.T
    torch.testing.assert_close(mixed(torch.eye(6, dtype=torch.float64)), matrix)


@pytest.mark.parametrize("solver", ["learned", "gd", "gatys", "monge-kantorovich"])
def test_no_strength_is_artistic_and_full_strength_is_the_preset(
    solver: str, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    def run(**projector: Any) -> Tensor:
        options = Options(solver, steps=2, weights=weights, projector=ProjectorOptions(**projector))
        return stylize(photo, painting, options).image

    preset = {"name": PHOTO.name, "energy": 1e-6, "eps": PHOTO.eps}
    assert torch.equal(run(**preset, strength=0.0), run())
    assert torch.equal(run(**preset, strength=1.0), run(**preset))
    between = run(**preset, strength=0.5)
    assert not torch.equal(between, run())
    assert not torch.equal(between, run(**preset))


def test_beyond_the_trained_steps_the_last_two_go_on(photo: Tensor, painting: Tensor, weights: Path) -> None:
    update = load_solver(weights).update
    encoded = update.encode(resize(painting, max(photo.shape[-2:])))  # type: ignore[operator]
    x = photo
    with torch.no_grad():
        for t in (0, 1, 2, 3, 2, 3, 2):
            x = x - update(x, encoded, t)
    whole = stylize(photo, painting, Options(weights=weights, steps=7))
    torch.testing.assert_close(whole.iterates[-1], x, rtol=0, atol=1e-3)
    halves = stylize(photo, painting, Options(weights=weights, steps=0.5, alpha=0.5)).iterates
    assert len(halves) == 2
    with torch.no_grad():
        torch.testing.assert_close(halves[1], photo - 0.25 * update(photo, encoded, 0), rtol=0, atol=1e-5)
    assert torch.equal(
        stylize(photo, painting, Options(weights=weights, steps=4.0)).image,
        stylize(photo, painting, Options(weights=weights)).image,
    )
    for solver in ("gatys", "gd", "reinhard"):
        with pytest.raises(ValueError, match="the number of steps must be whole"):
            Options(solver, steps=2.5)


@pytest.mark.parametrize(("strength", "steps", "last"), [(0.0, 4, 1.0), (0.25, 5, 0.5), (1.0, 6, 1.0)])
def test_a_projector_may_ask_for_steps_again_in_proportion_to_its_strength(
    strength: float, steps: int, last: float, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    constraint = ProjectorOptions("tikhonov", gamma=1, again=2, strength=strength)
    result = stylize(photo, painting, Options(projector=constraint, weights=weights))
    assert len(result.iterates) == steps + 1
    projector = build_projector(constraint, photo, steps=steps)
    learned = Learned(load_solver(weights))
    encoded = learned.encode(resize(painting, max(photo.shape[-2:])))
    expected = learned(photo, encoded, projector=projector, steps=steps - 1 + last).x
    torch.testing.assert_close(result.iterates[-1], expected, rtol=0, atol=1e-4)
    told = stylize(photo, painting, Options(projector=constraint, weights=weights, steps=3))
    assert len(told.iterates) == 4
    exact = stylize(photo, painting, Options("monge-kantorovich", projector=constraint))
    assert len(exact.iterates) == 2


def test_refining_takes_the_strength_into_its_steps(photo: Tensor, painting: Tensor, weights: Path) -> None:
    constraint = ProjectorOptions("tikhonov-coarse", strength=0.5)
    result = stylize(photo, painting, Options(refine=2, projector=constraint, weights=weights))
    spread = build_projector(constraint, photo, steps=6)
    learned = load_solver(weights)
    first = learned(photo, learned.update.encode(resize(painting, 48)), projector=spread).x  # type: ignore[operator]
    torch.testing.assert_close(result.iterates[4], first, atol=5e-5, rtol=0)
    idle = stylize(photo, painting, Options(refine=1, projector=ProjectorOptions("tikhonov", strength=0.0)))
    assert torch.equal(idle.image, stylize(photo, painting, Options(refine=1)).image)


def test_from_artistic_to_photorealistic_the_edges_come_back_evenly() -> None:
    stylizer = Stylizer(device="cpu")
    photograph = resize(read_image(EXAMPLE_CONTENT).rgb, 128)
    strengths = [0.0, 0.25, 0.5, 0.75, 1.0]
    pictures = [stylizer(photograph, "van-gogh-cottages", photo=s).image for s in strengths]
    found = [edge_ssim(picture, photograph) for picture in pictures]
    steps = np.diff(found)
    assert min(steps) > 0.05 * (found[-1] - found[0])
    assert max(steps) < 0.5 * (found[-1] - found[0])
    for end, near in ((0, 1e-4), (-1, 1 - 1e-4)):
        close = stylizer(photograph, "van-gogh-cottages", photo=near).image
        assert float((close - pictures[end]).abs().max()) < 0.01


def test_a_style_beside_a_strip_is_kept_within_bounds() -> None:
    style = torch.zeros(1, 3, 600, 800)
    assert style_size(style, (300, 400), 1.0) == 400
    assert style_size(style, (300, 400), 2.0) == 800
    for strip, pixels in (((16, 20_000), 1_000_000), ((52, 20_000), 2 * 52 * 20_000)):
        beside = style_size(style, strip, 1.0)
        assert 0.99 < beside**2 * 3 / 4 / pixels < 1.01


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_style_scale_is_the_size_of_the_style(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, weights: Path, scale: float
) -> None:
    solver = load_solver(weights)
    style = solver.update.encode(resize(painting, round(48 * scale)))  # type: ignore[operator]
    expected = solver(photo, style).x.clamp(0, 1)
    found = stylizer(photo, painting, style_scale=scale).image
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    assert not torch.equal(found, stylizer(photo, painting).image)


def test_luminance_is_that_of_the_result_and_the_colours_are_the_photographs(
    stylizer: Stylizer, photo: Tensor, painting: Tensor
) -> None:
    found = stylizer(photo, painting, preserve_color="luminance").image
    plain = stylizer(photo, painting).image
    unclipped = ((found > 0) & (found < 1)).all(1)[0].numpy()
    assert unclipped.mean() > 0.3
    ours, theirs, original = (
        rgb2ycbcr(x[0].permute(1, 2, 0).double().numpy())[unclipped] for x in (found, plain, photo)
    )
    np.testing.assert_allclose(ours[:, 0], theirs[:, 0], atol=1e-3)  # of 219
    np.testing.assert_allclose(ours[:, 1:], original[:, 1:], atol=1e-3)
    assert np.abs(ours[:, 0] - original[:, 0]).max() > 5


def test_chroma_of_itself_changes_nothing(photo: Tensor) -> None:
    assert torch.equal(with_chroma(photo, photo), photo)


def test_histogram_gives_the_style_the_colours_of_the_photograph(
    stylizer: Stylizer, photo: Tensor, painting: Tensor
) -> None:
    recoloured = monge_kantorovich(resize(painting, 48), photo).clamp(0, 1)
    found = stylizer(photo, painting, preserve_color="histogram").image
    assert torch.equal(found, stylizer(photo, recoloured).image)

    def distance(image: Tensor) -> float:
        return float((image.mean((2, 3)) - photo.mean((2, 3))).norm())

    assert distance(recoloured) < 0.2 * distance(painting)


def test_alpha_0_returns_the_photograph_whatever_else_is_asked(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, halves: np.ndarray[Any, Any]
) -> None:
    style = stylizer.style([painting, "renoir-moulin"])
    calls: list[dict[str, Any]] = [
        {"style": style, "photo": 0.5},
        {"style": style, "preserve_color": "luminance", "photo": 1.0},
        {"style": painting, "preserve_color": "histogram", "style_scale": 2.0},
        {"style": painting, "masks": (halves, halves)},
    ]
    for call in calls:
        assert torch.equal(stylizer(photo, alpha=0.0, **call).image, photo)


def test_masks_are_regions_of_the_learned_solver(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, weights: Path, halves: np.ndarray[Any, Any]
) -> None:
    style, solver = resize(painting, 48), load_solver(weights)
    on_style = np.zeros(style.shape[-2:], dtype=np.uint8)
    on_style[16:] = 255
    masks = read_masks(halves, on_style)
    expected = solver(photo, regional_style(solver.update, style, masks, photo.shape[-2:])).x.clamp(0, 1)  # type: ignore[arg-type]
    found = stylizer(photo, painting, masks=(halves, on_style)).image
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    assert torch.equal(stylizer(photo, painting, masks=masks).image, found)
    assert torch.equal(stylize(photo, painting, Options(weights=weights), masks=masks).image, found)
    assert float((found - stylizer(photo, painting).image).abs().max()) > 1e-3
    assert not torch.equal(found, stylizer(photo, painting, masks=(halves, 255 - on_style)).image)


def test_without_a_mask_of_the_style_every_region_takes_after_the_whole(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, weights: Path, halves: np.ndarray[Any, Any]
) -> None:
    solver, masks = load_solver(weights), read_masks(halves)
    encoded = solver.update.encode(resize(painting, 48))  # type: ignore[operator]
    expected = solver(photo, regional([encoded] * 2, masks.content)).x.clamp(0, 1)
    found = stylizer(photo, painting, masks=halves).image
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    assert torch.equal(stylizer(photo, stylizer.style(painting, size=48), masks=halves).image, found)


def test_one_region_is_the_whole_picture(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    whole = np.ones((1, *photo.shape[-2:]), dtype=np.float32)
    found, expected = stylizer(photo, painting, masks=whole).image, stylizer(photo, painting).image
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "gd"}, "masks serve the learned steps alone"),
        ({"refine": 1}, "masks serve the learned steps alone"),
        ({"style_weights": (1.0, 1.0)}, "a style mask lies on the picture of one style"),
    ],
    ids=str,
)
def test_where_masks_mean_nothing(
    photo: Tensor, painting: Tensor, halves: np.ndarray[Any, Any], options: dict[str, Any], words: str
) -> None:
    styles = [painting] * len(options.get("style_weights", (1,)))
    with pytest.raises(ValueError, match=words):
        stylize(photo, styles, Options(**options), masks=read_masks(halves, halves))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "gatys"}, "a saved style serves the learned steps alone"),
        ({"refine": 1}, "a saved style serves the learned steps alone"),
        ({"style_scale": 2.0}, "has its colours and its size"),
        ({"preserve_color": "histogram"}, "has its colours and its size"),
    ],
    ids=str,
)
def test_what_a_saved_style_cannot_do(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, weights: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        stylize(photo, stylizer.style(painting), Options(**options, weights=weights))


def test_colours_alone_come_from_one_picture(photo: Tensor, painting: Tensor) -> None:
    with pytest.raises(ValueError, match="reinhard takes the colours of one picture: give one style"):
        stylize(photo, [painting, photo], Options("reinhard"))
    one = stylize(photo, [painting, photo], Options("reinhard", style_weights=(1, 0))).image
    assert torch.equal(one, stylize(photo, painting, Options("reinhard")).image)


def test_masks_on_the_command_line(
    program: Program,
    stylizer: Stylizer,
    content_file: Path,
    style_file: Path,
    weights: Path,
    tmp_path: Path,
    halves: np.ndarray[Any, Any],
) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "out.png"
    Image.fromarray(halves).save(mask)
    base = ["-c", content_file, "-s", style_file, "-o", out, "--overwrite", "--weights", weights, "--device", "cpu"]
    for arguments, masks in ((["--content-mask", mask], mask), (["--content-mask", mask, "--style-mask", mask], None)):
        status, _, err = program(*base, *arguments)
        assert status == 0, err
        expected = stylizer(content_file, style_file, masks=masks or (mask, mask)).image
        torch.testing.assert_close(read_image(out).rgb, expected, atol=0.5 / 255 + 1e-6, rtol=0)
    status, _, err = program(*base, "--style-mask", mask)
    assert (status, err) == (2, "unroll-style: --style-mask needs the regions of the photograph: give --content-mask\n")


def test_the_name_of_a_blend(
    program: Program, content_file: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(content_file.parent)
    styles = ["-s", "hokusai-great-wave", "-s", "renoir-moulin"]
    status, _, err = program("-c", content_file, *styles, "--style-weights", 1, 2, "--weights", weights)
    assert status == 0, err
    assert Path("content_stylized_hokusai-great-wave+renoir-moulin.png").exists()
