"""The solvers against loops written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from apps.style_transfer.colour import COLOUR_TRANSFERS
from apps.style_transfer.files.images import resize
from apps.style_transfer.losses import encode_targets
from apps.style_transfer.projectors import PHOTO, ProjectorOptions, build_projector
from apps.style_transfer.solvers import LBFGS, STEP_SIZE, Descent
from apps.style_transfer.transfer import SOLVERS, Options, Result, measure, stylize
from apps.style_transfer.vgg import VGG19
from graphs import matting

FEW = ProjectorOptions(k=12)


def run(solver: str, content: Tensor, style: Tensor, weights: Path, **options: object) -> Result:
    return stylize(content, style, Options(solver, steps=3, weights=weights, **options))  # type: ignore[arg-type]


def total(vgg: VGG19, x: Tensor, content: Tensor, style: Tensor, *, photo_weight: float = 0.0) -> Tensor:
    """The objective, from the formulas: lambda_c = 1, lambda_s = 1e-4."""
    F, C, S = vgg(x), vgg(content), vgg(style)
    loss = ((F[3] - C[3]) ** 2).mean()
    for f, s in zip(F, S, strict=True):
        f, s = f[0].flatten(1), s[0].flatten(1)
        loss = loss + 1e-4 / 4 * ((f @ f.T / f.shape[1] - s @ s.T / s.shape[1]) ** 2).mean()
    if photo_weight:
        loss = loss + photo_weight * matting(content).quadratic(x).sum() / (x.shape[-1] * x.shape[-2])
    return loss


@pytest.mark.parametrize(("solver", "photo_weight"), [("gatys", 0.0), ("luan", 1e5)])
def test_lbfgs_is_the_yardstick(
    solver: str, photo_weight: float, vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    style = resize(painting, 48)
    x = photo.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([x], lr=1, max_iter=1, history_size=20)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = 1e-5 * total(vgg, x, photo, style, photo_weight=photo_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(3):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    x = x.detach()
    found = run(solver, photo, painting, weights, photo_weight=photo_weight or 1.0).iterates[-1]
    assert float((x - photo).norm()) > 0.1
    assert float((found - x).norm() / (x - photo).norm()) < 1e-3


def test_gd_is_the_hand_written_loop(vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path) -> None:
    style, x, n = resize(painting, 48), photo.clone(), 32 * 48
    for _ in range(3):
        x.requires_grad_()
        (g,) = torch.autograd.grad(total(vgg, x, photo, style), x)
        x = (x - 0.5 * 3e-10 * n * g).detach()
    found = run("gd", photo, painting, weights, alpha=0.5).iterates[-1]
    assert float((found - x).norm() / (x - photo).norm()) < 1e-3


def test_projected_is_gd_with_the_projector_in_the_loop(
    vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    style, x, n = resize(painting, 48), photo.clone(), 32 * 48
    projector = build_projector(ProjectorOptions("matting", k=12), photo)
    assert projector is not None
    for _ in range(3):
        x.requires_grad_()
        (g,) = torch.autograd.grad(total(vgg, x, photo, style), x)
        x = projector(x.detach() - 0.5 * 3e-10 * n * g)
    result = run("projected", photo, painting, weights, projector=FEW, alpha=0.5)
    assert result.projector == "matting"
    assert float((result.iterates[-1] - x).norm() / (x - photo).norm()) < 1e-3


def test_luan_without_its_term_is_gatys(photo: Tensor, painting: Tensor, weights: Path) -> None:
    gatys = run("gatys", photo, painting, weights)
    luan = run("luan", photo, painting, weights, photo_weight=0.0)
    torch.testing.assert_close(luan.image, gatys.image, rtol=0, atol=0)


@pytest.mark.parametrize("projector", [FEW, PHOTO], ids=["none", "photo"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_alpha_0_returns_the_photograph_exactly(
    solver: str, projector: ProjectorOptions, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    result = run(solver, photo, painting, weights, alpha=0.0, projector=projector)
    assert torch.equal(result.image, photo)
    assert all(torch.equal(x, photo) for x in result.iterates)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_report_their_iterates(solver: str, photo: Tensor, painting: Tensor, weights: Path) -> None:
    seen: list[int] = []
    options = Options(solver, steps=2, weights=weights, projector=FEW)
    result = stylize(photo, painting, options, progress=seen.append)
    assert seen == [0, 1, 2]
    assert torch.equal(result.iterates[0], photo)
    assert torch.equal(result.image, result.iterates[-1].clamp(0, 1))
    # A closed form is at its fixed point after one step.
    assert len({float(x.sum()) for x in result.iterates}) >= (2 if solver in COLOUR_TRANSFERS else 3)
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("solver", "change"),
    [
        ("learned", {"steps": 1}),
        ("learned", {"alpha": 0.5}),
        ("learned", {"projector": PHOTO}),
        ("gd", {"steps": 1}),
        ("gd", {"alpha": 0.5}),
        ("gd", {"style_weight": 5e-5}),
        ("gd", {"content_weight": 100.0}),
        ("gatys", {"steps": 1}),
        ("gatys", {"alpha": 0.5}),
        ("gatys", {"style_weight": 1e-6}),
        ("gatys", {"content_weight": 100.0}),
        ("gatys", {"projector": PHOTO}),
        ("luan", {"photo_weight": 1e6}),
        ("projected", {"projector": ProjectorOptions(k=100)}),
        ("projected", {"projector": ProjectorOptions(k=12, domain="image")}),
        ("projected", {"projector": PHOTO}),
    ],
    ids=str,
)
def test_each_option_changes_the_result(
    solver: str, change: dict[str, object], photo: Tensor, painting: Tensor, weights: Path
) -> None:
    base = Options(solver, steps=3, weights=weights, projector=FEW)
    plain, changed = (stylize(photo, painting, o).image for o in (base, replace(base, **change)))  # type: ignore[arg-type]
    assert float((plain - changed).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (ProjectorOptions("matting", k=12), {"k": 0.1}),
        (ProjectorOptions("matting", k=1), {"domain": "image"}),
        (ProjectorOptions("matting-chebyshev", k=12), {"order": 10}),
        (ProjectorOptions("matting-chebyshev", k=12), {"k": 100}),
        (ProjectorOptions("matting-energy"), {"energy": 1e-2}),
        (ProjectorOptions("matting-energy"), {"eps": 1e-2}),
        (ProjectorOptions("tikhonov"), {"gamma": 1.0}),
        (ProjectorOptions("tikhonov"), {"domain": "image"}),
        (ProjectorOptions("tikhonov"), {"name": "box"}),
        (ProjectorOptions("tikhonov"), {"name": "tikhonov-coarse"}),
        (ProjectorOptions("tikhonov-coarse"), {"gamma": 1.0}),
        (ProjectorOptions("matting-coarse", k=12), {"k": 40}),
        (ProjectorOptions("guided"), {"radius": 2}),
        (ProjectorOptions("guided"), {"eps": 1e-2}),
        (ProjectorOptions("guided", eps=1e-2), {"domain": "image"}),
    ],
    ids=str,
)
def test_each_option_of_a_projector_changes_it(
    base: ProjectorOptions, change: dict[str, object], photo: Tensor, painting: Tensor
) -> None:
    v = photo + 0.3 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    one, other = (build_projector(o, photo) for o in (base, replace(base, **change)))  # type: ignore[arg-type]
    assert one is not None
    assert other is not None
    assert float((one(v) - other(v)).abs().max()) > 1e-3


@pytest.mark.parametrize(("limit", "name"), [(12, "matting-coarse"), (11, "matting-chebyshev")])
def test_beyond_the_exact_projector_a_fast_form_is_taken_and_said(
    limit: int, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, photo: Tensor
) -> None:
    monkeypatch.setattr("graphs._bandlimited.EXACT_NODES", 100)
    monkeypatch.setattr("graphs._bandlimited.COARSE_K", limit)
    fast = build_projector(ProjectorOptions("matting", k=12, order=30), photo)
    named = build_projector(ProjectorOptions(name, k=12, order=30), photo)
    assert fast is not None
    assert named is not None
    assert f"taking {name}" in caplog.text
    v = photo.flip(-1)
    torch.testing.assert_close(fast(v), named(v), rtol=0, atol=0)


def test_the_learned_solver_runs_where_the_picture_is(
    device: torch.device, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    result = stylize(photo.to(device), painting, Options(weights=weights, projector=PHOTO))
    assert result.image.device.type == device.type
    reference = stylize(photo, painting, Options(weights=weights, projector=PHOTO))
    torch.testing.assert_close(result.image.cpu(), reference.image, rtol=0, atol=2e-3)


def test_losses_are_measured_with_the_reference_objective(
    vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    result = run("gatys", photo, painting, weights, style_weight=1e-3)
    losses = measure(result, painting, vgg)
    style = resize(painting, 48)
    expected = [float(total(vgg, x.clamp(0, 1), photo, style)) for x in result.iterates]
    assert losses.total == pytest.approx(expected, rel=1e-3)
    assert losses.content[0] == 0
    assert (losses.width, losses.height) == (48, 32)
    targets = encode_targets(vgg, photo, style)
    assert not targets.content.requires_grad


def test_above_a_megapixel_losses_are_measured_on_reduced_copies(
    monkeypatch: pytest.MonkeyPatch, vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    monkeypatch.setattr("apps.style_transfer.transfer.MEASURED_PIXELS", 400)
    result = stylize(photo, painting, Options(weights=weights))
    losses = measure(result, painting, vgg)
    assert losses.width * losses.height <= 420
    assert losses.width / losses.height == pytest.approx(1.5, rel=0.1)
    assert len(losses.total) == 5


@pytest.mark.parametrize(
    ("content", "style", "words"),
    [
        (torch.zeros(3, 32, 32), torch.zeros(1, 3, 32, 32), "content must have the shape"),
        (torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), "style must have the shape"),
        (torch.zeros(1, 3, 15, 32), torch.zeros(1, 3, 32, 32), "32 x 15 pixels: each side needs 16"),
        (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 160), "style is too narrow"),
    ],
)
def test_pictures_of_no_use_are_refused(content: Tensor, style: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stylize(content, style)


def test_a_diverged_solver_says_so(photo: Tensor, painting: Tensor, weights: Path) -> None:
    with pytest.raises(ValueError, match="diverged: make its steps shorter"):
        stylize(photo, painting, Options("gd", steps=10, style_weight=1e3))


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "magic"},
        {"vgg": "vgg16"},
        {"steps": -1},
        {"alpha": float("nan")},
        {"alpha": -1.0},
        {"content_weight": float("inf")},
        {"style_weight": -1.0},
        {"photo_weight": float("nan")},
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)).replace("_", "-") + "|unknown"):
        Options(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "magic"},
        {"domain": "magic"},
        {"k": 0},
        {"k": 2.5},
        {"k": float("nan")},
        {"k": float("inf")},
        {"gamma": -1.0},
        {"gamma": float("nan")},
        {"gamma": float("inf")},
        {"order": 0},
    ],
    ids=str,
)
def test_projector_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must|unknown"):
        ProjectorOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["learned", "monge-kantorovich"])
def test_refining_is_lbfgs_from_where_the_solver_ends(
    solver: str, vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    result = stylize(photo, painting, Options(solver, refine=3, weights=weights))
    first = stylize(photo, painting, Options(solver, weights=weights))
    style = resize(painting, max(photo.shape[-2:]))
    exact = LBFGS(vgg, first_step=STEP_SIZE)
    onward = exact(photo, exact.encode(style), steps=3, start=first.iterates[-1], probe=lambda x, t: x)
    assert len(result.iterates) == len(first.iterates) + 3
    for found, expected in zip(result.iterates, (*first.iterates, *onward.trace[1:]), strict=True):
        torch.testing.assert_close(found, expected)
    assert total(vgg, result.iterates[-1], photo, style) < total(vgg, first.iterates[-1], photo, style)


def test_first_step_of_lbfgs_is_a_gradient_step_of_the_length_asked_for(
    vgg: VGG19, photo: Tensor, painting: Tensor
) -> None:
    style = resize(painting, max(photo.shape[-2:]))
    for alpha in (1.0, 0.5):
        quasi, gradient = LBFGS(vgg, alpha=alpha, first_step=STEP_SIZE), Descent(vgg, alpha=alpha)
        found, expected = (solver(photo, solver.encode(style), steps=1).x for solver in (quasi, gradient))
        torch.testing.assert_close(found - photo, expected - photo, atol=1e-6, rtol=1e-3)
        assert float((expected - photo).abs().max()) > 1e-3


def test_refining_with_a_projector_is_projected_descent(
    vgg: VGG19, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    constraint = ProjectorOptions("tikhonov")
    result = stylize(photo, painting, Options(refine=2, projector=constraint, weights=weights))
    style, projector = resize(painting, max(photo.shape[-2:])), build_projector(constraint, photo)
    x = result.iterates[-3]
    for expected in result.iterates[-2:]:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(total(vgg, x, photo, style), x)
        x = projector((x - 3e-10 * photo.shape[-1] * photo.shape[-2] * gradient).detach())  # type: ignore[misc]
        torch.testing.assert_close(x, expected, atol=2e-4, rtol=0)


def test_exact_solvers_are_not_refined() -> None:
    with pytest.raises(ValueError, match="gatys takes exact steps already"):
        Options("gatys", refine=1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Options(refine=-1)
