"""Compiled CPU loops; imported on first use, since numba takes a second to import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from graphs._threads import shared


def _compiled(function: Callable[..., None], least: int = 8) -> Callable[..., None]:
    """Compile function(start, stop, ...) into function(blocks, ...), which shares range(blocks) among torch's threads.

    Each gets ``least`` blocks or more: handing over costs some 50 us, about what a few of them take. Plain threads, and
    not numba's, which end the process where two Python threads launch at once (the "workqueue" layer) or where it was
    forked (OpenMP). The code is cached on disk where some folder can be written.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba raises where neither the package's folder nor the user's cache is writable
        kernel = numba.njit(**options)(function)

    def launch(blocks: int, *arguments: Any) -> None:
        shared(lambda start, stop: kernel(start, stop, *arguments), blocks, least)

    return launch


BLOCK = 4096


@intrinsic
def _room(context, like):  # type: ignore[no-untyped-def]
    """Return a pointer to 3 BLOCK numbers of an array's dtype on the stack.

    Nothing else can point there, as the compiler knows: loops that write to it alone become vectors without a check
    for overlaps, of which it would try no more than eight.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return cgutils.alloca_once(builder, context.get_data_type(like.dtype), size=3 * BLOCK)  # type: ignore[no-untyped-call]

    return types.CPointer(like.dtype)(like), generate  # type: ignore[no-untyped-call]


@_compiled
def combine_diagonals(start, stop, shifts, weights, x, a, b, z, c, v, d, out):  # type: ignore[no-untyped-def]
    """Write a L x + b x + c z + d v, plane by plane, for L given by its upper diagonals; out may be z, never x.

    Shapes: shifts (s,), weights (s, at least n) with weights[q, i] = L[i, i + shifts[q]], all others (m, n). L 1 = 0
    lets differences stand for the main diagonal. Chunks stay in cache while the diagonals pass over them, where all of
    them meet four at a time, and three planes, for fewer loads and stores: each weight is read twice, not six times.
    """
    planes, n = x.shape
    chunk = BLOCK
    total = numba.carray(_room(x), (3, BLOCK))  # type: ignore[call-arg,attr-defined]
    t0, t1, t2 = total[0], total[1], total[2]
    furthest = 0
    for shift in shifts:
        furthest = max(furthest, shift)
    for block in range(start, stop):
        low = block * chunk
        high = min(n, low + chunk)
        size = high - low
        together = shifts.size // 4 * 4 if furthest <= low and high + furthest <= n else 0
        plane = 0
        while plane < planes:
            width = 3 if together and plane + 3 <= planes else 1
            total[:width, :size] = 0
            for q in range(0, together, 4):
                for sign in (1, -1):
                    # From each node ahead, and then to each from behind, by the weight kept there.
                    s0, s1, s2, s3 = sign * shifts[q], sign * shifts[q + 1], sign * shifts[q + 2], sign * shifts[q + 3]
                    w0, w1 = weights[q, low + min(s0, 0) :], weights[q + 1, low + min(s1, 0) :]
                    w2, w3 = weights[q + 2, low + min(s2, 0) :], weights[q + 3, low + min(s3, 0) :]
                    row, f = x[plane], x[plane, low:high]
                    f0, f1, f2, f3 = row[low + s0 :], row[low + s1 :], row[low + s2 :], row[low + s3 :]
                    if width == 1:
                        for i in range(size):
                            h = f[i]
                            t = t0[i] + w0[i] * (f0[i] - h) + w1[i] * (f1[i] - h)
                            t0[i] = t + w2[i] * (f2[i] - h) + w3[i] * (f3[i] - h)
                        continue
                    row, g = x[plane + 1], x[plane + 1, low:high]
                    g0, g1, g2, g3 = row[low + s0 :], row[low + s1 :], row[low + s2 :], row[low + s3 :]
                    row, k = x[plane + 2], x[plane + 2, low:high]
                    k0, k1, k2, k3 = row[low + s0 :], row[low + s1 :], row[low + s2 :], row[low + s3 :]
                    for i in range(size):
                        v0, v1, v2, v3 = w0[i], w1[i], w2[i], w3[i]
                        h = f[i]
                        t0[i] = t0[i] + v0 * (f0[i] - h) + v1 * (f1[i] - h) + v2 * (f2[i] - h) + v3 * (f3[i] - h)
                        h = g[i]
                        t1[i] = t1[i] + v0 * (g0[i] - h) + v1 * (g1[i] - h) + v2 * (g2[i] - h) + v3 * (g3[i] - h)
                        h = k[i]
                        t2[i] = t2[i] + v0 * (k0[i] - h) + v1 * (k1[i] - h) + v2 * (k2[i] - h) + v3 * (k3[i] - h)
            for p in range(width):
                here, sums = x[plane + p, low:high], total[p]
                for q in range(together, shifts.size):
                    shift = shifts[q]
                    weight, ahead = weights[q, low:], x[plane + p, min(low + shift, n) :]
                    for i in range(min(high, n - shift) - low):
                        sums[i] += weight[i] * (ahead[i] - here[i])
                    first = max(low, shift)
                    weight, behind = weights[q, first - shift :], x[plane + p, first - shift :]
                    centre, tail = x[plane + p, first:], sums[first - low :]
                    for i in range(high - first):
                        tail[i] += weight[i] * (behind[i] - centre[i])
                other, source, target = z[plane + p, low:high], v[plane + p, low:high], out[plane + p, low:high]
                for i in range(size):
                    target[i] = a * sums[i] + b * here[i] + c * other[i] + d * source[i]
            plane += width


@_compiled
def matting_diagonals(start, stop, parity, image, radius, eps, weights):  # type: ignore[no-untyped-def]
    """Add to weights the upper off-diagonals of the matting Laplacian of image (C, H, W), both float64.

    Shapes: weights (2 r (4 r + 1) + 2 r, H, W), where row dy (4 r + 1) + dx - 1 holds L between (y, x) and (y + dy, x +
    dx). Windows side by side are worked on together, so that every loop over i is one of vectors. A strip of 4 (2 r +
    1) rows of windows writes into the next strip, never further: the even ones may go at once, then the odd.
    """
    channels, height, width = image.shape
    size = 2 * radius + 1
    area = size * size
    rows, columns, chunk = height - 2 * radius, width - 2 * radius, 64
    strip = 4 * size
    whitened = np.empty((area, channels, chunk))
    root = np.empty((channels, channels, chunk))
    value = np.empty(chunk)
    for half in range(start, stop):
        first = (2 * half + parity) * strip
        for y, left in np.ndindex((min(strip, rows - first), (columns + chunk - 1) // chunk)):
            y, left = y + first, left * chunk
            length = min(chunk, columns - left)
            for p in range(channels):
                value[:] = 0
                for a in range(area):
                    source = image[p, y + a // size, left + a % size :]
                    for i in range(length):
                        value[i] += source[i]
                for a in range(area):
                    source, target = image[p, y + a // size, left + a % size :], whitened[a, p]
                    for i in range(length):
                        target[i] = source[i] - value[i] / area
            # The Cholesky factor R of the covariance + eps / |w|, its diagonal inverted; then R^-1 (I - mean).
            for p in range(channels):
                for q in range(p + 1):
                    value[:] = eps if p == q else 0.0
                    for a in range(area):
                        for i in range(length):
                            value[i] += whitened[a, p, i] * whitened[a, q, i]
                    value /= area
                    for s in range(q):
                        for i in range(length):
                            value[i] -= root[p, s, i] * root[q, s, i]
                    for i in range(length):
                        root[p, q, i] = 1 / np.sqrt(value[i]) if p == q else value[i] * root[q, q, i]
            for a in range(area):
                for p in range(channels):
                    target = whitened[a, p]
                    for s in range(p):
                        for i in range(length):
                            target[i] -= root[p, s, i] * whitened[a, s, i]
                    for i in range(length):
                        target[i] *= root[p, p, i]
            for a in range(area):
                for b in range(a + 1, area):
                    row = (b // size - a // size) * (4 * radius + 1) + b % size - a % size - 1
                    target = weights[row, y + a // size, left + a % size :]
                    value[:] = 1
                    for p in range(channels):
                        for i in range(length):
                            value[i] += whitened[a, p, i] * whitened[b, p, i]
                    for i in range(length):
                        target[i] -= value[i] / area


@_compiled
def hat_products(start, stop, shifts, weights, features, rows, columns, reach, products):  # type: ignore[no-untyped-def]
    """Write <p_i, p_j> and <p_i, L p_j> of the signals p = rows[y-node, y] columns[x-node, x] features[c, y, x].

    Shapes: shifts and weights as in combine_diagonals, ``reach`` rows and columns far at most; features (F, H, W), rows
    (ny, H) and columns (nx, W), non-negative and each positive on one interval, all float64; products (2, F, F, 5, 5,
    ny, nx) has at [:, d, c, e + 2, g + 2, y, x] those of i = (y + e, x + g, d) and j = (y, x, c), and is left alone
    where there is no node i. The pixels of one node stay in cache while all its products are taken.
    """
    count, height, width = features.shape
    sums = np.empty((2, 5, count, count, width))
    product = np.empty(width)
    for y in range(start, stop):
        inside = np.flatnonzero(rows[y])
        top, bottom = max(inside[0] - reach, 0), min(inside[-1] + 1 + reach, height)
        signals = np.zeros((count, (bottom - top) * width))
        for x in range(columns.shape[0]):
            inside = np.flatnonzero(columns[x])
            left, right = max(inside[0] - reach, 0), min(inside[-1] + 1 + reach, width)
            length = right - left
            across = columns[x, left:right]
            for c, i in np.ndindex((count, bottom - top)):
                line, source = signals[c, i * width + left : i * width + right], features[c, top + i, left:right]
                for j in range(length):
                    line[j] = rows[y, top + i] * across[j] * source[j]
            sums[..., :length] = 0
            for c, i in np.ndindex((count, bottom - top)):
                low, high = i * width + left, i * width + right
                here = signals[c, low:high]
                product[:length] = 0
                # Beyond these rows the signal is zero, as it is on those that would look there.
                for q in range(shifts.size):
                    shift = shifts[q]
                    weight, ahead = weights[q, top * width + low :], signals[c, low + shift :]
                    for j in range(min(length, ahead.size)):
                        product[j] += weight[j] * (ahead[j] - here[j])
                    first = min(max(shift - low, 0), length)
                    weight, behind = weights[q, top * width + low + first - shift :], signals[c, low + first - shift :]
                    centre, tail = here[first:], product[first:]
                    for j in range(length - first):
                        tail[j] += weight[j] * (behind[j] - centre[j])
                for e in range(max(y - 2, 0), min(y + 3, rows.shape[0])):
                    down = rows[e, top + i]
                    if down > 0:
                        for d in range(count):
                            mass, stiffness = sums[0, e - y + 2, d, c], sums[1, e - y + 2, d, c]
                            source = features[d, top + i, left:right]
                            for j in range(length):
                                mass[j] += down * source[j] * here[j]
                                stiffness[j] += down * source[j] * product[j]
            for e in range(max(y - 2, 0), min(y + 3, rows.shape[0])):
                for g in range(max(x - 2, 0), min(x + 3, columns.shape[0])):
                    other = columns[g, left:right]
                    for kind, d, c in np.ndindex((2, count, count)):
                        values, total = sums[kind, e - y + 2, d, c], 0.0
                        for j in range(length):
                            total += other[j] * values[j]
                        products[kind, d, c, e - y + 2, g - x + 2, y, x] = total
            for c, i in np.ndindex((count, bottom - top)):
                signals[c, i * width + left : i * width + right] = 0
