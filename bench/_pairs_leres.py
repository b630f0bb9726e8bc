"""LeReS depth and its boost beside controlnet-aux."""

import contextlib
import io
from typing import Any

import torch
from _pack import maths
from _pairs import Pair, Row, by_detector, network, shared


def _leres() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The reference's module and ours over the same tensors."""
    from controlnet_aux.leres import RelDepthModel

    with torch.device("meta"):
        theirs = RelDepthModel(backbone="resnext101")
        ours = maths("networks.leres").LeReS({})
    theirs = theirs.to_empty(device="cpu").eval()
    ours.load_state_dict(shared().randomise(theirs, 5), assign=True)
    return theirs, ours


def _depth() -> Pair:
    from controlnet_aux.leres import LeresDetector

    (theirs, ours), hint = _leres(), maths("depth_leres").depth_leres
    run = network(ours)
    return Pair(lambda image: hint(image, run, resolution=0), by_detector(LeresDetector(theirs, None)))


def _boosted() -> Pair:
    """The reference's wrapper of the second network wants options from a command line, so it is made bare."""
    from controlnet_aux.leres import LeresDetector, Pix2Pix4DepthModel
    from controlnet_aux.leres.pix2pix.models.networks import UnetGenerator, get_norm_layer

    (theirs, ours), hint = _leres(), maths("depth_leres").depth_leres
    module = UnetGenerator(2, 1, 10, 64, norm_layer=get_norm_layer("none")).eval()
    merging = maths("networks.leres_merge").LeReSMerge({})
    merging.load_state_dict(shared().randomise(module, 6))
    around: Any = Pix2Pix4DepthModel.__new__(Pix2Pix4DepthModel)
    around.device, around.netG, around.visual_names = torch.device("cpu"), module, ["fake_B"]
    run, merge = network(ours), network(merging)
    reference = by_detector(LeresDetector(theirs, around), boost=True)

    def quiet(image: torch.Tensor) -> torch.Tensor:
        with contextlib.redirect_stdout(io.StringIO()):
            return reference(image)

    return Pair(lambda image: hint(image, run, resolution=0, merge=merge), quiet)


ROWS = (Row("depth_leres", _depth), Row("depth_leres boosted", _boosted, timed=1))
