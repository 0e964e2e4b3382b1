"""The learned update: the structure of the gradient of the Gram style loss, with every map learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softsign

from apps.style_transfer.learned.gram_step import Affine, EncodedStyle, Moments, Sums, sums, whitening_map
from apps.style_transfer.learned.level import Level, Padding, gate, initialise
from apps.style_transfer.learned.precision import at_least_single
from apps.style_transfer.learned.regions import Regional, pyramid
from unroll import LearnedUpdate

__all__ = [
    "Architecture",
    "EncodedStyle",
    "GramGradient",
    "GramUpdate",
    "Kind",
    "Level",
    "Padding",
    "PlainGradient",
    "Plan",
    "WhiteningGradient",
]

Kind = Literal["whitening", "gradient"]
"""Of one update: the whitening step, or the paper's plain one. See :class:`GramGradient`."""


@dataclass(frozen=True)
class Architecture:
    """What fixes the shapes of a :class:`GramUpdate`; written into the header of its weights.

    Attributes:
        channels: c_l of the levels l = 1..L; level l works at 1 / 2^(l-1) of the resolution.
        convolutions: 3 x 3 convolutions of each level, up, and as many down; at least one.
        kinds: of g_0..g_{N-1}, "whitening" or "gradient".
        whitening_levels: of whitening updates, which have the first so many of the levels; the others have all.
        bounded: keep every update within (-1, 1) and choose its length; False is the bare structure, for tests and
            studies.
        colours: one more level, l = 0, whose maps are the identity: a whitening step on the colours themselves, with a
            learned gain. It saves the maps from having to learn what every style needs first.
        padding: "replicate" (no border is visible) or "zeros" (backward maps can be exact transposes).
    """

    channels: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: tuple[int, ...] = (2, 2, 3, 3)
    kinds: tuple[Kind, ...] = ("whitening", "whitening", "gradient", "gradient")
    whitening_levels: int = 2
    bounded: bool = True
    colours: bool = True
    padding: Padding = "replicate"

    def __post_init__(self) -> None:
        """Check that the levels agree and the kinds are known."""
        if len(self.channels) != len(self.convolutions) or min(self.convolutions, default=0) < 1:
            raise ValueError(
                f"each level wants channels and at least one convolution, got channels {self.channels} "
                f"and convolutions {self.convolutions}"
            )
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ValueError(f"each update is one of {', '.join(_KINDS)}, got {self.kinds}")
        if self.whitening_levels < 1:
            raise ValueError(f"whitening updates have at least one level, got {self.whitening_levels}")

    @property
    def steps(self) -> int:
        """N, the iterations there are parameters for."""
        return len(self.kinds)

    def depth(self, kind: Kind) -> int:
        """Return how many levels an update of this kind has."""
        return min(self.whitening_levels, len(self.channels)) if kind == "whitening" else len(self.channels)

    def as_dict(self) -> dict[str, object]:
        """Return the fields, for a header."""
        return asdict(self)


class GramUpdate(LearnedUpdate):
    """g_t of the paper, untied over t: one :class:`GramGradient` for each t = 0..N-1.

    ``data`` is the encoded style, from :meth:`encode`, or a :class:`~apps.style_transfer.learned.regions.Regional`
    one, of a style for each region of the image. Images are (B, 3, H, W) in [0, 1], at least 16 pixels each way.
    Source: Puy and Perez, arXiv:1806.05285, with arbitrary styles as in its conference version. The paper gives no
    channels, kernels, normalisation or way to H^s: those are ours, see :class:`Architecture`.
    """

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.gradients = nn.ModuleList(_KINDS[kind](self.architecture) for kind in self.architecture.kinds)
        self.max_steps = self.architecture.steps

    def encode(self, style: Tensor, regions: Tensor | None = None) -> EncodedStyle:
        """Return H_{l,t}^s of a style image (B or 1, 3, H, W), in one pass through the forward maps.

        With ``regions``, weights (R, H, W) >= 0 of the pixels of one image, uint8 or floating, of each of its R
        regions. Raises ValueError where they are of another size.
        """
        if regions is not None:
            if style.shape[0] != 1 or regions.shape[-2:] != style.shape[-2:]:
                raise ValueError(f"regions {tuple(regions.shape)} do not lie on one style image {tuple(style.shape)}")
            regions = at_least_single(regions.to(style))
        return tuple(cast(GramGradient, g).encode(style, regions) for g in self.gradients)

    def forward(self, x: Tensor, data: EncodedStyle | Regional, t: int) -> Tensor:
        """Return g_t(x)."""
        if isinstance(data, Regional):
            return cast(Tensor, self.gradients[t](x, data.styles[t], data.weights(x)))
        return cast(Tensor, self.gradients[t](x, data[t]))


