"""Styles as the learned solver knows them: H^s, its mixtures, its files, and the gallery that is shipped."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from apps.style_transfer.files.images import read_image
from apps.style_transfer.learned.checkpoint import read_checkpoint
from apps.style_transfer.learned.gram_step import Moments
from apps.style_transfer.learned.update import Architecture, EncodedStyle
from apps.style_transfer.weights import EMBEDDED_SOLVER, read_header, read_tensors, write_tensors

STYLE_SUFFIX = ".style.safetensors"
_FORMAT = "gram-style/1"
_GALLERY = Path(__file__).parent / "gallery"


class Weights(NamedTuple):
    """Which weights a style belongs to: a hash of architecture and tensors, and the architecture."""

    fingerprint: str
    architecture: Architecture


def identify(path: Path = EMBEDDED_SOLVER) -> Weights:
    """Return what a file of weights is told by; its header may change, its tensors may not. ValueError if broken."""
    checkpoint = read_checkpoint(path)
    digest = hashlib.sha256(json.dumps(checkpoint.architecture.as_dict(), sort_keys=True).encode())
    for name, tensor in sorted(checkpoint.tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return Weights(digest.hexdigest(), checkpoint.architecture)


@dataclass(frozen=True)
class Style:
    """H^s of a style: what the learned solver needs of it, for any number of photographs.

    Attributes:
        name: for file names and captions.
        encoded: the moments H_{l,t}^s, as :meth:`GramUpdate.encode` returns them.
        weights: the fingerprint of the weights that made them (:func:`identify`); no others may use them.
    """

    name: str
    encoded: EncodedStyle = field(repr=False)
    weights: str

    def save(self, path: Path | str) -> None:
        """Write the moments in float32, about 350 kB with the shipped weights; whole or not at all.

        Used from the file they give the very picture that they give here. Raises ValueError where the name does not
        end in .style.safetensors, OSError where it cannot be written.
        """
        path = Path(path)
        if not path.name.endswith(STYLE_SUFFIX):
            raise ValueError(f"{path} is no name for a style: end it in {STYLE_SUFFIX}")
        tensors = {
            f"{t}.{l}.{name}": tensor.detach().float().cpu()
            for t, levels in enumerate(self.encoded)
            for l, level in enumerate(levels)
            for name, tensor in level._asdict().items()
        }
        levels = json.dumps([len(levels) for levels in self.encoded])
        write_tensors(path, tensors, {"format": _FORMAT, "name": self.name, "weights": self.weights, "levels": levels})

    @classmethod
    def load(cls, path: Path | str) -> Style:
        """Read a style; nothing is unpickled. ValueError, in one line, where the file is broken or of another kind."""
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no style at {path}: check the path")
        try:
            header = read_header(path)
        except ValueError:
            raise ValueError(f"{path} is damaged or no style file: make it anew with style save") from None
        if header.get("format") != _FORMAT:
            raise ValueError(f"{path} does not hold a style (its header lacks format = {_FORMAT}): see style save")
        tensors = read_tensors(path)
        try:
            encoded = tuple(
                tuple(Moments(*(tensors.pop(f"{t}.{l}.{name}") for name in Moments._fields)) for l in range(int(count)))
                for t, count in enumerate(json.loads(header["levels"]))
            )
            # The name goes into messages of one line.
            style = cls(" ".join(header["name"].split())[:80], encoded, header["weights"])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ValueError(f"{path} is not a whole style: make it anew with style save") from None
        if tensors or not all(_sound(level) for levels in encoded for level in levels):
            raise ValueError(f"{path} holds no moments of a style (shapes, NaN): make it anew with style save")
        return style

    def belongs_to(self, weights: Weights) -> None:
        """Raise ValueError unless these weights made it."""
        a = weights.architecture
        sizes = tuple((*a.channels[: a.depth(kind)], *([3] if a.colours else [])) for kind in a.kinds)
        shapes = tuple(tuple(level.mean.shape[-2] for level in levels) for levels in self.encoded)
        if self.weights != weights.fingerprint or shapes != sizes:
            raise ValueError(f"the style {self.name} was made by other weights: make it anew with these (style save)")

    def on(self, image: Tensor) -> EncodedStyle:
        """Return the moments on the device of an image, in its dtype."""
        return tuple(tuple(Moments(*(part.to(image) for part in level)) for level in levels) for levels in self.encoded)


def _sound(level: Moments) -> bool:
    c = level.mean.shape[-2] if level.mean.ndim == 3 else 0
    return (
        c > 0
        and (level.mean.shape, level.covariance.shape) == ((1, c, 1), (1, c, c))
        and all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in level)
    )


def shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the shares of ``count`` styles, of sum 1: equal ones for None. ValueError where they mean nothing."""
    weights = [1.0] * count if weights is None else [float(w) for w in weights]
    if len(weights) != count:
        raise ValueError(f"{count} styles want {count} weights, got {len(weights)}: give --style-weights one for each")
    if not all(0 <= w < math.inf for w in weights) or not 0 < sum(weights) < math.inf:
        raise ValueError(f"the weights of styles must be at least 0 and not all 0, got {weights}")
    return [w / sum(weights) for w in weights]


