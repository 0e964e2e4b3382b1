"""Restyling files: what a batch does to each of its pictures, with what they share loaded and encoded once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from tqdm import tqdm

from apps.style_transfer.batches.engines import Task
from apps.style_transfer.devices import choose_device
from apps.style_transfer.files.clips import ANIMATED, Clip, read_clip, write_clip
from apps.style_transfer.files.decode import read_raster
from apps.style_transfer.files.encode import write_raster
from apps.style_transfer.files.formats import format_of
from apps.style_transfer.files.images import SMALLEST_SIDE, Picture, resize, resize_alpha, write_image
from apps.style_transfer.files.raster import MAX_PIXELS, ImageError, Raster
from apps.style_transfer.masks import Masks, read_masks
from apps.style_transfer.solvers import Learned, StyleSolver
from apps.style_transfer.style import STYLE_SUFFIX, Style, Weights, identify, read_style
from apps.style_transfer.tiles.canvas import InMemory
from apps.style_transfer.tiles.large import MEMORY, Strips, restyle_large, too_large
from apps.style_transfer.transfer import Options, Result, build_solver, check_image, restyle, style_at, style_size

ENCODED = 256
"""Encoded styles that are kept, of all styles and sizes: about 90 MB with the shipped weights."""

SOURCES = 8
"""Pictures of styles that are kept, for other sizes."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Recipe:
    """What is done to each picture.

    Attributes:
        options: the solver and its parameters.
        styles: what each style is made of, by its name: pictures, saved styles, names of the gallery; several are
            blended by ``options.style_weights``.
        device: "auto", "cpu", "cuda" or "mps".
        size: longest side of the results; None is that of each photograph.
        content_mask, style_mask: files of regions, for all photographs.
        max_pixels: larger pictures are refused.
        memory: bytes that the learned solver may take on a CPU; larger pictures are restyled tile by tile.
        threads: of PyTorch, in each process; None leaves it alone.
    """

    options: Options
    styles: Mapping[str, tuple[str, ...]]
    device: str = "auto"
    size: int | None = None
    content_mask: Path | None = None
    style_mask: Path | None = None
    max_pixels: int = MAX_PIXELS
    memory: int = MEMORY
    threads: int | None = None


