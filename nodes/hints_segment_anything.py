"""Hint node that finds masks with Segment Anything: of everything, or of points and boxes."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.progress._host import report_images
from ..preprocessors import segment_anything
from ..preprocessors._host import network
from ..preprocessors.networks.sam import Sam
from ..preprocessors.segment_anything import MaskRules
from ..preprocessors.segment_prompts import prompts_of_batch
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


def _rule_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "points_per_side",
            display_name="points per side",
            default=32,
            min=1,
            max=128,
            advanced=True,
            tooltip="The picture is asked at this many points down and across: 32 are 1024 points. Fewer are "
            "faster and miss small things. Points and boxes of your own take the grid's place.",
        ),
        io.Float.Input(
            "iou_threshold",
            display_name="IoU threshold",
            default=0.88,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="How good the network must think a mask of the grid, from 0 to 1. Lower keeps more "
            "masks; 0 keeps them all.",
        ),
        io.Float.Input(
            "stability_threshold",
            display_name="stability threshold",
            default=0.95,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="How sharply a mask of the grid must be bounded, from 0 to 1. Lower keeps more masks; "
            "0 keeps them all.",
        ),
        io.Int.Input(
            "color_seed",
            display_name="color seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            tooltip="Which random colours. The largest mask of every picture gets the same colour, the "
            "second largest the next one, and so on.",
        ),
    ]


def _prompt_inputs() -> list[Any]:
    return [
        io.String.Input(
            "points",
            display_name="points",
            default="",
            tooltip="Places of the thing that you want, in pixels of the picture: +x,y belongs to it, -x,y "
            "does not, as in +120,80; -40,30. Empty, with no boxes either, finds everything.",
        ),
        io.String.Input(
            "boxes",
            display_name="boxes",
            default="",
            tooltip="Boxes around things, in pixels of the picture: x1,y1,x2,y2, several parted by "
            "semicolons. Each makes one mask, and the points within it refine that mask.",
        ),
    ]


def _bounding_boxes_input() -> io.BoundingBox.Input:
    """A socket without a value of its own: the host's class would put a box of 512 x 512 into it."""
    socket = io.BoundingBox.Input(
        "bboxes",
        optional=True,
        force_input=True,
        tooltip="Boxes from a detector or from Bounding Box, beside those of the text: one, a list for every "
        "picture, or a list for each picture.",
    )
    socket.default = None  # pyright: ignore[reportAttributeAccessIssue]
    return socket


class TillerSegmentAnything(io.ComfyNode):
    """Masks of everything, or of what points and boxes ask for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSegmentAnything",
            display_name="Segment Anything",
            category=CATEGORY,
            description="Masks of everything in the picture, as a map of random colours and one by one; or, "
            "with points or boxes, of just what they ask for. Needs mobile_sam.pt or one of the sam_vit "
            "files.",
            search_aliases=[
                "sam",
                "mobile_sam",
                "segment anything",
                "SAMPreprocessor",
                "SAM Segmentor",
                "mask",
                "SAMDetectorCombined",
            ],
            inputs=[
                image_input(),
                *_rule_inputs(),
                *_prompt_inputs(),
                resolution_input(),
                weights_input(),
                _bounding_boxes_input(),
            ],
            outputs=[
                hint_output("The masks in random colours on black, smaller ones over larger ones."),
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    tooltip="Every mask of every picture, one after the other, of the hint's size; set "
                    "resolution to 0 for the picture's own. Of the grid the largest comes first; of boxes "
                    "and points in their order, the mask of the points last. One empty mask if there is "
                    "none.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        color_seed: int,
        resolution: int,
        weights: str,
        points: str = "",
        boxes: str = "",
        bboxes: Any = None,
        **rules: Any,
    ) -> io.NodeOutput:
        loaded = network("segment_anything", Sam, weights, by_shapes=True)
        prompts = prompts_of_batch(image, points, boxes, bboxes)
        if prompts is None:
            found = segment_anything.automatic_masks(
                image, loaded, _rules(**rules), resolution, report_images()
            )
        else:
            found = segment_anything.masks_of_prompts(image, loaded, prompts, resolution, report_images())
        hint = segment_anything.colour_hint(found, color_seed)
        return io.NodeOutput(hint, segment_anything.mask_batch(found))


def _rules(points_per_side: int, iou_threshold: float, stability_threshold: float) -> MaskRules:
    return MaskRules(points_per_side, iou_threshold, stability_threshold)


HINTS = (("segment_anything", TillerSegmentAnything),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
