"""A net retrained with the matting Laplacian in its loss, against a projector put into one trained without."""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from apps import style_transfer as st
from apps.style_transfer.evaluation.metrics import edge_ssim, matting_energy
from graphs import Around, DirichletBall, matting
from unroll import Unrolled

SIZE, BATCH, RATE = 64, 2, 2e-3
ENERGIES, PHOTO_WEIGHTS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, math.inf), (1e7, 1e8)
KEPT_BACK = ("hokusai-ejiri", "van-gogh-cottages", "mucha-reverie", "cezanne-apples")


def crops(picture, count):
    places = (torch.randint(0, n - SIZE + 1, (count,)).tolist() for n in picture.shape[2:])
    return [picture[:, :, i : i + SIZE, j : j + SIZE].contiguous() for i, j in zip(*places, strict=True)]


def train(pictures, styles, vgg, photo_weight, steps):
    """Train two small updates on the ratio of the artistic loss plus photo_weight Tr(X^T L X) / n."""
    torch.manual_seed(0)  # the same start and the same pictures for every weight
    update = st.GramUpdate(st.Architecture((12, 24, 48), (1, 2, 2), ("whitening",) * 2, whitening_levels=3))
    solver, objective = Unrolled(update, steps=2), st.reference_objective(vgg)
    optimiser = torch.optim.Adam(update.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=max(steps, 2))
    for _ in range(steps):
        chosen = [pictures[i] for i in torch.randint(len(pictures), (BATCH,))]
        x = torch.cat([c for c, _ in chosen])
        style = torch.cat([styles[i] for i in torch.randint(len(styles), (BATCH,))])
        targets = st.encode_targets(vgg, x, style)
        y = solver(x, update.encode(style)).x
        penalty = torch.stack([l.quadratic(p[None]).sum() / l.n for p, (_, l) in zip(y, chosen, strict=True)])
        loss = ((objective(y, targets) + photo_weight * penalty) / objective(x, targets).detach()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(update.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return solver


@torch.no_grad()
def judge(solver, pairs, vgg, energy=math.inf):
    """Medians over pairs of style cut, edge SSIM and matting energy, and the pictures."""
    found, pictures = [], []
    for x, style in pairs:
        projector = Around(DirichletBall(matting(x, eps=1e-4), energy), x) if energy < math.inf else None
        y = solver(x, solver.update.encode(style), projector=projector).x.clamp(0, 1)
        targets = st.encode_targets(vgg, x, style)
        before, after = (float(st.StyleLoss()(vgg(p), targets)) for p in (x, y))
        found.append((1 - after / before, edge_ssim(y, x), matting_energy(y, matting(x))))
        pictures.append(y)
    return np.median(found, axis=0), pictures


def main(out, steps):
    torch.manual_seed(0)
    vgg, both = st.VGG19(), (st.EXAMPLE_CONTENT, st.EXAMPLE_CONTENT.with_name("petra.jpg"))
    wall, seen = (st.resize(st.read_image(path).rgb, 160) for path in both)
    paintings = {name: st.resize(st.read_image(entry.path).rgb, 160) for name, entry in st.gallery().items()}
    kept = [st.resize(paintings.pop(name), 96) for name in KEPT_BACK]
    pictures = [(c, matting(c)) for p, n in [(seen, 24), *((p, 2) for p in paintings.values())] for c in crops(p, n)]
    styles = [c for p in paintings.values() for c in crops(p, 4)]
    pairs = [(c, s[:, :, :SIZE, :SIZE]) for c in crops(wall, min(4, steps)) for s in kept]
    free = train(pictures, styles, vgg, 0.0, steps)
    rows = {f"projector {e:g}": judge(free, pairs, vgg, e) for e in ENERGIES}
    rows |= {f"retrained {w:g}": judge(train(pictures, styles, vgg, w, steps), pairs, vgg) for w in PHOTO_WEIGHTS}
    for name, (row, _) in rows.items():
        print("{0}: {2:.4f} edge SSIM, {1:.3f} style cut, {3:.1e} matting energy".format(name, *row))
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    for axes, column, title in zip(above.subplots(1, 2), (1, 2), ("edge SSIM", "matting energy"), strict=True):
        at = {name: (row[0], row[column]) for name, (row, _) in rows.items()}
        axes.plot(*np.transpose([p for n, p in at.items() if n[0] == "p"]), "o-", label="trained once, with projectors")
        for name in [name for name in at if name.startswith("retrained")]:
            axes.plot(*at[name], "s", label=name)
        axes.set(xlabel="style cut", ylabel=title, yscale="log" if column == 2 else "linear")
        axes.legend(fontsize=8)
    shown = {"photograph": pairs[1][0], "style": pairs[1][1]}
    shown |= {name: pictures[1] for name, (_, pictures) in list(rows.items())[2::2]}
    for axes, (name, x) in zip(below.subplots(1, len(shown)), shown.items(), strict=True):
        axes.imshow(x[0].permute(1, 2, 0).numpy())
        axes.set(title=name, xticks=[], yticks=[])
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "study_retrained.png", dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=500, help="of each training")
    main(**vars(parser.parse_args()))
