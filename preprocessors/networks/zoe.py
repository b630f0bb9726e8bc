"""ZoeDepth for rooms (ZoeD_N): metric depth from one picture."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ...adapters.identify import Shapes
from .dpt import Fusion, enlarged
from .zoe_beit import TAPS, BeitEncoder, BeitSizes

ATTRACTORS = (16, 8, 4, 1)
"""Points that pull the bins, from the coarsest map to the finest."""

PULL = 300.0
"""How fast the pull falls off with the square of the distance. The published settings name another number,
which the published code does not use."""

TEMPERATURES = (0.0212, 50.0)
LEAST_SHARE = 1e-4
LEAST_CHANCE = 1e-4
LEAST_COUNT = 1e-7

ENCODER = "core.core.pretrained."
DECODER = "core.core.scratch."


class ZoeDepth(nn.Module):
    """(B,3,h,w) float RGB 0..1 -> (B,1,h,w) float depth in metres, far = large.

    Height and width are multiples of 32. Built from the key -> shape listing of the file; `ZoeD_M12_N.pt`
    holds tensors of these names and shapes, and some that nothing is computed with.

    Source: Bhat et al. 2023 (ZoeDepth);
    isl-org/ZoeDepth: zoedepth/models/zoedepth/zoedepth_v1.py (ZoeDepth).
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        features = shapes[f"{DECODER}layer1_rn.weight"][0]
        embedding, inner = shapes["projectors.0._net.2.weight"][:2]
        bins, seeding = shapes["seed_bin_regressor._net.2.weight"][:2]
        mixed, beside = shapes["conditional_log_binomial.mlp.0.weight"][:2]
        self.core = nn.ModuleDict({"core": _DPT(shapes)})
        self.conv2 = nn.Conv2d(features, features, 1)
        self.seed_bin_regressor = _PerPixel(features, seeding, bins)
        self.seed_projector = _PerPixel(features, inner, embedding)
        self.projectors = nn.ModuleList(_PerPixel(features, inner, embedding) for _ in ATTRACTORS)
        self.attractors = nn.ModuleList(_PerPixel(embedding, inner, count) for count in ATTRACTORS)
        self.conditional_log_binomial = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Conv2d(beside, mixed, 1), nn.GELU(), nn.Conv2d(mixed, 4, 1))}
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen: _Seen = self.core["core"]((image - 0.5) / 0.5)
        bottleneck = self.conv2(seen.bottleneck)
        centres = functional.softplus(self.seed_bin_regressor(bottleneck))
        before = self.seed_projector(bottleneck)
        for projector, attractor, features in zip(self.projectors, self.attractors, seen.fused, strict=True):
            embedding = projector(features)
            size = _size(features)
            points = functional.softplus(attractor(embedding + enlarged(before, size)))
            centres = attracted(enlarged(centres, size), points)
            before = embedding
        size = _size(seen.last)
        beside = (seen.last, enlarged(seen.relative, size), enlarged(before, size))
        shares = functional.softplus(self.conditional_log_binomial["mlp"](torch.cat(beside, dim=1)))
        return (bin_chances(shares, centres.shape[1]) * enlarged(centres, size)).sum(1, keepdim=True)


