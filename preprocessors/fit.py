"""Fits a finished hint or mask to the sampling size without damaging it.

Source: Mikubill/sd-webui-controlnet: scripts/controlnet.py (detectmap_proc), scripts/enums.py
(ResizeMode), internal_controlnet/external_code.py (pixel_perfect_resolution).
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from .image import check_image, from_uint8, map_images, to_uint8
from .thin import ridges, thin

ResizeMode = Literal["crop", "stretch", "fill"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)

HOLE = -1.0
"""The colour of a masked pixel in a hint for inpaint control nets."""
MANY_COLOURS = 200
MAX_PIXELS = 1 << 27


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


def pixel_perfect_resolution(source: Size, target: Size, mode: ResizeMode) -> int:
    """Shorter-side resolution at which a hint of `source` needs no scaling in `target`; at least 1.

    The scale is the larger of the two side ratios, the smaller one for "fill"; halves round to even.

    Raises:
        ValueError: for a side under 1 or an unknown mode.

    Source: Mikubill/sd-webui-controlnet: internal_controlnet/external_code.py.
    """
    source, target = _checked_size(source, "source"), _checked_size(target, "target")
    scale = _scale(source, target, _checked_mode(mode))
    return max(1, round(scale * min(source)))


def fit_image(image: torch.Tensor, size: Size, mode: ResizeMode = "crop") -> torch.Tensor:
    """IMAGE (B,H,W,C) float32 0..1 -> IMAGE (B,*size,C): stretched, or centred and cropped or filled.

    Three to 199 colours take the nearest pixel, else shrinking averages and enlarging is cubic. Black
    and white stays black and white (Otsu), one-pixel lines stay one pixel wide. "fill" pads with the
    median colour of the border. Each picture of a batch is judged alone. What is resized is rounded to
    8 bit; a picture that needs no resize keeps its bits. Channel 4 is the mask of an inpaint hint: a
    binary one stays binary, and the padding of "fill" is 1 (affected). Pixels under 0 are the mask of an
    inpaint hint of three channels (-1): it stays hard, nothing of it runs into what is kept, and the padding
    of "fill" belongs to it.

    Raises:
        ValueError: for no image, 0 x 0, NaN, a side under 1, an unknown mode, an enormous in-between.
    """
    check_image(image, "Fit hint")
    size, mode = _checked_size(size, "target"), _checked_mode(mode)
    source = Size(image.shape[1], image.shape[2])
    if source == size:
        return image
    inner = _inner_size(source, size, mode)
    if bool((image[..., :3] < 0).any()):
        return _fit_holes(image, size, mode)
    resized = image if inner == source else _resize_batch(image, inner).to(image.device)
    if mode != "fill":
        return _centre_crop(resized, size)
    return _centre_paste(resized, _border_canvas(image, size))


def fit_mask(
    mask: torch.Tensor, size: Size, mode: ResizeMode = "crop", source: Size | None = None
) -> torch.Tensor:
    """MASK (B,H,W) or (H,W), 1 = affected -> MASK (B,*size) in 0..1.

    A mask of only 0 and 1 stays one, any other stays soft; the padding of "fill" is 1, since nothing of
    the picture is there to keep. `source` is the size of the picture the mask belongs to, when the
    mask is stored at another one.

    Raises:
        ValueError: for no mask, 0 x 0, NaN, a side under 1 or an unknown mode.
    """
    mask = checked_mask(mask, "Fit hint")
    size, mode = _checked_size(size, "target"), _checked_mode(mode)
    own = Size(mask.shape[1], mask.shape[2])
    inner = _inner_size(_checked_size(source or own, "source"), size, mode)
    resized = mask if inner == own else torch.stack([_resize_mask(one, inner) for one in mask])
    if inner == size:
        return resized
    if mode != "fill":
        return _centre_crop(resized, size)
    return _centre_paste(resized, resized.new_ones((len(mask), *size)))


def checked_mask(mask: object, needed_by: str) -> torch.Tensor:
    """MASK (B,H,W) or (H,W) -> MASK (B,H,W), at least 1 x 1, finite; ValueError otherwise."""
    if isinstance(mask, torch.Tensor) and mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if not isinstance(mask, torch.Tensor) or mask.ndim != 3:
        shape = f"shape {tuple(mask.shape)}" if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ValueError(
            f"{needed_by} needs a mask of shape (batch, height, width), got {shape}. "
            "Connect a MASK output, or turn an image into one with Convert Image to Mask."
        )
    check_image(mask.unsqueeze(-1), f"The mask of {needed_by}")
    return mask


def masks_for(image: torch.Tensor, mask: object, needed_by: str) -> torch.Tensor:
    """IMAGE (B,H,W,C) and MASK (1 or B,h,w) -> MASK (B,H,W) 0..1 on the CPU, stretched to the picture.

    Raises:
        ValueError: for no mask, 0 x 0, NaN, and masks that are neither one nor as many as the pictures.
    """
    masks = checked_mask(mask, needed_by)
    batch, height, width = image.shape[:3]
    if len(masks) not in (1, batch):
        raise ValueError(
            f"{needed_by} needs one mask, or one for each of the {batch} pictures, got {len(masks)}. Connect "
            "the mask that belongs to the image, or a single one."
        )
    fitted = fit_mask(masks.cpu().float(), Size(height, width), "stretch").clamp(0.0, 1.0)
    return fitted.expand(batch, -1, -1)


def resize_hint(picture: np.ndarray, size: Size) -> np.ndarray:
    """Array (H,W,3) uint8 -> (*size,3) uint8 by the rules for few colours, drawings and lines."""
    if picture.shape[:2] == tuple(size):
        return picture
    import cv2

    resized = cv2.resize(picture, (size.width, size.height), interpolation=_interpolation(picture, size))
    if not _is_black_and_white(picture):
        return resized
    gray = np.floor(resized.astype(np.float32).mean(axis=2)).astype(np.uint8)
    lines = _is_one_pixel_drawing(picture)
    if lines:
        gray = ridges(gray)
    _, cut = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if lines:
        enlarging = size.height * size.width > picture.shape[0] * picture.shape[1]
        cut = thin(cut > 0, prune=enlarging).astype(np.uint8) * 255
    return np.repeat(cut[..., None], 3, axis=2)


def count_colours(picture: np.ndarray, limit: int) -> int:
    """Number of distinct colours of an array (H,W,3) uint8; counting may stop at `limit` or above."""
    packed = picture.reshape(-1, 3).astype(np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)
    sampled = len(np.unique(packed[:: max(1, len(packed) // 4096)]))
    return sampled if sampled >= limit else len(np.unique(packed))


def _interpolation(picture: np.ndarray, size: Size) -> int:
    import cv2

    if 2 < count_colours(picture, MANY_COLOURS) < MANY_COLOURS:
        return cv2.INTER_NEAREST
    shrinking = size.height * size.width < picture.shape[0] * picture.shape[1]
    return cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC


def _is_black_and_white(picture: np.ndarray) -> bool:
    extremes = int(picture.min()) < 16 and int(picture.max()) > 240
    return extremes and count_colours(picture, 3) == 2


def _is_one_pixel_drawing(picture: np.ndarray) -> bool:
    """True when a 3 x 3 opening takes away more than half of what is white."""
    import cv2

    opened = cv2.morphologyEx(picture, cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    return int((opened < picture).sum()) * 2 > int((picture > 127).sum())


def _fit_holes(image: torch.Tensor, size: Size, mode: ResizeMode) -> torch.Tensor:
    """IMAGE with pixels of -1 -> the same at `size`: colours from what is kept, -1 in the hole."""
    source = Size(image.shape[1], image.shape[2])
    hole = (image[..., :3] < 0).any(dim=-1)
    inner = _inner_size(source, size, mode)
    pictures = zip(image, hole, strict=True)
    resized = torch.stack([_resize_around(one, holes, inner) for one, holes in pictures]).to(image.device)
    if mode != "fill":
        fitted = _centre_crop(resized, size)
    else:
        fitted = _centre_paste(resized, resized.new_full((len(image), *size, image.shape[-1]), HOLE))
    return torch.where(fit_mask(hole.float(), size, mode, source).unsqueeze(-1) > 0.5, HOLE, fitted)


def _resize_around(picture: torch.Tensor, hole: torch.Tensor, size: Size) -> torch.Tensor:
    """(H,W,C) and (H,W) bool -> (*size,C) float32: averages of the pixels outside the hole, 0 deep inside."""
    import cv2

    kept = (~hole).float().unsqueeze(-1).cpu()
    layers = torch.cat([picture.cpu().float() * kept, kept], dim=-1).numpy()
    shrinking = size.height * size.width < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    resized = torch.from_numpy(cv2.resize(layers, (size.width, size.height), interpolation=how))
    return resized[..., :-1] / resized[..., -1:].clamp_min(1e-6)


def _resize_batch(image: torch.Tensor, size: Size) -> torch.Tensor:
    channels = image.shape[-1]
    colours = to_uint8(image[..., :3])
    resized = from_uint8(map_images(lambda picture, _: resize_hint(picture, size), colours))
    if channels != 4:
        return resized[..., :channels]
    pairs = zip(colours, image[..., 3], strict=True)
    alpha = [_resize_mask(one, size, _interpolation(picture, size)) for picture, one in pairs]
    return torch.cat([resized, torch.stack(alpha).unsqueeze(-1)], dim=-1)


def _resize_mask(mask: torch.Tensor, size: Size, interpolation: int | None = None) -> torch.Tensor:
    """Mask (H,W) -> (*size), float32 0..1: binary ones are cut at half after the resize."""
    import cv2

    levels = mask.detach().to(device="cpu", dtype=torch.float32).clamp(0.0, 1.0).numpy()
    if interpolation is None:
        shrinking = size.height * size.width < levels.size
        interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(levels), (size.width, size.height), interpolation=interpolation)
    if ((levels == 0.0) | (levels == 1.0)).all():
        resized = (resized * 255.0 > 127.0).astype(np.float32)
    return torch.from_numpy(np.clip(resized, 0.0, 1.0)).to(mask.device)


def _border_canvas(image: torch.Tensor, size: Size) -> torch.Tensor:
    """(B,*size,C) in the median colour of each picture's border; corners count twice."""
    levels = to_uint8(image[..., :3])
    rows = np.concatenate([levels[:, 0], levels[:, -1], levels[:, :, 0], levels[:, :, -1]], axis=1)
    colour = torch.from_numpy(np.floor(np.median(rows, axis=1)).astype(np.float32) / 255.0)
    canvas = torch.ones((len(image), *size, image.shape[-1]), dtype=torch.float32)
    shown = min(3, image.shape[-1])
    canvas[..., :shown] = colour[:, None, None, :shown]
    return canvas.to(image.device)


