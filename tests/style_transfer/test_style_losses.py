"""The losses against an oracle in plain numpy, and their gradients against the paper's formula (2)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from safetensors.numpy import load_file
from torch import Tensor
from torchvision.transforms.functional import normalize

from apps.style_transfer.losses import (
    ContentLoss,
    PhotorealismLoss,
    StyleLoss,
    Targets,
    encode_targets,
    gram,
    reference_objective,
)
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import EMBEDDED_VGG
from graphs import matting

Array = np.ndarray[Any, np.dtype[np.float64]]

WIDTHS = (64, 128, 256, 512)


def numpy_vgg(image: Array) -> list[Array]:
    """Return conv{1..4}_2 of an image (3, H, W) in [0, 1] after the ReLU, by windows and sums alone."""
    weights = {k: v.astype(np.float64) for k, v in load_file(EMBEDDED_VGG).items()}
    layers = sorted({int(k.split(".")[-2]) for k in weights})
    prefix = next(iter(weights)).split(".")[0] + "."
    prefix = prefix if prefix == "features." else ""
    y, taps = 255 * image - np.array([123.68, 116.779, 103.939])[:, None, None], []
    for layer in layers:
        # Indices of VGG-19's sequence: a pooling stands before convolutions 5, 10 and 19.
        if layer in (5, 10, 19):
            h, w = (n // 2 for n in y.shape[1:])
            y = y[:, : 2 * h, : 2 * w].reshape(len(y), h, 2, w, 2).max((2, 4))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(y, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
        y = np.tensordot(weights[f"{prefix}{layer}.weight"], windows, axes=([1, 2, 3], [0, 3, 4]))
        y = np.maximum(y + weights[f"{prefix}{layer}.bias"][:, None, None], 0)
        if layer in (2, 7, 12, 21):
            taps.append(y)
    return taps


def numpy_gram(f: Array) -> Array:
    rows = f.reshape(len(f), -1).T
    return np.asarray(rows.T @ rows / len(rows))


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.rand(1, 3, *size, dtype=torch.float64) for size in ((17, 20), (17, 20), (16, 13)))  # type: ignore[return-value]


def test_the_trunk_equals_convolutions_in_numpy(vgg64: VGG19, vgg: VGG19, images: tuple[Tensor, ...]) -> None:
    x = images[0]
    oracle = numpy_vgg(x[0].numpy())
    for exact, single, expected, c in zip(vgg64(x), vgg(x.float()), oracle, WIDTHS, strict=True):
        assert exact.shape == (1, c, *expected.shape[1:])
        # The mean of the pixels is kept in single precision.
        np.testing.assert_allclose(exact[0].numpy(), expected, rtol=1e-6, atol=1e-6 * expected.max())
        np.testing.assert_allclose(single[0].numpy(), expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_losses_equal_their_formulas(vgg64: VGG19, images: tuple[Tensor, ...]) -> None:
    x, content, style = images
    F, C, S = (numpy_vgg(image[0].numpy()) for image in (x, content, style))
    content_loss = ((F[3] - C[3]) ** 2).sum() / F[3].size
    terms = [((numpy_gram(f) - numpy_gram(s)) ** 2).sum() / len(f) ** 2 for f, s in zip(F, S, strict=True)]
    style_loss = sum(terms) / 4
    targets = encode_targets(vgg64, content, style)
    assert ContentLoss()(vgg64(x), targets).item() == pytest.approx(content_loss, rel=1e-6)
    assert StyleLoss()(vgg64(x), targets).item() == pytest.approx(style_loss, rel=1e-6)
    total = reference_objective(vgg64)(x, targets).item()
    assert total == pytest.approx(content_loss + 1e-4 * style_loss, rel=1e-6)
    weighted = reference_objective(vgg64, content_weight=3, style_weight=0.5)(x, targets).item()
    assert weighted == pytest.approx(3 * content_loss + 0.5 * style_loss, rel=1e-6)


def test_the_style_gradient_is_formula_2_of_the_paper() -> None:
    torch.manual_seed(1)
    features = [torch.randn(2, c, 3, n, dtype=torch.float64, requires_grad=True) for c, n in ((4, 9), (7, 5), (3, 2))]
    grams = tuple(gram(torch.randn(2, f.shape[1], 4, 4, dtype=torch.float64)) for f in features)
    loss = StyleLoss()(features, Targets(torch.empty(0), grams)).sum()
    for f, h, found in zip(features, grams, torch.autograd.grad(loss, features), strict=True):
        rows = f.detach().flatten(2).mT
        c, n = f.shape[1], rows.shape[1]
        expected = 4 / (3 * c**2 * n) * rows @ (rows.mT @ rows / n - h)
        torch.testing.assert_close(found.flatten(2).mT, expected, rtol=1e-12, atol=1e-15)


def test_the_photorealism_loss_is_a_dense_quadratic_form() -> None:
    torch.manual_seed(2)
    guide, x = torch.rand(1, 3, 9, 11, dtype=torch.float64), torch.rand(4, 3, 9, 11, dtype=torch.float64)
    laplacian = matting(guide)
    dense = torch.from_numpy(laplacian.to_scipy().toarray())
    columns = x.flatten(2).mT
    expected = torch.stack([torch.trace(c.T @ dense @ c) for c in columns]) / 99
    found = PhotorealismLoss()(x, Targets(torch.empty(0), (), laplacian))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    with pytest.raises(ValueError, match="laplacian=matting"):
        PhotorealismLoss()(x, Targets(torch.empty(0), ()))


def test_losses_are_per_sample_and_permute_with_the_batch(vgg: VGG19, device: torch.device) -> None:
    torch.manual_seed(3)
    x, content, style = (torch.rand(3, 3, 16, 16, device=device) for _ in range(3))
    trunk = VGG19().to(device) if device.type != "cpu" else vgg
    objective, order = reference_objective(trunk), [2, 0, 1]
    together = objective(x, encode_targets(trunk, content, style))
    assert together.shape == (3,)
    alone = [objective(x[i : i + 1], encode_targets(trunk, content[i : i + 1], style[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=0)
    permuted = objective(x[order], encode_targets(trunk, content[order], style[order]))
    torch.testing.assert_close(permuted, together[order], rtol=1e-3, atol=0)


def test_one_style_serves_a_batch(vgg: VGG19, photo: Tensor, painting: Tensor) -> None:
    batch = torch.cat([photo, photo.flip(-1)])
    targets = encode_targets(vgg, batch, painting)
    assert StyleLoss()(vgg(batch), targets).shape == (2,)
    assert float(ContentLoss()(vgg(batch), targets).abs().max()) < 1e-3


def test_targets_carry_no_autograd_graph(vgg: VGG19, photo: Tensor, painting: Tensor) -> None:
    content, style = photo.clone().requires_grad_(), painting.clone().requires_grad_()
    targets = encode_targets(vgg, content, style)
    assert not targets.content.requires_grad
    assert not any(g.requires_grad for g in targets.grams)
    assert not any(p.requires_grad for p in vgg.parameters())


def test_autocast_keeps_the_grams_in_single_precision(vgg: VGG19, photo: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = vgg(photo)
        assert features[0].dtype == torch.bfloat16
        assert gram(features[0]).dtype == torch.float32


def test_the_torchvision_trunk_takes_its_own_normalisation(monkeypatch: pytest.MonkeyPatch, photo: Tensor) -> None:
    torch.manual_seed(4)
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])[:22]
    monkeypatch.setattr(torchvision.models, "vgg19", lambda weights: SimpleNamespace(features=features))
    y, taps = normalize(photo, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), []
    for layer, module in enumerate(features):
        y = module(y)
        if layer in (3, 8, 13, 22 - 1):
            taps.append(y.clone())
    taps[-1] = taps[-1].relu()
    for found, expected in zip(VGG19.torchvision()(photo), taps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_is_not_the_trunk_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="does not hold VGG-19"):
        VGG19(weights)
