"""Pictures through an image encoder of the host: embeddings, and the embeddings of no picture."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.clip_model
import comfy.model_management as management
import torch
from torch import Tensor

from ...progress._host import report_images
from ..embeddings import BatchMode, batch_parts, merged_tiles
from ..encoders import ENCODERS
from ..pictures import CropPosition, Framing, Padding, Preparation, Squares, Tiles, prepared
from ..records import AdapterSpec, EmbedState, HiddenState, ImageEncoder, ImagePrompt, IPAdapter
from .choose import check_belongs, named
from .nothing import NoImage, nothing_is
from .pooling import pooled

MOST_AT_ONCE = 8
"""Squares per step on a device; on the processor one, which is no slower and takes less memory."""


@dataclass(frozen=True)
class EncodeSettings:
    """How pictures are encoded for an adapter; see Encode Image Prompt for each.

    `tiles` and `enhance_ratio` (the share of the whole picture, 0..1) show the encoder more of each picture,
    `batch` says what becomes of several, `weight` multiplies their embeddings.
    """

    crop_position: CropPosition = "official"
    padding: Padding = "black"
    sharpening: float = 0.0
    tiles: Tiles = "off"
    enhance_tiles: int = 2
    enhance_ratio: float = 0.5
    batch: BatchMode = "concat"
    weight: float = 1.0
    no_image: NoImage = "official"


def encode_image_prompt(
    adapter: IPAdapter,
    encoder: ImageEncoder,
    image: Tensor,
    settings: EncodeSettings,
    negative: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[ImagePrompt, Tensor]:
    """IMAGE (B,H,W,C) float 0..1 -> the prompt for the adapter, and the squares that the encoder saw (IMAGE).

    `negative`, one picture or as many, is encoded whole for the negative side; without it that gets what
    `settings.no_image` says. `mask` (B or 1,H,W) leaves the picture where it is 1: elsewhere the encoder gets
    zeros behind the normalisation, which is its mean grey.

    Raises ValueError for an adapter of faces alone, for an encoder that the adapter does not want (both
    named), and for pictures, masks or negatives that do not fit.

    Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py (get_image_embeds);
    cubiq/ComfyUI_IPAdapter_plus: utils.py (encode_image_masked).
    """
    check_belongs(adapter, encoder.kind, encoder.name)
    state = _state(adapter.spec, adapter.name)
    squares = prepared(image, _preparation(encoder, settings), mask)
    against = None if negative is None else _negative_squares(encoder, settings, negative, len(image))
    nothing = against if against is not None else _nothing(adapter.spec, encoder, settings.no_image)
    report = _Report(sum(len(one.pictures) for one in [*squares, *(nothing or [])]))
    embeds = [encode_squares(encoder, state.state, one, report) for one in squares]
    seen = torch.cat([_seen(encoder, one) for one in squares])
    if nothing is None:
        none = torch.zeros(1, state.tokens, state.width)
    else:
        none = torch.cat([encode_squares(encoder, state.state, one, report) for one in nothing])
    pieces = [_pieces(one, state.state, settings) for one in embeds]
    each = [torch.cat(piece) for piece in zip(*pieces, strict=True)]
    return ImagePrompt(state, batch_parts(each, none, settings.batch, settings.weight)), seen


def _state(spec: AdapterSpec, name: str) -> EmbedState:
    if spec.embeds is None:
        raise ValueError(f"{named(spec, name)} reads no pictures.")
    return spec.embeds


def _preparation(encoder: ImageEncoder, settings: EncodeSettings) -> Preparation:
    table = ENCODERS[encoder.kind]
    position = settings.crop_position
    if position == "official":
        position = "stretch" if table.stretched else "center"
    framing = Framing(table.image_size, position, settings.padding)
    return Preparation(framing, settings.sharpening, settings.tiles, settings.enhance_tiles)


def _negative_squares(
    encoder: ImageEncoder, settings: EncodeSettings, negative: Tensor, pictures: int
) -> list[Squares]:
    if len(negative) not in (1, pictures):
        raise ValueError(
            f"Encode Image Prompt needs one negative picture, or one for each of the {pictures} pictures, "
            f"got {len(negative)}. Connect one, or a batch of as many."
        )
    return prepared(negative, Preparation(_preparation(encoder, settings).framing))


def _nothing(spec: AdapterSpec, encoder: ImageEncoder, rule: NoImage) -> list[Squares] | None:
    """What the encoder gets in place of a picture, None where the embedding itself is zeros."""
    what = nothing_is(spec, rule)
    if what == "zero embedding":
        return None
    size = ENCODERS[encoder.kind].image_size
    black = torch.zeros(1, size, size, 3)
    return [Squares(black, torch.zeros(1, size, size, 1) if what == "zero tensor" else None, False)]


def _pieces(embeds: Tensor, state: HiddenState, settings: EncodeSettings) -> list[Tensor]:
    """Embeddings (P,S,E) of the squares of one picture -> those of its parts, each (1,S,E)."""
    if not settings.tiles.startswith("enhance"):
        return list(embeds.split(1))
    whole, merged = embeds[:1] * settings.enhance_ratio, merged_tiles(embeds[1:], state)
    if settings.tiles == "enhance mixed":
        return [whole + merged * (1.0 - settings.enhance_ratio)]
    return [whole, merged]


class _Report:
    """Moves the progress bar square by square through several calls, and stops at an interrupt."""

    def __init__(self, total: int) -> None:
        self._report, self._total, self._done = report_images(), total, 0

    def __call__(self, more: int) -> None:
        self._done += more
        self._report(self._done, self._total)


def encode_squares(
    encoder: ImageEncoder, state: HiddenState, squares: Squares, report: _Report | None = None
) -> Tensor:
    """Squares (P,S,S,3) float 0..1 at the encoder's size -> embeddings (P,T,E) float32 on the CPU.

    T is 1 for `image_embeds` and `pooled`. The host's manager brings the encoder to its device.
    """
    management.load_model_gpu(encoder.model.patcher)
    device = encoder.model.load_device
    at_once = 1 if management.is_device_cpu(device) else MOST_AT_ONCE
    made = []
    with torch.no_grad():
        for start in range(0, len(squares.pictures), at_once):
            part = slice(start, start + at_once)
            pixels = _pixels(encoder, squares.pictures[part].to(device))
            if squares.masks is not None:
                pixels = pixels * squares.masks[part].to(pixels).movedim(-1, 1)
            made.append(_embeddings(encoder, state, pixels))
            if report is not None:
                report(len(pixels))
    return torch.cat(made)


def _pixels(encoder: ImageEncoder, pictures: Tensor) -> Tensor:
    """(P,S,S,3) -> (P,3,S,S) normalised by the host; at the encoder's size it resamples nothing."""
    model = encoder.model
    return comfy.clip_model.clip_preprocess(
        pictures, size=model.image_size, mean=model.image_mean, std=model.image_std, crop=True
    ).float()


def _embeddings(encoder: ImageEncoder, state: HiddenState, pixels: Tensor) -> Tensor:
    last, before_last, projected, _ = encoder.model.model(pixel_values=pixels, intermediate_output=-2)
    if state == "penultimate":
        return before_last.float().cpu()
    if state == "pooled" and encoder.head is not None:
        return pooled(last.float().cpu(), encoder.head)
    return projected.float().cpu().unsqueeze(1)


def _seen(encoder: ImageEncoder, squares: Squares) -> Tensor:
    """The squares as IMAGE, with the encoder's mean grey where a mask is 0."""
    if squares.masks is None:
        return squares.pictures
    grey = torch.tensor(encoder.model.image_mean)
    return grey + (squares.pictures - grey) * squares.masks
