"""What the worker does: one order, with a Stylizer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from apps.style_transfer.allocation import return_memory
from apps.style_transfer.devices import out_of_memory
from apps.style_transfer.files.images import read_image, resize, resize_alpha, to_pil, write_image
from apps.style_transfer.projectors import PHOTO
from apps.style_transfer.serve.jobs import Job
from apps.style_transfer.serve.orders import NAMES, Order
from apps.style_transfer.stylizer import Stylizer

PREVIEW = 1280
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}


class Made(NamedTuple):
    """A finished picture: its file, its size in pixels and bytes, and what to call it."""

    path: Path
    width: int
    height: int
    bytes: int
    name: str


def preview(job: Job, step: int) -> Path:
    """Return where the picture of a step lies, at most 1280 pixels long."""
    return job.folder / f"step-{step}.jpg"


class Restyler:
    """Restyle what an order says and write it into the folder of its job, with the pictures of the steps."""

    def __init__(self, stylizer: Stylizer) -> None:
        self._stylizer = stylizer
        self._trained = stylizer.weights.architecture.steps

    def __call__(self, job: Job) -> Made:
        """Do a job; raises ValueError, whose line is for the user, and what ``job.advance`` raises."""
        order: Order = job.order
        try:
            return self._restyle(job, order)
        except OSError as error:
            raise ValueError(f"the server cannot keep the picture ({error.strerror}): try again later") from error
        except ValueError as error:
            raise ValueError(_without_paths(str(error), job)) from error
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ValueError("out of memory: ask for a smaller size") from error
        finally:
            return_memory()

    def _restyle(self, job: Job, order: Order) -> Made:
        wanted = order.parameters
        steps = math.ceil(replace(PHOTO, strength=wanted.photo).steps(self._trained))

        def show(x: Tensor, t: int) -> None:
            small = resize(x.clamp(0, 1), min(PREVIEW, max(x.shape[-2:])))
            to_pil(small).save(preview(job, t), "jpeg", quality=85)
            job.advance(t, steps)

        job.advance(-1, steps)
        photograph = read_image(order.content)
        result = self._stylizer(
            photograph.rgb,
            order.style,
            photo=wanted.photo,
            alpha=wanted.alpha,
            size=wanted.size,
            style_scale=wanted.style_scale,
            preserve_color=wanted.preserve_color,
            masks=order.masks,
            probe=show,
            progress=lambda done, tiles: job.advance(job.step, steps),  # ends it where it is not wanted any more
        )
        height, width = result.image.shape[-2:]
        alpha = None if photograph.alpha is None else resize_alpha(photograph.alpha, (height, width))
        path = job.folder / f"result{SUFFIXES[wanted.format]}"
        write_image(path, replace(photograph, rgb=result.image, alpha=alpha))
        return Made(path, width, height, path.stat().st_size, order.name + path.suffix)


def _without_paths(text: str, job: Job) -> str:
    """Return a message with the names of things instead of where they lie."""
    for field, what in NAMES.items():
        text = text.replace(str(getattr(job.order, field)), f"the {what}")
    return " ".join(text.replace(f"{job.folder}/", "").split())
