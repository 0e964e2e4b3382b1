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
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from apps.style_transfer.checkpoint import Checkpoint, load_solver, read_checkpoint, write_checkpoint
from apps.style_transfer.data import Pairs, list_images, load_images
from apps.style_transfer.distil import distil
from apps.style_transfer.images import resize
from apps.style_transfer.losses import Targets, encode_targets, gram, reference_objective
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.update import Architecture, GramUpdate
from apps.style_transfer.vgg import VGG19
from unroll import Unrolled

log = logging.getLogger(__name__)

# Added to both totals of the ratio: far below any pair's (about 1e6), it keeps style = content, which starts at zero,
# from dividing by it.
_FLOOR = 1e3


@dataclass(frozen=True)
class Training:
    """The options of a training run.

    The objective is the mean of (L(x_N) + floor) / (L(x_0) + floor) over random pairs, L the reference objective: free
    of the scale of a pair. (The mean of its logarithm learns the easy pairs, where colours are most of it, and neglects
    those that ask for strong texture.)

    Adam with clipping at norm 1, a linear warm-up over 50 steps, and a linear decay to zero over the last ``decay`` of
    the budget, which is ``steps`` or ``minutes`` of training, whichever is given. A run from nothing begins with
    ``distil_steps`` of distillation, see :func:`apps.style_transfer.distil.distil`.

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
    distil_steps: int = 500
    rate: float = 5e-4
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
        least = {"batch": 1, "size": 16, "large_size": 16, "validation_size": 16, "distil_steps": 0, "large_from": 0}
        least |= {"steps": 1, "threads": 1, "save_minutes": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not value <= given < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be a number of at least {value}, got {given}")
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
        if options.start_from:
            start = load_solver(options.start_from).update
            if start.architecture != options.architecture:
                raise ValueError(f"{options.start_from} is of another architecture ({start.architecture})")
            self.update.load_state_dict(start.state_dict())
        self.solver = Unrolled(self.update, steps=options.architecture.steps)
        self.average = {k: v.detach().clone() for k, v in self.update.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.update.parameters(), lr=options.rate)
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        if options.resume and self.checkpoint_path.exists():
            self._restore(read_checkpoint(self.checkpoint_path))

    def _on_device(self, module: GramUpdate) -> GramUpdate:
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def progress(self) -> float:
        """Return the share of the budget that is spent."""
        if self.options.steps is not None:
            return self.step / max(1, self.options.steps)
        assert self.options.minutes is not None
        return self.seconds / (60 * self.options.minutes)

    def loop(self, interrupted: Callable[[], bool]) -> None:
        """Train until the budget is spent or someone interrupts, saving on the way and at the end."""
        if self.step == 0 and not self.options.start_from and self.options.distil_steps:
            self._distil(interrupted)
        saved, began, ratios = time.monotonic(), time.monotonic() - self.seconds, []
        with (self.options.out / "log.jsonl").open("a") as lines, self._bar() as bar:
            while self.progress() < 1 and not interrupted():
                ratios += self._train_step()
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

    def _distil(self, interrupted: Callable[[], bool]) -> None:
        def batch(step: int) -> tuple[Tensor, Tensor]:
            contents, styles = self.pairs.batch(-1 - step, batch=self.options.batch, size=self.options.size)
            return contents.to(self.device), styles.to(self.device)

        began = time.monotonic()
        o = self.options
        distil(self.update, self.vgg, batch, steps=o.distil_steps, bfloat16=o.bfloat16, interrupted=interrupted)
        self.average = {k: v.detach().clone() for k, v in self.update.state_dict().items()}
        self.seconds = time.monotonic() - began

    def _size(self) -> int:
        return self.options.size if self.progress() < self.options.large_from else self.options.large_size

    def _train_step(self) -> list[float]:
        """Take one step and return [the ratio of the totals before it], or [] if it was skipped."""
        o = self.options
        rate = o.rate * min(1.0, (self.step + 1) / 50) * min(1.0, (1 - self.progress()) / max(o.decay, 1e-9))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        contents, styles = (
            image.to(self.device).contiguous(memory_format=torch.channels_last)
            for image in self.pairs.batch(self.step, batch=o.batch, size=self._size())
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bfloat16):
            with torch.no_grad():
                # The photographs' features are targets and starting point at once: one pass.
                features = self.vgg(contents)
                targets = Targets(features[-1], tuple(gram(f) for f in self.vgg(styles)))
                before = self.objective.loss(features, targets)
            x = self.solver(contents, self.update.encode(styles)).x
            loss = ((self.objective(x, targets) + _FLOOR) / (before + _FLOOR)).mean()
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
        return [loss.item()]

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
            state = _under(tensors, f"adam.{name}.")
            self.optimiser.state[parameter] = {k: v.cpu() if k == "step" else v for k, v in state.items()}
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
