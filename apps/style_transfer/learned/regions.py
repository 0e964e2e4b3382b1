"""A style for each region of a picture, by soft masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apps.style_transfer.learned.gram_step import EncodedStyle, Moments
from apps.style_transfer.learned.level import halve


class Regional(NamedTuple):
    """The styles of R regions and where those are: the ``data`` of a :class:`GramUpdate` for one image (1, 3, H, W).

    Statistics are taken over each region by itself, and a pixel goes the way of its regions, in proportion to its share
    in each: sum_r m_r (T_r F + shift_r). Made by :func:`regional`.

    Attributes:
        styles: R in the batch's place of every moment.
        masks: (R, H, W) >= 0, floating or uint8. They are divided by their sum where they are used, so those of a large
            image may be kept in 8 bits.
    """

    styles: EncodedStyle
    masks: Tensor

    def weights(self, x: Tensor) -> Tensor:
        """Return the masks for an image x (1, 3, H, W): in float32 at least, on its device, their sum 1."""
        if x.shape[0] != 1 or x.shape[-2:] != self.masks.shape[-2:]:
            raise ValueError(
                f"masks of {self.masks.shape[-1]} x {self.masks.shape[-2]} pixels go with one image of that size, "
                f"got {tuple(x.shape)}"
            )
        return self.within((slice(None), slice(None)), x)

    def within(self, where: tuple[slice, slice], like: Tensor) -> Tensor:
        """Return the masks of the rows and columns of a part, likewise."""
        masks = self.masks[(slice(None), *where)].to(like.device, torch.promote_types(like.dtype, torch.float32))
        return masks / masks.sum(0)


def regional(styles: Sequence[EncodedStyle], masks: Tensor) -> Regional:
    """Return styles put together with the masks (R, H, W) of their regions.

    Args:
        styles: one for each region, of ``update.encode(image)``; or one or more of
            ``update.encode(image, regions)``, which holds several. Their batches, in this order, are the R regions.
        masks: >= 0, floating or uint8, soft edges allowed; every pixel must lie in some region. A region without
            pixels changes nothing.

    Raises ValueError.
    """
    if masks.ndim != 3 or not (masks.is_floating_point() or masks.dtype == torch.uint8):
        raise ValueError(f"masks must be (R, H, W), floating or uint8, got {tuple(masks.shape)} of {masks.dtype}")
    together = tuple(
        tuple(
            Moments(*(torch.cat(parts) for parts in zip(*levels, strict=True))) for levels in zip(*steps, strict=True)
        )
        for steps in zip(*styles, strict=True)
    )
    count = together[0][0].mean.shape[0] if together else 0
    if count != len(masks):
        raise ValueError(f"there are {len(masks)} masks and {count} styles: give each region one")
    if masks.is_floating_point() and not bool((masks.isfinite() & (masks >= 0)).all()):
        raise ValueError("masks must be finite and at least 0")
    outside = int((masks.amax(0) == 0).sum())
    if outside:
        raise ValueError(f"{outside} pixels lie in no region: let some mask hold them")
    return Regional(together, masks)


def pyramid(regions: Tensor | None, levels: int) -> list[Tensor | None]:
    """Return weights (R, H, W) at each level, halved by area as the features are; None stays None."""
    found = [regions]
    while len(found) < levels:
        last = found[-1]
        found.append(None if last is None else halve(last[None])[0])
    return found
