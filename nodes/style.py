"""The node that applies a style model (T2I style adapter)."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.style import STYLE_ROWS, apply_style, style_tokens


class TillerApplyStyle(io.ComfyNode):
    """Adds the tokens of a picture's style to the text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyStyle",
            display_name="Apply Style",
            category="Tiller/control",
            description="Makes the picture take the style of another one, with the T2I style adapter: its "
            "tokens go after those of the prompt. With rows at positive the result is that of Apply Style "
            "Model; webui is the A1111 web UI's way.",
            search_aliases=["StyleModelApply", "t2iadapter_style", "t2ia_style_clipvision", "style adapter"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What the picture should not show."),
                io.StyleModel.Input(
                    "style_model",
                    tooltip="The style adapter, from Load Style Model: t2iadapter_style_sd14v1 for SD1.5.",
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    tooltip="The picture whose style is taken, from CLIP Vision Encode with CLIP ViT-L/14.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="What the tokens are multiplied by. 0 leaves both conditionings untouched.",
                ),
                io.Combo.Input(
                    "rows",
                    display_name="rows",
                    options=list(STYLE_ROWS),
                    default="positive",
                    tooltip="What the negative gets. positive: nothing, as in ComfyUI. webui: as many empty "
                    "tokens as the positive has of style, as in the A1111 web UI, which weakens its text.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="The positive with the tokens of the style."
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="The negative as it was, or with empty tokens.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        style_model: Any,
        clip_vision_output: Any,
        strength: float,
        rows: Any,
    ) -> io.NodeOutput:
        tokens = style_tokens(style_model, clip_vision_output)
        return io.NodeOutput(*apply_style(positive, negative, tokens, strength, rows))


NODES = (TillerApplyStyle,)
