"""
Plug-and-play: a denoiser for a prior
=====================================

A small network learns to take noise off crops of one photograph. Put where a proximal operator belongs, it fills in
another photograph of which three pixels in four are missing: nothing is retrained, and the network has never seen a
missing pixel. It starts from the result of total variation, and its settings were chosen on this photograph.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import unroll
from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from unroll.recipes import plug_and_play

torch.manual_seed(0)
photo = resize(read_image(EXAMPLE_CONTENT).rgb, 96)
seen = resize(read_image(EXAMPLE_CONTENT.with_name("petra.jpg")).rgb, 320)

# %%
# The denoiser, trained at one level of noise. It sees one colour at a time, for the other photograph has other colours.
SIGMA = 0.05
network = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
    *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1)),
)
optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
for _ in range(300):
    tops, lefts = (torch.randint(0, n - 40, (4,)) for n in seen.shape[2:])
    crops = torch.cat([seen[:, :, i : i + 40, j : j + 40] for i, j in zip(tops, lefts, strict=True)])
    crops = crops.flatten(0, 1)[:, None]
    noise = SIGMA * torch.randn_like(crops)
    loss = (network(crops + noise) - noise).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
denoiser = unroll.penalties.Denoiser(lambda v: v - network(v.reshape(-1, 1, *v.shape[2:])).reshape(v.shape))

# %%
# Plug-and-play is ADMM with the denoiser for its projector. The other half is the prox of 1/2 ||m (x - y)||^2, m being
# 1 where a pixel is known.
mask = (torch.rand(1, 1, *photo.shape[2:]) < 0.25).float()
known = mask * photo


def prox(v, y, tau):
    return (v + tau * mask * y) / (1 + tau * mask)


with torch.no_grad():
    start = torch.where(mask > 0, known, known.sum((2, 3), keepdim=True) / mask.sum())
    solver = plug_and_play(prox, tau=5.0, steps=30)
    smooth = solver(start, known, projector=unroll.penalties.TotalVariation2d(0.01, tol=2e-2)).x
    learned = solver(smooth, known, projector=denoiser, steps=20).x

figure, parts = plt.subplots(1, 4, figsize=(13, 2.9), layout="constrained")
results = {"known": known, "total variation": smooth, "denoiser": learned, "photograph": photo}
for axes, (name, x) in zip(parts, results.items(), strict=True):
    axes.imshow(x[0].permute(1, 2, 0).clamp(0, 1).numpy())
    psnr = -10 * torch.log10((x - photo).square().mean())
    axes.set_title(name if name in ("known", "photograph") else f"{name}, {psnr:.1f} dB")
    axes.set_axis_off()
