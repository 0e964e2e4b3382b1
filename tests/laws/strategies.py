"""Hypothesis strategies for signals: any magnitude up to 1e6, with zeros and ties."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

_VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.7, 2.0]), st.floats(-3, 3, allow_subnormal=False), st.sampled_from([1e6, -1e6])
)


@st.composite
def signals(draw: st.DrawFn, shape: tuple[int, ...], *, complex: bool = False) -> Tensor:
    """Return a signal: a short list of values repeated (ties), or noise of one seed and scale."""
    n = math.prod(shape)

    def real() -> Tensor:
        if draw(st.booleans()):
            values = torch.tensor(draw(st.lists(_VALUES, min_size=1, max_size=min(n, 8))), dtype=torch.float64)
            return values.repeat(-(-n // len(values)))[:n].reshape(shape)
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        return draw(st.sampled_from([1e-3, 1.0, 1e3])) * torch.randn(shape, dtype=torch.float64, generator=generator)

    return torch.complex(real(), real()) if complex else real()
