"""Hint nodes that find people in pictures with networks: OpenPose and DWPose."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.progress._host import report_images
from ..preprocessors._host import AUTO, network
from ..preprocessors.networks.openpose import BodyPose, FacePose, HandPose
from ..preprocessors.pose._host import HostOnnxNetwork, onnx_names
from ..preprocessors.pose.drawing import Drawing
from ..preprocessors.pose.dwpose import DETECTOR, KINDS, POSE, DWPoseNetworks, dw_pose
from ..preprocessors.pose.keypoints import write_keypoints
from ..preprocessors.pose.openpose import PoseNetworks, open_pose
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input

POSES_ON_BLACK = "The poses on black: coloured limbs, rainbow fingers, white faces."


class TillerOpenPose(io.ComfyNode):
    """People by OpenPose."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerOpenPose",
            display_name="OpenPose",
            category=CATEGORY,
            description="The poses of people, found by OpenPose's networks, for OpenPose control nets; also "
            "as key points. Needs body_pose_model.pth, and hand_pose_model.pth and facenet.pth for hands and "
            "faces. CMU's licence allows academic and non-commercial use only.",
            search_aliases=[
                "openpose",
                "openpose_hand",
                "openpose_face",
                "openpose_faceonly",
                "openpose_full",
                "OpenposePreprocessor",
                "OpenPose Pose",
                "skeleton",
                "keypoints",
            ],
            inputs=[
                image_input(),
                *_part_inputs(),
                resolution_input(),
                weights_input(),
                _part_weights_input("hand", "hand_pose_model.pth"),
                _part_weights_input("face", "facenet.pth"),
            ],
            outputs=[
                hint_output(POSES_ON_BLACK),
                _keypoints_output(),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        resolution: int,
        weights: str,
        hand_weights: str,
        face_weights: str,
        **parts: bool,
    ) -> io.NodeOutput:
        body: Any = network("openpose_body", BodyPose, weights, "channels_last")
        networks = PoseNetworks(
            body,
            network("openpose_hand", HandPose, hand_weights, "channels_last"),
            network("openpose_face", FacePose, face_weights, "channels_last"),
        )
        hint, frames = open_pose(image, networks, Drawing(**parts), resolution)
        return io.NodeOutput(hint, write_keypoints(frames))


class TillerDWPose(io.ComfyNode):
    """People by DWPose."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDWPose",
            display_name="DWPose",
            category=CATEGORY,
            description="The poses of people with their hands and faces, found by DWPose, for OpenPose "
            "control nets; also as key points. Needs yolox_l.onnx, dw-ll_ucoco_384.onnx, and onnxruntime "
            "installed.",
            search_aliases=[
                "dwpose",
                "dw_openpose_full",
                "openpose",
                "openpose_full",
                "DWPreprocessor",
                "DWPose Estimator",
                "whole body",
                "skeleton",
                "keypoints",
            ],
            inputs=[
                image_input(),
                *_part_inputs(),
                resolution_input(),
                io.Combo.Input(
                    "detector",
                    options=[AUTO, *onnx_names()],
                    default=AUTO,
                    tooltip="The ONNX file of the network that finds people. auto takes yolox_l.onnx by its "
                    "name; any other choice is checked by what it takes and gives.",
                ),
                weights_input(onnx_names()),
            ],
            outputs=[hint_output(POSES_ON_BLACK), _keypoints_output()],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, resolution: int, detector: str, weights: str, **parts: bool
    ) -> io.NodeOutput:
        networks = DWPoseNetworks(
            HostOnnxNetwork(DETECTOR, detector, KINDS), HostOnnxNetwork(POSE, weights, KINDS)
        )
        hint, frames = dw_pose(image, networks, Drawing(**parts), resolution, report_images())
        return io.NodeOutput(hint, write_keypoints(frames))


def _part_inputs() -> list[io.Boolean.Input]:
    return [
        io.Boolean.Input(
            "body",
            default=True,
            tooltip="Draw the limbs and joints of the body. Off, with face on: openpose_faceonly.",
        ),
        io.Boolean.Input(
            "hands",
            default=False,
            tooltip="Look for hands and draw them: openpose_hand, and with face openpose_full.",
        ),
        io.Boolean.Input("face", default=False, tooltip="Look for faces and draw them: openpose_face."),
        io.Boolean.Input(
            "scale_limbs",
            display_name="scale limbs",
            default=False,
            tooltip="Widens the limbs from 500 pixels on, as xinsir's OpenPose control nets for SDXL "
            "expect. Leave it off for other control nets.",
        ),
    ]


def _keypoints_output() -> Any:
    return io.Custom("POSE_KEYPOINT").Output(
        "keypoints",
        display_name="key points",
        tooltip="The points found, in pixels of the hint, for Draw Pose, Pose to JSON or other packs.",
    )


def _part_weights_input(part: str, name: str) -> io.Combo.Input:
    choices = weights_input()
    return io.Combo.Input(
        f"{part}_weights",
        display_name=f"{part} weights",
        options=choices.options,
        default=choices.default,
        tooltip=f"The weight file of the {part} network, used only when the switch is on. auto takes {name} "
        "by its name; CMU's licence allows academic and non-commercial use only.",
    )


HINTS = (("openpose", TillerOpenPose), ("dwpose", TillerDWPose))
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