class Restyling:
    """Restyle one file after another. It can be pickled, and then loads everything anew.

    A style is encoded once for each size that it is needed in, which makes no difference to the results.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._encoded: OrderedDict[tuple[str, int], Style] = OrderedDict()
        self._sources: OrderedDict[str, Style | Tensor] = OrderedDict()

    def __reduce__(self) -> tuple[type[Restyling], tuple[Recipe]]:
        return Restyling, (self.recipe,)

    def __call__(self, task: Task) -> None:
        """Restyle a picture or a clip; raises ValueError and OSError."""
        self.make(task)

    def make(self, task: Task, advance: Advance | None = None) -> Result:
        """Do it, and return the result; of a clip, that of the last frame, with the seconds of all."""
        if self.recipe.threads is not None and torch.get_num_threads() != self.recipe.threads:
            torch.set_num_threads(self.recipe.threads)
        clip = read_clip(task.content, max_pixels=self.recipe.max_pixels)
        if clip is not None:
            return self._clip(task, clip, advance)
        raster = read_raster(task.content, max_pixels=self.recipe.max_pixels)
        height, width = raster.values.shape[:2]
        if self.recipe.size is not None:
            height, width = (round(n * self.recipe.size / max(height, width)) for n in (height, width))
        if self._in_tiles(height, width):
            return self._large(task, raster)
        result, picture = self._picture(task.style, Picture.of(raster), advance)
        write_image(task.output, picture)
        return result

    def _in_tiles(self, height: int, width: int) -> bool:
        """Return whether a picture is restyled tile by tile; the exact solvers know no tiles, nor need GPUs them."""
        return (
            isinstance(self.solver, Learned)
            and self.device.type == "cpu"
            and min(height, width) >= SMALLEST_SIDE
            and too_large(self.solver, height, width, self.recipe.memory)
        )

    def _large(self, task: Task, raster: Raster) -> Result:
        began = time.perf_counter()
        content: Strips | InMemory = Strips(raster)
        if self.recipe.size is not None:
            picture = Picture.of(raster)
            content = InMemory(resize(picture.rgb, self.recipe.size))
            alpha = None if picture.alpha is None else resize_alpha(picture.alpha, content.shape[1:]).numpy()
            raster = replace(raster, alpha=alpha)
            del picture
        with tqdm(desc="tiles", unit="tile", disable=None, leave=False, delay=1) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            values, result = restyle_large(
                cast(Learned, self.solver),
                content,
                [(source, self.source(source)) for source in self.recipe.styles[task.style]],
                self.recipe.options,
                self._weights,
                depth=8 * raster.values.dtype.itemsize,
                memory=self.recipe.memory,
                work=task.output.parent / f".{task.output.name}.tiles",
                masks=self._masks,
                progress=progress,
            )
        write_raster(task.output, replace(raster, values=values))
        return replace(result, seconds=time.perf_counter() - began)

    def _clip(self, task: Task, clip: Clip, advance: Advance | None) -> Result:
        if format_of(task.output).name not in ANIMATED:
            raise ImageError(
                f"{task.content} is an animation of {clip.frames} frames: give the output the suffix .gif or .webp"
            )
        results: list[Result] = []
        began = time.perf_counter()

        def restyled() -> Iterator[Picture]:
            for frame in clip:
                result, picture = self._picture(task.style, frame, advance)
                results[:] = [result]
                yield picture

        write_clip(task.output, restyled(), clip)
        return replace(results[0], seconds=time.perf_counter() - began)

    def _picture(self, style: str, picture: Picture, advance: Advance | None) -> tuple[Result, Picture]:
        content = picture.rgb if self.recipe.size is None else resize(picture.rgb, self.recipe.size)
        content = content.to(self.device)
        check_image(content, "content")
        began = time.perf_counter()
        styles, options = self._styles(style, content)
        encoding = time.perf_counter() - began
        result = restyle(
            self.solver,
            content,
            styles,
            options,
            weights=self._weights,
            masks=self._masks,
            probe=None if advance is None else lambda x, t: advance(t),
        )
        alpha = None if picture.alpha is None else resize_alpha(picture.alpha, result.image.shape[-2:])
        made = replace(picture, rgb=result.image, alpha=alpha)
        return replace(result, seconds=result.seconds + encoding), made

    def _styles(self, name: str, content: Tensor) -> tuple[Sequence[Style | Tensor], Options]:
        """Return the styles as :func:`restyle` takes them: encoded already, where that serves other pictures too."""
        options, sources = self.recipe.options, self.recipe.styles[name]
        saved = any(source.endswith(STYLE_SUFFIX) for source in sources)
        by_itself = options.preserve_color == "histogram" or self.recipe.style_mask is not None
        if not isinstance(self.solver, Learned) or by_itself or (saved and options.style_scale != 1):
            return [self.source(source) for source in sources], options
        encoded = [self._encode(source, content, options.style_scale) for source in sources]
        return encoded, replace(options, style_scale=1.0)

    def _encode(self, source: str, content: Tensor, scale: float) -> Style:
        style = self.source(source)
        if isinstance(style, Style):
            return style
        key = (source, style_size(style, content.shape[-2:], scale))
        if key not in self._encoded:
            encoded = self.solver.encode(style_at(style.to(self.device), key[1]))
            _keep(self._encoded, key, Style(source, encoded, self._weights.fingerprint), ENCODED)
        return self._encoded[key]

    def source(self, source: str) -> Style | Tensor:
        """Return what a style is made of."""
        if source not in self._sources:
            _keep(self._sources, source, read_style(source), SOURCES)
        return self._sources[source]

    @cached_property
    def device(self) -> torch.device:
        """Where it is computed."""
        return choose_device(self.recipe.device)

    @cached_property
    def solver(self) -> StyleSolver:
        """The solver of the options."""
        return build_solver(self.recipe.options, self.device)

    @cached_property
    def _weights(self) -> Weights:
        return identify(self.recipe.options.weights)

    @cached_property
    def _masks(self) -> Masks | None:
        if self.recipe.content_mask is None:
            return None
        return read_masks(self.recipe.content_mask, self.recipe.style_mask)


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)


def summary(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe tells its results from those of another, as JSON has it."""
    described: dict[str, Any] = {name: str(value) for name, value in vars(recipe.options).items()}
    described |= {"size": recipe.size, "content_mask": str(recipe.content_mask), "style_mask": str(recipe.style_mask)}
    described["weights"] = identify(recipe.options.weights).fingerprint
    return described
