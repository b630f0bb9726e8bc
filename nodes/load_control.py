"""The node that loads control nets of every kind."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.load._host import control_names, control_path, load_control_and_text
from ..adapters.control.load.pooling import POOLING_CHOICES

CATEGORY = "Tiller/control"


class TillerLoadControl(io.ComfyNode):
    """Loads any control net."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadControl",
            display_name="Load Control",
            category=CATEGORY,
            description="Loads a control net of any kind, known by its contents: ControlNet, Union, "
            "Control-LoRA, T2I-Adapter, ControlNet-LLLite, ControlNet-XS, ControlNeXt, SparseCtrl. Says what "
            "the file is, and refuses one that is something else.",
            search_aliases=[
                "load controlnet",
                "ControlNetLoader",
                "DiffControlNetLoader",
                "ACN_ControlNetLoaderAdvanced",
                "LoadLLLite",
                "t2i adapter loader",
                "controlnext",
                "controlnet xs",
                "sparsectrl loader",
            ],
            inputs=[
                io.Combo.Input(
                    "control_name",
                    display_name="control_name",
                    options=control_names(),
                    tooltip="A file of models/controlnet or models/t2i_adapter. What it is is read from its "
                    "contents, not from its name.",
                ),
                io.Combo.Input(
                    "global_average_pooling",
                    display_name="global_average_pooling",
                    options=list(POOLING_CHOICES),
                    default="auto",
                    optional=True,
                    tooltip="Takes the mean of the control over the picture: style and colour without form. "
                    "Only shuffle nets want it. auto goes by metadata, a configuration beside the file, the "
                    "published file's checksum and its name; set on for a shuffle net that it does not know.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Only for files that hold the difference from a base model: the model to add "
                    "it to.",
                ),
            ],
            outputs=[
                io.ControlNet.Output(
                    display_name="control_net",
                    tooltip="The control net, for Apply Control, Control Unit and ComfyUI's Apply "
                    "ControlNet.",
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="What the file is: kind, base model, hint types of a Union net, whether it needs "
                    "a VAE, pooling. Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, control_name: str, global_average_pooling: Any = "auto", model: Any = None
    ) -> io.NodeOutput:
        net, text = load_control_and_text(control_path(control_name), model, global_average_pooling)
        return io.NodeOutput(net, text)


NODES = (TillerLoadControl,)
