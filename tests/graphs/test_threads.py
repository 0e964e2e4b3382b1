"""Work shared among threads, and BLAS held to one."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import graphs
from graphs import _threads
from graphs._threads import one_blas_thread, shared


@pytest.fixture
def blas():
    """Two threads of BLAS, whatever the machine; yields what says how many there are."""

    def threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        yield threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parts_are_all_there_once_and_in_order(two_threads):
    assert shared(lambda start, stop: (start, stop), 7) == [(0, 3), (3, 7)]
    assert shared(lambda start, stop: (start, stop), 7, least=4) == [(0, 7)]
    assert shared(lambda start, stop: (start, stop), 0) == [(0, 0)]
    names = shared(lambda start, stop: threading.current_thread().name, 2)
    assert names[0] == threading.current_thread().name != names[1]


def test_an_error_in_another_thread_is_raised_here(two_threads):
    with pytest.raises(ZeroDivisionError):
        shared(lambda start, stop: 1 / (stop - 2), 2)


def test_blas_is_limited_and_restored_after_errors(blas):
    def fail():
        with one_blas_thread():
            raise KeyError(blas())

    assert blas() == {2}
    with pytest.raises(KeyError, match=r"\{1\}"):
        fail()
    assert blas() == {2}


def test_threads_that_limit_blas_at_once_leave_it_as_it_was(blas):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert inside.wait(10)
        assert blas() == {1}
    leave.set()
    thread.join()
    assert blas() == {2}


def test_eigenpairs_are_sought_with_one_thread_of_blas(blas, monkeypatch):
    seen = set()
    submit = _threads.shared

    def watched(*arguments):
        seen.update(blas())
        return submit(*arguments)

    monkeypatch.setattr("graphs._eigensolver.shared", watched)
    graphs.eigenbasis(graphs.grid((50, 50)), 4)
    assert seen == {1}
    assert blas() == {2}


def test_the_number_of_threads_changes_no_eigenpair(two_threads):
    laplacian = graphs.grid(torch.rand(1, 60, 90, generator=torch.Generator().manual_seed(0)))
    by_two = graphs.eigenbasis(laplacian, 20)
    torch.set_num_threads(1)
    by_one = graphs.eigenbasis(laplacian, 20)
    np.testing.assert_allclose(by_two.eigenvalues, by_one.eigenvalues, rtol=1e-6, atol=1e-12)
    overlap = torch.linalg.svdvals(by_two.vectors.T @ by_one.vectors)
    np.testing.assert_allclose(overlap, 1, atol=1e-6)
