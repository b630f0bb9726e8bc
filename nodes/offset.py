"""The node that applies a file of weight changes to a model."""

from typing import Any

from comfy_api.latest import io

from ..adapters.offset._host import offset_names, read_offset
from ..adapters.offset.apply import FORMS, apply_offset


class TillerApplyModelOffset(io.ComfyNode):
    """Changes weights of a model by a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyModelOffset",
            display_name="Apply Model Offset",
            category="Tiller/control",
            description="Changes weights of a model by a file that holds a part of it, such as the unet file "
            "that belongs to a ControlNeXt. The model that goes in stays as it is.",
            search_aliases=[
                "controlnext unet",
                "load_weight_increasement",
                "unet offset",
                "weight difference",
                "ICLightAppply",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model of the checkpoint that the file was made for."),
                io.Combo.Input(
                    "offset_name",
                    options=offset_names(),
                    display_name="offset file",
                    tooltip="The file, from the folders diffusion_models (or unet) and loras.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    display_name="strength",
                    tooltip="How much of the change is made: 1 is what the file was trained for, 0 is none.",
                ),
                io.Combo.Input(
                    "form",
                    options=list(FORMS),
                    default="auto",
                    display_name="form",
                    tooltip="What the file holds. auto: compare it with the model's weights, and stop if "
                    "that does not tell. replacement: weights in place of the model's. increment: weights to "
                    "add to them.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model", display_name="model", tooltip="The changed model, for the sampler or a LoRA."
                )
            ],
        )

    @classmethod
    def execute(cls, model: Any, offset_name: str, strength: float, form: Any) -> io.NodeOutput:
        weights = {} if strength == 0 else read_offset(offset_name)
        return io.NodeOutput(apply_offset(model, weights, strength, form))


NODES = (TillerApplyModelOffset,)
