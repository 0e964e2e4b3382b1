"""The pictures of docs/options.md: options of the command line, tried on a shipped photograph as they are written."""

import argparse
import shlex
import tempfile
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

from apps.style_transfer import EXAMPLE_CONTENT, Picture, gallery, read_image, resize, write_image
from apps.style_transfer.cli import run
from apps.style_transfer.sheet import contact_sheet

WALL, PETRA = EXAMPLE_CONTENT, EXAMPLE_CONTENT.with_name("petra.jpg")
WAVE, COTTAGES, STREET = (
    f"-s {name}" for name in ("hokusai-great-wave", "van-gogh-cottages", "van-gogh-village-street")
)
BLEND = "-s hokusai-great-wave mondrian-line-and-colour"
PROJECTORS = ["none", "box", "guided --radius 2 --eps 1e-4", "matting", "matting-chebyshev", "matting-coarse"]
PROJECTORS += ["matting-energy", "tikhonov", "tikhonov-coarse"]
MASKS = "--content-mask sky.png --style-mask street-sky.png"

# Of each picture: the photograph, the options of all its parts, and those of each part. "=NAME" shows a file instead.
ROWS = {
    "alpha": (WALL, COTTAGES, ["--alpha 0", "--alpha 0.3", "--alpha 0.6", "--alpha 1"]),
    "steps": (WALL, COTTAGES, ["--steps 1", "--steps 2", "--steps 4", "--steps 8"]),
    "size": (WALL, COTTAGES, ["--size 128", "--size 256", "--size 640"]),
    "style_scale": (WALL, COTTAGES, ["--style-scale 0.5", "--style-scale 1", "--style-scale 2"]),
    "style_weights": (WALL, BLEND, [f"--style-weights {w}" for w in ("1 0", "0.7 0.3", "0.3 0.7", "0 1")]),
    "preserve_color": (PETRA, WAVE, ["", "--preserve-color luminance", "--preserve-color histogram"]),
    "masks": (WALL, STREET, ["=sky.png", "=street-sky.png", "", MASKS]),
    "photo_strength": (WALL, COTTAGES, [f"--photo-strength {s}" for s in (0, 0.3, 0.6, 1)]),
    "energy": (WALL, COTTAGES, [f"--photo --energy {e}" for e in ("5e-4", "2.2e-3", "1e-2")]),
    "projector_1": (WALL, COTTAGES, [f"--projector {p}" for p in PROJECTORS[:4]]),
    "projector_2": (WALL, COTTAGES, [f"--projector {p}" for p in PROJECTORS[4:]]),
    "k_gamma_domain": (
        WALL,
        f"{COTTAGES} --projector",
        ["matting --k 20", "matting --k 2000", "tikhonov --gamma 1", "matting --domain image"],
    ),
    "refine": (WALL, COTTAGES, ["--refine 0", "--refine 5", "--refine 20"]),
    "solver": (WALL, COTTAGES, [f"--solver {s}" for s in ("gatys --steps 20", "reinhard", "monge-kantorovich")]),
}
NAMES = list(gallery())
ROWS |= {
    f"styles_{i // 4 + 1}": (WALL, "", [f"-s {name}" for name in NAMES[i : i + 4]]) for i in range(0, len(NAMES), 4)
}


def make_masks(folder):
    """Masks as one would paint them: the sky is white, the rest black, and the edge between them soft."""
    wall = read_image(WALL).rgb
    sky = ((wall[:, 2:] > 0.62) & (wall[:, 2:] >= wall[:, 1:2])).float()
    sky[..., int(0.6 * sky.shape[-2]) :, :] = 0
    sky = sky.flip(-2).cummax(-2).values.flip(-2)  # clouds too: all that has sky below it
    soft = avg_pool2d((avg_pool2d(sky, 15, 1, 7, False, False) > 0.5).float(), 5, 1, 2, False, False)
    write_image(folder / "sky.png", Picture(soft.expand(-1, 3, -1, -1)))
    street = read_image(gallery()["van-gogh-village-street"].path).rgb
    line = (0.36 - torch.linspace(0, 1, street.shape[-2])).mul(20).sigmoid()
    write_image(folder / "street-sky.png", Picture(line[:, None].expand_as(street)))


def panel(photo, options, size, folder):
    """Return what the command line makes of a photograph."""
    if options.startswith("="):
        return resize(read_image(folder / options[1:]).rgb, size)
    words = [str(folder / word) if word.endswith(".png") else word for word in shlex.split(options)]
    words += [] if "--size" in words else ["--size", str(size)]
    if run(["-c", str(photo), "-o", str(folder / "out.png"), "--overwrite", *words]):
        raise SystemExit(f"failed: {options}")
    return read_image(folder / "out.png").rgb


def main(out, names, size, most):
    with tempfile.TemporaryDirectory() as folder:
        make_masks(Path(folder))
        for name in names:
            photo, common, parts = ROWS[name]
            pictures = [
                panel(photo, f"{common} {part}" if part[:1] != "=" else part, size, Path(folder)) for part in parts
            ]
            captions = ["both masks" if part == MASKS else (part or "no option").strip("=") for part in parts]
            sheet = contact_sheet([pictures], captions, cell=size)
            quality, path = 85, out / f"{name}.jpg"
            while sheet.save(path, quality=quality, optimize=True) or (path.stat().st_size > most and quality > 60):
                quality -= 3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/options"), help="folder for the pictures")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="which of them")
    parser.add_argument("--size", type=int, default=236, help="longest side of a part")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    main(options.out, options.only, options.size, most=37_000)
