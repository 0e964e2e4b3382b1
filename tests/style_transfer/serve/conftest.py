"""A server with the small solver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serve_helpers import serving

from apps.style_transfer import Stylizer
from apps.style_transfer.serve.jobs import Jobs
from apps.style_transfer.serve.limits import Limits
from apps.style_transfer.serve.work import Restyler


@pytest.fixture(scope="session")
def stylizer(weights: Path) -> Stylizer:
    return Stylizer(weights, "cpu")


@pytest.fixture(scope="module")
def real(stylizer: Stylizer) -> Iterator[tuple[httpx.Client, Jobs]]:
    limits = Limits(bytes=200_000, pixels=100_000, result_pixels=60_000, queue=4)
    with serving(Restyler(stylizer), limits, hosts=frozenset({"127.0.0.1"})) as served:
        yield served


@pytest.fixture
def client(real: tuple[httpx.Client, Jobs]) -> httpx.Client:
    return real[0]
