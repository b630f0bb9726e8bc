"""MiDaS beside controlnet-aux, Depth Anything V2 beside transformers. Both sides hold the same tensors."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _pack import maths
from _pairs import Hint, Pair, Row, network, picture_by_picture, shared

THRESHOLD = 0.4
"""Of the normals' background: the webui's, in place of controlnet-aux's own."""


def _midas(function: str, index: int) -> Row:
    """Depth (index 0) or normals (1): the detector makes both."""

    def make() -> Pair:
        from controlnet_aux.midas import MidasDetector
        from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

        theirs = DPTDepthModel(path=None, backbone="vitb_rn50_384").eval()
        drawn = _varied(shared().randomise(theirs, 5, gain=1.0))
        with torch.device("meta"):
            ours = maths("networks.midas").midas(shared().shapes_of(theirs))
        ours.load_state_dict(drawn, assign=True)
        detector, run = MidasDetector(theirs), network(ours)

        def detect(padded: np.ndarray) -> np.ndarray:
            side = min(padded.shape[:2])
            sizes = {"detect_resolution": side, "image_resolution": side}
            made = detector(padded, bg_th=THRESHOLD, depth_and_normal=bool(index), **sizes)
            return made[index] if index else made

        hint = getattr(maths("normal" if index else "depth"), function)
        return Pair(lambda image: hint(image, run, resolution=0), picture_by_picture(detect))

    return Row("normal_midas" if index else "depth_midas", make, timed=2)


def _depth_anything_v2() -> Pair:
    """The small network, and what its authors do before and after it."""
    ours = maths("networks.depth_anything").depth_anything(shared().listing("depth_anything_v2_vits"))
    _varied(shared().randomise(ours, 3, gain=1.0))
    reference = importlib.import_module("tiller.tests.unit.depth_anything_reference")
    sizes = maths("networks.depth_anything").DepthAnythingSizes(384, 12, 1536, (48, 96, 192, 384), 64)
    theirs = reference.reference_network(sizes, ours.state_dict())
    run, hint = network(ours), maths("depth").depth_anything_v2
    return Pair(lambda image: hint(image, run, 0), _without_pad(reference.depth_by_the_authors, theirs))


def _without_pad(depth_of: Callable[[torch.nn.Module, np.ndarray], np.ndarray], theirs: Any) -> Hint:
    """The authors' function, picture by picture."""

    def hint(image: torch.Tensor) -> torch.Tensor:
        levels = (image.numpy() * 255).round().astype(np.uint8)
        made = np.stack([depth_of(theirs, one) for one in levels])
        return torch.from_numpy(np.repeat(made[..., None], 3, 3).astype(np.float32) / 255.0)

    return hint


def _varied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Lets the places of tokens differ and lifts the last layer, so that depths have many levels."""
    for name, tensor in state.items():
        if name.endswith("pos_embed"):
            tensor.normal_(0, 0.5, generator=torch.Generator().manual_seed(5))
        elif name.endswith(("output_conv.4.bias", "output_conv2.2.bias")):
            tensor.fill_(1.5)
    return state


ROWS = (
    _midas("depth_midas", 0),
    _midas("normals_midas", 1),
    Row("depth_anything_v2", _depth_anything_v2, "transformers, before and after it as its authors", timed=2),
)
