"""What can be asked for, and whether a form that came in asks for something that can be done."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.style_transfer.files.clips import is_animated
from apps.style_transfer.files.decode import size_of
from apps.style_transfer.files.images import SMALLEST_SIDE
from apps.style_transfer.serve.limits import Limits, RefusedError
from apps.style_transfer.serve.upload import Form
from apps.style_transfer.style import STYLE_SUFFIX, GalleryEntry
from apps.style_transfer.transfer import LARGEST_SCALE

NAMES = {"content": "photograph", "style": "style", "content_mask": "content mask", "style_mask": "style mask"}
MASKS: tuple[str, ...] = ("content_mask", "style_mask")


class Parameters(BaseModel):
    """The numbers and names of a form; what is left out or empty has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(1.0, ge=0, le=1, description="scale of every step; 0 returns the photograph")
    photo: float = Field(0.0, ge=0, le=1, description="from 0, artistic, to 1, photorealistic")
    size: int | None = Field(None, ge=SMALLEST_SIDE, description="longest side of the result; that of the photograph")
    style_scale: float = Field(1.0, gt=0, le=LARGEST_SCALE, description="size of the strokes")
    preserve_color: Literal["luminance", "histogram"] | None = Field(None, description="keep the photograph's colours")
    format: Literal["png", "jpeg", "webp", "tiff"] = Field("png", description="file type of the result")


@dataclass(frozen=True)
class Order:
    """What a job is to do: its files, its parameters, and what to call the result."""

    content: Path
    style: Path
    content_mask: Path | None
    style_mask: Path | None
    parameters: Parameters
    name: str

    @property
    def masks(self) -> Path | tuple[Path, Path] | None:
        """The masks as a Stylizer takes them."""
        if self.content_mask is None or self.style_mask is None:
            return self.content_mask
        return self.content_mask, self.style_mask


def order_of(form: Form, limits: Limits, gallery: Mapping[str, GalleryEntry]) -> Order:
    """Return the order of a form; raises :class:`RefusedError` with one line. Of the pictures only headers are read."""
    texts, files = dict(form.texts), dict(form.files)
    if "content" not in files:
        raise RefusedError(422, "content: send the photograph as a file")
    named = texts.pop("style", "")
    if bool(named) == ("style" in files):
        raise RefusedError(422, "style: send a picture or a saved style as a file, or the name of one of the gallery")
    if named and named not in gallery:
        raise RefusedError(422, "style: there is no style of that name: see /api/v1/styles")
    parameters = _parameters({name: text for name, text in texts.items() if text})
    style = gallery[named].path if named else _style_file(files["style"], form.names["style"])
    masks = {name: files[name] for name in MASKS if name in files}
    if "style_mask" in masks and ("content_mask" not in masks or style.name.endswith(STYLE_SUFFIX)):
        raise RefusedError(422, "style_mask: it goes with a content_mask, and with a picture as the style")
    width, height = _measure(files["content"], "content", limits)
    for name, path in masks.items():
        _measure(path, name, limits)
    longest = parameters.size or max(width, height)
    most = math.floor(max(width, height) * (limits.result_pixels / (width * height)) ** 0.5)
    if longest > most:
        raise RefusedError(
            413,
            f"size: a result may have {limits.result_pixels / 1e6:g} megapixels here: ask for a size of {most} or less",
        )
    if not style.name.endswith(STYLE_SUFFIX):
        w, h = _measure(style, "style", limits) if not named else size_of(style)
        scale = parameters.style_scale * longest / max(w, h)
        if w * h * scale**2 > 3 * limits.result_pixels:  # to encode one takes a third of what a step does
            raise RefusedError(
                413, "style: beside so long a photograph, or so enlarged, it is too large: ask for a smaller size"
            )
    name = f"{_stem(form.names['content'])}_stylized_{named or _stem(form.names['style'])}"
    return Order(files["content"], style, masks.get("content_mask"), masks.get("style_mask"), parameters, name)


def _parameters(texts: Mapping[str, str]) -> Parameters:
    try:
        return Parameters.model_validate(texts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:40]
        what = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
        raise RefusedError(422, f"{where}: {what[:1].lower()}{what[1:]}") from None


def _style_file(path: Path, name: str) -> Path:
    """Return the path of an uploaded style, renamed where it is a saved one and not a picture."""
    if not name.lower().endswith(".safetensors"):
        return path
    return path.rename(path.with_name(f"style{STYLE_SUFFIX}"))


def _measure(path: Path, field: str, limits: Limits) -> tuple[int, int]:
    """Return width and height from the header of a picture, decoding nothing."""
    what = f"the {NAMES[field]}"
    try:
        width, height = size_of(path)
        moving = is_animated(path)
    except ValueError as error:
        raise RefusedError(422, f"{field}: {str(error).replace(str(path), what)}") from None
    if moving:
        raise RefusedError(422, f"{field}: {what} is an animation: send one picture, or use the command line")
    if width * height > limits.pixels:
        raise _too_many(field, limits)
    if min(width, height) < SMALLEST_SIDE and field in ("content", "style"):
        raise RefusedError(422, f"{field}: {what} has {width} x {height} pixels: each side needs {SMALLEST_SIDE}")
    return width, height


def _too_many(field: str, limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"{field}: a {NAMES[field]} may have {limits.pixels / 1e6:g} megapixels here: send a smaller one"
    )


def _stem(name: str) -> str:
    """Return what may be kept of a name for the name of a download: letters, digits, dashes and dots."""
    stem = PureWindowsPath(name).name.removesuffix(STYLE_SUFFIX)
    stem = stem.rsplit(".", 1)[0] if "." in stem[1:] else stem
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:60] or "picture"


def schema() -> dict[str, Any]:
    """Return the form as OpenAPI describes it."""
    file = {"type": "string", "format": "binary"}
    described = Parameters.model_json_schema()["properties"]
    files: dict[str, Any] = {
        "content": {**file, "description": "the photograph"},
        "style": {"anyOf": [file, {"type": "string"}], "description": "a picture, a saved style, or a name"},
        "content_mask": {**file, "description": "regions of the photograph, by colour"},
        "style_mask": {**file, "description": "regions of the style, in the same colours"},
    }  # fmt: skip
    form = {"type": "object", "required": ["content", "style"], "properties": files | described}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}
