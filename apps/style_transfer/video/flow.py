"""Motion between two frames: where each pixel was, how far that can be trusted, and warping along it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from apps.style_transfer.video.extras import opencv

SLACK = 0.5
"""Pixels by which the way back may miss where it began, and the motion is still believed in part."""

CONTRAST = 0.05
"""Difference of two frames along the motion, in [0, 1], at which it is believed in part."""

SHEAR = 0.15
"""Change of the motion from pixel to pixel at which it is believed in part."""


class Motion(NamedTuple):
    """The motion between two frames.

    Attributes:
        flow: (1, 2, H, W) float32: pixel (i, j) of this frame was at (i + flow[1], j + flow[0]) in the one before.
        mask: (1, 1, H, W) in [0, 1], how far that can be trusted; 0 is what the frame before did not show.
    """

    flow: Tensor
    mask: Tensor


def motion(previous: Tensor, current: Tensor) -> Motion:
    r"""Return the motion between two frames (1, 3, H, W) in [0, 1], on their device.

    The flow of DIS from the current frame to the one before, f, and the other way round, b. The mask is

    .. math:: m = \exp(-e^2 / 2), \qquad e^2 = |f(p) + b(p + f(p))|^2 / (s^2 + 0.01 |f|^2) + d(p)^2 / c^2,

    with s = :data:`SLACK`, c = :data:`CONTRAST` and d the difference of the frames along f, of means over 5 x 5 pixels,
    which noise hardly moves. m is 0 where f leaves the picture.

    Source: T. Kroeger, R. Timofte, D. Dai, L. Van Gool, "Fast optical flow using dense inverse search", 2016; the
    consistency forward and backward of N. Sundaram, T. Brox, K. Keutzer, "Dense point trajectories by GPU-accelerated
    large displacement optical flow", 2010.
    """
    flow, back = _flow(current, previous), _flow(previous, current)
    miss = (flow + warp(back, flow)).square().sum(1, keepdim=True)
    slack = SLACK**2 + 0.01 * flow.square().sum(1, keepdim=True)
    difference = _mean(current - warp(previous, flow)).abs().amax(1, keepdim=True)
    doubt = miss / slack + (difference / CONTRAST).square() + (_shear(flow) / SHEAR).square()
    # What is next to the edge of something that moves belongs to the edge.
    mask = (-max_pool2d(doubt, 5, 1, 2) / 2).exp()
    return Motion(flow, mask * _inside(flow))


def warp(image: Tensor, flow: Tensor, *, smooth: bool = False) -> Tensor:
    """Return W x: an image (1, C, H, W), C at most 4, of the frame before, read where each pixel was; float32.

    ``smooth`` interpolates by a windowed sinc (Lanczos, 8 x 8 pixels), for what is warped from frame to frame: linear
    interpolation, and cubic too, take some sharpness each time. It may overshoot. Pixels beyond the border are those on
    it. Linear in the image.
    """
    cv2 = opencv()
    h, w = flow.shape[-2:]
    x, y = flow[0].cpu().float().numpy()
    columns, rows = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    planes = np.ascontiguousarray(image[0].detach().cpu().float().numpy().transpose(1, 2, 0))
    kind = cv2.INTER_LANCZOS4 if smooth else cv2.INTER_LINEAR
    read = cv2.remap(planes, columns + x, rows + y, kind, borderMode=cv2.BORDER_REPLICATE)
    warped = torch.from_numpy(read.reshape(h, w, -1)).permute(2, 0, 1)[None]
    return warped.contiguous().to(image.device)


def _inside(flow: Tensor) -> Tensor:
    h, w = flow.shape[-2:]
    x = torch.arange(w, device=flow.device) + flow[:, :1]
    y = torch.arange(h, device=flow.device)[:, None] + flow[:, 1:]
    return ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).to(flow)


def _shear(flow: Tensor) -> Tensor:
    """Return the Frobenius norm of the derivatives of a flow, (1, 1, H, W)."""
    down = pad(flow.diff(dim=-2), (0, 0, 0, 1), mode="replicate")
    across = pad(flow.diff(dim=-1), (0, 1, 0, 0), mode="replicate")
    norm: Tensor = torch.hypot(down, across).square().sum(1, keepdim=True).sqrt()
    return norm


def _mean(image: Tensor) -> Tensor:
    return avg_pool2d(pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)


def _flow(source: Tensor, target: Tensor) -> Tensor:
    cv2 = opencv()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # Smoother than by default, where noise moves nothing: chosen on the clips of benchmarks/video.py.
    dis.setVariationalRefinementAlpha(150.0)
    dis.setVariationalRefinementIterations(10)
    found = dis.calc(*(cv2.GaussianBlur(_grey(image), (0, 0), 1.0) for image in (source, target)), None)
    return torch.from_numpy(found).permute(2, 0, 1)[None].to(source.device).contiguous()


def _grey(image: Tensor) -> NDArray[np.uint8]:
    luma = (image[0].float() * image.new_tensor([0.299, 0.587, 0.114])[:, None, None].float()).sum(0)
    grey: NDArray[np.uint8] = (luma * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return grey
