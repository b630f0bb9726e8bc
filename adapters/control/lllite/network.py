"""ControlNet-LLLite's modules, each by the name and with the shapes that its file gives it.

A module `lllite_unet_<block>_transformer_blocks_<T>_<attn1|attn2>_to_<q|k|v>` stands before one projection of
the model's attention and adds to its input: x' = x + m * up(mid(concat[cond(hint), down(x)])). The hint's
part of it does not change over the steps, so it is computed once and handed back in.

Source: kohya-ss/ControlNet-LLLite-ComfyUI: node_control_net_lllite.py, kohya-ss/sd-scripts:
networks/control_net_lllite.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...identify import UnknownWeightsError

Shapes = Mapping[str, tuple[int, ...]]
Grid = tuple[int, int]

NAME = re.compile(
    r"lllite_unet_(?:(?P<side>input|output)_blocks_(?P<block>\d+)|middle_block)_1"
    r"_transformer_blocks_(?P<layer>\d+)_(?P<attention>attn1|attn2)_to_(?P<projection>q|k|v)"
)
REACHED = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q")
"""What a module may stand before. The text's projections have no pixels that a hint could speak of."""

SHOWN = 3
"""How many names an error lists."""


class Address(NamedTuple):
    """The projection that a module stands before: block ("input", 4), transformer layer, attn1, q."""

    block: tuple[str, int]
    layer: int
    attention: str
    projection: str

    @property
    def path(self) -> str:
        """Its name inside the host's UNet."""
        side, number = self.block
        block = "middle_block" if side == "middle" else f"{side}_blocks.{number}"
        return f"{block}.1.transformer_blocks.{self.layer}.{self.attention}.to_{self.projection}"


def address(name: str) -> Address | None:
    """Where a module of this name stands; None for a name that is none of the attention's inputs."""
    match = NAME.fullmatch(name)
    if match is None or not name.endswith(REACHED):
        return None
    side, block = match["side"] or "middle", int(match["block"] or 0)
    return Address((side, block), int(match["layer"]), match["attention"], match["projection"])


def _weighted(layer: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's weight and bias in the type, and on the device, of the values that they meet."""
    return layer.get_parameter("weight").to(values), layer.get_parameter("bias").to(values)


class LLLiteModule(nn.Module):
    """One module: `width` channels of the model's tokens, `hidden` of its own, `embedding` of the hint.

    `kernels` are the sizes, and the strides, of the hint's convolutions.
    """

    def __init__(self, width: int, hidden: int, embedding: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        half = embedding // 2
        for index, kernel in enumerate(kernels):
            wide = embedding if index == len(kernels) - 1 else half
            layers += [nn.Conv2d(half if index else 3, wide, kernel, kernel), nn.ReLU()]
        self.conditioning1 = nn.Sequential(*layers[:-1])
        self.down = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.mid = nn.Sequential(nn.Linear(hidden + embedding, hidden), nn.ReLU())
        self.up = nn.Sequential(nn.Linear(hidden, width))
        self.embedding, self.kernels = embedding, kernels

    def condition(self, hint: Tensor, grid: Grid) -> Tensor:
        """Hint (n,3,H,W) in -1..1 -> its share (n,T,hidden) of what `mid` computes, for the grid's T tokens.

        A hint that does not fill whole tokens (an odd latent) is continued by its last row and column, as
        the model's own halving rounds up. A grid of yet another size, from a model that is scaled inside,
        gets the embedding resampled.
        """
        stride = 1
        for kernel in self.kernels:
            stride *= kernel
        height, width = hint.shape[-2:]
        values = F.pad(hint, (0, -width % stride, 0, -height % stride), mode="replicate")
        for layer in self.conditioning1:
            if isinstance(layer, nn.Conv2d):
                values = F.conv2d(values, *_weighted(layer, values), stride=layer.stride)
            else:
                values = layer(values)
        if values.shape[-2:] != grid:
            values = F.interpolate(values, grid, mode="bilinear")
        weight, bias = _weighted(self.mid[0], values)
        return F.linear(values.flatten(2).transpose(1, 2), weight[:, : self.embedding], bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B,T,width) and the hint's share (B or 1,T,hidden) -> what to add to the tokens."""
        inner = F.relu(F.linear(x, *_weighted(self.down[0], x)))
        weight = _weighted(self.mid[0], x)[0][:, self.embedding :]
        return F.linear(F.relu(F.linear(inner, weight) + condition), *_weighted(self.up[0], x))


class LLLite(nn.Module):
    """All modules of a file, `named` as there; `addresses` says where each of them stands."""

    def __init__(self, named: Mapping[str, LLLiteModule], addresses: Mapping[str, Address]) -> None:
        super().__init__()
        for name, module in named.items():
            self.add_module(name, module)
        self.named, self.addresses = dict(named), dict(addresses)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _module(shapes: Shapes) -> LLLiteModule | None:
    """The module that a file's shapes, without its name, describe; None where they do not fit together."""
    kernels = [
        shape[-1] for key, shape in sorted(shapes.items()) if re.fullmatch(r"conditioning1\.\d\.weight", key)
    ]
    down, last = shapes.get("down.0.weight", ()), f"conditioning1.{2 * len(kernels) - 2}.weight"
    if len(down) != 2 or len(kernels) < 2 or last not in shapes:
        return None
    module = LLLiteModule(down[1], down[0], shapes[last][0], tuple(kernels))
    return module if {key: tuple(v.shape) for key, v in module.state_dict().items()} == dict(shapes) else None


def build(weights: Mapping[str, Tensor]) -> LLLite:
    """A file's tensors -> its modules, holding these very tensors, in the file's type.

    Raises UnknownWeightsError for names that stand before none of the attention's inputs, and for modules
    that lack tensors, have more of them, or have tensors that do not fit together.
    """
    files: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        name, _, inner = key.partition(".")
        files.setdefault(name, {})[inner] = tensor
    places = {name: address(name) for name in files}
    strangers = sorted(name for name, place in places.items() if place is None)
    if strangers or not files:
        raise UnknownWeightsError(
            "A ControlNet-LLLite file needs modules before the inputs of the attention, named like "
            "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q; got "
            f"{_some(strangers) or 'none'}. Tiller knows no other places: the file would act only in part. "
            "Take one trained for attention."
        )
    with torch.device("meta"):
        modules = {name: _module({k: tuple(t.shape) for k, t in own.items()}) for name, own in files.items()}
    broken = sorted(name for name, module in modules.items() if module is None)
    if broken:
        raise UnknownWeightsError(
            "Each module of a ControlNet-LLLite needs conditioning1.0, conditioning1.2, down.0, mid.0 and "
            f"up.0, each with weight and bias, that fit together; {_some(broken)} have them not. "
            "The file is damaged or of another kind: download it again."
        )
    network = LLLite(
        {name: module for name, module in modules.items() if module is not None},
        {name: place for name, place in places.items() if place is not None},
    )
    network.load_state_dict(dict(weights), strict=True, assign=True)
    return network.requires_grad_(False)
