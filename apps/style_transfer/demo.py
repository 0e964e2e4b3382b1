"""The shipped example: one photograph, one painting, every way of solving on one sheet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer.files.images import Picture, read_image, resize, write_image
from apps.style_transfer.progress import step_bar
from apps.style_transfer.projectors import PHOTO
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.transfer import Options, stylize

_PICTURES = Path(__file__).parent / "pictures"
EXAMPLE_CONTENT = _PICTURES / "great-wall.jpg"
EXAMPLE_STYLE = _PICTURES / "van-gogh-thatched-cottages.jpg"

GATYS_STEPS = 20


def demo(out: Path, device: torch.device, *, size: int = 384) -> Path:
    """Restyle the shipped photograph and return the path of the contact sheet, ``out/demo.png``.

    The pictures: content, style, Gatys (20 L-BFGS iterations), learned artistic, learned photorealistic; neither the
    photograph nor the painting was trained on. Each is also written by itself.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = resize(read_image(EXAMPLE_CONTENT).rgb, size).to(device)
    style = resize(read_image(EXAMPLE_STYLE).rgb, size).to(device)
    choices = {
        f"Gatys, {GATYS_STEPS} iterations": Options("gatys", steps=GATYS_STEPS),
        "learned, artistic": Options(),
        "learned, photorealistic": Options(projector=PHOTO),
    }
    pictures: dict[str, Tensor] = {"content": content, "style": style}
    times = {"content": "", "style": ""}
    for name, options in choices.items():
        with step_bar(name) as advance:
            result = stylize(content, style, options, progress=advance)
        pictures[name] = result.image
        times[name] = f", {result.seconds:.1f} s"
    for name, picture in pictures.items():
        write_image(out / f"{name.replace(', ', '-').replace(' ', '-').lower()}.png", Picture(picture))
    sheet = out / "demo.png"
    contact_sheet([list(pictures.values())], [name + times[name] for name in pictures], cell=size).save(sheet)
    return sheet
