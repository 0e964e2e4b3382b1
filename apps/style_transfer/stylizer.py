"""Style transfer as an object: the learned weights loaded once, pictures of any kind in, a result that shows itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from apps.style_transfer.devices import choose_device
from apps.style_transfer.files.images import SMALLEST_SIDE, from_pil, read_image, resize
from apps.style_transfer.files.raster import Raster
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.masks import Masks, MaskSource, read_masks
from apps.style_transfer.projectors import PHOTO, ProjectorOptions
from apps.style_transfer.solvers import Learned
from apps.style_transfer.style import Style, blend, identify, read_style, style_name
from apps.style_transfer.tiles.canvas import InMemory
from apps.style_transfer.tiles.large import Strips, restyle_large, too_large
from apps.style_transfer.tiles.solver import Progress
from apps.style_transfer.transfer import Options, Result, check_image, restyle, style_at
from apps.style_transfer.weights import EMBEDDED_SOLVER
from unroll import Operator

ImageLike = Tensor | NDArray[np.generic] | Image.Image | str | Path
"""A picture: (1, 3, H, W) or (3, H, W) tensors and (H, W, 3) or (H, W) arrays, uint8 or floating in [0, 1]; PIL images
of any mode; the path of a file."""

STYLE_SIZE = 512
"""The longest side to which a style is shrunk where nothing else is said."""


class Stylizer:
    """The learned solver, ready to be called; several threads may share one.

    ``Stylizer()("photo.jpg", "hokusai-great-wave").pil()`` is a picture. What it returns is, to the last bit, what
    :func:`~apps.style_transfer.stylize` and the command line make with the same options.

    Args:
        weights: a file of weights.
        device: "auto" (the fastest there is), "cpu", "cuda", "mps", or a torch.device.
        memory: bytes that a step may take on a CPU, beside the pictures. A larger picture is restyled tile by tile,
            which differs by rounding, and keeps two pictures in float32 in a temporary folder while it lasts. None
            takes what it needs, about 1 kB a pixel.
    """

    def __init__(
        self, weights: Path = EMBEDDED_SOLVER, device: str | torch.device = "auto", *, memory: int | None = None
    ) -> None:
        self.device = choose_device(device) if isinstance(device, str) else device
        self.weights = identify(weights)
        self.memory = memory
        self._solver = load_solver(weights).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def style(
        self,
        images: Style | ImageLike | Sequence[Style | ImageLike],
        *,
        weights: Sequence[float] | None = None,
        size: int | None = None,
    ) -> Style:
        """Encode a style once, for any number of photographs.

        Args:
            images: a picture, the name of one of the gallery, a saved style; or several, which are blended.
            weights: their shares, see :func:`~apps.style_transfer.style.blend`; None is equal ones.
            size: the longest side that a picture is brought to before its features are taken; strokes are as large
                beside a photograph as this is beside the size of that. None shrinks to 512 what is larger.

        Raises ValueError.
        """
        many = images if isinstance(images, list | tuple) else [cast("Style | ImageLike", images)]
        return blend([self._encoded(image, size) for image in many], weights)

    def _encoded(self, source: Style | ImageLike, size: int | None) -> Style:
        name, found = _read(source)
        if isinstance(found, Style):
            found.belongs_to(self.weights)
            return found
        longest = min(max(found.shape[-2:]), STYLE_SIZE) if size is None else size
        image = style_at(found.to(self.device), longest)
        return Style(name, Learned(self._solver).encode(image), self.weights.fingerprint)

    def __call__(
        self,
        image: ImageLike,
        style: Style | ImageLike,
        *,
        projector: ProjectorOptions | Operator | str | None = None,
        photo: float = 0.0,
        alpha: float = 1.0,
        size: int | None = None,
        style_scale: float = 1.0,
        preserve_color: str | None = None,
        masks: Masks | MaskSource | tuple[MaskSource, MaskSource] | None = None,
        steps: float | None = None,
        probe: Callable[[Tensor, int], None] | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Restyle a picture.

        Args:
            image: the photograph, at least 16 pixels each way.
            style: a picture, brought to ``style_scale`` times the longest side of the photograph; the name of one of
                the gallery; or a :class:`~apps.style_transfer.style.Style`, which has its size and colours already.
            projector: what stands in the loop: options, a name, or any operator on (1, 3, H, W). None is the
                photorealistic preset in the strength ``photo``.
            photo: from 0 (artistic) to 1 (photorealistic).
            alpha: scales every step; 0 returns the photograph.
            size: the longest side of the result; None is that of the photograph.
            style_scale, preserve_color, steps: as in :class:`~apps.style_transfer.Options`.
            masks: regions of the photograph, or a pair, those of the photograph and those of the style, as
                :func:`~apps.style_transfer.masks.read_masks` takes them: each region is restyled by itself, after the
                region of the same name in the style.
            probe: called with (x_t, t), t = 0..N: the picture so far, not clipped and not to be written to; of one in
                tiles a copy of about a megapixel. What it raises ends the call.
            progress: called with the tiles done and all tiles, of a picture in tiles. What it raises ends the call.

        The trace of the result has x_0..x_N; of a picture in tiles, x_0 and x_N. Raises ValueError and TypeError.
        """
        if size is not None and size < SMALLEST_SIDE:
            raise ValueError(f"size must be at least {SMALLEST_SIDE} pixels, got {size}")
        if projector is not None and photo:
            raise ValueError("give photo or a projector: ProjectorOptions(strength=...) weakens any of them")
        options = Options(
            projector=_constraint(projector, photo),
            alpha=alpha,
            steps=steps,
            style_scale=style_scale,
            preserve_color=preserve_color,
        )
        content = as_image(image).to(self.device)
        content = content if size is None else resize(content, size)
        _, painting = _read(style)
        check_image(content, "content")
        solver, regions = Learned(self._solver, alpha=alpha), _regions(masks)
        operator = projector if isinstance(projector, Operator) else None
        if self._in_tiles(content, operator):
            return self._large(solver, content, painting, options, regions, probe, progress)
        return restyle(
            solver,
            content,
            [painting],
            options,
            weights=self.weights,
            masks=regions,
            projector=operator,
            probe=probe,
        )

    def _in_tiles(self, content: Tensor, operator: Operator | None) -> bool:
        # An operator of the user's own wants to see the whole picture.
        if self.memory is None or self.device.type != "cpu" or operator is not None:
            return False
        height, width = content.shape[-2:]
        return too_large(Learned(self._solver), height, width, self.memory)

    def _large(
        self,
        solver: Learned,
        content: Tensor,
        painting: Style | Tensor,
        options: Options,
        masks: Masks | None,
        probe: Callable[[Tensor, int], None] | None,
        progress: Progress | None,
    ) -> Result:
        began = time.perf_counter()
        values, reduced = restyle_large(
            solver,
            InMemory(content),
            [("style", painting)],
            options,
            self.weights,
            depth=16,
            memory=self.memory or 0,
            masks=masks,
            probe=probe,
            progress=progress,
        )
        image = Strips(Raster(values)).rows(0, len(values))[None]
        seconds = time.perf_counter() - began
        return replace(reduced, image=image, iterates=(content, image), seconds=seconds)


