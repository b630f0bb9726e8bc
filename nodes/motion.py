"""Nodes that make a model of pictures one of clips, with the motion modules of AnimateDiff."""

from typing import Any

from comfy_api.latest import io

from ..adapters.motion._host import load_motion, motion_names
from ..adapters.motion.apply import BETA_SCHEDULES, apply_motion
from ..adapters.motion.network import Effect

CATEGORY = "Tiller/control"

MotionType = io.Custom("TILLER_MOTION")


class TillerLoadMotion(io.ComfyNode):
    """Loads motion modules."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadMotion",
            display_name="Load Motion",
            category=CATEGORY,
            description="Loads the motion modules of AnimateDiff for SD1.5, v2 or v3, for Apply Motion.",
            search_aliases=["animatediff loader", "ADE_LoadAnimateDiffModel", "motion model"],
            inputs=[
                io.Combo.Input(
                    "motion_name",
                    display_name="motion_name",
                    options=motion_names(),
                    tooltip="A file of models/animatediff_models, such as v3_sd15_mm or mm_sd_v15_v2.",
                )
            ],
            outputs=[
                MotionType.Output("motion", display_name="motion", tooltip="The modules, for Apply Motion.")
            ],
        )

    @classmethod
    def execute(cls, motion_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_motion(motion_name))


class TillerApplyMotion(io.ComfyNode):
    """Gives a model motion modules."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyMotion",
            display_name="Apply Motion",
            category=CATEGORY,
            description="Makes an SD1.5 model treat the batch of the latent as the frames of one clip. "
            "For clips of more frames than the modules know put Context Windows (Manual) behind it.",
            search_aliases=[
                "animatediff",
                "ADE_ApplyAnimateDiffModelSimple",
                "ADE_AnimateDiffLoaderGen1",
                "text to video sd1.5",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model of the SD1.5 family. It stays as it is."),
                MotionType.Input("motion", tooltip="The motion modules from Load Motion."),
                io.Float.Input(
                    "strength",
                    display_name="strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much motion is added. 1 is the trained amount; 0 gives single pictures.",
                ),
                io.Float.Input(
                    "scale",
                    display_name="scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Multiplies the keys of the attention over the frames: above 1 for more motion, "
                    "below 1 for less.",
                ),
                io.Combo.Input(
                    "beta_schedule",
                    display_name="beta_schedule",
                    options=list(BETA_SCHEDULES),
                    default="linear",
                    tooltip="The noise levels. linear: those that AnimateDiff was trained with. model: those "
                    "of the model, for models with a sampling of their own, such as LCM.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model", display_name="model", tooltip="The model with motion, for the sampler."
                )
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, motion: Any, strength: float, scale: float, beta_schedule: Any
    ) -> io.NodeOutput:
        return io.NodeOutput(apply_motion(model, motion, Effect(strength, scale), beta_schedule))


NODES = (TillerLoadMotion, TillerApplyMotion)
