"""Evaluation of solvers and projectors on pairs of pictures, resumable, with one row of figures for each result."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from apps.style_transfer.evaluation.pair import Pair
from apps.style_transfer.evaluation.peak import peak_memory
from apps.style_transfer.files.images import Picture, read_image, resize, write_image
from apps.style_transfer.projectors import PHOTO, PROJECTORS, ProjectorOptions, build_projector
from apps.style_transfer.solvers import StyleSolver
from apps.style_transfer.training.data import list_images
from apps.style_transfer.transfer import Options, build_solver, load_vgg, steps_of
from apps.style_transfer.vgg import VGG19

log = logging.getLogger(__name__)

Row = dict[str, Any]
Method = tuple[str, ProjectorOptions]
"""A solver by name, and what stands in its loop."""
FIGURES = (
    "total_loss",
    "total_ratio",
    "content_loss",
    "style_loss",
    "style_cut",
    "edge_ssim",
    "matting_energy",
    "psnr",
    "seconds",
    "process_seconds",
    "peak_memory_gb",
    "gatys_iterations",
    "gatys_seconds",
)
"""The figures of a row, see :func:`evaluate`."""

IN_THE_LOOP = (*PROJECTORS, "photo")
"""What may stand in the loop, by name: a projector, or that of the photorealistic preset."""

_OF_PROJECTOR = ("k", "energy", "gamma", "order", "radius", "eps", "domain")
_OF_SOLVER = ("weights", "vgg", "steps", "refine", "alpha", "content_weight", "style_weight", "photo_weight")


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and on what.

    Attributes:
        contents, styles: folders of pictures.
        work: folder for the pictures and ``rows.jsonl``; what is there already, of the same settings, is not done
            again.
        pairs: a text file with a content's and a style's file name on each line, separated by a tab or a comma; None
            draws ``count`` pairs by ``seed``, every picture as often as any other.
        methods: solver and projector of each; what else they need is in ``options``.
        size: longest side of the content; None leaves it as it is.
        held_back: draw only from pictures that no training has seen, see
            :func:`apps.style_transfer.training.data.is_held_back`.
        cold: time the whole program, once a method, in a process of its own.
        gatys: L-BFGS iterations of the yardstick; 0 leaves the exchange rate out.
    """

    contents: Path
    styles: Path
    work: Path
    pairs: Path | None = None
    methods: tuple[Method, ...] = (("learned", ProjectorOptions()),)
    options: Options = field(default_factory=Options)
    size: int | None = 256
    count: int = 10
    held_back: bool = False
    cold: bool = True
    gatys: int = 50
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.count < 1 or self.gatys < 0 or (self.size is not None and self.size < VGG19.smallest_side):
            raise ValueError(
                f"an evaluation needs a pair or more, a size of at least {VGG19.smallest_side} and no negative number "
                f"of iterations, got {self.count} pairs, size {self.size} and {self.gatys} iterations"
            )


def methods_of(solvers: Sequence[str], projectors: Sequence[str], parameters: ProjectorOptions) -> tuple[Method, ...]:
    """Return every solver with everything of :data:`IN_THE_LOOP` that is named; ``luan`` and ``projected`` once.

    Those bring their own. ``photo`` has its own parameters, all others those given.
    """
    found: list[Method] = []
    for solver in solvers:
        if solver == "projected":
            found.append((solver, replace(parameters, name="matting")))
        elif solver == "luan":
            found.append((solver, replace(parameters, name="none")))
        else:
            found += [(solver, PHOTO if name == "photo" else replace(parameters, name=name)) for name in projectors]
    return tuple(found)


