"""Gradients reach the parameters, the start and the data, by either adjoint."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from problems import Affine, LeastSquares, problem
from torch import Tensor, nn

import unroll

ADJOINTS = [unroll.Backprop(), unroll.Checkpointed()]


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_gradients_of_a_learned_solver_are_those_of_finite_differences(adjoint: unroll.Adjoint) -> None:
    torch.manual_seed(0)
    update = unroll.PerStep([Affine(3).double(), Affine(3).double()])
    solver = unroll.Unrolled(update, steps=2)
    names = [name for name, _ in solver.named_parameters()]

    def run(x0: Tensor, *parameters: Tensor) -> Tensor:
        options = {"projector": unroll.SoftThreshold(0.01), "adjoint": adjoint}
        state = dict(zip(names, parameters, strict=True))
        return cast(unroll.Solution, torch.func.functional_call(solver, state, (x0,), options)).x

    inputs = [torch.randn(2, 3, dtype=torch.float64), *(p.detach() for p in solver.parameters())]
    assert torch.autograd.gradcheck(run, [i.requires_grad_() for i in inputs])


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_gradients_of_gradient_steps_reach_start_data_and_step_size(adjoint: unroll.Adjoint) -> None:
    a, y, x0 = problem()

    def run(x0: Tensor, a: Tensor, y: Tensor, step: Tensor) -> Tensor:
        solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=3)
        return solver(x0, (a, y), adjoint=adjoint, projector=unroll.Box(-5.0, 5.0)).x  # type: ignore[no-any-return]

    step = torch.tensor(0.03, dtype=torch.float64)
    assert torch.autograd.gradcheck(run, [i.requires_grad_() for i in (x0, a, y, step)])


def test_gradient_steps_keep_a_graph_only_where_something_is_to_be_differentiated() -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=3)
    assert not solver(x0, (a, y)).x.requires_grad
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for differentiable in ((x0.clone().requires_grad_(), (a, y)), (x0, (weight * a, y)), (x0, (a, weight * y))):
        assert solver(*differentiable).x.requires_grad


def test_a_step_size_and_a_threshold_can_be_learned() -> None:
    a, y, x0 = problem()
    step, threshold = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (0.03, 0.05))
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=3)
    projector = unroll.SoftThreshold(threshold)
    assert "update.step_size" in solver.state_dict()
    assert "threshold" in projector.state_dict()
    LeastSquares()(solver(x0, (a, y), projector=projector).x, (a, y)).sum().backward()
    assert step.grad is not None
    assert threshold.grad is not None
    assert float(step.grad) != 0
    assert float(threshold.grad) != 0


def test_checkpointing_gives_the_same_gradients_from_less_memory() -> None:
    torch.manual_seed(0)
    solver, x0 = unroll.Unrolled(unroll.PerStep([Affine(32) for _ in range(6)]), steps=6), torch.randn(16, 32)

    def run(adjoint: unroll.Adjoint) -> tuple[int, list[Tensor], Tensor]:
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            x = solver(x0, adjoint=adjoint).x
            kept = sum(held.values())
        return kept, list(torch.autograd.grad(x.square().sum(), list(solver.parameters()))), x

    (all_, plain, x), (few, rebuilt, same) = (run(adjoint) for adjoint in ADJOINTS)
    assert torch.equal(x, same)
    assert few < all_ / 2
    for one, other in zip(plain, rebuilt, strict=True):
        assert torch.equal(one, other)


class Stretched(unroll.Loss):
    """||A diag(s) x - y||^2 / 2 with scales s to be learned."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.linspace(0.5, 1.5, n, dtype=torch.float64))

    def forward(self, x: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
        return 0.5 * ((self.scales * x) @ data[0].mT - data[1]).square().sum(-1)


class Dropout(Affine):
    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        return nn.functional.dropout(super().forward(x, data, t))


def test_checkpointing_repeats_gradient_steps_and_random_numbers() -> None:
    a, y, x0 = problem()
    n = x0.shape[1]
    step = nn.Parameter(torch.tensor(0.03, dtype=torch.float64))
    for update in (unroll.GradientStep(Stretched(n), step), Dropout(n).double()):
        solver, gradients = unroll.Unrolled(update, steps=4), []
        for adjoint in ADJOINTS:
            torch.manual_seed(0)
            x = solver(x0, (a, y), projector=unroll.SoftThreshold(0.01), adjoint=adjoint).x
            gradients.append(torch.autograd.grad(x.square().sum(), list(solver.parameters())))
        for one, other in zip(*gradients, strict=True):
            assert bool(one.any())
            assert torch.equal(one, other)


def test_complex_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3), (4, 3), (2, 4))
    x0, a, y = (torch.randn(*s, dtype=torch.complex128, generator=generator) for s in shapes)
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.1), steps=2)

    def run(x0: Tensor, a: Tensor, y: Tensor) -> Tensor:
        return solver(x0, (a, y), projector=unroll.SoftThreshold(0.01)).x  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, [i.requires_grad_() for i in (x0, a, y)])


