"""Training of the learned solver on the artistic objective alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from apps.style_transfer.devices import has_bfloat16
from apps.style_transfer.files.images import resize
from apps.style_transfer.learned.checkpoint import Checkpoint, load_solver, write_checkpoint
from apps.style_transfer.learned.update import Architecture, GramUpdate, PlainGradient
from apps.style_transfer.losses import STYLE_WEIGHT, encode_targets, reference_objective
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.training.data import Pairs, list_images, load_images
from apps.style_transfer.training.distil import distil
from apps.style_transfer.training.grow import grow
from apps.style_transfer.training.muon import Muon
from apps.style_transfer.training.pool import Batch, Pool
from apps.style_transfer.vgg import VGG19
from unroll import Progress, Solve, Trapezoid, Unrolled, fit

# Added to both totals of the ratio: far below any pair's (about 1e6), it keeps style = content, which starts at zero,
# from dividing by it.
_FLOOR = 1e2
_TYPICAL = 1e6


OPTIMISERS: dict[str, Callable[[list[dict[str, object]]], torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "muon": Muon,
}


@dataclass(frozen=True)
class Training:
    """The options of a training run.

    The objective is the mean over random pairs of w (L(x_t) + floor) / (L(x_0) + floor), L the reference objective:
    free of the scale of a pair but for w = (L(x_0) / 1e6)^``hardness``, bounded to [1/10, 10]^``hardness``, which gives
    pairs that ask for strong texture the weight that their slow start takes from them. (The mean of the ratio's
    logarithm learns the easy pairs, where colours are most of it, and neglects these.)

    Half of the batches, to be exact ``early`` of them, stop at a step t < N, drawn uniformly; the others go through to
    N. So each step is asked to lower the loss by itself. Trained at N alone, the first two steps of four stayed
    next to idle: 0.86, 0.83, 0.73, 0.66 of the content's loss after t = 1..4.

    Crops come from a :class:`Pool` of ``pool`` contents and as many styles, drawn anew every ``pool`` steps.

    A run from nothing begins with ``distil_steps`` of distillation, see
    :func:`apps.style_transfer.training.distil.distil`, and the first ``single_steps`` train g_0 alone, as a solver of
    one step; then the others start as its copies.

    Adam, or with ``optimiser="muon"`` :class:`~apps.style_transfer.training.muon.Muon`; clipping at norm 1, a linear
    warm-up over 50 steps, and a linear decay to zero over the last ``decay`` of the budget, which is ``steps`` or
    ``minutes`` of training, whichever is given. ``start_from`` begins with given weights, grown where the architecture
    is larger, see :func:`apps.style_transfer.training.grow.grow`. Muon goes on where Adam stands still: two runs of 70
    minutes with Adam gained nothing from the weights that 90 minutes with Muon, at rates of 4e-4 and 8e-4, brought
    from 0.519 to 0.503 of the photographs' loss (mean over 16 held-back pairs at 256 pixels).

    Plain gradient steps (see :class:`~apps.style_transfer.learned.update.PlainGradient`) learn at ``plain_share`` of
    that rate, their vectors and scalars at ten times this: they start as the gradient of a good loss, which the full
    rate destroys (0.49 of the content's loss before, 0.58 after 300 steps, median over held-back pairs at 128 pixels).

    The crops have side ``size`` until ``large_from`` of the budget has passed, then ``large_size``.

    ``bfloat16`` of None is wherever the device has it in hardware: a CPU that has not takes twenty times as long over
    it as over float32 (90 s a step for 4, measured on one core with AVX2 alone).
    """

    photos: tuple[Path, ...]
    paintings: tuple[Path, ...]
    out: Path
    steps: int | None = None
    minutes: float | None = None
    batch: int = 4
    size: int = 128
    large_size: int = 128
    large_from: float = 1.0
    distil_steps: int = 2500
    single_steps: int = 250
    pool: int = 1000
    early: float = 0.5
    hardness: float = 0.5
    rate: float = 5e-4
    plain_share: float = 0.06
    optimiser: str = "adam"
    decay: float = 0.4
    ema: float = 0.998
    seed: int = 0
    resume: bool = False
    start_from: Path | None = None
    device: str = "cpu"
    bfloat16: bool | None = None
    threads: int | None = None
    save_minutes: float = 5.0
    validation_size: int = 256
    architecture: Architecture = field(default_factory=Architecture)

    def __post_init__(self) -> None:
        """Check what argparse cannot."""
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give the budget of the training as --steps or as --minutes, one of the two")
        least = {
            "batch": 1,
            "size": 16,
            "large_size": 16,
            "validation_size": 16,
            "pool": 1,
            "large_from": 0,
            "distil_steps": 0,
            "single_steps": 0,
        }
        least |= {"steps": 1, "threads": 1, "save_minutes": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not value <= given < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be a number of at least {value}, got {given}")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"unknown optimiser {self.optimiser!r}: choose one of {', '.join(OPTIMISERS)}")
        for name in ("early", "plain_share", "hardness", "decay"):
            if not 0 <= (given := getattr(self, name)) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} must be a share between 0 and 1, got {given}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema must be at least 0 and less than 1, got {self.ema}")
        for name in ("minutes", "rate"):
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise ValueError(f"--{name} must be a positive number, got {given}")


def train(options: Training) -> Path:
    """Run (or resume) a training and return the path of the averaged weights, ``out/solver.safetensors``.

    Also in ``out``: ``checkpoint.pt`` (all that a resumed run needs), ``log.jsonl`` (one object a line), ``sheet.png``
    (held-back pairs). SIGTERM and Ctrl-C end it as the budget does, with everything saved. A run by ``steps`` that is
    interrupted and resumed on a CPU ends bit-equal to one that was not.
    """
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    run = _Run(options)
    fit(
        run.solver,
        run.loss,
        run.data,
        steps=options.steps,
        seconds=None if options.minutes is None else 60 * options.minutes,
        optimizer=OPTIMISERS[options.optimiser](run.groups()),
        schedule=Trapezoid(warmup=50, decay=options.decay),
        clip=1.0,
        ema=options.ema,
        precision=torch.bfloat16 if run.bfloat16 else None,
        checkpoint=run.checkpoint_path,
        resume=options.resume,
        save_every=60 * options.save_minutes,
        log=options.out / "log.jsonl",
        evaluate=run.evaluate,
    )
    return run.weights_path


class _Drawn(NamedTuple):
    """A batch, the step it stops at, and whether that is the last."""

    batch: Batch
    depth: int
    whole: bool


class _Run:
    """What the steps of a training are made of."""

    def __init__(self, options: Training) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.weights_path = options.out / "solver.safetensors"
        self.checkpoint_path = options.out / "checkpoint.pt"
        if options.resume and not self.checkpoint_path.exists() and (old := _earlier(options.out)).exists():
            raise ValueError(
                f"{old} is of an earlier version: --start-from {self.weights_path} begins with its weights"
            )
        self.device = torch.device(options.device)
        self.bfloat16 = has_bfloat16(self.device) if options.bfloat16 is None else options.bfloat16
        self.pairs = Pairs(
            _required(load_images(list_images(options.photos), longest=512), "photographs", options.photos),
            _required(load_images(list_images(options.paintings), longest=512), "paintings", options.paintings),
            seed=options.seed,
        )
        self.validation = _validation_pairs(options)
        self.vgg = VGG19().to(self.device)
        self.objective = reference_objective(self.vgg)
        update = GramUpdate(options.architecture)
        self.fresh = options.start_from is None
        if options.start_from:
            start = cast(GramUpdate, load_solver(options.start_from).update)
            try:
                start = grow(start, options.architecture)
            except ValueError as error:
                raise ValueError(f"{options.start_from} is of another architecture: {error}") from None
            update.load_state_dict(start.state_dict())
        self.update: GramUpdate = update.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.solver = Unrolled(self.update, steps=options.architecture.steps)
        self.pool: Pool | None = None
        self.pool_key = (-1, -1)

    def groups(self) -> list[dict[str, object]]:
        """Return the parameters with the rate at which they learn, in their order."""
        groups: list[dict[str, object]] = []
        for gradient in self.update.gradients:
            plain = isinstance(gradient, PlainGradient)
            for parameter in gradient.parameters():
                share = (10 if parameter.ndim < 2 else 1) * self.options.plain_share if plain else 1.0
                groups.append({"params": [parameter], "lr": self.options.rate * min(1.0, share)})
        return groups

    def data(self, at: Progress) -> _Drawn:
        """Return what the present step is trained on; before the first one of all, distil."""
        o = self.options
        pool = self._refill(at)
        if at.step == 0 and self.fresh and o.distil_steps and not at.interrupted:
            distil(
                self.update,
                self.vgg,
                self.objective,
                pool,
                steps=o.distil_steps,
                bfloat16=self.bfloat16,
                seed=o.seed,
                interrupted=lambda: at.interrupted,
            )
        if self.fresh and at.step == o.single_steps > 0:
            self._copy_first(at)
        single = self.fresh and at.step < o.single_steps
        steps = 1 if single else o.architecture.steps
        g = torch.Generator().manual_seed((o.seed * 1_000_003 + at.step) % 2**63)
        batch = pool.batch(g, o.batch) if len(pool) else None
        depth = self._depth(g, steps)
        return _Drawn(cast(Batch, batch), depth, depth == steps)  # without a batch only where it is interrupted

    def loss(self, solve: Solve, drawn: _Drawn) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of each pair and, where the batch went through all steps, the ratio of the totals."""
        batch = drawn.batch
        x = solve(batch.contents, self.update.encode(batch.styles), steps=drawn.depth).x
        before = _before(batch)
        ratio = (self.objective(x, batch.targets) + _FLOOR) / (before + _FLOOR)
        loss = ratio * (before / _TYPICAL).clamp(0.1, 10) ** self.options.hardness
        return loss, {"ratio": ratio.mean(), "size": x.shape[-1]} if drawn.whole else {}

    def evaluate(self, at: Progress) -> dict[str, list[float]]:
        """Write the averaged weights and what they do on the held-back pairs."""
        update = cast(GramUpdate, at.average.update)
        weights = {name: value.half() for name, value in update.state_dict().items()}
        write_checkpoint(self.weights_path, Checkpoint(weights, self.options.architecture, self._header(at)))
        if not self.validation:
            return {}
        ratios, rows = [], []
        with torch.inference_mode():
            for content, style in self.validation:
                content, style = content.to(self.device), style.to(self.device)
                targets = encode_targets(self.vgg, content, style)
                x = at.average(content, update.encode(style)).x
                ratios.append(float(self.objective(x.clamp(0, 1), targets) / self.objective(content, targets)))
                rows.append([content, style, x])
        contact_sheet(rows[:8], ["content", "style", "learned"]).save(self.options.out / "sheet.png")
        return {"validation": sorted(ratios)}

    def _copy_first(self, at: Progress) -> None:
        """Give every g_t of the kind of g_0 its parameters, in the update and in its average."""
        kinds = self.options.architecture.kinds
        for solver in (at.solver, at.average):
            state = solver.update.state_dict()
            for name, value in state.items():
                _, t, rest = name.split(".", 2)
                if kinds[int(t)] == kinds[0]:
                    value.copy_(state[f"gradients.0.{rest}"])

    def _depth(self, g: torch.Generator, steps: int) -> int:
        early = steps > 1 and float(torch.rand((), generator=g)) < self.options.early
        return int(torch.randint(1, steps, (), generator=g)) if early else steps

    def _refill(self, at: Progress) -> Pool:
        """Return the pool of the present step, made anew when it is used up or the crops have another size."""
        o = self.options
        key = (at.step // o.pool, o.size if at.share < o.large_from else o.large_size)
        if self.pool is None or self.pool_key != key:
            self.pool, self.pool_key = None, key
            self.pool = Pool(
                self.pairs,
                self.vgg,
                number=key[0],
                count=o.pool,
                size=key[1],
                device=self.device,
                bfloat16=self.bfloat16,
                interrupted=lambda: at.interrupted,
            )
        return self.pool

    def _header(self, at: Progress) -> dict[str, str]:
        return {
            "objective": "L_c + 1e-4 L_s on VGG-19 (original weights), as a ratio to the content image's",
            "steps_trained": str(at.step),
            "seconds_trained": f"{at.seconds:.0f}",
            "batch": str(self.options.batch),
            "data": f"{len(self.pairs.photos)} photographs, {len(self.pairs.paintings)} paintings",
            "licence": "MIT",
        }


def _before(batch: Batch) -> Tensor:
    """Return L(x_0): the content loss of the content is zero, its Grams are known."""
    levels = zip(batch.grams, batch.targets.grams, strict=True)
    return STYLE_WEIGHT * torch.stack([(g - h).square().mean((1, 2)) for g, h in levels]).mean(0)


def _earlier(out: Path) -> Path:
    return out / "checkpoint.safetensors"


def _required(images: list[Tensor], what: str, folders: tuple[Path, ...]) -> list[Tensor]:
    if not images:
        raise ValueError(
            f"no {what} to train on in {', '.join(map(str, folders))}: name folders with JPEG or PNG files"
        )
    return images


def _validation_pairs(options: Training) -> list[tuple[Tensor, Tensor]]:
    """Return held-back photographs, each with a held-back painting in turn, at ``validation_size``."""

    def load(folders: tuple[Path, ...]) -> list[Tensor]:
        images = load_images(list_images(folders, held_back=True)[:16], longest=options.validation_size)
        return [resize(image[None].float() / 255, options.validation_size) for image in images]

    photos, paintings = load(options.photos), load(options.paintings)
    return [(photo, paintings[i % len(paintings)]) for i, photo in enumerate(photos)] if paintings else []
