"""The learned update: the structure of the gradient of the Gram style loss, with every map learned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, relu, softsign

from apps.style_transfer.gram_step import Moments, moments, whitening_step
from apps.style_transfer.precision import at_least_single
from unroll import LearnedUpdate

EncodedStyle = tuple[tuple[Moments, ...], ...]
"""H_{l,t}^s for t = 0..N-1 (outer) and l = 1..L (inner)."""


Padding = Literal["replicate", "zeros"]
Kind = Literal["whitening", "gradient"]
"""Of one update: the whitening step, or the paper's plain one. See :class:`GramGradient`."""


@dataclass(frozen=True)
class Architecture:
    """What fixes the shapes of a :class:`GramUpdate`; written into the header of its weights.

    Attributes:
        channels: c_l of the levels l = 1..L; level l works at 1 / 2^(l-1) of the resolution.
        convolutions: 3 x 3 convolutions of each level, up, and as many down; at least one.
        kinds: of g_0..g_{N-1}, "whitening" or "gradient".
        bounded: keep every update within (-1, 1) and choose its length; False is the bare structure, for tests and
            studies.
        colours: one more level, l = 0, whose maps are the identity: a whitening step on the colours themselves, with a
            learned gain. It saves the maps from having to learn what every style needs first.
        padding: "replicate" (no border is visible) or "zeros" (backward maps can be exact transposes).
    """

    channels: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: tuple[int, ...] = (2, 2, 3, 3)
    kinds: tuple[Kind, ...] = ("whitening", "whitening", "gradient", "gradient")
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

    @property
    def steps(self) -> int:
        """N, the iterations there are parameters for."""
        return len(self.kinds)

    def as_dict(self) -> dict[str, object]:
        """Return the fields, for a header."""
        return asdict(self)


class GramUpdate(LearnedUpdate):
    """g_t of the paper, untied over t: one :class:`GramGradient` for each t = 0..N-1.

    ``data`` is the encoded style, from :meth:`encode`. Images are (B, 3, H, W) in [0, 1], at least 16 pixels each way.
    Source: Puy and Perez, arXiv:1806.05285, with arbitrary styles as in its conference version. The paper gives no
    channels, kernels, normalisation or way to H^s: those are ours, see :class:`Architecture`.
    """

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.gradients = nn.ModuleList(_KINDS[kind](self.architecture) for kind in self.architecture.kinds)
        self.max_steps = self.architecture.steps

    def encode(self, style: Tensor) -> EncodedStyle:
        """Return H_{l,t}^s of a style image (B or 1, 3, H, W), in one pass through the forward maps."""
        return tuple(cast(GramGradient, g).encode(style) for g in self.gradients)

    def forward(self, x: Tensor, data: EncodedStyle, t: int) -> Tensor:
        """Return g_t(x)."""
        return cast(Tensor, self.gradients[t](x, data[t]))


class GramGradient(nn.Module):
    """One g_t: forward maps h_l^f, Gram step, backward maps h_l^b symmetric to them, summed on the way down.

    H_l^s are the moments of h_l^f on the style image, carried through a learned matrix A_l: mean A_l m and Gram
    A_l G A_l^T, A_l starting as the identity.

    Two kinds differ in the Gram step and in what the backward maps do where a forward map has a ReLU:
    :class:`WhiteningGradient` takes long strides, :class:`PlainGradient` descends from where these end.
    """

    gated: bool
    colour_gain_at_start: float

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        ins = (3, *architecture.channels[:-1])
        self.levels = nn.ModuleList(
            Level(i, c, convolutions=k, pool=l > 0, gated=self.gated, padding=architecture.padding)
            for l, (i, c, k) in enumerate(zip(ins, architecture.channels, architecture.convolutions, strict=True))
        )
        self.style_maps = nn.ParameterList(torch.eye(c) for c in architecture.channels)
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

    def encode(self, style: Tensor) -> tuple[Moments, ...]:
        """Return H_l^s of a style image, l = 1..L."""
        taps = [outputs[-1] for outputs in self.features(style)]
        with torch.autocast(style.device.type, enabled=False):
            found = [moments(at_least_single(tap)) for tap in taps]
            encoded = [
                Moments(a @ mean, a @ covariance @ a.mT)
                for (mean, covariance), a in zip(found, self.style_maps, strict=True)
            ]
            if self.architecture.colours:
                encoded.append(moments(style - 0.5))
        return tuple(encoded)

    def forward(self, x: Tensor, style: tuple[Moments, ...]) -> Tensor:
        """Return g_t(x)."""
        # 1. Forward maps, h_l^f.
        maps = self.features(x)
        # 2. Gram steps, D_l.
        with torch.autocast(x.device.type, enabled=False):
            directions, loss = self.directions([at_least_single(outputs[-1]) for outputs in maps], style)
        # 3. Backward maps, h_l^b: from the deepest level down, the D_l added as they are passed.
        d = self.carry(directions, maps, x)
        with torch.autocast(x.device.type, enabled=False):
            d = self.length(at_least_single(d), loss) if self.architecture.bounded else d
            if self.architecture.colours:
                d = d + self.colour_gain * whitening_step(at_least_single(x) - 0.5, style[-1])
        return softsign(d) if self.architecture.bounded else d

    def directions(self, taps: Sequence[Tensor], style: tuple[Moments, ...]) -> tuple[list[Tensor], Tensor]:
        """Return D_l of the taps and the loss (B, 1, 1, 1) that they descend."""
        raise NotImplementedError

    def length(self, d: Tensor, loss: Tensor) -> Tensor:
        """Return d at the length it is to have."""
        raise NotImplementedError

    def carry(self, directions: Sequence[Tensor], maps: Sequence[Sequence[Tensor]], x: Tensor) -> Tensor:
        """Return sum_l h_l^b(D_l), for the first ``len(directions)`` levels."""
        d = directions[-1]
        for l in reversed(range(len(directions))):
            below = maps[l - 1][-1] if l else x
            d = self.levels[l].backward_map(d, maps[l], size=below.shape[-2:])  # type: ignore[operator]
            if l:
                d = directions[l - 1] + (d * (below > 0) if self.gated else relu(d))
        return d


