"""Nodes that load LoRAs, one or several, with block weights."""

from typing import Any

from comfy_api.latest import io, ui

from ..adapters.lora._host import lora_names, read_lora
from ..adapters.lora.apply import apply_loras
from ..adapters.lora.entry import LoraEntry
from ..adapters.lora.info import facts_in_words, facts_of
from ..adapters.lora.vectors import PRESETS

CATEGORY = "Tiller/LoRA"
MAX_LORAS = 20

LoRAType = io.Custom("TILLER_LORA")

MODEL_TIP = "The model to change. The one that comes in stays as it is."
CLIP_TIP = "The checkpoint's text encoders. Without them the file's half for the text is left out."
TEXT_TIP = "What was loaded, which blocks the file has, with which factors, and what of it was not used."


def entry_inputs() -> list[Any]:
    """The inputs of one LoRA with its settings."""
    return [
        io.Combo.Input(
            "lora_name",
            display_name="lora_name",
            options=lora_names(),
            tooltip="A file of models/loras. What it is is read from its contents.",
        ),
        io.Float.Input(
            "strength_model",
            display_name="strength_model",
            default=1.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            tooltip="How strongly the diffusion model is changed. 0 leaves it as it is; it may be negative.",
        ),
        io.Float.Input(
            "strength_clip",
            display_name="strength_clip",
            default=1.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            tooltip="How strongly the text encoders are changed. 0 leaves them as they are.",
        ),
        io.Combo.Input(
            "preset",
            display_name="block preset",
            options=list(PRESETS),
            default="ALL",
            tooltip="Which blocks of the model the LoRA acts in. ALL is the LoRA as it is. INS to OUTS are "
            "for SD1.5, DBL and SINGLE for Flux, the others for any model; the help page has the table.",
        ),
        io.String.Input(
            "blocks",
            display_name="blocks",
            default="",
            multiline=True,
            tooltip="Factors that change the preset: IN04-IN08:0.5, MID:0. Or in its place a preset's name "
            "or a vector of 12 or 20 numbers (SDXL), 17 or 26 (SD1.5), 61 (Flux). Empty: the preset.",
        ),
    ]


def _outputs() -> list[Any]:
    return [
        io.Model.Output("model", display_name="model", tooltip="The model with the LoRA, for the sampler."),
        io.Clip.Output(
            "clip",
            display_name="clip",
            tooltip="The text encoders with the LoRA, for the prompts; nothing when none are connected.",
        ),
        io.String.Output("info", display_name="info", tooltip=TEXT_TIP),
    ]


class TillerLoadLoRA(io.ComfyNode):
    """Loads one LoRA with block weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadLoRA",
            display_name="Load LoRA (Blocks)",
            category=CATEGORY,
            description="Loads a LoRA, LoHa, LoKr or DoRA with a factor for every block of the model. At the "
            "defaults the result is that of ComfyUI's Load LoRA to the last bit. A file that is made for "
            "another model is refused.",
            search_aliases=[
                "LoraLoader",
                "LoraLoaderModelOnly",
                "LoraLoaderBlockWeight //Inspire",
                "lora block weight",
                "lbw",
                "lycoris loader",
            ],
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TIP),
                *entry_inputs(),
                io.Clip.Input("clip", optional=True, tooltip=CLIP_TIP),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Any, clip: Any = None, **entry: Any) -> io.NodeOutput:
        return io.NodeOutput(*apply_loras(model, clip, [LoraEntry(**entry)], "Load LoRA (Blocks)"))


class TillerLoRAUnit(io.ComfyNode):
    """Makes an entry for Stack LoRAs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoRAUnit",
            display_name="LoRA Unit",
            category=CATEGORY,
            description="One LoRA with its strengths and block weights. Connect one or more units to Stack "
            "LoRAs.",
            search_aliases=["lora stack entry", "lora stacker", "CR LoRA Stack", "Lora Info"],
            inputs=entry_inputs(),
            outputs=[LoRAType.Output("lora", display_name="lora", tooltip="The unit, for Stack LoRAs.")],
        )

    @classmethod
    def execute(cls, **entry: Any) -> io.NodeOutput:
        return io.NodeOutput(LoraEntry(**entry))


class TillerStackLoRA(io.ComfyNode):
    """Applies any number of LoRA units."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerStackLoRA",
            display_name="Stack LoRAs",
            category=CATEGORY,
            description="Applies any number of LoRA units in order. The result is that of as many Load LoRA "
            "nodes in a chain.",
            search_aliases=[
                "lora stack",
                "LoRA Stacker",
                "CR Apply LoRA Stack",
                "Power Lora Loader (rgthree)",
                "multi lora",
            ],
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TIP),
                io.Autogrow.Input(
                    "loras",
                    template=io.Autogrow.TemplatePrefix(
                        LoRAType.Input("lora", tooltip="A LoRA Unit. A free slot appears for the next one."),
                        prefix="lora",
                        min=1,
                        max=MAX_LORAS,
                    ),
                    tooltip="The LoRA units, applied in order.",
                ),
                io.Clip.Input("clip", optional=True, tooltip=CLIP_TIP),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: Any, loras: io.Autogrow.Type, clip: Any = None) -> io.NodeOutput:
        entries = [entry for entry in loras.values() if entry is not None]
        return io.NodeOutput(*apply_loras(model, clip, entries, "Stack LoRAs"))


class TillerLoRAInfo(io.ComfyNode):
    """Says what a LoRA file is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoRAInfo",
            display_name="LoRA Info",
            category=CATEGORY,
            description="Says what a LoRA file is: form, rank, alpha, base model, blocks, size, and what its "
            "metadata says: trigger words, tags, title, training.",
            search_aliases=["lora metadata", "trigger words", "LoraInfo", "lora tags", "activation text"],
            inputs=[
                io.Combo.Input(
                    "lora_name",
                    display_name="lora_name",
                    options=lora_names(),
                    tooltip="A file of models/loras.",
                )
            ],
            outputs=[
                io.String.Output(
                    "info", display_name="info", tooltip="What the file is; the node shows it as well."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, lora_name: str) -> io.NodeOutput:
        file = read_lora(lora_name, "LoRA Info")
        text = facts_in_words(facts_of(file.weights, file.metadata), file.name, file.size)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


NODES = (TillerLoadLoRA, TillerLoRAUnit, TillerStackLoRA, TillerLoRAInfo)
