"""Contact sheets: rows of pictures with captions."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from apps.style_transfer.files.images import to_pil

_GAP, _LINE = 8, 26


def contact_sheet(rows: Sequence[Sequence[Tensor]], captions: Sequence[str], *, cell: int = 384) -> Image.Image:
    """Return one picture with the images (1, 3, H, W) of each row side by side, shrunk into cells, captions on top."""
    pictures = [[_fit(to_pil(image), cell) for image in row] for row in rows]
    heights = [max(p.height for p in row) for row in pictures]
    columns = len(captions)
    sheet = Image.new("RGB", (columns * (cell + _GAP) + _GAP, _LINE + sum(heights) + _GAP * (len(rows) + 1)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, caption in enumerate(captions):
        draw.text((_GAP + column * (cell + _GAP), _GAP), caption, fill="black", font=font)
    top = _LINE + _GAP
    for row, height in zip(pictures, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (_GAP + column * (cell + _GAP) + (cell - picture.width) // 2, top))
        top += height + _GAP
    return sheet


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
