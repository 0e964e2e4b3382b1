"""Training pairs: random crops of photographs and of styles, the same ones for the same seed and step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from apps.style_transfer.files.images import IMAGE_SUFFIXES, read_image, resize


def is_held_back(path: Path) -> bool:
    """Return whether a picture is for validation only: the SHA-1 of its file name begins with 0 or 1."""
    return hashlib.sha1(path.name.encode()).hexdigest()[0] in "01"


def list_images(folders: Iterable[Path], *, held_back: bool = False) -> list[Path]:
    """Return the pictures directly in the folders, sorted: those for training, or those that are held back."""
    paths = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder at {folder}")
        paths += [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and is_held_back(p) == held_back]
    return sorted(paths)


def load_images(paths: Sequence[Path], *, longest: int) -> list[Tensor]:
    """Return the pictures as uint8 tensors (3, H, W), shrunk to at most ``longest`` pixels on the longest side."""
    images = []
    for path in tqdm(paths, desc="loading pictures", unit="picture", leave=False, delay=1, disable=None):
        image = read_image(path).rgb
        if max(image.shape[-2:]) > longest:
            image = resize(image, longest)
        images.append((image[0] * 255).round().to(torch.uint8))
    return images


@dataclass(frozen=True)
class Pairs:
    """Random (content, style) batches from pictures held in memory.

    Contents are square crops of photographs, mirrored half of the time: seven times in ten the largest, else
    log-uniform in scale. (Whole pictures are what the solver will see, and the hard case: reduced further, they have
    more texture in a pixel.) Styles are crops of paintings, treated alike and, one time in seven, with their colours
    mixed at random; a share ``photo_styles`` of them are photographs. The crops are scaled as the program scales
    pictures: a softer filter gives styles of half the Gram loss, and a solver that knows no hard ones.

    Attributes:
        photos, paintings: uint8 tensors (3, H, W).
        seed: the batch of a step depends on nothing but seed and step.
    """

    photos: Sequence[Tensor]
    paintings: Sequence[Tensor]
    seed: int = 0
    photo_styles: float = 0.2

    def batch(self, step: int, *, batch: int, size: int) -> tuple[Tensor, Tensor]:
        """Return contents and styles of a step, each (batch, 3, size, size) in [0, 1]."""
        g = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        contents, styles = [], []
        for _ in range(batch):
            contents.append(_crop(_choose(self.photos, g), size, g))
            pool = self.photos if _uniform(g) < self.photo_styles else self.paintings
            styles.append(_recolour(_crop(_choose(pool, g), size, g), g))
        return torch.stack(contents), torch.stack(styles)


def _uniform(g: torch.Generator) -> float:
    return float(torch.rand((), generator=g))


def _choose(pool: Sequence[Tensor], g: torch.Generator) -> Tensor:
    return pool[int(torch.randint(len(pool), (), generator=g))]


def _crop(image: Tensor, size: int, g: torch.Generator) -> Tensor:
    h, w = image.shape[-2:]
    largest = min(h, w)
    scale = 1.0 if _uniform(g) < 0.7 else 0.3 + 0.7 * _uniform(g)
    side = round(size * (largest / size) ** scale) if largest > size else largest
    top, left = (int(torch.randint(n - side + 1, (), generator=g)) for n in (h, w))
    crop = image[None, :, top : top + side, left : left + side].float() / 255
    if side != size:
        crop = resize(crop, size)
    return crop[0].flip(-1) if _uniform(g) < 0.5 else crop[0]


def _recolour(image: Tensor, g: torch.Generator) -> Tensor:
    if _uniform(g) > 0.15:
        return image
    mix = torch.eye(3)[torch.randperm(3, generator=g)] + 0.2 * torch.randn(3, 3, generator=g)
    gain, shift = 0.6 + 0.6 * _uniform(g), 0.4 * _uniform(g) - 0.2
    mixed = torch.einsum("ij,jhw->ihw", mix, image - 0.5)
    return (gain * mixed + 0.5 + shift).clamp(0, 1)
