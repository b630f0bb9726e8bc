"""The node that turns one slider into strength, start and end of a control."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.presets import BASES, KINDS, preset


class TillerControlPreset(io.ComfyNode):
    """One slider for how strongly a kind of control acts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerControlPreset",
            display_name="Control Preset",
            category="Tiller/control",
            description="One slider from 0 to 100 % in place of strength, start and end: what is customary "
            "for a kind of control on a base model stands at 50 %. The help page has the table.",
            search_aliases=["strength preset", "control layer strength", "controlnet preset", "krita"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="depth",
                    display_name="kind",
                    tooltip="What the hint shows. stencil is for QR and pattern nets, light for brightness "
                    "and illumination, instruction for InstructPix2Pix.",
                ),
                io.Combo.Input(
                    "base",
                    options=list(BASES),
                    default="SD1.5",
                    display_name="base model",
                    tooltip="The family of the model and the control net. Not every kind "
                    "is there for every one.",
                ),
                io.Int.Input(
                    "amount",
                    default=50,
                    min=0,
                    max=100,
                    step=1,
                    display_mode=io.NumberDisplay.slider,
                    display_name="amount (percent)",
                    tooltip="How strongly the control acts: 0 is off, 50 what is customary, 100 as strict as "
                    "is sensible.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "strength", display_name="strength", tooltip="For the widget strength of Apply Control."
                ),
                io.Float.Output(
                    "start_percent",
                    display_name="start_percent",
                    tooltip="For the widget start_percent of Apply Control.",
                ),
                io.Float.Output(
                    "end_percent",
                    display_name="end_percent",
                    tooltip="For the widget end_percent of Apply Control.",
                ),
            ],
        )

    @classmethod
    def execute(cls, kind: str, base: Any, amount: int) -> io.NodeOutput:
        return io.NodeOutput(*preset(kind, base, amount))


NODES = (TillerControlPreset,)
