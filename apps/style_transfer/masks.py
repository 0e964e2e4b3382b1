"""Masks of regions as people have them: grey pictures, label images, the colours of Luan et al., arrays.

``regional_style(update, style, read_masks(content_mask, style_mask), size)`` makes of two masks and a style image what
the learned solver takes in the place of a style.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from apps.style_transfer.files.decode import read_raster
from apps.style_transfer.files.raster import to_depth
from apps.style_transfer.learned.regions import Regional, regional
from apps.style_transfer.learned.update import GramUpdate
from apps.style_transfer.tiles.solver import MEMORY, encode_in_tiles

log = logging.getLogger(__name__)

MaskSource = Path | str | NDArray[np.generic] | Tensor
"""A picture's path; (H, W) grey or labels; (H, W, 3) uint8 colours; or (R, H, W) soft masks."""

Planes = dict[str, Tensor]
"""Masks (H, W) uint8 by the names of their regions."""

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "light blue": (0, 255, 255),
    "purple": (255, 0, 255),
}
"""Those of F. Luan, S. Paris, E. Shechtman, K. Bala, "Deep photo style transfer", CVPR 2017, in their code."""

MOST_LABELS = 64
FEWEST_PIXELS = 64
"""A style's region of fewer is taken for missing: no statistics come of it."""


class Masks(NamedTuple):
    """Regions by ``names``, of the photograph (R, H, W) and, in the same order, of the style (R, H', W'), in uint8.

    A region that the style lacks is 0 everywhere there.
    """

    names: tuple[str, ...]
    content: Tensor
    style: Tensor


def read_masks(content: MaskSource, style: MaskSource | None = None) -> Masks:
    """Read the masks of a photograph and of a style, and match their regions by name.

    What a mask is follows from its pixels. A picture or integer array of at most 64 values or colours, each of them
    somewhere 3 x 3 pixels large, is a label image: each value is a region, named as in :data:`COLOURS` or by its value.
    Any other grey one is a soft mask: "white" by its brightness, "black" the rest; so are floats in [0, 1]. Any other
    picture in colour is read by the nearest of :data:`COLOURS`, so that JPEG does no harm: a colour without a 7 x 7
    square of its own is the noise of an edge, and goes to its neighbours. Arrays (R, H, W) are R soft masks, matched by
    place. Of a picture of more than 40 million pixels every second one is read each way, or every third.

    Regions of the photograph that the style lacks take after the whole style, see :func:`regional_style`, as all do
    where there is no mask of the style. Regions that only the style has are left out. The log says either. Raises
    ValueError where no region is in both.
    """
    ours = _planes(content, "content mask")
    if style is None:
        empty = torch.zeros(len(ours), 1, 1, dtype=torch.uint8)
        return Masks(tuple(ours), torch.stack(list(ours.values())), empty)
    theirs = _planes(style, "style mask")
    if not ours.keys() & theirs.keys():
        raise ValueError(
            f"the content mask has the regions {', '.join(ours)}, the style mask {', '.join(theirs)}, none in common: "
            "paint them in the same colours"
        )
    if more := [name for name in theirs if name not in ours]:
        log.warning("only the style mask has the regions %s: they are left out", ", ".join(more))
    blank = torch.zeros_like(next(iter(theirs.values())))
    matched = [theirs.get(name, blank) for name in ours]
    return Masks(tuple(ours), torch.stack(list(ours.values())), torch.stack(matched))


def regional_style(
    update: GramUpdate,
    style: Tensor,
    masks: Masks,
    size: tuple[int, int] | torch.Size,
    *,
    memory: int = MEMORY,
) -> Regional:
    """Return the style of each region of a photograph of ``size`` (H, W), from one style image (1, 3, H', W').

    Masks of another size than their picture are scaled to it, and the log says so. A region that the style lacks, or
    has in fewer than 64 pixels, takes after the whole style. The style is encoded within so many bytes of ``memory``.
    """
    regions = fit_masks(masks.style, style.shape[-2:], "style mask")
    missing = regions.flatten(1).sum(1) < 255 * FEWEST_PIXELS
    if bool(missing.any()):
        names = ", ".join(name for name, gone in zip(masks.names, missing.tolist(), strict=True) if gone)
        log.warning("the style has no region %s: the whole style stands in", names)
        regions = torch.where(missing[:, None, None], 255, regions)
    encoded = encode_in_tiles(update, style, regions=regions, memory=memory)
    return regional([encoded], fit_masks(masks.content, size, "content mask"))


def fit_masks(masks: Tensor, size: tuple[int, int] | torch.Size, name: str = "mask") -> Tensor:
    """Return masks (R, H, W) uint8 at another size (H', W'), area-averaged or interpolated; the log says so."""
    if masks.shape[-2:] == torch.Size(size):
        return masks
    if masks.shape[-2:] != (1, 1):  # which stands for none
        log.warning("the %s of %d x %d is scaled to %d x %d", name, *masks.shape[:-3:-1], *tuple(size)[::-1])
    fitted = torch.empty(len(masks), *size, dtype=torch.uint8)
    for target, mask in zip(fitted, masks, strict=True):
        scaled = interpolate(mask[None, None].float(), tuple(size), mode="bilinear", antialias=True)
        target.copy_(scaled[0, 0].round())
    return fitted