def _constraint(projector: ProjectorOptions | Operator | str | None, photo: float) -> ProjectorOptions:
    if isinstance(projector, ProjectorOptions):
        return projector
    if isinstance(projector, str):
        return ProjectorOptions(projector)
    return ProjectorOptions() if projector is not None else replace(PHOTO, strength=photo)


def _regions(masks: Masks | MaskSource | tuple[MaskSource, MaskSource] | None) -> Masks | None:
    if masks is None or isinstance(masks, Masks):
        return masks
    return read_masks(*masks) if isinstance(masks, tuple) else read_masks(masks)


def _read(source: Style | ImageLike) -> tuple[str, Style | Tensor]:
    """Return a style or an image (1, 3, H, W), and what to call it."""
    if isinstance(source, Style):
        return source.name, source
    if isinstance(source, str | Path):
        return style_name(source), read_style(source)
    return "style", as_image(source)


def as_image(image: ImageLike) -> Tensor:
    """Return a picture of any kind as (1, 3, H, W), float32 in [0, 1]; ValueError or TypeError where it is none.

    The same pixels give the same tensor, whichever kind they come as.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image)).rgb
    if isinstance(image, Image.Image):
        return from_pil(image).rgb
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an array must be (H, W, 3) or, grey, (H, W), got {image.shape}")
        planes = torch.tensor(np.ascontiguousarray(image))  # a copy: the array may be read-only
        planes = planes[None].expand(3, -1, -1) if image.ndim == 2 else planes.permute(2, 0, 1)
    elif isinstance(image, Tensor):
        planes = image.detach()
        if planes.ndim not in (3, 4) or planes.shape[-3] != 3 or planes.shape[:-3] not in ((), (1,)):
            raise ValueError(f"a tensor must be (3, H, W) or (1, 3, H, W), got {tuple(planes.shape)}")
    else:
        raise TypeError(f"a picture is a path, a PIL image, an array or a tensor, not a {type(image).__name__}")
    planes = planes.reshape(1, 3, *planes.shape[-2:])
    if planes.dtype == torch.uint8:
        return (planes.float() / 255).contiguous()
    if not planes.is_floating_point():
        raise TypeError(f"a picture is uint8 or floating in [0, 1], not {planes.dtype}")
    if not bool(((planes >= 0) & (planes <= 1)).all()):
        raise ValueError("a floating picture must lie in [0, 1]: divide 8-bit values by 255, and mend NaN")
    return planes.float().contiguous()
