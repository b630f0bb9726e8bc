"""Nodes that read segmentation maps: a class or a colour as a mask."""

import torch
from comfy_api.latest import io

from ..preprocessors.class_masks import class_mask
from ..preprocessors.palettes import PALETTES

CATEGORY = "Tiller/segmentation"


class TillerColorToMask(io.ComfyNode):
    """Classes of a segmentation map as a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerColorToMask",
            display_name="Color to Mask",
            category=CATEGORY,
            description="The parts of a segmentation map that show chosen classes, such as sky or person, or "
            "chosen colours, as a mask.",
            search_aliases=[
                "color to mask",
                "mask from color",
                "segmentation mask",
                "MaskFromColor+",
                "ImageColorToMask",
                "ade20k",
                "coco",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="A segmentation map in the palette's colours, from a segmentation hint or drawn "
                    "by hand.",
                ),
                io.Combo.Input(
                    "palette",
                    display_name="palette",
                    options=list(PALETTES),
                    default="ade20k",
                    tooltip="The data set whose class colours the map has: ade20k with 150 classes, or coco "
                    "with 133.",
                ),
                io.String.Input(
                    "classes",
                    display_name="classes",
                    default="person",
                    tooltip="Names of classes, several parted by commas, as the help page lists them; or "
                    "colours such as #96053d.",
                ),
                io.Int.Input(
                    "tolerance",
                    display_name="tolerance",
                    default=0,
                    min=0,
                    max=255,
                    tooltip="How far a pixel may lie from the class's colour, in levels of each channel. 0 "
                    "is right for maps fresh from a node; maps scaled or saved as JPEG need about 30.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="1 where the map shows one of the classes or colours, else 0.",
                )
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, palette: str, classes: str, tolerance: int) -> io.NodeOutput:
        return io.NodeOutput(class_mask(image, PALETTES[palette], classes, tolerance))


NODES = (TillerColorToMask,)
