"""
Deblurring with total variation
===============================

A photograph is blurred by a Gaussian of 1.6 pixels and noise is added. The restored one minimises
1/2 ||A x - y||^2 + weight TV(x) by proximal gradient descent: the blur A stands in the loss, total variation in the
place of the projector. Nesterov's extrapolation is a scheme that goes around.
"""

import matplotlib.pyplot as plt
import torch

import unroll
from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from unroll.penalties import TotalVariation2d

photo = resize(read_image(EXAMPLE_CONTENT).rgb, 192)  # (1, 3, h, w), in [0, 1]
height, width = photo.shape[2:]
rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
response = torch.exp(-2 * (torch.pi * 1.6) ** 2 * (rows**2 + columns**2))


def blur(x):
    return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=(height, width))


blurred = blur(photo) + 0.01 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))

# %%
# The blur has norm 1, so a step of 1 is short enough. ``tau=None`` hands the step of the update on to the prox, so that
# the weight means the same whatever the step. A probe measures every iterate.
update = unroll.GradientStep(unroll.LeastSquares(blur), step_size=1.0)
penalty = TotalVariation2d(3e-4, tol=1e-3)
plain = unroll.ForwardBackward(tau=None)


def psnr(x, t=0):
    return -10 * torch.log10((x - photo).square().mean()).item()


with torch.no_grad():
    runs = {
        "proximal gradient": unroll.Unrolled(update, steps=60, scheme=plain),
        "with Nesterov's extrapolation": unroll.Unrolled(update, steps=60, scheme=unroll.Nesterov(plain)),
    }
    solved = {name: solver(blurred, blurred, projector=penalty, probe=psnr) for name, solver in runs.items()}
restored = solved["with Nesterov's extrapolation"].x

# %%
# The picture: edges come back, and noise does not.
figure, parts = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for axes, (name, x) in zip(parts, {"photograph": photo, "blurred": blurred, "restored": restored}.items(), strict=True):
    axes.imshow(x[0].permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_title(name if x is photo else f"{name}, {psnr(x):.1f} dB")
    axes.set_axis_off()

# %%
# And the way there.
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, solution in solved.items():
    axes.plot(solution.trace, label=name)
axes.set(xlabel="iteration", ylabel="peak signal-to-noise ratio (dB)")
axes.grid(alpha=0.3)
axes.legend()
