"""How much a restyled video flickers."""

from __future__ import annotations

from torch import Tensor

from apps.style_transfer.video.flow import warp


def flicker(previous: Tensor, current: Tensor, flow: Tensor, mask: Tensor) -> float:
    r"""Return the mean absolute warped difference of two consecutive outputs, in [0, 255]:

    .. math:: 255 \sum_p m_p |y(p) - (W y^-)(p)|_1 / (3 \sum_p m_p),

    with y^- warped along the flow, linearly. Images are (1, 3, H, W) in [0, 1], the flow (1, 2, H, W) and the mask
    (1, 1, H, W) in [0, 1] those of the input frames, estimated (:func:`motion`) or true; occlusions have m = 0. NaN
    where m = 0 everywhere.

    Source: the temporal error of M. Lai et al., "Learning blind video temporal consistency", 2018, with the absolute
    difference.
    """
    difference = (current - warp(previous, flow)).abs().mean(1, keepdim=True)
    return 255 * float((mask * difference).sum() / mask.sum())
