"""How fast and how exact `graphs` is, beside its peers in the same run.

    python benchmarks/laplacians.py [--photo FILE] [--only NAME ...] [--repeats 3]

Every time is a median of ``--repeats``, what is compared taken in turn, and short actions repeated for 0.2 s each time;
only the polynomial form at a megapixel, minutes long, is timed once. A readable table goes to standard error, and the
last line on standard output is one JSON object, {"bars": [{"name", "value", "bar", "holds"}, ...]}, with the value null
and a "note" where a figure could not be measured. Nothing is asserted. The photograph is the shipped one, enlarged
where a figure needs more pixels than it has; ``--photo`` takes a larger one. Where there is CUDA, its row comes first.

Errors of projectors are measured on d = X_learned - X_c, the change that the learned solver makes, and not on a
photograph: that lies almost in the band, so anything passes there.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from bars import AT_LEAST, AT_MOST, Bar, report
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor
from torch.nn.functional import interpolate

import graphs
from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, load_solver, read_image, resize


class Bench:
    """The inputs that several figures share, each made once."""

    def __init__(self, photo: Path, repeats: int) -> None:
        self.photo, self.repeats = read_image(photo).rgb, repeats
        self.path = photo

    def square(self, side: int) -> Tensor:
        """The photograph's central square, resampled to side x side pixels."""
        edge = min(self.photo.shape[-2:])
        top, left = ((n - edge) // 2 for n in self.photo.shape[-2:])
        return resize(self.photo[..., top : top + edge, left : left + edge], side)

    @functools.cache  # noqa: B019 - lives as long as the program
    def laplacian(self, side: int) -> graphs.Laplacian:
        return graphs.matting(self.square(side))

    @functools.cache  # noqa: B019
    def change(self, side: int) -> Tensor:
        """What the learned solver changes in the photograph."""
        content = self.square(side)
        solver = load_solver()
        with torch.inference_mode():
            style = solver.update.encode(resize(read_image(EXAMPLE_STYLE).rgb, side))
            return (solver(content, style).x.clamp(0, 1) - content).clone()

    def seconds(self, *actions: Callable[[], object]) -> list[float]:
        """The median times of actions, taken in turn; the first call counts only where it takes more than 5 s."""
        counts, times = [], []
        for action in actions:
            once = _timed(action, 1)
            counts.append(1 if once > 5 else max(1, round(0.2 / _timed(action, 1))))
            times.append([once] if once > 5 else [])
        for _ in range(self.repeats):
            for action, count, found in zip(actions, counts, times, strict=True):
                if len(found) < self.repeats:
                    found.append(_timed(action, count))
        return [statistics.median(found) for found in times]

    def ratio(self, above: Callable[[], object], below: Callable[[], object]) -> float:
        first, second = self.seconds(above, below)
        return first / second


def _timed(action: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        action()
    return (time.perf_counter() - began) / count


def matting_build_512(b: Bench) -> float:
    from pymatting import cf_laplacian

    image = b.square(512)
    pixels = image[0].permute(1, 2, 0).double().numpy()
    return b.ratio(lambda: graphs.matting(image), lambda: cf_laplacian(pixels))


def matvec_1024_vs_csr(b: Bench) -> float:
    laplacian = b.laplacian(1024)
    matrix = laplacian.to_scipy()
    x = torch.randn(1, 3, 1024, 1024)
    columns = x.reshape(3, -1).T.double().numpy()
    exact = torch.from_numpy(matrix @ columns).T.reshape(x.shape)
    error = float((laplacian.matvec(x) - exact).norm() / exact.norm())
    if error > 1e-5:
        raise RuntimeError(f"the float32 product is {error:.1e} off")
    planes = x.reshape(3, -1).contiguous()
    out = torch.empty_like(planes)
    return b.ratio(lambda: matrix @ columns, lambda: laplacian.combine(planes, out=out))


def matvec_1024_vs_copy(b: Bench) -> float:
    return _over_copy(b, torch.device("cpu"))


def _over_copy(b: Bench, device: torch.device) -> float:
    """The time of the product over that of moving as many bytes; all memory is there beforehand, for both."""
    laplacian = b.laplacian(1024)
    planes = torch.randn(3, 1024 * 1024, device=device)
    out = torch.empty_like(planes)
    source = torch.randn(19 * 1024 * 1024 // 2, device=device)  # 76 bytes a pixel: half of them read, half written
    target = torch.empty_like(source)

    def done(action: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            action()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return run

    product, copy = b.seconds(done(lambda: laplacian.combine(planes, out=out)), done(lambda: target.copy_(source)))
    moved = 76 * 1024 * 1024 / copy / 1e9
    sys.stderr.write(f"  {device}: product {1e3 * product:.2f} ms, copy {1e3 * copy:.2f} ms ({moved:.0f} GB/s)\n")
    return product / copy


def chebyshev_512_vs_pygsp(b: Bench) -> float:
    from pygsp import filters

    laplacian = b.laplacian(512)
    low_pass = graphs.ChebyshevLowPass(laplacian, cutoff=0.02, order=100)
    x = torch.randn(1, 3, 512, 512)
    graph = laplacian.to_pygsp()
    graph._lmax, graph._lmax_method = laplacian.lambda_max, "given"
    signal = x.reshape(3, -1).T.double().numpy()

    def response(values: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.asarray(values, dtype=np.float64))
        return low_pass.response(flat).numpy()

    theirs = filters.Filter(graph, response)
    return b.ratio(lambda: theirs.filter(signal, method="chebyshev", order=100), lambda: low_pass(x))


def eigenpairs_256_vs_eigsh(b: Bench) -> float:
    laplacian = b.laplacian(256)
    matrix = sparse.csc_array(laplacian.to_scipy())
    peer, ours = b.seconds(
        lambda: linalg.eigsh(matrix, 200, sigma=-1e-6 * laplacian.lambda_max),
        lambda: graphs.eigenbasis(laplacian, 200),
    )
    sys.stderr.write(f"  eigenpairs: {ours:.1f} s, eigsh {peer:.1f} s\n")
    return peer / ours


def tikhonov_512_vs_splu(b: Bench) -> float:
    laplacian, gamma = b.laplacian(512), 1e4
    system = sparse.csc_array(sparse.eye_array(laplacian.n) + gamma * laplacian.to_scipy())
    signal = b.change(512).reshape(3, -1).T.double().numpy()
    solution: list[np.ndarray] = []

    def peer() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solution[:] = [linalg.splu(system).solve(signal)]

    peer()

    # The loosest tolerance whose true error, against float64, is small enough.
    for rtol in (1e-1, 1e-2, 1e-3, 1e-4):

        def solve(rtol: float = rtol) -> Tensor:
            return graphs.Tikhonov(laplacian, gamma, rtol=rtol)(b.change(512))

        found = solve().reshape(3, -1).T.double().numpy()
        error = np.linalg.norm(found - solution[0]) / np.linalg.norm(solution[0])
        sys.stderr.write(f"  tikhonov, rtol {rtol:g}: relative error {error:.1e}\n")
        if error <= 1e-4:
            return b.ratio(peer, solve)
    return 0.0


@functools.cache
def _large(b: Bench) -> dict[str, float]:
    """Set-up and call of the coarse low-pass at a megapixel, against the exact projection and the polynomial form."""
    laplacian, d, k = b.laplacian(1024), b.change(1024), 200
    made: list[graphs.CoarseLowPass] = []
    (set_up,) = b.seconds(lambda: made.append(graphs.CoarseLowPass(laplacian, k)))
    low_pass = made.pop()
    made.clear()
    (call,) = b.seconds(lambda: low_pass(d))
    basis = graphs.eigenbasis(laplacian, k + 1)
    exact = graphs.BandlimitedProjector(basis.vectors[:, :k])(d.double())
    ours = low_pass(d).double()
    # The order at which the polynomial form is within 2 per cent of the exact projection, its cutoff known exactly: the
    # error falls like a power of the order, between the last two tried, and the time is proportional to the order.
    cutoff, order, last = float(basis.eigenvalues[-2:].mean()), 2000, (0, 0.0)
    del basis
    while True:
        polynomial = graphs.ChebyshevLowPass(laplacian, cutoff=cutoff, order=order)
        began = time.perf_counter()
        close = polynomial(d)
        peer = time.perf_counter() - began
        error = float((close - exact).norm() / exact.norm())
        sys.stderr.write(f"  chebyshev, order {order}: relative error {error:.3f} in {peer:.1f} s\n")
        if error <= 0.02 or order > 30_000:
            break
        order, last = 2 * order, (order, error)
    if last[0] and error < 0.02:
        fitting = order * (error / 0.02) ** (math.log(2) / math.log(last[1] / error))
        peer *= fitting / order
        sys.stderr.write(f"  chebyshev: 2 per cent at order {fitting:.0f}, {peer:.1f} s\n")
    sys.stderr.write(f"  coarse: set-up {set_up:.2f} s, call {call:.2f} s\n")
    return {
        "speed": peer / call,
        "with set-up": peer / (set_up + call),
        "error": float((ours - exact).norm() / exact.norm()),
        "energy": float(laplacian.quadratic(ours) / laplacian.quadratic(exact)),
    }


def large_projector_1024_speed(b: Bench) -> float:
    return _large(b)["with set-up"]


def large_projector_1024_error(b: Bench) -> float:
    return _large(b)["error"]


def large_projector_1024_energy(b: Bench) -> float:
    return _large(b)["energy"]


def large_projector_scaling(b: Bench) -> float:
    times = []
    for side in (512, 2048):
        laplacian = graphs.matting(b.square(side))
        d = interpolate(b.change(512), size=(side, side), mode="bilinear")
        (seconds,) = b.seconds(lambda laplacian=laplacian, d=d: graphs.CoarseLowPass(laplacian, 200)(d))
        times.append(seconds / side**2)
    return times[1] / times[0]


# The kernel's peak of this program alone: that of getrusage is inherited from a large parent.
_PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""
_MEMORY = """
import sys, torch, graphs
from apps.style_transfer import read_image, resize
from pathlib import Path
photo = resize(read_image(Path(sys.argv[1])).rgb, 64)
graphs.CoarseLowPass(graphs.matting(photo), 20)(photo)
image = torch.nn.functional.interpolate(photo, size=(2048, 2048), mode="bicubic").clamp(0, 1)
before = peak()
graphs.CoarseLowPass(graphs.matting(image), 200)(image)
print((peak() - before) / 4 / 2048**2)
"""
_PHOTO = """
import sys
from apps.style_transfer.cli import run
if run(sys.argv[1:]) == 0:
    print(peak() / 1e9)
"""


def _printed(program: str, *arguments: str) -> float:
    command = [sys.executable, "-c", _PEAK + program, *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def memory_per_pixel(b: Bench) -> float:
    return _printed(_MEMORY, str(b.path))


def photo_2mp_memory(b: Bench) -> float:
    # The longest side that makes two megapixels of the photograph.
    height, width = b.photo.shape[-2:]
    size = round((2e6 * max(height, width) / min(height, width)) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--photo", "--size", str(size), "-o", f"{folder}/photo.png"]
        return _printed(_PHOTO, "-c", str(b.path), "-s", str(EXAMPLE_STYLE), *options)


BARS: dict[str, Bar[Bench]] = {
    "matting_build_512": (matting_build_512, AT_MOST, 1.0),
    "matvec_1024_vs_csr": (matvec_1024_vs_csr, AT_LEAST, 10),
    "matvec_1024_vs_copy": (matvec_1024_vs_copy, AT_MOST, 3),
    "chebyshev_512_vs_pygsp": (chebyshev_512_vs_pygsp, AT_LEAST, 10),
    "eigenpairs_256_vs_eigsh": (eigenpairs_256_vs_eigsh, AT_LEAST, 5),
    "tikhonov_512_vs_splu": (tikhonov_512_vs_splu, AT_LEAST, 10),
    "large_projector_1024_speed": (large_projector_1024_speed, AT_LEAST, 10),
    "large_projector_1024_error": (large_projector_1024_error, AT_MOST, 0.10),
    "large_projector_1024_energy": (large_projector_1024_energy, AT_MOST, 1.2),
    "large_projector_scaling": (large_projector_scaling, AT_MOST, 1.3),
    "memory_per_pixel": (memory_per_pixel, AT_MOST, 60),
    "photo_2mp_memory": (photo_2mp_memory, AT_MOST, 3),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=EXAMPLE_CONTENT)
    parser.add_argument("--only", nargs="*", choices=list(BARS), default=list(BARS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    bench = Bench(options.photo, options.repeats)
    if torch.cuda.is_available():
        ratio = _over_copy(bench, torch.device("cuda"))
        sys.stderr.write(f"{'matvec_1024_vs_copy on CUDA':30s} {ratio:10.3f}\n")
    report(BARS, options.only, bench)


if __name__ == "__main__":
    main()