class WhiteningGradient(GramGradient):
    """The Gram step preconditioned, see :func:`~apps.style_transfer.gram_step.whitening_step`.

    What its backward maps carry is a displacement of the features, not a derivative: they are a decoder with ReLUs of
    its own, and the length of the update is learned. It starts short, so that the solver starts close to the identity.
    """

    gated = False
    colour_gain_at_start = 0.1

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        if architecture.bounded:
            with torch.no_grad():
                cast(nn.Conv2d, cast(Level, self.levels[0]).backward_maps[0]).weight.mul_(0.05)

    def directions(self, taps: Sequence[Tensor], style: tuple[Moments, ...]) -> tuple[list[Tensor], Tensor]:
        """Return D_l of the taps; there is no loss to go with them."""
        return [whitening_step(tap, h) for tap, h in zip(taps, style, strict=False)], taps[0].new_zeros(1, 1, 1, 1)

    def length(self, d: Tensor, loss: Tensor) -> Tensor:
        """Return d."""
        return d


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

    gated = True
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

    def directions(self, taps: Sequence[Tensor], style: tuple[Moments, ...]) -> tuple[list[Tensor], Tensor]:
        """Return D_l and J. For a bounded update J comes divided by S and D_l by S / n_1.

        S is J with ||F^T F / n||^2 + ||H||^2 in place of the residuals. Polyak's step is the same, and neither loud
        features nor many pixels make it over- or underflow.
        """
        rows = [tap.flatten(2) for tap in taps]
        grams = [(r @ r.mT / r.shape[-1], h.gram) for r, h in zip(rows, style, strict=False)]
        weights = [w / (len(taps) * tap.shape[1] ** 2) for w, tap in zip(self.level_weights.exp(), taps, strict=True)]
        root, n = taps[0].new_ones(1, 1, 1), 1
        if self.architecture.bounded:
            energy = [w * (_energy(g) + _energy(h)) for w, (g, h) in zip(weights, grams, strict=True)]
            root, n = (sum(energy, torch.zeros_like(root)) + 1e-20).sqrt(), rows[0].shape[-1]
        residuals = [(g - h) / root for g, h in grams]
        loss = sum((w * _energy(r) for w, r in zip(weights, residuals, strict=True)), torch.zeros_like(root))
        directions = [
            ((4 * n / f.shape[-1]) * w * residual @ (f / root)).view_as(tap)
            for f, w, residual, tap in zip(rows, weights, residuals, taps, strict=True)
        ]
        return directions, loss[..., None]

    def length(self, d: Tensor, loss: Tensor) -> Tensor:
        """Return d at Polyak's length; d comes multiplied by n_1, so a mean over pixels takes the sum's place."""
        slope = d.square().sum(1, keepdim=True).mean((2, 3), keepdim=True)
        return self.alpha * loss * d / (slope + 1e-12)


_KINDS: dict[str, type[GramGradient]] = {"whitening": WhiteningGradient, "gradient": PlainGradient}


def _energy(k: Tensor) -> Tensor:
    return k.square().sum((1, 2), keepdim=True)


