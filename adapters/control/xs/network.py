"""ControlNet-XS: the thin encoder and the convolutions through which it and the model read each other.

Both streams go through their blocks side by side. After each block of the encoder the model's values get
enc_out(control), and the control's next block reads both; after the middle the model gets middle_out; in
the decoder, which only the model has, each block first gets dec_out of the control's values of its level.

Source: ControlNet-XS (Zavadski, Feiden, Rother, 2024), vislearn/ControlNet-XS:
sgm/modules/diffusionmodules/twoStreamControl.py (SDXL), ldm/modules/diffusionmodules/twoStreamControl.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn, ones

from ...identify import UnknownWeightsError
from .blocks import FAMILIES, Attention, Kit, Shapes, block, text_width, torch_attention, within

HINT_STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)
MIX = 0.3
"""Exponent of the strength in the share of the control's own time embedding."""

SHOWN = 3
"""How many names an error lists."""

UNUSED = "control_model.label_emb."
"""Size and pooled text reach both streams through the model's own layers: these, where a file has them, are
left from training. (Source: the line that replaces them by nothing, in twoStreamControl.py.)"""

LISTS = ("enc_zero_convs_in", "enc_zero_convs_out", "dec_zero_convs_out")


def _count(shapes: Shapes, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


class ControlModel(nn.Module):
    """The thin encoder: input blocks, middle block and, in some files, a time embedding of its own."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        inputs = range(_count(shapes, "input_blocks."))
        self.input_blocks = nn.ModuleList(block(within(shapes, f"input_blocks.{n}."), kit) for n in inputs)
        self.middle_block = block(within(shapes, "middle_block."), kit)
        self.time_embed: nn.Module | None = None
        if "time_embed.0.weight" in shapes:
            first, second = shapes["time_embed.0.weight"], shapes["time_embed.2.weight"]
            self.time_embed = nn.Sequential(kit.linear(first), nn.SiLU(), kit.linear(second))


class TwoStream(nn.Module):
    """A file's whole network. It keeps no values: the streams are the caller's."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.control_model = ControlModel(within(shapes, "control_model."), kit)
        self.enc_zero_convs_in, self.enc_zero_convs_out, self.dec_zero_convs_out = (
            nn.ModuleList(
                nn.Sequential(kit.conv(shapes[f"{name}.{n}.0.weight"]))
                for n in range(_count(shapes, f"{name}."))
            )
            for name in LISTS
        )
        self.middle_block_out = nn.Sequential(kit.conv(shapes["middle_block_out.0.weight"]))
        layers: list[nn.Module] = []
        for index, stride in enumerate(HINT_STRIDES):
            layers += [kit.conv(shapes[f"input_hint_block.{2 * index}.weight"], stride), nn.SiLU()]
        self.input_hint_block = nn.Sequential(*layers[:-1])
        count = len(self.enc_zero_convs_out) + 1 + len(self.dec_zero_convs_out)
        self.scale_list: Tensor
        self.register_buffer("scale_list", ones(count))

    @property
    def depth(self) -> int:
        """How many input blocks it has: those of the model that it was trained beside."""
        return len(self.control_model.input_blocks)

    @property
    def channels(self) -> int:
        """How many channels of the noisy latent it reads."""
        return self.control_model.get_parameter("input_blocks.0.0.weight").shape[1]

    @property
    def base_width(self) -> int:
        """Width of the first block of the model that it was trained beside."""
        return self.get_parameter("enc_zero_convs_out.0.0.weight").shape[0]

    def embedding(self, time: Tensor, base: Tensor, strength: float) -> Tensor:
        """The time embedding (B,E) of both streams from the sinusoids (B,T) and the model's own one (B,E).

        Files without an embedding of their own take the model's.
        """
        own = self.control_model.time_embed
        if own is None:
            return base
        share = max(strength, 0.0) ** MIX
        return own(time) * share + base * (1 - share)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _check_keys(shapes: Shapes, network: TwoStream) -> None:
    built = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    wrong = sorted(key for key in {*built, *shapes} if built.get(key) != shapes.get(key))
    depths = {network.depth, *(len(getattr(network, name)) for name in LISTS)}
    if wrong or len(depths) != 1:
        raise UnknownWeightsError(
            "A ControlNet-XS needs an encoder, a convolution to and from each of its blocks and one for each "
            f"block of the decoder; this file has {network.depth} blocks, and what does not fit is "
            f"{_some(wrong) or 'the number of convolutions'}. It is damaged or of another layout: "
            "take a file of the authors' (CVL-Heidelberg/ControlNet-XS)."
        )


def build(
    weights: Mapping[str, Tensor], operations: Any = nn, attention: Attention = torch_attention
) -> TwoStream:
    """A file's tensors -> the network, in the file's type.

    `operations` has the classes of the layers, `attention` is called as attention(q, k, v, heads).
    Raises UnknownWeightsError for tensors that are missing, unknown or do not fit, and for another text
    width than those of the published files.
    """
    used = {key: tensor for key, tensor in weights.items() if not key.startswith(UNUSED)}
    shapes = {key: tuple(tensor.shape) for key, tensor in used.items()}
    width = text_width(shapes)
    if width not in FAMILIES:
        raise UnknownWeightsError(
            f"A ControlNet-XS needs a text width of {', '.join(map(str, FAMILIES))}, got {width}. "
            "It may be made for a model that Tiller does not know."
        )
    try:
        network = TwoStream(shapes, Kit(FAMILIES[width], operations, attention))
    except KeyError as error:
        raise UnknownWeightsError(
            f"A ControlNet-XS needs more than this file has: {error.args[0]} is missing, in the file or in a "
            "block of it. It is damaged or of another layout: download it again."
        ) from error
    _check_keys(shapes, network)
    network.to(next(iter(used.values())).dtype).load_state_dict(used)
    return network.requires_grad_(False)