def test_probes_can_be_trained_on() -> None:
    solver, x0 = unroll.Unrolled(Affine(3), steps=3), torch.randn(2, 3)
    solution = solver(x0, probe=lambda x, t: x.square().sum())
    sum(solution.trace[1:]).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in solver.parameters())


def test_per_step_parameters_never_share_storage() -> None:
    update = unroll.PerStep([Affine(3) for _ in range(4)])
    pointers = [p.data_ptr() for p in update.parameters()]
    assert len(set(pointers)) == len(pointers) == 8
    shared = Affine(3)
    with pytest.raises(ValueError, match=r"updates 0 and 1 of PerStep share the parameter 'linear\.weight'"):
        unroll.PerStep([shared, shared])
    borrowed = Affine(3)
    borrowed.linear.bias = shared.linear.bias
    with pytest.raises(ValueError, match=r"share the parameter 'linear\.bias'"):
        unroll.PerStep([shared, Affine(3), borrowed])
    # Two parameters of one storage are one parameter, whatever their names: deepinv's [torch.ones(1)] * 5.
    size = torch.ones(1)
    with pytest.raises(ValueError, match="share the parameter 'step_size'"):
        unroll.PerStep([unroll.GradientStep(LeastSquares(), nn.Parameter(size)) for _ in range(2)])
    with pytest.raises(ValueError, match="at least one"):
        unroll.PerStep([])


class Counting(unroll.LearnedUpdate):
    """data + t, whatever x."""

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        return torch.full_like(x, data + t)


def test_updates_hand_on_the_data_and_the_step() -> None:
    x0 = torch.zeros(1)
    for update, scale in ((unroll.PerStep([Counting(), Counting()]), 1), (unroll.Scaled(Counting(), 0.5), 0.5)):
        assert float(unroll.Unrolled(update, steps=2)(x0, 10).x) == -scale * (10 + 11)


def test_step_sizes_that_are_tensors_follow_the_module_and_stay_out_of_its_state() -> None:
    a, y, x0 = problem()
    sizes = torch.tensor([[0.01], [0.02], [0.03]], dtype=torch.float64)
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), sizes), steps=3)
    apart = [unroll.Unrolled(unroll.GradientStep(LeastSquares(), float(s)), steps=3)(x0, (a, y)).x for s in sizes]
    torch.testing.assert_close(solver(x0, (a, y)).x, torch.stack([x[i] for i, x in enumerate(apart)]))
    assert not solver.state_dict()
    assert solver.to("meta").update.step_size.is_meta


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_scaled_updates_scale_the_step(alpha: float) -> None:
    update, x0 = Affine(3), torch.randn(2, 3)
    step = unroll.Unrolled(unroll.Scaled(update, alpha), steps=1)(x0).x
    assert torch.equal(step, x0 - alpha * update(x0, None, 0))


class Shift(unroll.Loss):
    def forward(self, x: Tensor, data: Any) -> Tensor:
        return (x - 1).square().sum(-1)


class Size(unroll.Loss):
    def forward(self, x: Tensor, data: Any) -> Tensor:
        return x.abs().sum(-1)


def test_losses_add_and_scale_per_sample() -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    shift, size = Shift(), Size()
    expected = 2 * shift(x, None) - 0.5 * size(x, None)
    assert expected.shape == (4,)
    for loss in (
        2 * shift + size * -0.5,
        1.0 * (2 * shift) + sum([-0.5 * size, 0.0 * size]),
        sum([2 * shift, -0.5 * size]),
    ):
        torch.testing.assert_close(loss(x, None), expected)
    nested = 3 * (shift + 2 * size)
    assert nested.weights == (3.0, 6.0)
    assert len(nested.losses) == 2


def test_losses_add_only_to_losses() -> None:
    with pytest.raises(TypeError):
        Shift() + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        Shift() * Shift()  # type: ignore[operator]
    for other in (1, torch.zeros(2), "0", None):
        with pytest.raises(TypeError):
            other + Shift()
    with pytest.raises(ValueError, match="at least one term"):
        unroll.WeightedSum([])