class Plan(NamedTuple):
    """What of an update is the same at all pixels, made of sums over them.

    Attributes:
        levels: the Gram steps F_l -> D_l, l = 1..L.
        colours: that of the colours themselves, where the architecture has it.
        loss: what the steps descend, (B, 1, 1, 1), and zero where there is no loss to go with them.
    """

    levels: tuple[Affine, ...]
    colours: Affine | None
    loss: Tensor


RAMP = 1e-3
"""Width of the gates' ramps, where taps have a scale of 1: see :func:`~apps.style_transfer.learned.level.gate`."""


class GramGradient(nn.Module):
    """One g_t: forward maps h_l^f, Gram step, backward maps h_l^b symmetric to them, summed on the way down.

    H_l^s are the moments of h_l^f on the style image, carried through a learned matrix A_l: mean A_l m and Gram
    A_l G A_l^T, A_l starting as the identity.

    Two kinds differ in the Gram step and in what the backward maps do where a forward map has a ReLU:
    :class:`WhiteningGradient` takes long strides, :class:`PlainGradient` descends from where these end.
    """

    kind: Kind
    gated: bool
    centred: bool  # whether the Gram steps need means beside Grams
    colour_gain_at_start: float

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        # The bare structure is an exact gradient, of ReLUs with their corner.
        self.ramp = RAMP if architecture.bounded else 0.0
        depth = architecture.depth(self.kind)
        channels, convolutions = architecture.channels[:depth], architecture.convolutions[:depth]
        ins = (3, *channels[:-1])
        self.levels = nn.ModuleList(
            Level(i, c, convolutions=k, pool=l > 0, gated=self.gated, ramp=self.ramp, padding=architecture.padding)
            for l, (i, c, k) in enumerate(zip(ins, channels, convolutions, strict=True))
        )
        self.style_maps = nn.ParameterList(initialise(torch.empty(c, c), nn.init.eye_) for c in channels)
        if architecture.colours:
            self.colour_gain = nn.Parameter(torch.tensor(self.colour_gain_at_start))

    def features(self, x: Tensor) -> list[list[Tensor]]:
        """Return of each level the outputs of its convolutions, before their activation; h_l^f(x) is the last."""
        maps = []
        y = x - 0.5
        for level in self.levels:
            maps.append(level(y))
            y = relu(maps[-1][-1])
        return maps

    def encode(self, style: Tensor, regions: Tensor | None = None) -> tuple[Moments, ...]:
        """Return H_l^s of a style image, l = 1..L, and the moments of its colours; of each region, if there are."""
        taps = [outputs[-1] for outputs in self.features(style)]
        levels = pyramid(regions, len(taps))
        with torch.autocast(style.device.type, enabled=False):
            return self.carry_over(self.sums(style, taps, levels, about_mean=True))

    def carry_over(self, found: Sequence[Sums]) -> tuple[Moments, ...]:
        """Return the encoded style that the sums about the mean of its taps and colours are."""
        moments = [s.moments for s in found]
        levels = [
            Moments(a @ mean, a @ covariance @ a.mT)
            for (mean, covariance), a in zip(moments, self.style_maps, strict=False)
        ]
        return (*levels, *moments[len(levels) :])

    def forward(self, x: Tensor, style: tuple[Moments, ...], regions: Tensor | None = None) -> Tensor:
        """Return g_t(x); with ``regions``, weights (R, H, W) that sum to 1, the style has R in the batch's place.

        The four methods that it calls are what a picture in tiles needs: the sums add up over tiles, the plan is made
        once, the displacement of a tile needs only the pixels around it, and the rest is pixel by pixel.
        """
        levels = pyramid(regions, len(self.levels))
        # 1. Forward maps, h_l^f.
        maps = self.features(x)
        # 2. Gram steps, made of the sums over all pixels.
        with torch.autocast(x.device.type, enabled=False):
            plan = self.plan(self.sums(x, [outputs[-1] for outputs in maps], levels), style)
        # 3. Backward maps, h_l^b: from the deepest level down, the D_l added as they are passed.
        d = self.displacement(x, maps, plan, levels)
        with torch.autocast(x.device.type, enabled=False):
            return self.finish(x, d, plan, self.slope(d), levels[0])

    def sums(
        self,
        x: Tensor,
        taps: Sequence[Tensor],
        regions: Sequence[Tensor | None],
        *,
        about_mean: bool | None = None,
    ) -> list[Sums]:
        """Return the sums over pixels of the taps and the colours: what the update needs, or an encoded style."""
        about_mean = self.centred if about_mean is None else about_mean
        found = [sums(at_least_single(tap), m, about_mean=about_mean) for tap, m in zip(taps, regions, strict=True)]
        if self.architecture.colours:
            found.append(sums(at_least_single(x) - 0.5, regions[0]))
        return found

    def plan(self, found: Sequence[Sums], style: tuple[Moments, ...]) -> Plan:
        """Return what the update does, from the sums over all pixels."""
        levels, loss = self.steps(found[: len(self.levels)], style)
        colours = whitening_map(found[-1].moments, style[-1]) if self.architecture.colours else None
        return Plan(tuple(levels), colours, loss)

    def displacement(
        self, x: Tensor, maps: Sequence[Sequence[Tensor]], plan: Plan, regions: Sequence[Tensor | None]
    ) -> Tensor:
        """Return d = sum_l h_l^b(D_l), before it is given its length."""
        with torch.autocast(x.device.type, enabled=False):
            directions = [
                step(at_least_single(outputs[-1]), m)
                for step, outputs, m in zip(plan.levels, maps, regions, strict=True)
            ]
        return self.carry(directions, maps, x)

    def slope(self, d: Tensor) -> Tensor | None:
        """Return the mean over pixels of ||d||^2, (B, 1, 1, 1), if the length of the update depends on it."""
        return None

    def finish(self, x: Tensor, d: Tensor, plan: Plan, slope: Tensor | None, regions: Tensor | None) -> Tensor:
        """Return g_t(x), pixel by pixel: d at its length, the step of the colours, the bound."""
        d = at_least_single(d)
        if slope is not None:
            d = self.length(plan.loss, slope) * d
        if plan.colours is not None:
            d = d + self.colour_gain * plan.colours(at_least_single(x) - 0.5, regions)
        return softsign(d) if self.architecture.bounded else d

    def steps(self, found: Sequence[Sums], style: tuple[Moments, ...]) -> tuple[list[Affine], Tensor]:
        """Return the maps F_l -> D_l and the loss (B, 1, 1, 1) that they descend."""
        raise NotImplementedError

    def length(self, loss: Tensor, slope: Tensor) -> Tensor:
        """Return what d is multiplied by, (B, 1, 1, 1), where it has a :meth:`slope`."""
        raise NotImplementedError

    def carry(self, directions: Sequence[Tensor], maps: Sequence[Sequence[Tensor]], x: Tensor) -> Tensor:
        """Return sum_l h_l^b(D_l), for the first ``len(directions)`` levels."""
        d = directions[-1]
        for l in reversed(range(len(directions))):
            below = maps[l - 1][-1] if l else x
            d = self.levels[l].backward_map(d, maps[l], size=below.shape[-2:])  # type: ignore[operator]
            if l:
                d = directions[l - 1] + (d * gate(below, self.ramp) if self.gated else relu(d))
        return d


