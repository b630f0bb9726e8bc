"""Nodes that apply image prompts to models."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..adapters.image_prompt.apply import apply_ip_adapter
from ..adapters.image_prompt.terms import settings_of
from ..adapters.image_prompt.weight_types import WEIGHT_TYPES
from ..adapters.injection.keys_values import SCALINGS
from .image_prompt_inputs import CATEGORY, ImagePromptType, IPAdapterType
from .window_inputs import window_inputs

MODEL_TIP = "The model that the adapter was made for: SD1.5, SDXL and what was trained from them, or Flux."


def link_inputs() -> list[Any]:
    """Model, adapter and image prompt."""
    return [
        io.Model.Input("model", tooltip=MODEL_TIP),
        IPAdapterType.Input("ip_adapter", tooltip="The adapter file, from Load IP-Adapter."),
        ImagePromptType.Input(
            "image_prompt",
            tooltip="The picture or pictures, from Encode Image Prompt with this adapter's image encoder.",
        ),
    ]


def weight_input() -> Any:
    return io.Float.Input(
        "weight",
        display_name="weight",
        default=1.0,
        min=-1.0,
        max=5.0,
        step=0.05,
        tooltip="How strongly the picture counts beside the text. 0 is off, 1 what the adapter was trained "
        "for; 0.5 to 0.8 leaves room for the text. A list gives each picture of the batch its own.",
    )


def acting_inputs() -> list[Any]:
    """Weight type, window, embeds scaling."""
    return [
        io.Combo.Input(
            "weight_type",
            display_name="weight_type",
            options=list(WEIGHT_TYPES),
            default="linear",
            tooltip="How the weight is dealt out to the layers. linear: all alike. ease out: the text counts "
            "more. style transfer: style without content. composition: layout without style. precise: the "
            "other trait is also pushed away.",
        ),
        *window_inputs(
            "Where the picture begins to act: 0 = the first step.",
            "Where the picture stops to act: 1 = the last step. Less leaves the details to the text.",
        ),
        io.Combo.Input(
            "embeds_scaling",
            display_name="embeds_scaling",
            options=list(SCALINGS),
            default="V only",
            tooltip="Where the weight enters. V only: as in the papers. K+V: attention gets softer with less "
            "weight, the text counts more. C penalty: narrow layers get less.",
        ),
    ]


def mask_input() -> Any:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Where the picture acts: 1 = fully, 0 = not at all. Any size; one for all pictures of the "
        "batch or one for each.",
    )


def model_output() -> Any:
    return io.Model.Output(
        "model", display_name="model", tooltip="A copy of the model with the image prompt, for the sampler."
    )


class TillerApplyIPAdapter(io.ComfyNode):
    """Applies an image prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyIPAdapter",
            display_name="Apply IP-Adapter",
            category=CATEGORY,
            description="Lets a picture act as a prompt beside the text, through an IP-Adapter. Every "
            "attention layer is reached, the middle ones too. Several in a row add up.",
            search_aliases=["ipadapter", "IPAdapterAdvanced", "IPAdapter", "IPAdapterEmbeds", "image prompt"],
            inputs=[*link_inputs(), weight_input(), *acting_inputs(), mask_input()],
            outputs=[model_output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ip_adapter: Any,
        image_prompt: Any,
        weight: float | Sequence[float],
        **acting: Any,
    ) -> io.NodeOutput:
        settings = settings_of(weight, **acting)
        return io.NodeOutput(apply_ip_adapter(model, ip_adapter, image_prompt, settings))


class TillerApplyIPAdapterAdvanced(io.ComfyNode):
    """Applies an image prompt with weights by layer and by picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyIPAdapterAdvanced",
            display_name="Apply IP-Adapter (Advanced)",
            category=CATEGORY,
            description="As Apply IP-Adapter, and more: weights by block or by layer, a weight for each "
            "picture of the batch, a picture of its own for the layout, a second weight.",
            search_aliases=[
                "IPAdapterMS",
                "IPAdapterStyleComposition",
                "IPAdapterPreciseStyleTransfer",
                "IPAdapterPreciseComposition",
                "IPAdapterBatch",
                "mad scientist",
            ],
            inputs=[
                *link_inputs(),
                weight_input(),
                io.String.Input(
                    "picture_weights",
                    display_name="picture_weights",
                    default="",
                    tooltip='A factor for each picture of the batch, times weight: "0.2, 0.5, 1". The last '
                    "serves those that come after it. Empty: all alike.",
                ),
                *acting_inputs(),
                io.String.Input(
                    "layers",
                    display_name="layers",
                    default="",
                    tooltip='Blocks by name, a factor each, on top of the weight type: "IN04-IN08:0.5, '
                    'MID:0", "ALL:0, OUT01:1". Or layers by number, in place of it: "3:1, 6:0.5".',
                ),
                io.Float.Input(
                    "composition_weight",
                    display_name="composition_weight",
                    default=1.0,
                    min=-1.0,
                    max=5.0,
                    step=0.05,
                    tooltip="The weight of the layout in the weight types style and composition.",
                ),
                io.Float.Input(
                    "boost",
                    display_name="boost",
                    default=1.0,
                    min=-5.0,
                    max=5.0,
                    step=0.05,
                    tooltip="The second weight of the precise weight types: in style transfer how hard the "
                    "picture's layout is pushed away, in composition how hard its style is.",
                ),
                ImagePromptType.Input(
                    "composition_prompt",
                    optional=True,
                    tooltip="Another picture for the layers of the layout, with the same image encoder. "
                    "Takes a weight type that has them, such as style and composition.",
                ),
                mask_input(),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ip_adapter: Any,
        image_prompt: Any,
        weight: float | Sequence[float],
        composition_prompt: Any = None,
        **acting: Any,
    ) -> io.NodeOutput:
        settings = settings_of(weight, **acting)
        return io.NodeOutput(apply_ip_adapter(model, ip_adapter, image_prompt, settings, composition_prompt))


NODES = (TillerApplyIPAdapter, TillerApplyIPAdapterAdvanced)
