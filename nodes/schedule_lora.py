"""The node that lets a LoRA act on some conditionings and steps only."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.curve import Constant, read_curve
from ..adapters.lora.entry import LoraEntry
from ..adapters.lora.schedule.apply import combine, schedule_lora
from .lora import CATEGORY, CLIP_TIP, TEXT_TIP, entry_inputs
from .window_inputs import window_inputs


class TillerScheduleLoRA(io.ComfyNode):
    """Makes hooks of one LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerScheduleLoRA",
            display_name="Schedule LoRA",
            category=CATEGORY,
            description="A LoRA as hooks of ComfyUI: it acts only on the conditionings that carry them, so "
            "on one region, and only in some of the steps, with a strength that may change.",
            search_aliases=[
                "CreateHookLora",
                "lora hook",
                "lora keyframes",
                "regional lora",
                "lora schedule",
                "ADE_RegisterLoraHook",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model that is sampled with: the file is checked against it. It is not "
                    "changed, so nothing comes out for it.",
                ),
                *entry_inputs(),
                *window_inputs(
                    "Where the LoRA begins to act, by the noise level: 0 = the first step.",
                    "Where the LoRA stops to act: 1 = the last step.",
                ),
                io.String.Input(
                    "curve",
                    display_name="curve",
                    default="",
                    tooltip="Factors of the strengths over the window, 0:1 1:0 for one that fades out, or "
                    "0:0 .5:1 1:0 ease-in-out. Empty: 1 all along.",
                ),
                io.Clip.Input("clip", optional=True, tooltip=CLIP_TIP),
                io.Hooks.Input(
                    "prev_hooks",
                    optional=True,
                    tooltip="Hooks that act on the same conditionings as well, such as another LoRA's.",
                ),
            ],
            outputs=[
                io.Hooks.Output(
                    "hooks",
                    display_name="hooks",
                    tooltip="For Cond Set Props (hooks, and a mask for a region), and for Set CLIP Hooks if "
                    "the prompt is to be read with the LoRA too.",
                ),
                io.String.Output("info", display_name="info", tooltip=TEXT_TIP),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        start_percent: float,
        end_percent: float,
        curve: str = "",
        clip: Any = None,
        prev_hooks: Any = None,
        **entry: Any,
    ) -> io.NodeOutput:
        strengths = read_curve(curve) or Constant(1.0)
        window = start_percent, end_percent
        hooks, text = schedule_lora(LoraEntry(**entry), model, clip, window, strengths)
        return io.NodeOutput(combine(prev_hooks, hooks), text)


NODES = (TillerScheduleLoRA,)
