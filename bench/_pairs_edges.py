"""Soft edges, line art and straight lines beside controlnet-aux."""

import functools
from typing import Any

import numpy as np
import torch
from _pack import maths
from _pairs import Hint, Pair, Row, by_detector, network, picture_by_picture, shared

PIDINET_GAIN = 1.2
HED_GAIN = 0.9


def _soft_edge(name: str, function: str, **options: Any) -> Row:
    """A hint by HED or PiDiNet."""

    def make() -> Pair:
        from controlnet_aux import HEDdetector, PidiNetDetector
        from controlnet_aux.hed import ControlNetHED_Apache2
        from controlnet_aux.pidi.model import pidinet

        if name.endswith("hed"):
            theirs, ours, gain = ControlNetHED_Apache2().eval(), maths("networks.hed").HED(), HED_GAIN
            detector: Any = HEDdetector(theirs)
        else:
            theirs, ours, gain = pidinet().eval(), maths("networks.pidinet").PiDiNet(), PIDINET_GAIN
            detector = PidiNetDetector(theirs)
        ours.load_state_dict(shared().randomise(theirs, 0, gain))
        run = network(ours, "channels_last")
        hint, reference = getattr(maths("soft_edge"), function), by_detector(detector, **options)
        lines = _scribbled(reference) if name.startswith("scribble") else reference
        return Pair(lambda image: hint(image, run, resolution=0), lines)

    said = "controlnet-aux, lines thinned after the crop" if name.startswith("scribble") else "controlnet-aux"
    return Row(name, make, said)


def _scribbled(soft_edges: Hint) -> Hint:
    """Scribble lines of soft edges as the webui draws them: from the map without its padding."""

    def hint(image: torch.Tensor) -> torch.Tensor:
        import cv2
        from controlnet_aux.util import nms

        made = []
        for soft in (soft_edges(image)[..., 0].numpy() * 255).round().astype(np.uint8):
            blurred = cv2.GaussianBlur(nms(soft, 127, 3.0), (0, 0), 3.0)
            made.append(np.repeat((blurred > 4)[..., None], 3, 2))
        return torch.from_numpy(np.stack(made).astype(np.float32))

    return hint


def _line_art() -> Pair:
    from controlnet_aux.lineart import Generator, LineartDetector

    theirs, ours = Generator(3, 1, 3).eval(), maths("networks.line_art").LineArtGenerator()
    ours.load_state_dict(shared().randomise(theirs, 1))
    return _with(ours, "line_art", by_detector(LineartDetector(theirs, theirs)))


def _line_art_anime() -> Pair:
    from controlnet_aux.lineart_anime import LineartAnimeDetector, UnetGenerator

    norm = functools.partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
    theirs = UnetGenerator(3, 1, 8, 64, norm_layer=norm).eval()
    ours = maths("networks.line_art_anime").LineArtAnimeUNet()
    ours.load_state_dict(shared().randomise(theirs, 2))
    return _with(ours, "line_art_anime", by_detector(LineartAnimeDetector(theirs)))


def _line_art_anime_denoise() -> Pair:
    """controlnet-aux has none: the same network with the webui's formula around it, one picture at a time."""
    module = maths("networks.manga_line").MangaLineExtraction().eval()
    shared().randomise(module, 3, gain=1.0)
    last = module.conv15.model[2]
    with torch.no_grad():
        raw = module(255 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3)))
        last.weight.mul_(80.0 / float(raw.std()))
        last.bias.sub_(raw.mean()).mul_(80.0 / float(raw.std())).add_(128.0)

    def formula(padded: np.ndarray) -> np.ndarray:
        import cv2

        gray = cv2.cvtColor(padded, cv2.COLOR_RGB2GRAY)
        raw = module(torch.from_numpy(gray)[None, None].float())
        return np.repeat((255 - raw[0, 0].numpy()).clip(0, 255).astype(np.uint8)[..., None], 3, 2)

    return _with(module, "line_art_anime_denoise", picture_by_picture(formula), "channels_last")


def _with(module: torch.nn.Module, function: str, theirs: Hint, layout: str = "contiguous") -> Pair:
    run, hint = network(module, layout), getattr(maths("line_art"), function)
    return Pair(lambda image: hint(image, run, 0), theirs)


def _mlsd() -> Pair:
    from controlnet_aux.mlsd import MLSDdetector
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    theirs, ours = MobileV2_MLSD_Large().eval(), maths("networks.mlsd").MLSD()
    shared().randomise(theirs, 4)
    spread_lines(theirs)
    ours.load_state_dict(theirs.state_dict())
    run, hint = network(ours, "channels_last"), maths("straight_lines").straight_lines
    return Pair(lambda image: hint(image, run, resolution=0), by_detector(MLSDdetector(theirs)))


def spread_lines(module: Any) -> None:
    """Scales the last layer so that the random network draws lines of every strength."""
    last, seen = module.block23.conv3, []
    with last.register_forward_hook(lambda _, __, made: seen.append(made)), torch.no_grad():
        module(torch.randn(1, 4, 192, 192, generator=torch.Generator().manual_seed(4)))
        spread = 6.0 / seen[0].std((0, 2, 3))
        last.weight.mul_(spread[:, None, None, None])
        last.bias.sub_(seen[0].mean((0, 2, 3))).mul_(spread)


ROWS = (
    _soft_edge("hed", "soft_edges_hed"),
    _soft_edge("scribble_hed", "scribble_hed"),
    _soft_edge("pidinet", "soft_edges_pidinet"),
    _soft_edge("scribble_pidinet", "scribble_pidinet"),
    _soft_edge("sketch_pidinet", "sketch_pidinet", apply_filter=True),
    Row("line_art_realistic", _line_art),
    Row("line_art_anime", _line_art_anime),
    Row("line_art_anime_denoise", _line_art_anime_denoise, "the webui's formula, our network"),
    Row("mlsd", _mlsd),
)
