"""The control network of ControlNeXt, with the parameter names of the published files, and its injection.

Host-free. Source: ControlNeXt (Peng, Wang, Zhang, Li, Yang, Jia: "ControlNeXt: Powerful and Efficient Control
for Image and Video Generation", 2024); dvlab-research/ControlNeXt: ControlNeXt-SD1.5/models/controlnet.py,
ControlNeXt-SDXL/models/controlnet.py, ControlNeXt-SVD-v2/models/controlnext_vid_svd.py and the unet files
beside them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

Shapes = Mapping[str, tuple[int, ...]]

SINUSOIDS = 128
"""Width of the sinusoids that carry the time step, cosines first."""

PIXELS_PER_LATENT = 8
"""The hint is read at this many pixels per side of a latent pixel."""

PLAIN_GROUPS = (1, 8, 8)
STEM_GROUPS = (4, 8)
"""Group counts of the residual blocks' norms, for nets without and with a stem; no shape tells them."""


class Variant(NamedTuple):
    """How one base model takes the features in.

    `patch` is the host's kind of patch and `block` the input block it acts at (None: not asked).
    `pools_first` tells whether the features are brought to the hidden state's size before they are matched
    to it or after. `factor` goes with the strength; `spares_negative` leaves the negative rows alone;
    `padding` is that of the stem's second and third convolution.
    """

    patch: str
    block: tuple[str, int] | None
    pools_first: bool = False
    epsilon: float = 1e-12
    factor: float = 1.0
    spares_negative: bool = False
    padding: int = 1


VARIANTS: dict[str, Variant] = {
    "SD1.5": Variant("middle_block_after_patch", None, pools_first=True),
    "SDXL": Variant("input_block_patch_after_skip", ("input", 0)),
    "SVD": Variant(
        "input_block_patch_after_skip",
        ("input", 3),
        epsilon=1e-5,
        factor=0.2,
        spares_negative=True,
        padding=0,
    ),
}
"""By family of the base model. SVD's factor is the one its published weights (poses) are used with; its
authors name 1, a strength of 5, for dense hints (dvlab-research/ControlNeXt: experiences.md)."""


def timestep_sinusoids(timesteps: torch.Tensor) -> torch.Tensor:
    """Time steps (B,) -> (B,128) float32: cosines, then sines, of 64 frequencies from 1 down to 1e-4."""
    half = SINUSOIDS // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(-math.log(10_000) * exponents)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Two linear layers over the sinusoids of the time step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(SINUSOIDS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        sinusoids = timestep_sinusoids(timesteps).to(self.linear_1.weight.dtype)
        return self.linear_2(functional.silu(self.linear_1(sinusoids)))


class Prepared(NamedTuple):
    """What a residual block makes of its input before it looks at the time step."""

    hidden: torch.Tensor
    skip: torch.Tensor


