"""Whether a picture scans as a QR code: decoding it and worse copies of it, and counting wrong modules.

Source: the batch check of public guides to QR art (decode shrunken, blurred, compressed and turned
copies); the threshold is the iterative one of Ridler and Calvard (1978), taken locally.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .image import OnImage, check_image, to_uint8
from .qr import QRCode

SCALES = (0.75, 0.5, 0.35, 0.25)
BLURS = (1.0, 2.0)
JPEG_QUALITIES = (75, 40)
LIGHTS = (("brighter", 0.6, 102.0), ("darker", 0.5, 0.0))
TURNS = (-10.0, -5.0, 5.0, 10.0)

WINDOW_RADIUS = 6
ROUNDS = 4
NOT_MEASURED = -1.0
LARGEST_ENLARGED = 2048


@dataclass(frozen=True)
class Verification:
    """What one picture gave: its text ("" for none), shares in 0..1, names of the copies that failed.

    `error_rate` is wrong modules / modules, -1 when no code was given to compare with.
    """

    text: str
    share: float
    error_rate: float
    failed: tuple[str, ...]
    report: str


def verify_qr(
    image: torch.Tensor, text: str = "", code: QRCode | None = None, on_image: OnImage | None = None
) -> list[Verification]:
    """IMAGE (B,H,W,C) float32 0..1 -> one Verification per picture.

    The wanted text is the code's, else `text`; with neither, copies must agree with the first text that
    was read. The image may be larger or smaller than the picture the code was placed in.
    `on_image(done, total)` is called after each picture; an exception in it stops the rest.

    Raises:
        ValueError: for no image, 0 x 0 or NaN pixels.
    """
    check_image(image, "Verify QR code")
    wanted = code.text if code is not None else text
    results = []
    for picture in to_uint8(image):
        results.append(_verify(picture, wanted, code))
        if on_image is not None:
            on_image(len(results), len(image))
    return results


def module_error_rate(picture: np.ndarray, code: QRCode) -> float:
    """Array (H,W,3) uint8 and the code it shall show -> wrong modules / modules.

    Each module is the mean of its middle half in Rec. 601 gray, dark when below the local threshold.
    """
    values = _sample(picture, code)
    dark = values <= _local_threshold(values)
    return float((dark != code.matrix).sum()) / code.matrix.size


def decode_qr(picture: np.ndarray) -> str:
    """Array (H,W,3) uint8 -> the text of a QR code in it, "" for none. Tries a short, fixed list."""
    import cv2

    finder = getattr(cv2, "QRCodeDetectorAruco", cv2.QRCodeDetector)()
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    border = max(gray.shape) // 10 + 4
    if text := _read(finder, gray):
        return text
    if max(gray.shape) * 2 <= LARGEST_ENLARGED:
        enlarged = cv2.resize(gray, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        if text := _read(finder, enlarged):
            return text
    return _read(finder, np.pad(gray, border, constant_values=255))


def perturbed_copies(picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Array (H,W,3) uint8 -> (name, array) of the picture as it is, then of its worse copies."""
    import cv2

    height, width = picture.shape[:2]
    yield "as it is", picture
    for scale in SCALES:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        yield f"scaled {scale:g}", cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    for sigma in BLURS:
        yield f"blurred {sigma:g}", cv2.GaussianBlur(picture, (0, 0), sigma)
    for quality in JPEG_QUALITIES:
        _, packed = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        unpacked = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        yield f"JPEG {quality}", np.ascontiguousarray(unpacked[..., ::-1])
    for name, gain, offset in LIGHTS:
        yield name, np.clip(np.rint(picture * gain + offset), 0, 255).astype(np.uint8)
    centre = ((width - 1) / 2, (height - 1) / 2)
    for angle in TURNS:
        turn = cv2.getRotationMatrix2D(centre, angle, 1.0)
        turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        yield f"turned {angle:+g}", turned


def _verify(picture: np.ndarray, wanted: str, code: QRCode | None) -> Verification:
    read = {name: decode_qr(copy) for name, copy in perturbed_copies(picture)}
    found = next((text for text in read.values() if text), "")
    right = wanted or found
    failed = tuple(name for name, text in read.items() if not text or text != right)
    share = 1.0 - len(failed) / len(read)
    rate = NOT_MEASURED if code is None else module_error_rate(picture, code)
    return Verification(found, share, rate, failed, _report(len(read), found, right, failed, rate))


def _report(total: int, found: str, right: str, failed: tuple[str, ...], rate: float) -> str:
    if not found:
        first = "No QR code was read."
    elif found == right:
        first = f'Reads "{found}".'
    else:
        first = f'Reads "{found}", wanted "{right}".'
    lines = [first, f"{total - len(failed)} of {total} copies decode."]
    if failed:
        lines.append("Failed: " + ", ".join(failed) + ".")
    if rate != NOT_MEASURED:
        lines.append(f"{rate:.1%} of the modules are wrong.")
    return "\n".join(lines)


def _read(detector, gray: np.ndarray) -> str:
    """The text one of cv2's detectors reads; "" also for bytes that are no text and for odd geometry."""
    import cv2

    try:
        return detector.detectAndDecode(gray)[0]
    except (cv2.error, UnicodeDecodeError):
        return ""


def _sample(picture: np.ndarray, code: QRCode) -> np.ndarray:
    """(N,N) mean gray of the middle half of each module, 0..255."""
    gray = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    total = np.pad(gray.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    y0, y1 = _middles(code.top, code, gray.shape[0] / code.size.height, gray.shape[0])
    x0, x1 = _middles(code.left, code, gray.shape[1] / code.size.width, gray.shape[1])
    sums = total[np.ix_(y1, x1)] - total[np.ix_(y0, x1)] - total[np.ix_(y1, x0)] + total[np.ix_(y0, x0)]
    return sums / np.outer(y1 - y0, x1 - x0)


def _middles(start: int, code: QRCode, scale: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 pixel of the middle half of every module along one axis, at least one pixel."""
    step = code.settings.module_size * scale
    centre = start * scale + (np.arange(code.modules) + 0.5) * step
    pixel = np.clip(np.floor(centre), 0, length - 1)
    first = np.clip(np.rint(centre - step / 4), 0, pixel)
    last = np.clip(np.rint(centre + step / 4), pixel + 1, length)
    return first.astype(int), last.astype(int)


def _local_threshold(values: np.ndarray) -> np.ndarray:
    """(N,N) gray -> (N,N): halfway between the dark and the light mean of the modules around.

    Where all modules around look alike, it is the middle of the scale.
    """
    field = torch.from_numpy(values)[None, None]
    threshold = _window_sum(field) / _window_sum(torch.ones_like(field))
    for _ in range(ROUNDS):
        light = (field > threshold).double()
        many_light, many_dark = _window_sum(light), _window_sum(1.0 - light)
        bright = _window_sum(field * light) / many_light.clamp(min=1.0)
        dim = _window_sum(field * (1.0 - light)) / many_dark.clamp(min=1.0)
        both = (many_light > 0) & (many_dark > 0)
        threshold = torch.where(both, (bright + dim) / 2, torch.full_like(field, 127.5))
    return threshold[0, 0].numpy()


def _window_sum(field: torch.Tensor) -> torch.Tensor:
    side = 2 * WINDOW_RADIUS + 1
    return torch.nn.functional.avg_pool2d(field, side, 1, WINDOW_RADIUS, divisor_override=1)
