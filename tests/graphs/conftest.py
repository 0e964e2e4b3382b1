"""Fixtures that the tests of graphs share: devices, and a small picture."""

import pytest
import torch
from graph_helpers import picture


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def image():
    return picture(12, 15)