class Residual(nn.Module):
    """A residual block that adds the time step between its two convolutions."""

    def __init__(self, inputs: int, outputs: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def prepare(self, hidden: torch.Tensor) -> Prepared:
        """The part that does not depend on the time step."""
        skip = self.conv_shortcut(hidden) if hasattr(self, "conv_shortcut") else hidden
        return Prepared(self.conv1(functional.silu(self.norm1(hidden))), skip)

    def finish(self, prepared: Prepared, time: torch.Tensor) -> torch.Tensor:
        """The part that does; `time` (B,width) may have fewer rows than `prepared`: one for all."""
        hidden = prepared.hidden + self.time_emb_proj(functional.silu(time))[:, :, None, None]
        return prepared.skip + self.conv2(functional.silu(self.norm2(hidden)))


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv(hidden)


def _stem(channels: tuple[int, int, int]) -> nn.Sequential:
    first, second, third = channels
    return nn.Sequential(
        nn.Conv2d(3, first, 3, stride=2, padding=1),
        nn.GroupNorm(2, first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3),
        nn.GroupNorm(2, second),
        nn.ReLU(),
        nn.Conv2d(second, third, 3),
        nn.GroupNorm(2, third),
        nn.ReLU(),
    )


def _middle(channels: int, normed: bool) -> nn.Sequential:
    first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    if not normed:
        return nn.Sequential(first, nn.ReLU(), second)
    return nn.Sequential(first, nn.ReLU(), nn.GroupNorm(8, channels), second, nn.GroupNorm(8, channels))


class ControlNextNetwork(nn.Module):
    """Hint and time step -> features that are matched to a hidden state of the model.

    Nets with a stem (SDXL, SVD) carry a constant scale of 1, those without (SD1.5) their own.
    """

    def __init__(self, shapes: Shapes) -> None:
        """`shapes` (key -> shape) are the file's; all sizes are read from there.

        Raises ValueError for a listing that is no ControlNeXt, or one of a layout that is not known.
        """
        super().__init__()
        self.has_stem = "embedding.0.weight" in shapes
        groups = STEM_GROUPS if self.has_stem else PLAIN_GROUPS
        _check(shapes, len(groups), self.has_stem)
        if self.has_stem:
            first, second, third = (shapes[f"embedding.{i}.weight"][0] for i in (0, 3, 6))
            self.embedding = _stem((first, second, third))
        time_width = shapes["time_embedding.linear_1.weight"][0]
        self.time_embedding = TimeEmbedding(time_width)
        convolutions = [shapes[f"down_res.{i}.conv1.weight"] for i in range(len(groups))]
        self.down_res = nn.ModuleList(
            Residual(shape[1], shape[0], time_width, count)
            for shape, count in zip(convolutions, groups, strict=True)
        )
        self.down_sample = nn.ModuleList(Downsample(shape[0]) for shape in convolutions)
        last = convolutions[-1][0]
        self.mid_convs = nn.ModuleList(
            [_middle(last, self.has_stem), nn.Conv2d(last, shapes["mid_convs.1.weight"][0], 1)]
        )
        if not self.has_stem:
            self.scale = nn.Parameter(torch.tensor(1.0))

    @property
    def own_scale(self) -> float:
        """The scale that the file brings along; 1 where it brings none."""
        return 1.0 if self.has_stem else float(self.scale.detach())

    def prepare(self, hint: torch.Tensor, padding: int = 1) -> Prepared:
        """Hint (B,3,8h,8w) in 0..1 -> what depends on it alone, for `features`, at every time step."""
        hidden = hint
        if self.has_stem:
            for layer in self.embedding:
                if isinstance(layer, nn.Conv2d) and layer.stride == (1, 1):
                    hidden = functional.conv2d(hidden, layer.weight, layer.bias, padding=padding)
                else:
                    hidden = layer(hidden)
        first: Residual = self.down_res[0]  # pyright: ignore[reportAssignmentType]
        return first.prepare(hidden)

    def features(self, prepared: Prepared, timesteps: torch.Tensor) -> torch.Tensor:
        """Prepared hints and time steps (B,) (or (1,) for all) -> features (B,C,h',w')."""
        time = self.time_embedding(timesteps)
        hidden = prepared.hidden
        for index, (block, halve) in enumerate(zip(self.down_res, self.down_sample, strict=True)):
            part: Residual = block  # pyright: ignore[reportAssignmentType]
            hidden = halve(part.finish(prepared if index == 0 else part.prepare(hidden), time))
        middle = self.mid_convs[0](hidden)
        return self.mid_convs[1](middle + hidden if self.has_stem else middle)


def _check(shapes: Shapes, blocks: int, has_stem: bool) -> None:
    needed = ["time_embedding.linear_1.weight", "mid_convs.1.weight"]
    needed += [f"down_res.{i}.conv1.weight" for i in range(blocks)]
    needed += [f"embedding.{i}.weight" for i in (0, 3, 6)] if has_stem else ["scale"]
    missing = [key for key in needed if key not in shapes]
    if missing:
        raise ValueError(
            f"A ControlNeXt network needs the keys {', '.join(needed)}, but the file lacks "
            f"{', '.join(missing)}. Load the controlnet file of a ControlNeXt, not its unet file."
        )
    if f"down_res.{blocks}.conv1.weight" in shapes:
        raise ValueError(
            f"A ControlNeXt network {'with' if has_stem else 'without'} a stem has {blocks} residual blocks, "
            "but this file has more. It looks like the first version for Stable Video Diffusion, which acts "
            "in another way. Load version 2 (the folder ControlNeXt-SVD/v2 of Pbihao/ControlNeXt)."
        )


def build(weights: Mapping[str, torch.Tensor]) -> ControlNextNetwork:
    """The network of a file, with its weights in float32 and in evaluation mode.

    Raises ValueError for keys that are missing, not used or of another shape, naming some of them.
    """
    network = ControlNextNetwork({key: tuple(tensor.shape) for key, tensor in weights.items()})
    own = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    missing = sorted(own.keys() - weights.keys())
    unused = sorted(weights.keys() - own.keys())
    unfit = sorted(key for key in own.keys() & weights.keys() if own[key] != tuple(weights[key].shape))
    if missing or unused or unfit:
        told = [("lacks", missing), ("has the unknown", unused), ("has in another shape", unfit)]
        faults = "; ".join(f"{verb} {', '.join(keys[:3])}" for verb, keys in told if keys)
        raise ValueError(
            f"A ControlNeXt network of {len(own)} tensors was needed, but the file {faults}. "
            "Check that it is the controlnet file as its page offers it, and download it again."
        )
    network.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
    return network.eval().requires_grad_(False)


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    wide = values.float()
    return wide.mean(dim=(1, 2, 3), keepdim=True), wide.std(dim=(1, 2, 3), keepdim=True)


def cross_normalised(features: torch.Tensor, hidden: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Features (B,C,h',w') with each row's mean and deviation over (C,h,w) made those of `hidden`'s row.

    Either may have one row for all. Float32.
    """
    mean, deviation = _moments(features)
    hidden_mean, hidden_deviation = _moments(hidden)
    return (features.float() - mean) * (hidden_deviation / (deviation + epsilon)) + hidden_mean


def addition(features: torch.Tensor, hidden: torch.Tensor, variant: Variant) -> torch.Tensor:
    """What a scale of 1 adds to the hidden state (B,C,h,w); float32.

    Raises ValueError when the features have another number of channels than the hidden state.
    """
    if features.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"This ControlNeXt gives {features.shape[1]} channels, but the model's hidden state has "
            f"{hidden.shape[1]} there. Use it with the base model it was made for."
        )
    size = (hidden.shape[-2], hidden.shape[-1])
    if variant.pools_first:
        pooled = functional.adaptive_avg_pool2d(features, size)
        return cross_normalised(pooled, hidden, variant.epsilon)
    matched = cross_normalised(features, hidden, variant.epsilon)
    return functional.adaptive_avg_pool2d(matched, size)