class Level(nn.Module):
    """One level: pooling (but for the first), 3 x 3 convolutions up, and those that mirror them down."""

    def __init__(
        self, below: int, channels: int, *, convolutions: int, pool: bool, gated: bool, padding: Padding
    ) -> None:
        super().__init__()
        self.pool = pool
        self.gated = gated

        def conv(i: int, o: int, *, bias: bool) -> nn.Conv2d:
            layer = nn.Conv2d(i, o, 3, padding=1, padding_mode=padding, bias=bias)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            return layer

        ins = (below, *[channels] * (convolutions - 1))
        self.forward_maps = nn.ModuleList(conv(i, channels, bias=True) for i in ins)
        # backward_maps[k] mirrors forward_maps[k]: they are passed from the last to the first.
        self.backward_maps = nn.ModuleList(conv(channels, i, bias=not gated) for i in ins)

    def forward(self, y: Tensor) -> list[Tensor]:
        """Return the outputs of the convolutions, before their activation."""
        y = _halve(y) if self.pool else y
        outputs: list[Tensor] = []
        for layer in self.forward_maps:
            outputs.append(layer(relu(outputs[-1]) if outputs else y))
        return outputs

    def backward_map(self, d: Tensor, outputs: Sequence[Tensor], *, size: torch.Size) -> Tensor:
        """Carry d from the tap to the input of the level, of the given size: the mirror image of :meth:`forward`."""
        for k in reversed(range(len(self.backward_maps))):
            d = self.backward_maps[k](d)
            if k:
                d = d * (outputs[k - 1] > 0) if self.gated else relu(d)
        return _double(d, size) if self.pool else d

    @torch.no_grad()
    def transpose_(self) -> None:
        """Make the backward maps the exact transposes of the forward maps (with zero padding: their adjoints)."""
        for mirror, source in zip(self.backward_maps, self.forward_maps, strict=True):
            cast(nn.Conv2d, mirror).weight.copy_(cast(nn.Conv2d, source).weight.transpose(0, 1).flip(2, 3))
        if self.pool:
            # The transpose of averaging 2 x 2 pixels repeats a pixel and divides by four.
            cast(nn.Conv2d, self.backward_maps[0]).weight.mul_(0.25)


@torch.no_grad()
def grow(update: GramUpdate, architecture: Architecture, *, noise: float = 2e-3) -> GramUpdate:
    """Return an update of a larger architecture that starts as the given one.

    Updates are repeated in turn (g_t of the new one is g_{t mod N} of the old one), and further convolutions of a level
    start as the identity after the ReLU of its first one, so that each g_t is the function that it was, up to
    normal ``noise`` on the new weights, which breaks their symmetry. Channels and all else must agree, and a level that
    grows needs two convolutions, for the identity to stand behind a ReLU; ValueError otherwise. Source: T. Chen, I.
    Goodfellow, J. Shlens, "Net2Net", 2016.
    """
    old = update.architecture
    kinds = tuple(old.kinds[t % old.steps] for t in range(architecture.steps))
    more = [k - k_old for k, k_old in zip(architecture.convolutions, old.convolutions, strict=False)]
    if (
        replace(architecture, kinds=old.kinds, channels=old.channels, convolutions=old.convolutions) != old
        or (architecture.kinds, architecture.channels) != (kinds, old.channels)
        or min(more) < 0
        or any(m and k < 2 for m, k in zip(more, old.convolutions, strict=True))
    ):
        raise ValueError(f"weights of {old} do not grow into {architecture}")
    new = GramUpdate(architecture)
    for t, gradient in enumerate(new.gradients):
        source = cast(GramGradient, update.gradients[t % old.steps])
        state = {k: v for k, v in source.state_dict().items() if not k.startswith("levels.")}
        for l, (level, extra) in enumerate(zip(source.levels, more, strict=True)):
            for side in ("forward_maps", "backward_maps"):
                layers = list(cast(nn.ModuleList, getattr(level, side)))
                layers[1:1] = [_identity(cast(nn.Conv2d, layers[-1]), noise) for _ in range(extra)]
                for k, layer in enumerate(layers):
                    state |= {f"levels.{l}.{side}.{k}.{name}": v for name, v in layer.state_dict().items()}
        gradient.load_state_dict(state)
    return new


def _identity(like: nn.Conv2d, noise: float) -> nn.Conv2d:
    layer = copy.deepcopy(like)
    nn.init.dirac_(layer.weight)
    layer.weight.add_(torch.randn_like(layer.weight), alpha=noise)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


def _halve(y: Tensor) -> Tensor:
    # An odd side is repeated at its end first: nothing is cropped.
    h, w = y.shape[-2:]
    return avg_pool2d(pad(y, (0, w % 2, 0, h % 2), mode="replicate") if h % 2 or w % 2 else y, 2)


def _double(d: Tensor, size: torch.Size) -> Tensor:
    return interpolate(d, scale_factor=2, mode="nearest")[..., : size[0], : size[1]]