def evaluate(evaluation: Evaluation) -> list[Row]:
    """Run what is missing of an evaluation and return all its rows, in the order of pairs and methods.

    Each picture is rounded to 8 bits and saved before it is measured, at the evaluated size. The figures of a row:

    - those of the picture, from ``content_loss`` to ``psnr``, see
      :meth:`apps.style_transfer.evaluation.pair.Pair.figures`;
    - ``seconds``: one warm call of the solver with the style encoded before, the projector's set-up included;
      ``process_seconds``: wall time of the whole program for it, started cold, for the first pair of a method (else
      None); ``peak_memory_gb``: of the process during that call (Linux, CUDA; else None);
    - ``gatys_iterations``, ``gatys_seconds``: what L-BFGS from the photograph needs for the same total, see
      :meth:`apps.style_transfer.evaluation.pair.Pair.iterations`.

    Deterministic for a seed but for seconds and memory. Rows are added one at a time: an interrupted evaluation goes on
    where it was.
    """
    evaluation.work.mkdir(parents=True, exist_ok=True)
    path = evaluation.work / "rows.jsonl"
    done = {row["key"]: row for row in _read(path)}
    pairs, run, rows = choose_pairs(evaluation), _Run(evaluation), []
    total = len(pairs) * len(evaluation.methods)
    with (
        _open_lines(path) as lines,
        tqdm(total=total, desc="evaluating", unit="picture", disable=None) as bar,
    ):
        for content, style in pairs:
            for method in evaluation.methods:
                key = run.key(content, style, method)
                if key not in done:
                    cold = evaluation.cold and (content, style) == pairs[0]
                    row = run.row(key, content, style, method, cold=cold)
                    # One write a row: a line is whole or the last one.
                    lines.write(json.dumps(row) + "\n")
                    lines.flush()
                    done[key] = row
                rows.append(done[key])
                bar.update()
    return rows


def choose_pairs(evaluation: Evaluation) -> list[tuple[Path, Path]]:
    """Return the pairs of an evaluation: of its file, or drawn by its seed."""
    folders = evaluation.contents, evaluation.styles
    if evaluation.pairs is not None:
        return list(_pairs_of(evaluation.pairs, *folders))
    contents, styles = (_pictures(folder, evaluation.held_back) for folder in folders)
    draw = random.Random(evaluation.seed)
    columns = []
    for pictures in (contents, styles):
        column: list[Path] = []
        while len(column) < evaluation.count:
            column += draw.sample(pictures, len(pictures))
        columns.append(column[: evaluation.count])
    return list(zip(*columns, strict=True))


