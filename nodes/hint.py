"""The all-in-one hint node, made from the hint nodes themselves."""

from typing import Any

import torch
from comfy_api.latest import io

from . import (
    hints_depth,
    hints_depth_leres,
    hints_inpaint,
    hints_line_art,
    hints_lines,
    hints_normal,
    hints_pose,
    hints_segment_anything,
    hints_segmentation,
    hints_soft_edge,
    hints_straight_lines,
    hints_tone,
    inpaint_hint,
    qr,
)
from .hint_inputs import CATEGORY, hint_output, image_input

HINTS = (
    *hints_lines.HINTS,
    *hints_line_art.HINTS,
    *hints_straight_lines.HINTS,
    *hints_soft_edge.HINTS,
    *hints_depth.HINTS,
    *hints_depth_leres.HINTS,
    *hints_pose.HINTS,
    *hints_segmentation.HINTS,
    *hints_normal.HINTS,
    *hints_inpaint.HINTS,
    *inpaint_hint.HINTS,
    *hints_segment_anything.HINTS,
    *hints_tone.HINTS,
    ("qr_code", qr.TillerQRCode),
)


def _inputs(node: type[io.ComfyNode]) -> list[Any]:
    return list(node.define_schema().inputs)


def _option(key: str, node: type[io.ComfyNode]) -> io.DynamicCombo.Option:
    return io.DynamicCombo.Option(key, [entry for entry in _inputs(node) if entry.id != "image"])


def _unknown(hint: object) -> str:
    names = ", ".join(key for key, _ in HINTS)
    return (
        f"Hint needs one of the hints {names}, got {hint!r}. Choose one of them; if the workflow came from "
        "a newer Tiller, update the pack."
    )


class TillerHint(io.ComfyNode):
    """Every hint in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        image = image_input()
        image.optional = True
        return io.Schema(
            node_id="TillerHint",
            display_name="Hint",
            category=CATEGORY,
            description="Every hint of Tiller in one node: choose the kind, and its own options appear.",
            search_aliases=[
                "preprocessor",
                "AIO_Preprocessor",
                "AIO Aux Preprocessor",
                "annotator",
                "control image",
                "controlnet preprocessor",
            ],
            inputs=[
                io.DynamicCombo.Input(
                    "hint",
                    options=[_option(key, node) for key, node in HINTS],
                    display_name="hint",
                    tooltip="Which hint to make. The options below are the ones of that hint's own node.",
                ),
                image,
            ],
            outputs=[hint_output("The chosen hint.")],
            accept_all_inputs=True,
        )

    @classmethod
    def validate_inputs(cls, hint: Any = None) -> bool | str:
        """Refuses a hint that this version does not have; the host itself lets it through."""
        chosen = hint.get("hint") if isinstance(hint, dict) else hint
        return True if chosen in dict(HINTS) else _unknown(chosen)

    @classmethod
    def execute(
        cls, hint: dict[str, Any] | str | None = None, image: torch.Tensor | None = None, **_: Any
    ) -> io.NodeOutput:
        """Hands over to the node of the chosen hint. Inputs left over from another hint are ignored."""
        if not isinstance(hint, dict) or hint.get("hint") not in dict(HINTS):
            raise ValueError(_unknown(hint.get("hint") if isinstance(hint, dict) else hint))
        options = dict(hint)
        key = options.pop("hint")
        node = dict(HINTS)[key]
        if any(entry.id == "image" for entry in _inputs(node)):
            if image is None:
                raise ValueError(
                    f"The hint {key!r} needs an image, got none. Connect a picture to the image input."
                )
            options["image"] = image
        return io.NodeOutput(node.execute(**options).args[0])


NODES = (TillerHint,)
