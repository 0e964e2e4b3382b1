"""A photograph and a style: the figures of what is made of them, and what L-BFGS does on them."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from apps.style_transfer.evaluation.metrics import edge_ssim, matting_energy, psnr
from apps.style_transfer.losses import ContentLoss, StyleLoss, encode_targets, reference_objective
from apps.style_transfer.solvers import LBFGS
from apps.style_transfer.vgg import VGG19
from graphs import Laplacian, matting


class Pair:
    """A photograph and a style, images (1, 3, H, W) and (1, 3, H', W'), RGB in [0, 1], on the device of the trunk.

    Args:
        content, style: the images, at the size at which pictures are measured.
        vgg: the trunk of the losses; it asks each side to have ``VGG19.smallest_side`` pixels.
        gatys: L-BFGS iterations of the yardstick; 0 for none.
    """

    def __init__(self, content: Tensor, style: Tensor, vgg: VGG19, *, gatys: int = 0) -> None:
        self.content, self.style, self.vgg = content, style, vgg
        self.laplacian: Laplacian = matting(content).to(content.device)
        self.targets = encode_targets(vgg, content, style)
        self.before = self._losses(content)
        self.limit, self.gatys_seconds = gatys, 0.0
        self._totals: list[float] = []

    def figures(self, x: Tensor) -> dict[str, Any]:
        """Return the figures of a picture (1, 3, H, W), RGB in [0, 1], made of the photograph.

        - ``content_loss``, ``style_loss``, ``total_loss``: the reference objective; ``total_ratio``: over the
          photograph's; ``style_cut``: 1 - L_s / L_s(photograph); None where the photograph is its own style, and has
          no loss;
        - ``edge_ssim``, ``matting_energy``, ``psnr`` against the photograph, see
          :mod:`apps.style_transfer.evaluation.metrics`; None for the PSNR of the photograph itself.
        """
        content_loss, style_loss, total_loss = self._losses(x)
        likeness = psnr(x, self.content)
        return {
            "content_loss": content_loss,
            "style_loss": style_loss,
            "total_loss": total_loss,
            "total_ratio": total_loss / self.before[2] if self.before[2] else None,
            "style_cut": 1 - style_loss / self.before[1] if self.before[1] else None,
            "edge_ssim": edge_ssim(x, self.content),
            "matting_energy": matting_energy(x, self.laplacian),
            "psnr": likeness if math.isfinite(likeness) else None,
        }

    def iterations(self, total: float) -> float | None:
        """Return how many L-BFGS iterations from the photograph reach a total; None where nobody asks.

        Unclamped, and interpolated between iterations; one more than were run where these do not reach it. They are
        run once, when first asked for; ``gatys_seconds`` is then what one takes.
        """
        if not self.limit:
            return None
        if not self._totals:
            self._run_gatys()
        lowest = math.inf
        for t, reached in enumerate(self._totals):
            if reached <= total:
                return t - (total - reached) / (lowest - reached) if t and lowest > reached else float(t)
            lowest = min(lowest, reached)
        return float(self.limit + 1)

    @torch.inference_mode()
    def _losses(self, x: Tensor) -> tuple[float, float, float]:
        """Return content, style and total loss."""
        features = self.vgg(x)
        content_loss, style_loss = (float(loss(features, self.targets)) for loss in (ContentLoss(), StyleLoss()))
        return content_loss, style_loss, content_loss + 1e-4 * style_loss

    def _run_gatys(self) -> None:
        solver = LBFGS(self.vgg)
        objective = reference_objective(self.vgg)
        style = solver.encode(self.style)
        # Timed without the probe, which costs an evaluation more than the iteration has.
        began = time.perf_counter()
        solver(self.content, style, steps=min(5, self.limit))
        self.gatys_seconds = (time.perf_counter() - began) / min(5, self.limit)
        with torch.no_grad():
            trace = solver(
                self.content, style, steps=self.limit, probe=lambda x, t: float(objective(x, self.targets))
            ).trace
        self._totals = list(trace)
