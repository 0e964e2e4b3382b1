"""
What the learned filters and H^s encode
=======================================

The update has the structure of a gradient, so its parts have a meaning: forward maps see, the Gram step compares with
H^s, backward maps carry what it finds at each level back to the pixels, where the levels add up. All can be shown.
"""

import matplotlib.pyplot as plt
import torch

from apps.style_transfer import (
    EXAMPLE_CONTENT,
    VGG19,
    Stylizer,
    encode_targets,
    gallery,
    load_solver,
    read_image,
    resize,
)
from apps.style_transfer.losses import StyleLoss

SIZE = 128
solver = load_solver()
content = resize(read_image(EXAMPLE_CONTENT).rgb, SIZE)
wave, cottages = (resize(read_image(gallery()[n].path).rgb, SIZE) for n in ("hokusai-great-wave", "van-gogh-cottages"))


def show(axes, image, title=""):
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


# %%
# The first filters of g_0 and g_2, 3 x 3 pixels in colour about grey, each by its own largest weight. ``spread`` is the
# share of their energy about their mean over the pixels: what sees edges. The rest sees colours.
filters = {t: solver.update.gradients[t].levels[0].forward_maps[0].weight for t in (0, 2)}
spread = {t: float((w - w.mean((2, 3), keepdim=True)).square().sum() / w.square().sum()) for t, w in filters.items()}
figure, parts = plt.subplots(2, 16, figsize=(13, 2.1), layout="constrained")
for row, (t, weights) in zip(parts, filters.items(), strict=True):
    for axes, w in zip(row, weights, strict=True):
        show(axes, 0.5 + 0.5 * w / w.abs().max())
    row[0].set_title(f"g_{t}: {spread[t]:.0%} edges", fontsize=9, loc="left")


# %%
# The response of one level: what d = sum_l h_l^b(D_l) loses where D_l is left out. The backward maps of g_2 are linear
# in the D_l, so that these add up to d. Those of g_0 have ReLUs of their own, and it has the first two levels alone.
def responses(gradient, x, style):
    maps = gradient.features(x)
    taps, everywhere = [outputs[-1] for outputs in maps], [None] * len(maps)
    plan = gradient.plan(gradient.sums(x, taps, everywhere), style)
    found = [step(tap) for step, tap in zip(plan.levels, taps, strict=True)]
    whole = gradient.displacement(x, maps, plan, everywhere)
    silent = [[torch.zeros_like(d) if k == l else d for k, d in enumerate(found)] for l in range(len(found))]
    return [whole - gradient.carry(d, maps, x) for d in silent], whole


encoded = solver.update.encode(cottages)
x = {0: content, 2: solver(content, encoded, steps=2).x}  # where g_0 and g_2 stand
answers = {t: responses(solver.update.gradients[t], x[t], encoded[t]) for t in (0, 2)}
figure, parts = plt.subplots(2, 5, figsize=(13, 4.2), layout="constrained")
for row, (t, (levels, whole)) in zip(parts, answers.items(), strict=True):
    for axes in row:
        axes.set_axis_off()
    for l, d in enumerate(levels):
        size = float(d.square().mean().sqrt() / whole.square().mean().sqrt())
        show(row[l], 0.5 - 0.15 * d[0] / d.std().clamp_min(1e-12), f"g_{t}, level {l + 1}: {size:.2f} of d")
    show(row[4], 0.5 - 0.15 * whole[0] / whole.std(), f"g_{t}: all of -d")

# %%
# Along H^s, from one style to another: means and covariances in between are those of no painting, and a style all the
# same. The losses are VGG's style loss against either painting, over that of the photograph.
stylizer, vgg, loss = Stylizer(device="cpu"), VGG19(), StyleLoss()
ends = [encode_targets(vgg, content, painting) for painting in (wave, cottages)]
shares, pictures, distances = (0.0, 0.25, 0.5, 0.75, 1.0), [], []
for share in shares:
    style = stylizer.style(["hokusai-great-wave", "van-gogh-cottages"], weights=[1 - share, share], size=SIZE)
    pictures.append(stylizer(content, style).image)
    with torch.no_grad():
        distances.append([float(loss(vgg(pictures[-1]), end) / loss(vgg(content), end)) for end in ends])
figure, parts = plt.subplots(1, 6, figsize=(13, 2.2), layout="constrained")
for axes, share, picture in zip(parts, shares, pictures, strict=False):
    show(axes, picture[0], f"{1 - share:.2f} wave, {share:.2f} cottages")
for k, name in enumerate(("wave", "cottages")):
    parts[5].plot(shares, [d[k] for d in distances], "o-", label=f"to the {name}")
parts[5].set_title("style loss", fontsize=9)
parts[5].legend(fontsize=7)
