"""Nodes that bring image prompts to parts of the picture, or to one conditioning."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..adapters.image_prompt.apply import apply_regions, ip_adapter_hooks
from ..adapters.image_prompt.regions import OVERLAPS
from ..adapters.image_prompt.terms import settings_of
from .image_prompt_inputs import CATEGORY, ImagePromptType, IPAdapterType
from .ip_adapter import (
    MODEL_TIP,
    acting_inputs,
    link_inputs,
    mask_input,
    model_output,
    weight_input,
)

MAX_REGIONS = 20
HooksType = io.Custom("HOOKS")


class TillerImagePromptRegions(io.ComfyNode):
    """Applies several image prompts, each with its mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerImagePromptRegions",
            display_name="Apply Image Prompt Regions",
            category=CATEGORY,
            description="Several pictures, each in its own part of the result: image prompt 0 acts in mask "
            "0, and so on. A picture without a mask acts everywhere.",
            search_aliases=[
                "IPAdapterRegionalConditioning",
                "IPAdapterFromParams",
                "regional ip adapter",
                "regional prompting",
                "attention mask",
            ],
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TIP),
                IPAdapterType.Input("ip_adapter", tooltip="The adapter file, from Load IP-Adapter."),
                io.Autogrow.Input(
                    "image_prompts",
                    template=io.Autogrow.TemplatePrefix(
                        ImagePromptType.Input(
                            "image_prompt",
                            tooltip="A picture, from Encode Image Prompt. A free slot appears for the next.",
                        ),
                        prefix="image_prompt",
                        min=1,
                        max=MAX_REGIONS,
                    ),
                    tooltip="The pictures.",
                ),
                io.Autogrow.Input(
                    "masks",
                    template=io.Autogrow.TemplatePrefix(
                        io.Mask.Input(
                            "mask",
                            tooltip="Where the picture of the same number acts: 1 = fully, 0 = not at all.",
                        ),
                        prefix="mask",
                        min=0,
                        max=MAX_REGIONS,
                    ),
                    tooltip="The masks, any size, by the numbers of the pictures.",
                ),
                io.String.Input(
                    "weights",
                    display_name="weights",
                    default="1",
                    tooltip='The weight of each picture in turn: "1, 0.7". The last serves those that come '
                    "after it.",
                ),
                *acting_inputs(),
                io.Combo.Input(
                    "overlap",
                    display_name="overlap",
                    options=list(OVERLAPS),
                    default="share",
                    tooltip="Where masks overlap. share: the pictures share the place, so that the masks "
                    "come to 1. add: each acts as if it were alone, and the effects add up.",
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ip_adapter: Any,
        image_prompts: io.Autogrow.Type,
        weights: str,
        overlap: Any,
        masks: io.Autogrow.Type | None = None,
        **acting: Any,
    ) -> io.NodeOutput:
        settings = settings_of((), weights, **acting)
        return io.NodeOutput(
            apply_regions(model, ip_adapter, (image_prompts, masks or {}), settings, overlap)
        )


class TillerIPAdapterHook(io.ComfyNode):
    """Brings an image prompt to one conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerIPAdapterHook",
            display_name="IP-Adapter Hook",
            category=CATEGORY,
            description="An image prompt as hooks: it acts on the conditioning that ComfyUI's Set Props or "
            "Set CLIP Hooks nodes put it on, and on no other.",
            search_aliases=["hook ipadapter", "conditioning ipadapter", "ipadapter regional hook"],
            inputs=[
                *link_inputs(),
                weight_input(),
                *acting_inputs(),
                mask_input(),
                HooksType.Input(
                    "prev_hooks", optional=True, tooltip="Hooks that shall act together with this one."
                ),
            ],
            outputs=[
                HooksType.Output(
                    "hooks",
                    display_name="hooks",
                    tooltip="The hooks, for Cond Set Props, Cond Pair Set Props or Set CLIP Hooks.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ip_adapter: Any,
        image_prompt: Any,
        weight: float | Sequence[float],
        prev_hooks: Any = None,
        **acting: Any,
    ) -> io.NodeOutput:
        settings = settings_of(weight, **acting)
        return io.NodeOutput(ip_adapter_hooks(model, ip_adapter, image_prompt, settings, prev_hooks))


NODES = (TillerImagePromptRegions, TillerIPAdapterHook)
