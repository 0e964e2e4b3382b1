"""
A phantom from a quarter of its Fourier coefficients
====================================================

As in magnetic resonance imaging: the Fourier transform of the image is measured along some lines only. Where the
missing ones are taken to be 0 the image has streaks and ghosts. It is piecewise constant, so it is found as the one of
little total variation that has these coefficients.
"""

import matplotlib.pyplot as plt
import torch

import unroll
from unroll.penalties import TotalVariation2d

# %%
# A phantom of ellipses, after Shepp and Logan.
SIZE = 128
down, right = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")


def ellipse(x, y, a, b, degrees):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    u = (right - x) * angle.cos() - (down - y) * angle.sin()
    v = (right - x) * angle.sin() + (down - y) * angle.cos()
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).float()


parts = [(0, 0, 0.69, 0.92, 0, 1.0), (0, 0.02, 0.66, 0.87, 0, -0.8), (0.22, 0, 0.11, 0.31, 18, -0.2)]
parts += [(-0.22, 0, 0.16, 0.41, -18, -0.2), (0, -0.35, 0.21, 0.25, 0, 0.2), (0, 0.1, 0.046, 0.046, 0, 0.3)]
parts += [(-0.08, 0.6, 0.046, 0.023, 0, 0.3), (0.06, 0.6, 0.023, 0.046, 0, 0.3)]
phantom = sum(value * ellipse(*where) for *where, value in parts)[None]

# %%
# Thirty radial lines through the middle of the plane of frequencies, with a little noise.
frequency = torch.fft.fftfreq(SIZE, 1 / SIZE)
mask = torch.zeros(SIZE, SIZE)
for angle in torch.arange(30) * torch.pi / 30:
    radius = torch.linspace(-SIZE / 2, SIZE / 2, 4 * SIZE)
    mask[(radius * angle.sin()).round().long() % SIZE, (radius * angle.cos()).round().long() % SIZE] = 1


def measure(x):
    return mask * torch.fft.fft2(x, norm="ortho")


generator = torch.Generator().manual_seed(0)
noise = torch.randn(1, SIZE, SIZE, dtype=torch.complex64, generator=generator)
data = measure(phantom) + 0.005 * mask * noise
zeros = torch.fft.ifft2(data, norm="ortho").real

# %%
# The measurements are complex and the image is real: the gradient of the loss is real too.
update = unroll.GradientStep(unroll.LeastSquares(measure), step_size=1.0)
solver = unroll.Unrolled(update, steps=150, scheme=unroll.Nesterov(restart=True))
with torch.no_grad():
    found = solver(zeros, data, projector=TotalVariation2d(2e-3, tol=1e-3)).x

figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(torch.fft.fftshift(mask).numpy(), cmap="gray")
axes[0].set_title(f"measured: {100 * mask.mean():.0f} % of the plane")
for axis, (name, x) in zip(
    axes[1:], {"zeros elsewhere": zeros, "total variation": found, "phantom": phantom}.items(), strict=True
):
    axis.imshow(x[0].numpy(), cmap="gray", vmin=0, vmax=0.5)
    error = float((x - phantom).norm() / phantom.norm())
    axis.set_title(f"{name}, error {100 * error:.1f} %" if x is not phantom else name)
for axis in axes:
    axis.set_axis_off()