class WhiteningGradient(GramGradient):
    """The Gram step preconditioned, see :func:`~apps.style_transfer.learned.gram_step.whitening_map`.

    What its backward maps carry is a displacement of the features, not a derivative: they are a decoder with ReLUs of
    its own, and the length of the update is learned. It starts short, so that the solver starts close to the identity.
    It has the first levels alone, for trained with all four it left the coarser two unused, twice (docs/studies.md).
    """

    kind = "whitening"
    gated = False
    centred = True
    colour_gain_at_start = 0.1

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        if architecture.bounded:
            with torch.no_grad():
                cast(nn.Conv2d, cast(Level, self.levels[0]).backward_maps[0]).weight.mul_(0.05)

    def steps(self, found: Sequence[Sums], style: tuple[Moments, ...]) -> tuple[list[Affine], Tensor]:
        """Return the maps F_l -> D_l; there is no loss to go with them."""
        levels = [whitening_map(f.moments, h) for f, h in zip(found, style, strict=False)]
        return levels, levels[0].matrix.new_zeros(1, 1, 1, 1)


class PlainGradient(GramGradient):
    """The paper's plain Gram step, gated in the backward maps by the forward activations, as backpropagation is.

    D_l = 4 w_l / (L c_l^2 n_l) F_l [F_l^T F_l / n_l - H_l], with learned weights w_l of the levels. While the backward
    maps are the transposes of the forward ones, where they start, sum_l h_l^b(D_l) is the gradient of the style loss
    J = sum_l w_l / (L c_l^2) ||F_l^T F_l / n_l - H_l||_F^2 of the learned features.

    Departure from the paper, which is silent on it: the update has the length of Polyak's step,

        g = alpha J d / ||d||^2,    d = sum_l h_l^b(D_l),    alpha learned, 1/2 at the start,

    free of the scale of the features, and vanishing as the Grams come to agree. Source: B. Polyak, "Introduction to
    optimization", 1987, section 5.3.
    """

    kind = "gradient"
    gated = True
    centred = False
    colour_gain_at_start = 0.0

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.level_weights = nn.Parameter(torch.zeros(len(architecture.channels)))  # log w_l
        if architecture.bounded:
            self.alpha = nn.Parameter(torch.tensor(0.5))
        self.transpose_()

    def transpose_(self) -> None:
        """Make the backward maps the transposes of the forward maps, in place."""
        for level in self.levels:
            cast(Level, level).transpose_()

    def steps(self, found: Sequence[Sums], style: tuple[Moments, ...]) -> tuple[list[Affine], Tensor]:
        """Return the maps F_l -> D_l, and J. For a bounded update J comes divided by S and D_l by S / n_1.

        S is J with ||F^T F / n||^2 + ||H||^2 in place of the residuals. Polyak's step is the same, and neither loud
        features nor many pixels make it over- or underflow. Of regions, J is the mean, each counted by its pixels.
        """
        grams = [(f.moments.gram, h.gram) for f, h in zip(found, style, strict=False)]
        weights = [
            w / (len(found) * g.shape[-1] ** 2) for w, (g, _) in zip(self.level_weights.exp(), grams, strict=True)
        ]
        root: Tensor = grams[0][0].new_ones(1, 1, 1)
        n: Tensor | int = 1
        if self.architecture.bounded:
            root = (self._over_levels(found, weights, [_energy(g) + _energy(h) for g, h in grams]) + 1e-20).sqrt()
            n = found[0].total
        residuals = [(g - h) / root for g, h in grams]
        loss = self._over_levels(found, weights, [_energy(r) for r in residuals])
        maps = [(4 * n / f.total) * w * r / root for f, w, r in zip(found, weights, residuals, strict=True)]
        return [Affine(m, m.new_zeros(*m.shape[:2], 1)) for m in maps], loss[..., None]

    @staticmethod
    def _over_levels(found: Sequence[Sums], weights: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum over the levels of what each region has there."""
        terms = [w * f.pooled(v) for f, w, v in zip(found, weights, values, strict=True)]
        return torch.stack(terms).sum(0)

    def slope(self, d: Tensor) -> Tensor | None:
        """Return the mean over pixels of ||d||^2; d comes multiplied by n_1, so it takes the place of the sum."""
        if not self.architecture.bounded:
            return None
        return at_least_single(d).square().sum(1, keepdim=True).mean((2, 3), keepdim=True)

    def length(self, loss: Tensor, slope: Tensor) -> Tensor:
        """Return Polyak's."""
        return self.alpha * loss / (slope + 1e-12)


_KINDS: dict[str, type[GramGradient]] = {"whitening": WhiteningGradient, "gradient": PlainGradient}


def _energy(k: Tensor) -> Tensor:
    return k.square().sum((1, 2), keepdim=True)
