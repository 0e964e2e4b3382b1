"""Muon and Adam in one optimiser, against those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from apps.style_transfer.training.muon import Muon, orthogonalise


def test_matrices_move_as_torchs_muon_moves_them() -> None:
    # torch iterates in bfloat16, hence the tolerance: a step moves an entry by 1e-3.
    start = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimisers = (
        Muon([ours], lr=1e-2),
        torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(4):
        gradient = torch.randn(start.shape, generator=torch.Generator().manual_seed(step + 1))
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, atol=4e-4, rtol=0)
    assert float((ours.detach() - start).abs().mean()) > 4e-3


def test_a_convolution_moves_as_its_matrix() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, matrix = nn.Parameter(weight.clone()), nn.Parameter(weight.flatten(1).clone())
    channels_last = nn.Parameter(weight.clone(memory_format=torch.channels_last))
    optimiser = Muon([kernel, matrix, channels_last], lr=0.1)
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    kernel.grad, matrix.grad, channels_last.grad = gradient, gradient.flatten(1), gradient
    optimiser.step()
    torch.testing.assert_close(kernel.flatten(1), matrix)
    torch.testing.assert_close(channels_last, kernel)


def test_vectors_and_scalars_move_as_adam_moves_them() -> None:
    starts = [torch.randn(7, generator=torch.Generator().manual_seed(0)), torch.tensor(0.3)]
    ours, theirs = ([nn.Parameter(s.clone()) for s in starts] for _ in range(2))
    optimisers = Muon(ours, lr=1e-2), torch.optim.Adam(theirs, lr=1e-2)
    for step in range(5):
        for parameters, optimiser in zip((ours, theirs), optimisers, strict=True):
            for parameter in parameters:
                g = torch.Generator().manual_seed(step)
                parameter.grad = torch.randn(parameter.shape, generator=g)
            optimiser.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(5, 20), (20, 5), (8, 8)])
def test_orthogonalise_keeps_singular_vectors_and_evens_singular_values(shape: tuple[int, int]) -> None:
    a = torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u, s, v = torch.linalg.svd(a, full_matrices=False)
    evened = u.mT @ orthogonalise(a) @ v.mT
    torch.testing.assert_close(evened, evened.diagonal().diag(), atol=1e-10, rtol=0)
    large = evened.diagonal()[s > 0.02 * s.norm()]
    assert len(large) >= 4
    assert float(large.min()) > 0.65
    assert float(large.max()) < 1.25
    assert float(orthogonalise(0 * a).abs().max()) == 0


def test_the_state_survives_a_round_trip_and_unused_parameters_stay() -> None:
    def fresh() -> tuple[list[nn.Parameter], Muon]:
        parameters = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
        return parameters, Muon(parameters, lr=0.1)

    def advance(parameters: list[nn.Parameter], optimiser: Muon, step: int) -> None:
        for parameter in parameters[:2]:
            g = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=g)
        optimiser.step()

    whole, one = fresh()
    for step in range(4):
        advance(whole, one, step)
    parameters, first = fresh()
    advance(parameters, first, 0)
    advance(parameters, first, 1)
    second = Muon(parameters, lr=0.1)
    second.load_state_dict(first.state_dict())
    advance(parameters, second, 2)
    advance(parameters, second, 3)
    for a, b in zip(whole, parameters, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole[2], torch.ones(2))


def test_bad_rates() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Muon([nn.Parameter(torch.ones(2, 2))], lr=-1)
