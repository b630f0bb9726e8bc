"""QR codes as hints: the matrix, its place on the pixel grid of the target, the picture.

Source: ISO/IEC 18004 (the symbol, the capacities) through segno; module size, quiet zone and grey
surroundings as the public guides to the QR control nets give them.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from .fit import Size

ErrorCorrection = Literal["L", "M", "Q", "H"]
Background = Literal["white", "grey"]
ERROR_CORRECTIONS: tuple[ErrorCorrection, ...] = get_args(ErrorCorrection)
BACKGROUNDS: tuple[Background, ...] = get_args(Background)

LATENT_CELL = 8
GREY_LEVEL = 128


class Capacity(NamedTuple):
    """What the largest code (version 40) holds: digits only, capitals and digits, UTF-8 bytes."""

    digits: int
    capitals: int
    bytes: int


CAPACITY: dict[ErrorCorrection, Capacity] = {
    "L": Capacity(7089, 4296, 2953),
    "M": Capacity(5596, 3391, 2331),
    "Q": Capacity(3993, 2420, 1663),
    "H": Capacity(3057, 1852, 1273),
}
CAPITALS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")


@dataclass(frozen=True)
class QRSettings:
    """How a text becomes a code: redundancy, pixels per module, light modules around it."""

    error_correction: ErrorCorrection = "H"
    module_size: int = 16
    quiet_zone: int = 4


@dataclass(frozen=True, eq=False)
class QRCode:
    """A code placed in a picture: `matrix` (N,N) bool, True = dark; edges in pixels of `size`."""

    text: str
    settings: QRSettings
    version: int
    matrix: np.ndarray
    left: int
    top: int
    size: Size

    @property
    def modules(self) -> int:
        """Modules along one side: 17 + 4 * version."""
        return len(self.matrix)


def place_qr(text: str, size: Size, settings: QRSettings | None = None) -> QRCode:
    """Text -> the smallest code that holds it, centred in `size` on whole pixels.

    Modules of a multiple of 8 pixels start on a multiple of 8, so that they line up with the cells of
    the latent; in a target of a multiple of 8 that is at most 4 pixels off the centre.

    Raises:
        ValueError: for an empty text, one too long for any version, or a code too large for `size`.
    """
    settings = settings or QRSettings()
    _check_settings(settings)
    size = Size(*size)
    matrix, version = _encode(text, settings.error_correction)
    need = (len(matrix) + 2 * settings.quiet_zone) * settings.module_size
    if need > min(size):
        raise ValueError(_too_large(len(matrix), version, size, settings))
    side = len(matrix) * settings.module_size
    left, top = (_start(length, side, settings.module_size) for length in (size.width, size.height))
    return QRCode(text, settings, version, matrix, left, top, size)


def draw_qr(code: QRCode, background: Background = "white") -> torch.Tensor:
    """QRCode -> IMAGE (1,*size,3) float32: dark modules 0, light ones and the quiet zone 1.

    "grey" makes everything outside the quiet zone 128/255, which leaves the surroundings to the prompt.

    Raises:
        ValueError: for another background.
    """
    if background not in BACKGROUNDS:
        raise ValueError(f'The background must be "white" or "grey", got "{background}". Pick one of these.')
    step = code.settings.module_size
    margin, side = code.settings.quiet_zone * step, code.modules * step
    outside = 1.0 if background == "white" else GREY_LEVEL / 255.0
    picture = np.full(code.size, outside, dtype=np.float32)
    rows = slice(code.top - margin, code.top + side + margin)
    columns = slice(code.left - margin, code.left + side + margin)
    picture[rows, columns] = 1.0
    light = (~code.matrix).astype(np.float32).repeat(step, axis=0).repeat(step, axis=1)
    picture[code.top : code.top + side, code.left : code.left + side] = light
    return torch.from_numpy(np.repeat(picture[None, :, :, None], 3, axis=3))


def _encode(text: str, level: ErrorCorrection) -> tuple[np.ndarray, int]:
    if not text.strip():
        raise ValueError(
            "A QR code needs a text, got an empty one. Type the link or the words it shall hold into text."
        )
    import segno

    mode, encoding = (None, None) if text.isascii() else ("byte", "utf-8")
    try:
        code = segno.make(text, error=level, mode=mode, encoding=encoding, micro=False, boost_error=False)
    except segno.DataOverflowError as error:
        raise ValueError(_too_long(text, level)) from error
    return np.array([[bool(module) for module in row] for row in code.matrix]), int(code.version)


def _start(length: int, side: int, module_size: int) -> int:
    """First pixel of the code along one axis of the target.

    Moving to the multiple of 8 below keeps the quiet zone, which is one as well.
    """
    centred = (length - side) // 2
    return centred if module_size % LATENT_CELL else centred - centred % LATENT_CELL


def _too_long(text: str, level: ErrorCorrection) -> str:
    kind, length = _kind(text)
    names = {"digits": "digits", "capitals": "capital letters and digits", "bytes": "bytes of text"}
    roomier = [
        f"{other} holds {getattr(CAPACITY[other], kind)}"
        for other in ERROR_CORRECTIONS
        if getattr(CAPACITY[other], kind) >= length
    ]
    lower = f", or lower error_correction ({', '.join(roomier)})" if roomier else ""
    return (
        f"A QR code at error correction {level} holds at most {getattr(CAPACITY[level], kind)} "
        f"{names[kind]}, got {length}. Shorten the text (for art, a link of under 40 characters works "
        f"best){lower}."
    )


def _kind(text: str) -> tuple[str, int]:
    if text.isascii() and text.isdigit():
        return "digits", len(text)
    if set(text) <= CAPITALS:
        return "capitals", len(text)
    return "bytes", len(text.encode("utf-8"))


def _too_large(modules: int, version: int, size: Size, settings: QRSettings) -> str:
    across = modules + 2 * settings.quiet_zone
    need, fits = across * settings.module_size, min(size) // across
    rounded = need + -need % LATENT_CELL
    smaller = f"lower module_size to {fits} or less" if fits else "shorten the text"
    if settings.error_correction != "L":
        smaller += ", or lower error_correction"
    return (
        f"The QR code needs {need} x {need} pixels (version {version}: {modules} modules and a quiet zone of "
        f"{settings.quiet_zone} on each side, {settings.module_size} pixels each), got {size.width} x "
        f"{size.height}. Raise width and height to {rounded} or more, or {smaller}."
    )


def _check_settings(settings: QRSettings) -> None:
    if settings.error_correction not in ERROR_CORRECTIONS:
        raise ValueError(
            f'The error correction must be "L", "M", "Q" or "H", got "{settings.error_correction}". '
            "Pick one of these; H survives most."
        )
    if settings.module_size < 1 or settings.quiet_zone < 0:
        raise ValueError(
            "A QR code needs a module size of at least 1 pixel and a quiet zone of at least 0 modules, got "
            f"{settings.module_size} and {settings.quiet_zone}. Use 16 and 4."
        )
