"""
Inpainting with a graph projector: colours from one pixel in fifty
==================================================================

A photograph has lost its colours but at two pixels in a hundred. Its grey values tell where colours may change: on
the graph of their matting Laplacian, the colours are nearly bandlimited. So they are the point of span(U_k), the k
lowest frequencies of that graph, that comes nearest to the colours known: projected gradient descent, with the graph's
projector in the loop.
"""

import matplotlib.pyplot as plt
import torch

import unroll
from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from graphs import BandlimitedProjector, eigenbasis, matting

photo = resize(read_image(EXAMPLE_CONTENT).rgb, 112)
grey = photo.mean(1, keepdim=True)
generator = torch.Generator().manual_seed(0)
mask = (torch.rand(grey.shape, generator=generator) < 0.02).float()
chroma = photo - grey  # what is to be found; known where the mask is 1

# %%
# The projector is made from the grey picture alone. The eigenvectors are computed once.
laplacian = matting(grey, eps=1e-6)
projector = BandlimitedProjector(eigenbasis(laplacian, 60))

# %%
# The loss sees the known pixels only. Any linear map may stand in :class:`unroll.LeastSquares`; this one is a mask.
# Anderson's acceleration goes around the plain iteration, and a tolerance says when to stop.
update = unroll.GradientStep(unroll.LeastSquares(lambda x: mask * x), step_size=1.0)
solver = unroll.Unrolled(update, steps=500, scheme=unroll.Anderson(memory=10))
with torch.no_grad():
    solution = solver(0 * chroma, mask * chroma, projector=projector, until=unroll.Tolerance(1e-4))
print(solution.status)
coloured = grey + solution.x

# %%
# The known pixels, drawn three wide to be seen, and what came of them.
wide = torch.ones(3, 1, 3, 3)
seen, count = (torch.nn.functional.conv2d(x, wide, padding=1, groups=3) for x in (mask * chroma, mask.expand_as(photo)))
pictures = {
    "grey": grey.expand_as(photo),
    f"the {int(mask.sum())} colours that are known": grey + seen / count.clamp(min=1),
    "coloured": coloured,
    "photograph": photo,
}
figure, parts = plt.subplots(1, 4, figsize=(13, 2.9), layout="constrained")
for axes, (name, x) in zip(parts, pictures.items(), strict=True):
    axes.imshow(x[0].permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_title(name)
    axes.set_axis_off()
error = (solution.x - chroma).norm() / chroma.norm()
print(f"relative error of the colours: {error:.2f}")