def _centre_crop(picture: torch.Tensor, size: Size) -> torch.Tensor:
    """Cuts (B,H,W,...) to the middle `size`; an odd pixel too many is cut on the right and below."""
    if picture.shape[1:3] == tuple(size):
        return picture
    top, left = (picture.shape[1] - size.height) // 2, (picture.shape[2] - size.width) // 2
    return picture[:, top : top + size.height, left : left + size.width].clone()


def _centre_paste(picture: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    height, width = picture.shape[1:3]
    top, left = (canvas.shape[1] - height) // 2, (canvas.shape[2] - width) // 2
    canvas[:, top : top + height, left : left + width] = picture
    return canvas


def _scale(source: Size, target: Size, mode: ResizeMode) -> float:
    ratios = (target.height / source.height, target.width / source.width)
    return min(ratios) if mode == "fill" else max(ratios)


def _inner_size(source: Size, target: Size, mode: ResizeMode) -> Size:
    """Size the picture is resized to before the crop or the fill; ValueError when enormous."""
    if mode == "stretch":
        return target
    scale = _scale(source, target, mode)
    inner = Size(max(1, round(source.height * scale)), max(1, round(source.width * scale)))
    if inner.height * inner.width > MAX_PIXELS:
        raise ValueError(
            f"Fit hint needs a picture shaped roughly like {target.width} x {target.height}, got "
            f"{source.width} x {source.height}: cropping it would first enlarge it to {inner.width} x "
            f'{inner.height}. Use the resize mode "fill" or "stretch", or crop the picture first.'
        )
    return inner


def _checked_size(size: tuple[int, int], what: str) -> Size:
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1:
        raise ValueError(
            f"Fitting needs a {what} size of at least 1 x 1 pixel, got {width} x {height} (width x height). "
            "Set both sides, or connect an image."
        )
    return Size(height, width)


def _checked_mode(mode: str) -> ResizeMode:
    for known in RESIZE_MODES:
        if mode == known:
            return known
    raise ValueError(f'The resize mode must be "crop", "stretch" or "fill", got "{mode}". Pick one of these.')