def mix(encodings: Sequence[Any], weights: Sequence[float]) -> Any:
    """Return sum_i w_i H_i of tuples of tensors, nested alike; w_i = 1 alone gives H_i itself, bit for bit."""
    parts = [(h, w) for h, w in zip(encodings, weights, strict=True) if w > 0]
    if len(parts) == 1:
        return parts[0][0]
    first = parts[0][0]
    if isinstance(first, Tensor):
        return reduce(torch.add, (w * h for h, w in parts))
    mixed = [mix(level, [w for _, w in parts]) for level in zip(*(h for h, _ in parts), strict=True)]
    return type(first)(*mixed) if hasattr(first, "_fields") else tuple(mixed)


def blend(styles: Sequence[Style], weights: Sequence[float] | None = None) -> Style:
    r"""Return the style of the means and covariances in between, with shares w_i >= 0 divided by their sum:

    .. math:: \mu = \sum_i w_i \mu_i, \qquad K = \sum_i w_i K_i.

    K is a covariance again, for the positive semi-definite matrices are a convex cone. It is what lies between the
    styles, not what a canvas would have on which they hang side by side: that one's covariance has the spread of the
    means besides, sum_i w_i (mu_i - mu)(mu_i - mu)^T, which is no texture of either. None is equal shares; (1, 0) is
    the first style, bit for bit. Raises ValueError where the styles belong to different weights.
    """
    if not styles:
        raise ValueError("a blend wants at least one style")
    parts = [(style, w) for style, w in zip(styles, shares(weights, len(styles)), strict=True) if w]
    first = parts[0][0]
    if any(style.weights != first.weights for style, _ in parts):
        raise ValueError("the styles were made by different weights: make them anew with the same ones (style save)")
    if len(parts) == 1:
        return first
    encoded = mix([style.encoded for style, _ in parts], [w for _, w in parts])
    return Style("+".join(style.name for style, _ in parts), encoded, first.weights)


@dataclass(frozen=True)
class GalleryEntry:
    """A painting that is shipped as a style: its name, its title with the year, its file, and whose it is."""

    name: str
    title: str
    path: Path
    credit: str


def gallery() -> Mapping[str, GalleryEntry]:
    """Return the shipped styles by name, in alphabetical order; all are in the public domain."""
    rows = tomllib.loads((_GALLERY / "index.toml").read_text(encoding="utf-8"))
    return {
        name: GalleryEntry(name, f"{row['title']}, {row['year']}", _GALLERY / row["file"], row["painter"])
        for name, row in sorted(rows.items())
    }


def read_style(source: Path | str) -> Style | Tensor:
    """Return what a path or a name stands for: a saved style, a painting of the gallery, or a picture (1, 3, H, W)."""
    named = gallery().get(source) if isinstance(source, str) else None
    path = named.path if named else Path(source)
    if not path.suffix and not path.exists():
        raise ValueError(f"no style {source}: give a picture, a saved style, or a name that style list shows")
    return Style.load(path) if path.name.endswith(STYLE_SUFFIX) else read_image(path).rgb


def style_name(source: Path | str) -> str:
    """Return what to call the style of a path or a name in a file name."""
    name = Path(source).name
    return name.removesuffix(STYLE_SUFFIX) if name.endswith(STYLE_SUFFIX) else Path(source).stem
