"""OpenPose beside controlnet-aux: bodies, found by random weights that see people everywhere.

The network runs picture by picture in the reference's layout: in the host's own, sums round otherwise, and
that decides between limbs of noise that are equally good.
"""

from typing import Any

import torch
from _pack import maths
from _pairs import Pair, Row, by_detector, network, shared

HEAT, LIMB = 0.4, 0.3
"""Biases of the last maps with which random weights see joints, and limbs between them, in any picture."""


def _openpose() -> Pair:
    from controlnet_aux.open_pose import OpenposeDetector
    from controlnet_aux.open_pose.body import Body
    from controlnet_aux.open_pose.model import bodypose_model
    from controlnet_aux.open_pose.util import transfer

    ours, theirs = maths("networks.openpose").BodyPose(), bodypose_model().eval()
    state = shared().randomise(ours, 7, 1.4)
    state["Mconv7_stage6_L2.bias"].fill_(HEAT)
    state["Mconv7_stage6_L1.bias"].fill_(LIMB)
    theirs.load_state_dict(transfer(theirs, state))
    body: Any = object.__new__(Body)
    body.model = theirs
    pose, drawing = maths("pose.openpose"), maths("pose.drawing").Drawing(hands=False, face=False)
    networks = pose.PoseNetworks(network(ours), None, None)

    def hint(image: torch.Tensor) -> torch.Tensor:
        return pose.open_pose(image, networks, drawing, resolution=0)[0]

    return Pair(hint, by_detector(OpenposeDetector(body, None, None), include_hand=False, include_face=False))


ROWS = (Row("openpose", _openpose, "controlnet-aux, bodies"),)