def summary(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Return of each method the median and the quartiles of every figure that its rows have."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        table[method] = {}
        for figure in FIGURES:
            values = [row[figure] for row in rows if row["method"] == method and row[figure] is not None]
            if values:
                # Of one value all three are the same.
                low, middle, high = statistics.quantiles(values * 2 if len(values) == 1 else values, method="inclusive")
                table[method][figure] = {"median": middle, "low": low, "high": high}
    return table


class _Run:
    """The trunk, the solvers, and what the methods of one pair share."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.device = torch.device(evaluation.device)
        self.weights = hashlib.sha256(evaluation.options.weights.read_bytes()).hexdigest()[:16]
        self.vgg = load_vgg(evaluation.options.vgg, self.device)
        self.solvers: dict[Method, StyleSolver] = {}
        self.paths: tuple[Path, Path] | None = None
        self.pair: Pair | None = None
        self.warm: set[object] = set()

    def key(self, content: Path, style: Path, method: Method) -> str:
        """Return what names a result: pictures, method, and everything that changes its figures."""
        e = self.evaluation
        settings = {k: v for k, v in asdict(e.options).items() if k not in ("weights", "solver", "projector")}
        parts: list[object] = [content.name, style.name, method[0], asdict(method[1]), settings, self.weights]
        parts += [e.size, e.gatys, e.device]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        return f"{content.stem}_{style.stem}_{method_name(method)}_{digest}".replace(" ", "-")

    def row(self, key: str, content: Path, style: Path, method: Method, *, cold: bool) -> Row:
        """Return the figures of one result, its picture saved; with ``cold``, the time of the whole program too."""
        e = self.evaluation
        pair = self._pair(content, style)
        picture = e.work / f"{key}.png"
        x, seconds, memory = self._solve(pair, method)
        write_image(picture, Picture(x))
        measured = read_image(picture).rgb.to(self.device)
        figures = pair.figures(measured)
        reached = pair.iterations(figures["total_loss"])
        return {
            "key": key,
            "method": method_name(method),
            "content": str(content),
            "style": str(style),
            "picture": picture.name,
            "size": [x.shape[-1], x.shape[-2]],
            **figures,
            "seconds": seconds,
            "process_seconds": self._process(content, style, method) if cold else None,
            "peak_memory_gb": memory,
            "gatys_iterations": reached,
            "gatys_seconds": None if reached is None else reached * pair.gatys_seconds,
        }

    def _pair(self, content: Path, style: Path) -> Pair:
        """Return the pair of two files at the evaluated size: the last one, where they are those of the last one."""
        if self.pair is not None and self.paths == (content, style):
            return self.pair
        photograph = read_image(content).rgb
        size = self.evaluation.size or max(photograph.shape[-2:])
        seen, taken = (resize(x, size).to(self.device) for x in (photograph, read_image(style).rgb))
        if min(*seen.shape[-2:], *taken.shape[-2:]) < VGG19.smallest_side:
            raise ValueError(
                f"{content.name} or {style.name} is too narrow: at {size} pixels each side needs "
                f"{VGG19.smallest_side} or more"
            )
        self.paths, self.pair = (content, style), Pair(seen, taken, self.vgg, gatys=self.evaluation.gatys)
        return self.pair

    def _process(self, content: Path, style: Path, method: Method) -> float:
        e, (solver, constraint) = self.evaluation, method
        command = [sys.executable, "-m", "apps.style_transfer", "stylize", "-c", content, "-s", style]
        command += ["--solver", solver, "--projector", constraint.name, "--device", e.device]
        command += ["--photo"] if constraint.again else []  # which no option but the preset asks for
        fields = {name: getattr(constraint, name) for name in _OF_PROJECTOR} | {"size": e.size}
        fields |= {name: getattr(e.options, name) for name in _OF_SOLVER}
        for name, value in fields.items():
            command += [] if value is None else [f"--{name.replace('_', '-')}", value]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            subprocess.run([*map(str, command), "-o", f"{folder}/x.png"], check=True, capture_output=True)
            return time.perf_counter() - began

    def _solve(self, pair: Pair, method: Method) -> tuple[Tensor, float, float | None]:
        options = replace(self.evaluation.options, solver=method[0], projector=method[1])
        if method not in self.solvers:
            self.solvers[method] = build_solver(options, self.device)
        solver = self.solvers[method]
        style = solver.encode(pair.style)

        def call(steps: float) -> Tensor:
            projector = build_projector(method[1], pair.content)
            x = solver(pair.content, style, projector=projector, steps=steps).x
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            return x

        warmth = (method, pair.content.shape)
        if warmth not in self.warm:
            # Kernels are compiled and memory allocated at the first call of a kind; a few steps do.
            call(min(solver.default_steps, 2))
            self.warm.add(warmth)
        with peak_memory(self.device) as peak:
            began = time.perf_counter()
            x = call(steps_of(solver, options))
            seconds = time.perf_counter() - began
        return x.clamp(0, 1), seconds, peak.gigabytes


def method_name(method: Method) -> str:
    """Return "learned", "learned + matting", or "learned + photo" of the preset."""
    solver, projector = method
    if projector.name == "none":
        return solver
    return f"{solver} + {'photo' if projector == PHOTO else projector.name}"


def _pictures(folder: Path, held_back: bool) -> list[Path]:
    try:
        found = list_images([folder], held_back=True) + ([] if held_back else list_images([folder]))
    except FileNotFoundError:
        raise ValueError(f"no folder of pictures at {folder}: check the path") from None
    if not found:
        kind = "held-back pictures" if held_back else "pictures"
        raise ValueError(f"{folder} has no {kind}: give a folder with JPEG or PNG files")
    return sorted(found)


def _pairs_of(path: Path, contents: Path, styles: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_file():
        raise ValueError(f"no file of pairs at {path}: check the path")
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        names = [name.strip() for name in line.replace(",", "\t").split("\t") if name.strip()]
        if len(names) != 2:
            raise ValueError(f"{path}, line {number}: a content's and a style's file name, got {line!r}")
        found = contents / names[0], styles / names[1]
        for picture in found:
            if not picture.is_file():
                raise ValueError(f"{path}, line {number}: no picture at {picture}")
        yield found


def _open_lines(path: Path) -> TextIO:
    """Open for appending, behind a last line that an interruption cut short."""
    lines = path.open("a+")
    lines.seek(0)
    text = lines.read()
    if text and not text.endswith("\n"):
        lines.write("\n")
    return lines


def _read(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, but for a last line that an interruption cut short."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            log.warning("%s has a broken line, which is computed again", path)
