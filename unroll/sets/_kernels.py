"""Compiled loops along a signal; imported on first use, since numba takes a second to import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function; the code is cached on disk where some folder can be written."""
    try:
        kernel: Callable[..., None] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        kernel = numba.njit(nogil=True)(function)
    return kernel


def over_rows(kernel: Callable[..., None], v: Tensor, *numbers: Tensor) -> Tensor:
    """Return what a kernel makes of each row of v (..., n), and of its numbers (..., 1): in float64, where v is."""
    shape = v.shape
    for number in numbers:
        shape = torch.Size(np.broadcast_shapes(shape, number.shape))
    rows = v.expand(shape).reshape(-1, shape[-1]).to("cpu", torch.float64).contiguous().numpy()
    columns = [
        number.expand(*shape[:-1], 1).reshape(-1).to("cpu", torch.float64).contiguous().numpy() for number in numbers
    ]
    out = np.empty_like(rows)
    kernel(rows, *columns, out)
    return torch.from_numpy(out).reshape(shape).to(v.device)


@_compiled
def pool(v: Any, out: Any) -> None:
    """Write the isotonic regression of each row: blocks whose means do not increase are pooled."""
    n = v.shape[1]
    means, counts = np.empty(n), np.empty(n, np.int64)
    for row in range(v.shape[0]):
        blocks = 0
        for i in range(n):
            mean, count = v[row, i], 1
            while blocks > 0 and means[blocks - 1] >= mean:
                blocks -= 1
                mean += (means[blocks] - mean) * counts[blocks] / (counts[blocks] + count)
                count += counts[blocks]
            means[blocks], counts[blocks] = mean, count
            blocks += 1
        position = 0
        for block in range(blocks):
            for _ in range(counts[block]):
                out[row, position] = means[block]
                position += 1


@_compiled
def total_variation(v: Any, strengths: Any, out: Any) -> None:
    """Write argmin_x sum_i strength |x_{i+1} - x_i| + 1/2 ||x - v||^2 of each row.

    The dual is a path within a tube; ``low`` and ``high`` are the values that a piece from ``start`` on may have, and
    ``up`` and ``down`` how far the path is from leaving the tube with either.

    Source: L. Condat, "A direct algorithm for 1-D total variation denoising", 2013.
    """
    n = v.shape[1]
    for row in range(v.shape[0]):
        s, y, x = strengths[row], v[row], out[row]
        k = start = last_low = last_high = 0
        low, high, down, up = y[0] - s, y[0] + s, s, -s
        while start < n:
            if k == n - 1:
                if down < 0:  # the low value is too high: the piece ends with a jump down
                    last_low = max(last_low, start)
                    x[start : last_low + 1] = low
                    k = start = last_low = last_low + 1
                    low, down = y[k], s
                    up = low + s - high
                elif up > 0:
                    last_high = max(last_high, start)
                    x[start : last_high + 1] = high
                    k = start = last_high = last_high + 1
                    high, up = y[k], -s
                    down = high - s - low
                else:
                    x[start:] = low + down / (k - start + 1)
                    start = n
            elif down + y[k + 1] - low < -s:
                x[start : last_low + 1] = low
                k = start = last_low = last_high = last_low + 1
                low, high, down, up = y[k], y[k] + 2 * s, s, -s
            elif up + y[k + 1] - high > s:
                x[start : last_high + 1] = high
                k = start = last_low = last_high = last_high + 1
                low, high, down, up = y[k] - 2 * s, y[k], s, -s
            else:
                k += 1
                down += y[k] - low
                up += y[k] - high
                if down >= s:
                    last_low = k
                    low += (down - s) / (k - start + 1)
                    down = s
                if up <= -s:
                    last_high = k
                    high += (up + s) / (k - start + 1)
                    up = -s
