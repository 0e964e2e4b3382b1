"""The learned update: the structure of the gradient of the Gram style loss, with every map learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, relu, softsign

from apps.style_transfer.gram_step import GramStep, Moments, WhiteningStep, moments
from apps.style_transfer.precision import at_least_single
from unroll import LearnedUpdate

EncodedStyle = tuple[tuple[Moments, ...], ...]
"""H_{l,t}^s for t = 0..N-1 (outer) and l = 1..L (inner)."""


@dataclass(frozen=True)
class Architecture:
    """What fixes the shapes of a :class:`GramUpdate`; written into the header of its weights.

    Attributes:
        channels: c_l of the levels l = 1..L; level l works at 1 / 2^(l-1) of the resolution.
        steps: N, the iterations there are parameters for.
        step: "whitening" or "gram", see :mod:`apps.style_transfer.gram_step`.
        normalised: bound the Gram step and the update; False is the bare gradient structure, for tests and studies.
        gated: gate the backward maps by the forward activations, as backpropagation does; False gives them ReLUs of
            their own.
        colours: one more level, l = 0, whose maps are the identity: a Gram step on the colours themselves, with a
            learned gain. It saves the maps from having to learn what every style needs first.
        padding: "replicate" (no border is visible) or "zeros" (backward maps can be exact transposes).
    """

    channels: tuple[int, ...] = (16, 32, 64, 128)
    steps: int = 4
    step: Literal["whitening", "gram"] = "whitening"
    normalised: bool = True
    gated: bool = False
    colours: bool = True
    padding: Literal["replicate", "zeros"] = "replicate"

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
        self.gradients = nn.ModuleList(GramGradient(self.architecture) for _ in range(self.architecture.steps))
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
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        ins = (3, *architecture.channels[:-1])
        self.levels = nn.ModuleList(
            Level(i, c, pool=l > 0, architecture=architecture)
            for l, (i, c) in enumerate(zip(ins, architecture.channels, strict=True))
        )
        self.style_maps = nn.ParameterList(torch.eye(c) for c in architecture.channels)
        self.gram_step = (
            WhiteningStep() if architecture.step == "whitening" else GramStep(normalised=architecture.normalised)
        )
        if architecture.colours:
            self.colour_gain = nn.Parameter(torch.tensor(0.1))
        if architecture.normalised:
            # The solver starts close to the identity.
            with torch.no_grad():
                cast(Level, self.levels[0]).backward_first.weight.mul_(0.05)

    def features(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return (hidden, tap) of each level, both before their activation; h_l^f(x) is the tap."""
        maps = []
        y = x - 0.5
        for level in self.levels:
            hidden, tap = level(y)
            maps.append((hidden, tap))
            y = relu(tap)
        return maps

    def encode(self, style: Tensor) -> tuple[Moments, ...]:
        """Return H_l^s of a style image, l = 1..L."""
        taps = [tap for _, tap in self.features(style)]
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
        directions = [self.direction(tap, h) for (_, tap), h in zip(maps, style, strict=False)]
        # 3. Backward maps, h_l^b: from the deepest level down, the D_l added as they are passed.
        d = self.carry(directions, maps, x)
        if self.architecture.colours:
            d = d + self.colour_gain * self.direction(x - 0.5, style[-1])
        return softsign(d) if self.architecture.normalised else d

    def carry(self, directions: Sequence[Tensor], maps: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
        """Return sum_l h_l^b(D_l), for the first ``len(directions)`` levels."""
        d = directions[-1]
        for l in reversed(range(len(directions))):
            below = maps[l - 1][1] if l else x
            d = self.levels[l].backward_map(d, hidden=maps[l][0], size=below.shape[-2:])  # type: ignore[operator]
            if l:
                d = directions[l - 1] + (d * (below > 0) if self.architecture.gated else relu(d))
        return d

    def direction(self, tap: Tensor, style: Moments) -> Tensor:
        """Return D_l of a tap."""
        with torch.autocast(tap.device.type, enabled=False):
            d = cast(Tensor, self.gram_step(at_least_single(tap), style))
        if self.architecture.normalised:
            return d
        c, n = tap.shape[1], tap.shape[2] * tap.shape[3]
        return d * (4 / (len(self.levels) * c**2 * n))


class Level(nn.Module):
    """One level: pooling (but for the first), two 3 x 3 convolutions up, and the two that mirror them down."""

    def __init__(self, below: int, channels: int, *, pool: bool, architecture: Architecture) -> None:
        super().__init__()
        self.pool = pool
        self.gated = architecture.gated

        def conv(i: int, o: int, *, bias: bool) -> nn.Conv2d:
            layer = nn.Conv2d(i, o, 3, padding=1, padding_mode=architecture.padding, bias=bias)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            return layer

        self.forward_first = conv(below, channels, bias=True)
        self.forward_second = conv(channels, channels, bias=True)
        self.backward_second = conv(channels, channels, bias=not architecture.gated)
        self.backward_first = conv(channels, below, bias=not architecture.gated)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (hidden, tap): the outputs of the two convolutions before their activations."""
        hidden = self.forward_first(_halve(y) if self.pool else y)
        return hidden, self.forward_second(relu(hidden))

    def forward_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the forward maps."""
        yield from self.forward_first.parameters()
        yield from self.forward_second.parameters()

    def backward_map(self, d: Tensor, *, hidden: Tensor, size: torch.Size) -> Tensor:
        """Carry d from the tap to the input of the level, of the given size: the mirror image of :meth:`forward`."""
        d = self.backward_second(d)
        d = d * (hidden > 0) if self.gated else relu(d)
        d = self.backward_first(d)
        return _double(d, size) if self.pool else d

    @torch.no_grad()
    def transpose_(self) -> None:
        """Make the backward maps the exact transposes of the forward maps (with zero padding: their adjoints)."""
        for mirror, source in (
            (self.backward_second, self.forward_second),
            (self.backward_first, self.forward_first),
        ):
            mirror.weight.copy_(source.weight.transpose(0, 1).flip(2, 3))
        if self.pool:
            # The transpose of averaging 2 x 2 pixels repeats a pixel and divides by four.
            self.backward_first.weight.mul_(0.25)


def _halve(y: Tensor) -> Tensor:
    # An odd side is repeated at its end first: nothing is cropped.
    h, w = y.shape[-2:]
    return avg_pool2d(pad(y, (0, w % 2, 0, h % 2), mode="replicate") if h % 2 or w % 2 else y, 2)


def _double(d: Tensor, size: torch.Size) -> Tensor:
    return interpolate(d, scale_factor=2, mode="nearest")[..., : size[0], : size[1]]
