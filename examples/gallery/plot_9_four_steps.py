"""
What each of the four learned steps does
========================================

The learned solver has four updates, and nothing but the sum of the losses at the end and on the way was asked of them.
Here the losses are taken after every step, beside those of the first iterations of Gatys et al. by L-BFGS, on the two
photographs and two paintings that are shipped and were not trained on: four pairs, at 128 pixels. That is too few
pictures and too small for a figure of merit: those of the README come from held-back ones.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, VGG19, encode_targets, load_solver, read_image, resize
from apps.style_transfer.losses import gram
from apps.style_transfer.solvers import LBFGS, Learned

SIZE, ITERATIONS = 128, 10
vgg, learned = VGG19(), Learned(load_solver())
gatys = LBFGS(vgg)


# %%
# The content loss, and the style loss of each level l = 1..4, of one iterate.
@torch.no_grad()
def losses(x, targets):
    features = vgg(x.clamp(0, 1))
    content = float((features[-1] - targets.content).square().mean())
    return [content, *(float((gram(f) - h).square().mean()) / 4 for f, h in zip(features, targets.grams, strict=True))]


def open_at(path):
    return resize(read_image(path).rgb, SIZE)


photographs = [open_at(EXAMPLE_CONTENT), open_at(EXAMPLE_CONTENT.with_name("petra.jpg"))]
paintings = [open_at(EXAMPLE_STYLE), open_at(EXAMPLE_STYLE.with_name("hokusai-ejiri.jpg"))]
traces = {"learned": [], "Gatys": []}
iterates = []
for content in photographs:
    for style in paintings:
        targets = encode_targets(vgg, content, style)
        for name, solver, steps in (("learned", learned, 4), ("Gatys", gatys, ITERATIONS)):
            solution = solver(content, solver.encode(style), steps=steps, probe=lambda x, t: x)
            traces[name].append([losses(x, targets) for x in solution.trace])
            if name == "learned":
                iterates.append(solution.trace)

# %%
# All divided by the total of the photograph, lambda_s = 1e-4, and averaged over the pairs; thin lines are the pairs. Of
# that total 95 per cent are the style's at level 4. Gatys' iterations follow what weighs most, and leave level 1, fine
# texture and colours, at 75 per cent of its start after ten; the learned steps cut all levels, and level 1 first.
found = {name: np.array(trace) for name, trace in traces.items()}  # (pairs, iterates, 1 + levels)
content = {name: f[..., 0] for name, f in found.items()}
levels = {name: 1e-4 * f[..., 1:] for name, f in found.items()}
total = {name: content[name] + levels[name].sum(-1) for name in found}
figure, parts = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for name, mark in (("learned", "o-"), ("Gatys", ".--")):
    start = total[name][:, :1]
    parts[0].plot((total[name] / start).mean(0), mark, label=name, color="C0" if name == "learned" else "C3")
    parts[0].plot((total[name] / start).T, lw=0.4, color="C0" if name == "learned" else "C3")
    parts[1].plot((content[name] / start).mean(0), mark, label=f"content, {name}", color="C2")
    parts[1].plot((levels[name].sum(-1) / start).mean(0), mark, label=f"style, {name}", color="C4")
for l in range(4):
    parts[2].plot(
        (levels["learned"][..., l] / levels["learned"][:, :1, l]).mean(0), "o-", label=f"learned, l = {l + 1}"
    )
    parts[2].plot((levels["Gatys"][..., l] / levels["Gatys"][:, :1, l]).mean(0), ".--", color=f"C{l}", lw=0.7)
titles = ("total, over the photograph's", "its two parts", "style, level by level, each over its start")
for axes, title in zip(parts, titles, strict=True):
    axes.set_title(title)
    axes.set_xlabel("steps")
    axes.legend(fontsize=8)
    axes.set_ylim(bottom=0)

# %%
# Two of the pairs, step by step.
figure, parts = plt.subplots(2, 6, figsize=(13, 3.6), layout="constrained")
for row, (k, painting) in zip(parts, ((0, paintings[0]), (3, paintings[1])), strict=True):
    shown = [*iterates[k], painting]
    names = ["photograph", *(f"after step {t}" for t in range(1, 5)), "style"]
    for axes, x, name in zip(row, shown, names, strict=True):
        axes.imshow(x[0].permute(1, 2, 0).clamp(0, 1).numpy())
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
