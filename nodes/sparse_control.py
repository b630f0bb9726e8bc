"""The node that puts the settings of SparseCtrl on a loaded net."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.sparsectrl.apply import with_settings
from ..adapters.control.sparsectrl.frames import CONTEXT_AWARE, SPREAD, SparseSettings, parse_key_frames


def _factor(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, display_name=name, default=1.0, min=0.0, max=10.0, step=0.01, tooltip=tooltip)


class TillerSparseControl(io.ComfyNode):
    """Sets the key frames of a SparseCtrl net."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSparseControl",
            display_name="Sparse Control",
            category="Tiller/control",
            description="Says which frames of a clip the pictures of a SparseCtrl net belong to. The image "
            "batch of Apply Control holds the pictures, the batch of the latent is the clip.",
            search_aliases=[
                "sparsectrl",
                "animatediff keyframes",
                "ACN_SparseCtrlIndexMethodNode",
                "ACN_SparseCtrlSpreadMethodNode",
                "ACN_SparseCtrlLoaderAdvanced",
            ],
            inputs=[
                io.ControlNet.Input(
                    "control_net", tooltip="A SparseCtrl net (rgb or scribble) from Load Control."
                ),
                io.String.Input(
                    "key_frames",
                    display_name="key_frames",
                    default=SPREAD,
                    tooltip="The frame of each picture, in order, such as 0, 8, -1: 0 is the first frame, -1 "
                    "the last. spread lays the pictures evenly from the first frame to the last.",
                ),
                _factor(
                    "motion_strength",
                    "How strongly the net's own motion modules carry the pictures to the frames between "
                    "them. 0 leaves them out.",
                ),
                _factor("motion_scale", "Sharpens (above 1) or softens the attention of these modules."),
                _factor("key_strength", "Multiplies the control on the frames that have a picture."),
                _factor("between_strength", "Multiplies the control on the frames without a picture."),
                _factor("mask_strength", "Value of the mask that marks the pictures. 1 is the trained one."),
                io.Combo.Input(
                    "context_aware",
                    display_name="context_aware",
                    options=list(CONTEXT_AWARE),
                    default="nearest_hint",
                    tooltip="For context windows: nearest_hint moves the nearest picture into a window that "
                    "has none, off leaves such a window without a picture.",
                ),
            ],
            outputs=[
                io.ControlNet.Output(
                    "control_net",
                    display_name="control_net",
                    tooltip="The net with these settings, for Apply Control.",
                )
            ],
        )

    @classmethod
    def execute(cls, control_net: Any, key_frames: str, **settings: Any) -> io.NodeOutput:
        chosen = SparseSettings(key_frames=parse_key_frames(key_frames), **settings)
        return io.NodeOutput(with_settings(control_net, chosen))


NODES = (TillerSparseControl,)