def _planes(source: MaskSource, what: str) -> Planes:
    if isinstance(source, Path | str):
        return _of_picture(torch.from_numpy(to_depth(read_raster(Path(source), flat=True).values, 8)), what)
    array = torch.as_tensor(source).detach().cpu()
    if array.numel() == 0 or array.ndim not in (2, 3):
        raise ValueError(f"the {what} must be (H, W), (R, H, W) or (H, W, 3), got the shape {tuple(array.shape)}")
    if array.is_floating_point():
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"the {what} must lie in [0, 1], got {low:.3g} to {high:.3g}: divide it by its maximum")
        array = (array * 255).round().to(torch.uint8)
        return _soft(array) if array.ndim == 2 else _stack(array, what)
    if array.ndim == 3:
        if array.shape[-1] == 3 and array.dtype == torch.uint8:
            return _of_picture(array.contiguous(), what)
        return _stack(array.to(torch.uint8) * (255 if array.dtype == torch.bool else 1), what)
    if array.dtype == torch.bool:
        array = 255 * array.to(torch.uint8)
    if array.dtype == torch.uint8:
        return _of_picture(array[..., None].expand(-1, -1, 3).contiguous(), what)
    values = torch.unique(array).tolist()
    if len(values) > MOST_LABELS:
        raise ValueError(f"the {what} has {len(values)} labels: at most {MOST_LABELS} are regions")
    return {_name((v, v, v)): _indicator(array == v) for v in values}


def _of_picture(image: Tensor, what: str) -> Planes:
    """Return the regions of a picture (H, W, 3) uint8."""
    counted = Image.fromarray(image.numpy()).getcolors(MOST_LABELS)
    colourful = bool((image.amax(-1) - image.amin(-1) > 16).any())
    if counted is not None:
        planes: Planes = {}
        # The largest region first, for names in messages.
        for _, colour in sorted(counted, key=lambda c: -c[0]):
            value = cast(tuple[int, int, int], colour)
            name, here = _name(value, 12 if colourful else 0), (image == torch.tensor(value, dtype=torch.uint8)).all(-1)
            planes[name] = torch.maximum(planes[name], _indicator(here)) if name in planes else _indicator(here)
        # A value that is nowhere three pixels wide is of an edge.
        if all(_has_square(plane, 3) for plane in planes.values()):
            return planes
    if not colourful:
        log.info("the %s is read as one soft region, white, and what it leaves, black", what)
        return _soft(image[..., 1])
    return _nearest(image)


def _soft(grey: Tensor) -> Planes:
    return {"white": grey, "black": 255 - grey}


def _stack(masks: Tensor, what: str) -> Planes:
    if bool((masks.amax(0) == 0).any()):
        raise ValueError(f"in the {what} some pixels lie in no region: add a mask that holds them")
    return {f"mask {r}": mask for r, mask in enumerate(masks)}


def _nearest(image: Tensor) -> Planes:
    labels = _label(image, list(COLOURS))
    present = [name for i, name in enumerate(COLOURS) if _has_square(_indicator(labels == i), 7)]
    present = present or [name for i, name in enumerate(COLOURS) if bool((labels == i).any())]
    labels = _label(image, present)
    # The colours between two regions may be nearest to a third: the majority of 5 x 5 pixels rules them out.
    best, winner = torch.full(labels.shape, -1.0), torch.zeros_like(labels)
    for i in range(len(present)):
        votes = avg_pool2d((labels == i).float()[None], 5, stride=1, padding=2, count_include_pad=False)[0]
        winner[votes > best] = i
        best = torch.maximum(best, votes)
    return {name: _indicator(winner == i) for i, name in enumerate(present) if bool((winner == i).any())}


def _label(image: Tensor, names: list[str]) -> Tensor:
    """Return the index of the nearest of the named colours, (H, W) uint8."""
    best, label = torch.full(image.shape[:2], 2**31 - 1, dtype=torch.int32), torch.zeros(image.shape[:2]).byte()
    for i, name in enumerate(names):
        distance = sum((image[..., c].int() - v).square() for c, v in enumerate(COLOURS[name]))
        assert isinstance(distance, Tensor)
        label[distance < best] = i
        best = torch.minimum(best, distance)
    return label


def _has_square(plane: Tensor, side: int) -> bool:
    """Return whether a mask of 0 and 255 is 255 all over some square."""
    side = min(side, *plane.shape)
    return bool((max_pool2d(-plane.float()[None], side, stride=1) == -255).any())


def _indicator(where: Tensor) -> Tensor:
    return 255 * where.to(torch.uint8)


def _name(colour: tuple[int, int, int], tolerance: int = 0) -> str:
    for name, known in COLOURS.items():
        if max(abs(c - k) for c, k in zip(colour, known, strict=True)) <= tolerance:
            return name
    return str(colour[0]) if len(set(colour)) == 1 else "#" + "".join(f"{c:02x}" for c in colour)
