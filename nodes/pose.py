"""Nodes for key points of people: drawing them, and turning them into JSON text."""

from typing import Any

from comfy_api.latest import io

from ..preprocessors.pose.drawing import Drawing, draw_poses
from ..preprocessors.pose.keypoints import (
    MIN_SCORE,
    UNITS,
    Unit,
    Writing,
    hands_by_wrist,
    read_either,
    read_keypoints,
    write_json,
)
from .hint_inputs import MAX_RESOLUTION, hint_output

CATEGORY = "Tiller/pose"

PoseType = io.Custom("POSE_KEYPOINT")


class TillerDrawPose(io.ComfyNode):
    """Poses as a hint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDrawPose",
            display_name="Draw Pose",
            category=CATEGORY,
            description="Draws key points of people as a hint for OpenPose control nets: from any node that "
            "gives POSE_KEYPOINT, the host's SDPose too, or from JSON text.",
            search_aliases=[
                "openpose",
                "pose",
                "keypoints",
                "skeleton",
                "SDPoseDrawKeypoints",
                "RenderPeopleKps",
                "openpose editor",
            ],
            inputs=[
                PoseType.Input(
                    "keypoints",
                    optional=True,
                    tooltip="Key points in pixels or as fractions of the canvas; or leave this open and "
                    "paste JSON text. Each entry becomes one picture.",
                ),
                io.String.Input(
                    "json_text",
                    display_name="JSON text",
                    default="",
                    multiline=True,
                    tooltip="Key points as JSON, as pose editors and OpenPose write them, with people, "
                    "canvas_width and canvas_height. Leave it empty when key points are connected.",
                ),
                *_part_inputs(),
                _min_score_input(),
                io.Int.Input(
                    "resolution",
                    display_name="resolution",
                    default=0,
                    min=0,
                    max=MAX_RESOLUTION,
                    step=8,
                    tooltip="Length of the shorter side at which the pose is drawn, in pixels; 0 draws at "
                    "the size of the canvas. Limbs keep their width.",
                ),
            ],
            outputs=[hint_output("The poses on black: coloured limbs, rainbow fingers, white faces.")],
        )

    @classmethod
    def execute(
        cls,
        json_text: str,
        resolution: int,
        min_score: float,
        keypoints: Any = None,
        **parts: bool,
    ) -> io.NodeOutput:
        frames = read_either(keypoints, json_text, min_score)
        return io.NodeOutput(draw_poses(frames, Drawing(**parts), resolution))


class TillerPoseToJSON(io.ComfyNode):
    """Key points as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerPoseToJSON",
            display_name="Pose to JSON",
            category=CATEGORY,
            description="Key points of people as JSON text in OpenPose's form, for pose editors and files; "
            "Draw Pose reads it back.",
            search_aliases=[
                "openpose json",
                "SavePoseKpsAsJsonFile",
                "keypoints",
                "pose json",
                "export pose",
            ],
            inputs=[
                PoseType.Input(
                    "keypoints",
                    tooltip="Key points in pixels or as fractions of the canvas.",
                ),
                io.Combo.Input(
                    "unit",
                    options=list(UNITS),
                    default="pixels",
                    tooltip="pixels: what most editors and the host's nodes expect. fractions: of the width "
                    "and height, from 0 to 1, as the OpenPose annotators write.",
                ),
                io.Boolean.Input(
                    "match_hands",
                    display_name="match hands",
                    default=True,
                    tooltip="Gives each hand to the wrist it starts at. The host's SDPose names the right "
                    "hand left and the left one right; this puts it straight.",
                ),
                io.Boolean.Input(
                    "keep_scores",
                    display_name="keep scores",
                    default=False,
                    tooltip="Writes how sure each point is. Off writes 1 for every point: most readers take "
                    "anything below 1 for a missing point.",
                ),
                _min_score_input(),
            ],
            outputs=[
                io.String.Output(
                    "json_text",
                    display_name="JSON text",
                    tooltip="A list with one entry per picture, on one line.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, keypoints: Any, unit: Unit, match_hands: bool, keep_scores: bool, min_score: float
    ) -> io.NodeOutput:
        frames = read_keypoints(keypoints, min_score)
        if match_hands:
            frames = [hands_by_wrist(frame) for frame in frames]
        return io.NodeOutput(write_json(frames, Writing(unit, keep_scores)))


def _part_inputs() -> list[io.Boolean.Input]:
    return [
        io.Boolean.Input("body", default=True, tooltip="Draw the limbs and joints of the body."),
        io.Boolean.Input(
            "hands", default=True, tooltip="Draw the hands, where there are key points of them."
        ),
        io.Boolean.Input("face", default=True, tooltip="Draw the face, where there are key points of it."),
        io.Boolean.Input(
            "scale_limbs",
            display_name="scale limbs",
            default=False,
            tooltip="Widens the limbs from 500 pixels on, as xinsir's OpenPose control nets for SDXL "
            "expect. Leave it off for other control nets.",
        ),
    ]


def _min_score_input() -> io.Float.Input:
    return io.Float.Input(
        "min_score",
        display_name="lowest score",
        default=MIN_SCORE,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Points less sure than this count as not seen. Most sources give 0 or 1 alone; SDPose and "
        "OpenPose's own files give values between.",
    )


NODES = (TillerDrawPose, TillerPoseToJSON)
