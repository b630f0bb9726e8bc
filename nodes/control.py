"""Nodes that apply control nets to the conditioning."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.apply import apply_units, check_unit
from ..adapters.control.modes import CONTROL_MODES
from ..adapters.control.together import UNION_PASSES
from ..adapters.control.unit import UNIT_RESIZES, WINDOW_UNITS, ControlUnit
from .control_options import OptionsType

CATEGORY = "Tiller/control"
MAX_UNITS = 20

UnitType = io.Custom("TILLER_CONTROL_UNIT")

CONDITIONING_TIPS = {
    "positive": "What the picture should show. The control acts on it.",
    "negative": "What the picture should not show. The control acts on it as well.",
}
APPLIED_TIPS = {
    "positive": "The positive conditioning with the control, for the sampler.",
    "negative": "The negative conditioning with the control, for the sampler.",
}


def _conditioning_inputs() -> list[Any]:
    return [io.Conditioning.Input(name, tooltip=tip) for name, tip in CONDITIONING_TIPS.items()]


def _conditioning_outputs() -> list[Any]:
    return [
        io.Conditioning.Output(name, display_name=name, tooltip=tip) for name, tip in APPLIED_TIPS.items()
    ]


def _unit_inputs() -> list[Any]:
    return [
        io.ControlNet.Input(
            "control_net",
            tooltip="The control net: ControlNet, Control-LoRA or T2I-Adapter, made for the model's family.",
        ),
        io.Image.Input(
            "image", tooltip="The hint: edges, depth, pose or whatever the control net was trained on."
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.01,
            tooltip="How strongly the hint is followed. 1 is what the net was trained for, 0 is off.",
        ),
        io.Float.Input(
            "start_percent",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="Where the control begins to act: 0 = the first step.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="Where the control stops to act: 1 = the last step. Less leaves the details free.",
        ),
        io.Combo.Input(
            "window",
            options=list(WINDOW_UNITS),
            default="noise",
            tooltip="What start and end measure. noise: the noise level, as ComfyUI does; how many steps "
            "that is depends on the scheduler. steps: a share of the steps, as the A1111 web UI does.",
        ),
        io.Combo.Input(
            "resize_mode",
            options=list(UNIT_RESIZES),
            default="core",
            tooltip="How a hint of another size is fitted. core: ComfyUI's own (nearest pixel, centre crop). "
            "stretch, crop and fill resample by what the hint shows: lines stay sharp, photos smooth.",
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="Only for control nets that read the hint through a VAE (SD3, Qwen-Image, Flux by "
            "InstantX): the VAE of the model's checkpoint.",
        ),
        io.Combo.Input(
            "mode",
            options=list(CONTROL_MODES),
            default="balanced",
            optional=True,
            tooltip="What counts more, as in the A1111 web UI. prompt: details of the hint count less. "
            "control: the same, and the negative gets no control, so CFG raises it: lower the CFG scale. "
            "unbalanced: the negative gets no control, details count fully.",
        ),
        OptionsType.Input(
            "options",
            optional=True,
            tooltip="Control Options: factors per layer and per step, a mask, the type of a union net.",
        ),
    ]


class TillerControlUnit(io.ComfyNode):
    """Makes a control unit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerControlUnit",
            display_name="Control Unit",
            category=CATEGORY,
            description="One control net with its hint and its settings. Connect one or more units to Apply "
            "Control Units.",
            search_aliases=["controlnet unit", "controlnet stack", "cr multi controlnet", "multi controlnet"],
            inputs=_unit_inputs(),
            outputs=[
                UnitType.Output("unit", display_name="unit", tooltip="The unit, for Apply Control Units.")
            ],
        )

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        unit = ControlUnit(**settings)
        check_unit(unit, "Control Unit")
        return io.NodeOutput(unit)


class TillerApplyControlUnits(io.ComfyNode):
    """Applies any number of control units."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyControlUnits",
            display_name="Apply Control Units",
            category=CATEGORY,
            description="Applies any number of control units to positive and negative. Their effects add up; "
            "every unit keeps its own strength and window.",
            search_aliases=[
                "multi controlnet",
                "controlnet stack",
                "cr apply multi-controlnet",
                "controlnet",
            ],
            inputs=[
                *_conditioning_inputs(),
                io.Autogrow.Input(
                    "units",
                    template=io.Autogrow.TemplatePrefix(
                        UnitType.Input(
                            "unit", tooltip="A control unit. A free slot appears for the next one."
                        ),
                        prefix="unit",
                        min=1,
                        max=MAX_UNITS,
                    ),
                    tooltip="The control units, applied in order.",
                ),
                io.Combo.Input(
                    "union",
                    options=list(UNION_PASSES),
                    default="one pass",
                    optional=True,
                    tooltip="Units over one and the same ControlNet-Union. one pass: the net takes hints of "
                    "different types at once, as it was trained, at the cost of one unit. stacked: one pass "
                    "for each unit, and the effects add up. Other units do not mind.",
                ),
            ],
            outputs=_conditioning_outputs(),
        )

    @classmethod
    def execute(
        cls, positive: Any, negative: Any, units: io.Autogrow.Type, union: Any = "one pass"
    ) -> io.NodeOutput:
        given = [unit for unit in units.values() if unit is not None]
        return io.NodeOutput(*apply_units(positive, negative, given, "Apply Control Units", union))


class TillerApplyControl(io.ComfyNode):
    """Applies one control net."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyControl",
            display_name="Apply Control",
            category=CATEGORY,
            description="Applies one control net to positive and negative. At the defaults the result is "
            "that of Apply ControlNet to the last bit; window and resize_mode go beyond it.",
            search_aliases=[
                "controlnet",
                "apply controlnet",
                "ControlNetApplyAdvanced",
                "ACN_AdvancedControlNetApply",
                "t2i adapter",
            ],
            inputs=[*_conditioning_inputs(), *_unit_inputs()],
            outputs=_conditioning_outputs(),
        )

    @classmethod
    def execute(cls, positive: Any, negative: Any, **settings: Any) -> io.NodeOutput:
        unit = ControlUnit(**settings)
        return io.NodeOutput(*apply_units(positive, negative, [unit], "Apply Control"))


NODES = (TillerControlUnit, TillerApplyControlUnits, TillerApplyControl)