def attracted(centres: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bin centres (B,n,h,w) and points (B,k,h,w) -> centres moved towards the points, by their mean pull.

    Source: Bhat et al. 2023, equation 2 (inverse attractor);
    isl-org/ZoeDepth: zoedepth/models/layers/attractor.py.
    """
    total = torch.zeros_like(centres)
    for point in points.split(1, dim=1):
        distance = point - centres
        total += distance / (1.0 + PULL * distance.square())
    return centres + total / points.shape[1]


def bin_chances(shares: torch.Tensor, count: int) -> torch.Tensor:
    """(B,4,h,w) float from 0 on -> (B,`count`,h,w), the chance of each bin; the sum over the bins is 1.

    Channels 0 and 1 are the shares of far and near, 2 and 3 those of high and low temperature, by which the
    binomial distribution's logarithms are divided.

    Source: isl-org/ZoeDepth: zoedepth/models/layers/dist_layers.py (ConditionalLogBinomial).
    """
    shares = shares + LEAST_SHARE
    chance, heat = (pair[:, :1] / pair.sum(1, keepdim=True) for pair in shares.split(2, dim=1))
    low, high = TEMPERATURES
    number = torch.arange(count, device=shares.device).view(1, -1, 1, 1)
    near = (1.0 - chance).clamp(LEAST_CHANCE, 1.0)
    far = chance.clamp(LEAST_CHANCE, 1.0)
    logarithms = log_combinations(count - 1, number) + number * far.log() + (count - 1 - number) * near.log()
    return (logarithms / ((high - low) * heat + low)).softmax(1)


def log_combinations(total: int, taken: torch.Tensor) -> torch.Tensor:
    """Logarithm of the number of ways to take `taken` of `total`, by Stirling's approximation, float32."""
    n = torch.tensor(float(total), device=taken.device) + LEAST_COUNT
    k = taken.float() + LEAST_COUNT
    return n * n.log() - k * k.log() - (n - k) * (n - k + LEAST_COUNT).log()


class _PerPixel(nn.Module):
    """Two layers on every pixel by itself."""

    def __init__(self, before: int, inner: int, after: int) -> None:
        super().__init__()
        self._net = nn.Sequential(
            nn.Conv2d(before, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, after, 1)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self._net(features)


class _Seen(NamedTuple):
    """What the metric head reads: features of the full-sized head, the relative depth made from them, the
    coarsest features, and the fused ones from coarse to fine."""

    last: torch.Tensor
    relative: torch.Tensor
    bottleneck: torch.Tensor
    fused: list[torch.Tensor]


class _DPT(nn.Module):
    """Relative depth, with the features on the way to it."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        table = shapes[f"{ENCODER}model.blocks.0.attn.relative_position_bias_table"]
        hidden, width = shapes[f"{ENCODER}model.blocks.0.mlp.fc1.weight"]
        channels = tuple(shapes[f"{ENCODER}act_postprocess{n}.3.weight"][0] for n in range(1, TAPS + 1))
        depth = sum(f"{ENCODER}model.blocks.{n}.gamma_1" in shapes for n in range(len(shapes)))
        self.pretrained = BeitEncoder(BeitSizes(width, hidden, table[1], depth, table[0], channels))
        self.scratch = _Decoder(
            channels, shapes[f"{DECODER}layer1_rn.weight"][0], shapes[f"{DECODER}output_conv.2.weight"][:2]
        )

    def forward(self, image: torch.Tensor) -> _Seen:
        return self.scratch(self.pretrained(image))


class _Decoder(nn.Module):
    """Fuses four maps from the coarsest to the finest."""

    def __init__(self, channels: tuple[int, ...], features: int, head: tuple[int, ...]) -> None:
        super().__init__()
        for number, before in enumerate(channels, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(before, features, 3, padding=1, bias=False))
            self.add_module(f"refinenet{number}", Fusion(features))
        after, before = head
        self.output_conv = nn.ModuleDict(
            {
                "0": nn.Conv2d(features, before, 3, padding=1),
                "2": nn.Conv2d(before, after, 3, padding=1),
                "4": nn.Conv2d(after, 1, 1),
            }
        )

    def forward(self, maps: list[torch.Tensor]) -> _Seen:
        layers = [self.get_submodule(f"layer{n}_rn")(one) for n, one in enumerate(maps, start=1)]
        fused = [self.get_submodule("refinenet4")(layers[3], size=_size(layers[2]))]
        for number in (3, 2, 1):
            size = _size(layers[number - 2]) if number > 1 else None
            fused.append(self.get_submodule(f"refinenet{number}")(fused[-1], layers[number - 1], size))
        last = self.output_conv["2"](enlarged(self.output_conv["0"](fused[-1]))).relu()
        return _Seen(last, self.output_conv["4"](last).relu(), layers[-1], fused)


def _size(features: torch.Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]
