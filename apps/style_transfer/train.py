"""Training of the learned solver on the artistic objective alone."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from apps.style_transfer.checkpoint import Checkpoint, load_solver, read_checkpoint, write_checkpoint
from apps.style_transfer.data import Pairs, list_images, load_images
from apps.style_transfer.distil import distil
from apps.style_transfer.images import resize
from apps.style_transfer.losses import STYLE_WEIGHT, encode_targets, reference_objective
from apps.style_transfer.pool import Batch, Pool
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.update import Architecture, GramUpdate, PlainGradient, grow
from apps.style_transfer.vgg import VGG19
from unroll import Unrolled

log = logging.getLogger(__name__)

# Added to both totals of the ratio: far below any pair's (about 1e6), it keeps style = content, which starts at zero,
# from dividing by it.
_FLOOR = 1e2
_TYPICAL = 1e6


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
    :func:`apps.style_transfer.distil.distil`, and the first ``single_steps`` train g_0 alone, as a solver of one step;
    then the others start as its copies.

    Adam with clipping at norm 1, a linear warm-up over 50 steps, and a linear decay to zero over the last ``decay`` of
    the budget, which is ``steps`` or ``minutes`` of training, whichever is given. ``start_from`` begins with given
    weights, grown where the architecture is larger, see :func:`apps.style_transfer.update.grow`.

    Plain gradient steps (see :class:`~apps.style_transfer.update.PlainGradient`) learn at ``plain_share`` of that rate,
    their vectors and scalars at ten times this: they start as the gradient of a good loss, which the full rate destroys
    (0.49 of the content's loss before, 0.58 after 300 steps, median over held-back pairs at 128 pixels).

    The crops have side ``size`` until ``large_from`` of the budget has passed, then ``large_size``.
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
    decay: float = 0.4
    ema: float = 0.998
    seed: int = 0
    resume: bool = False
    start_from: Path | None = None
    device: str = "cpu"
    bfloat16: bool = True
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
        if not 0 <= self.early <= 1:
            raise ValueError(f"--early must be a share between 0 and 1, got {self.early}")
        if not 0 <= self.plain_share <= 1:
            raise ValueError(f"--plain-share must be between 0 and 1, got {self.plain_share}")
        if not 0 <= self.hardness <= 1:
            raise ValueError(f"--hardness must be between 0 and 1, got {self.hardness}")
        for name in ("minutes", "rate"):
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise ValueError(f"--{name} must be a positive number, got {given}")


def train(options: Training) -> Path:
    """Run (or resume) a training and return the path of the averaged weights, ``out/solver.safetensors``.

    Also in ``out``: ``checkpoint.safetensors`` (all that a resumed run needs), ``log.jsonl`` (one object a line),
    ``sheet.png`` (held-back pairs). SIGTERM and Ctrl-C end it as the budget does, with everything saved. A run by
    ``steps`` that is interrupted and resumed on a CPU ends bit-equal to one that was not.
    """
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    run = _Run(options)
    with _interruptible() as interrupted:
        run.loop(interrupted)
    return run.weights_path


class _Run:
    """The state of one training run."""

    def __init__(self, options: Training) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.weights_path = options.out / "solver.safetensors"
        self.checkpoint_path = options.out / "checkpoint.safetensors"
        self.device = torch.device(options.device)
        self.pairs = Pairs(
            _required(load_images(list_images(options.photos), longest=512), "photographs", options.photos),
            _required(load_images(list_images(options.paintings), longest=512), "paintings", options.paintings),
            seed=options.seed,
        )
        self.validation = _validation_pairs(options)
        self.vgg = VGG19().to(self.device)
        self.objective = reference_objective(self.vgg)
        self.update = self._on_device(GramUpdate(options.architecture))
        self.fresh = options.start_from is None
        if options.start_from:
            start = cast(GramUpdate, load_solver(options.start_from).update)
            try:
                start = grow(start, options.architecture)
            except ValueError as error:
                raise ValueError(f"{options.start_from} is of another architecture: {error}") from None
            self.update.load_state_dict(start.state_dict())
        self.solver = Unrolled(self.update, steps=options.architecture.steps)
        self.average = {k: v.detach().clone() for k, v in self.update.state_dict().items()}
        self.optimiser = torch.optim.Adam(self._groups())
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.pool: Pool | None = None
        self.pool_key = (-1, -1)
        if options.resume and self.checkpoint_path.exists():
            self._restore(read_checkpoint(self.checkpoint_path))

    def _on_device(self, module: GramUpdate) -> GramUpdate:
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _groups(self) -> list[dict[str, object]]:
        """Return the parameters with the share of the rate at which they learn, in their order."""
        groups: list[dict[str, object]] = []
        for gradient in self.update.gradients:
            plain = isinstance(gradient, PlainGradient)
            for parameter in gradient.parameters():
                share = (10 if parameter.ndim < 2 else 1) * self.options.plain_share if plain else 1.0
                groups.append({"params": [parameter], "share": min(1.0, share), "lr": self.options.rate})
        return groups

    def progress(self) -> float:
        """Return the share of the budget that is spent."""
        if self.options.steps is not None:
            return self.step / max(1, self.options.steps)
        assert self.options.minutes is not None
        return self.seconds / (60 * self.options.minutes)

    def loop(self, interrupted: Callable[[], bool]) -> None:
        """Train until the budget is spent or someone interrupts, saving on the way and at the end."""
        saved, began, ratios = time.monotonic(), time.monotonic() - self.seconds, []
        with (self.options.out / "log.jsonl").open("a") as lines, self._bar() as bar:
            while self.progress() < 1:
                pool = self._refill(interrupted)
                if self.step == 0 and self.fresh and not interrupted():
                    self._distil(pool, interrupted)
                if interrupted():
                    break
                ratios += self._train_step(pool)
                self.seconds = time.monotonic() - began
                if self.step % 20 == 0 and ratios:
                    entry = {"step": self.step, "seconds": round(self.seconds, 1), "ratio": _mean(ratios)}
                    lines.write(json.dumps({**entry, "size": self._size(), "skipped": self.skipped}) + "\n")
                    lines.flush()
                    bar.set_postfix_str(f"step {self.step}, L / L_0 = {entry['ratio']:.3f}")
                    ratios = []
                bar.update(min(100, 100 * self.progress()) - bar.n)
                if time.monotonic() - saved > 60 * self.options.save_minutes:
                    self._save(lines.write)
                    lines.flush()
                    saved = time.monotonic()
            self._save(lines.write)

    def _bar(self) -> tqdm[NoReturn]:
        return tqdm(total=100, unit="%", desc="training", disable=None)

    def _distil(self, pool: Pool, interrupted: Callable[[], bool]) -> None:
        o = self.options
        if o.distil_steps:
            distil(
                self.update,
                self.vgg,
                self.objective,
                pool,
                steps=o.distil_steps,
                bfloat16=o.bfloat16,
                seed=o.seed,
                interrupted=interrupted,
            )
        self.average = {k: v.detach().clone() for k, v in self.update.state_dict().items()}

    def _copy_first(self) -> None:
        """Give every g_t of the kind of g_0 its parameters, in the update and in its average."""
        kinds = self.options.architecture.kinds
        for state in (dict(self.update.state_dict()), self.average):
            for name, value in state.items():
                _, t, rest = name.split(".", 2)
                if kinds[int(t)] == kinds[0]:
                    value.copy_(state[f"gradients.0.{rest}"])

    def _size(self) -> int:
        return self.options.size if self.progress() < self.options.large_from else self.options.large_size

    def _train_step(self, pool: Pool) -> list[float]:
        """Take one step and return [the ratio of the totals before it], or [] if it was skipped or stopped early."""
        o = self.options
        if self.fresh and self.step == o.single_steps > 0:
            self._copy_first()
        rate = o.rate * min(1.0, (self.step + 1) / 50) * min(1.0, (1 - self.progress()) / max(o.decay, 1e-9))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        g = torch.Generator().manual_seed((o.seed * 1_000_003 + self.step) % 2**63)
        batch, depth, whole = pool.batch(g, o.batch), self._depth(g), self._steps()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bfloat16):
            data = self.update.encode(batch.styles)
            x = self.solver(batch.contents, data, steps=depth).x
            before = self._before(batch)
            ratio = (self.objective(x, batch.targets) + _FLOOR) / (before + _FLOOR)
            loss = (ratio * (before / _TYPICAL).clamp(0.1, 10) ** o.hardness).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_grad_norm_(self.update.parameters(), 1.0)
        self.step += 1
        if not torch.isfinite(norm):
            self.skipped += 1
            log.warning("step %d gave a non-finite gradient and was skipped", self.step)
            return []
        self.optimiser.step()
        momentum = min(o.ema, self.step / (self.step + 10))
        for name, value in self.update.state_dict().items():
            self.average[name].lerp_(value, 1 - momentum)
        return [ratio.mean().item()] if depth == whole else []

    def _steps(self) -> int:
        single = self.fresh and self.step < self.options.single_steps
        return 1 if single else self.options.architecture.steps

    def _depth(self, g: torch.Generator) -> int:
        steps = self._steps()
        early = steps > 1 and float(torch.rand((), generator=g)) < self.options.early
        return int(torch.randint(1, steps, (), generator=g)) if early else steps

    def _before(self, batch: Batch) -> Tensor:
        """Return L(x_0): the content loss of the content is zero, its Grams are known."""
        levels = zip(batch.grams, batch.targets.grams, strict=True)
        return STYLE_WEIGHT * torch.stack([(g - h).square().mean((1, 2)) for g, h in levels]).mean(0)

    def _refill(self, interrupted: Callable[[], bool]) -> Pool:
        """Return the pool of the present step, made anew when it is used up or the crops have another size."""
        o, key = self.options, (self.step // self.options.pool, self._size())
        if self.pool is None or self.pool_key != key:
            self.pool, self.pool_key = None, key
            self.pool = Pool(
                self.pairs,
                self.vgg,
                number=key[0],
                count=o.pool,
                size=key[1],
                device=self.device,
                bfloat16=o.bfloat16,
                interrupted=interrupted,
            )
        return self.pool

    def _averaged(self) -> Unrolled:
        update = self._on_device(GramUpdate(self.options.architecture))
        update.load_state_dict(self.average)
        return Unrolled(update, steps=self.options.architecture.steps)

    def _save(self, write: Callable[[str], object]) -> None:
        """Write the checkpoint, the averaged weights, and what they do on the held-back pairs."""
        write_checkpoint(self.checkpoint_path, self._checkpoint())
        solver = self._averaged()
        write_checkpoint(
            self.weights_path,
            Checkpoint({k: v.half() for k, v in self.average.items()}, self.options.architecture, self._header()),
        )
        if not self.validation:
            return
        ratios, rows = [], []
        with torch.inference_mode():
            for content, style in self.validation:
                content, style = content.to(self.device), style.to(self.device)
                targets = encode_targets(self.vgg, content, style)
                x = solver(content, solver.update.encode(style)).x  # type: ignore[operator]
                ratios.append(float(self.objective(x.clamp(0, 1), targets) / self.objective(content, targets)))
                rows.append([content, style, x])
        write(json.dumps({"step": self.step, "seconds": round(self.seconds, 1), "validation": sorted(ratios)}) + "\n")
        contact_sheet(rows[:8], ["content", "style", "learned"]).save(self.options.out / "sheet.png")

    def _header(self) -> dict[str, str]:
        o = self.options
        return {
            "objective": "L_c + 1e-4 L_s on VGG-19 (original weights), as a ratio to the content image's",
            "steps_trained": str(self.step),
            "seconds_trained": f"{self.seconds:.0f}",
            "batch": str(o.batch),
            "data": f"{len(self.pairs.photos)} photographs, {len(self.pairs.paintings)} paintings",
            "licence": "MIT",
        }

    def _checkpoint(self) -> Checkpoint:
        tensors = {f"update.{k}": v for k, v in self.update.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for name, parameter in self.update.named_parameters():
            tensors |= {f"adam.{name}.{k}": v for k, v in self.optimiser.state[parameter].items()}
        state = {"step": str(self.step), "seconds": repr(self.seconds), "skipped": str(self.skipped)}
        return Checkpoint(tensors, self.options.architecture, state)

    def _restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.architecture != self.options.architecture:
            raise ValueError(
                f"{self.checkpoint_path} is of another architecture ({checkpoint.architecture}): "
                "resume with the same options, or train into another folder"
            )
        if checkpoint.header["step"] == "0":
            # Interrupted while distilling: that begins again, from the same start.
            return
        tensors = {k: v.to(self.device) for k, v in checkpoint.tensors.items()}
        self.update.load_state_dict(_under(tensors, "update."))
        self.average = _under(tensors, "average.")
        for name, parameter in self.update.named_parameters():
            # Adam counts its steps on the CPU.
            state = {k: v.cpu() if k == "step" else v for k, v in _under(tensors, f"adam.{name}.").items()}
            if state:
                self.optimiser.state[parameter] = state
        self.step = int(checkpoint.header["step"])
        self.seconds = float(checkpoint.header["seconds"])
        self.skipped = int(checkpoint.header["skipped"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


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


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a flag for the time of the block."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> Any:
        seen.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
