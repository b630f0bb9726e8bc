"""Every hint of one picture on one sheet."""

import logging
from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.identify import UnknownWeightsError
from ..adapters.progress._host import report_images
from ..preprocessors._host import MissingWeightsError, UnreadableWeightsError
from ..preprocessors.contact_sheet import Tile, contact_sheet
from .hint import HINTS
from .hint_inputs import CATEGORY, resolution_input

UNUSABLE = (ImportError, UnreadableWeightsError, UnknownWeightsError)
"""What a hint says whose weight file is wrong, or the library that reads it is missing."""

WIDGETS = (io.Boolean.Input, io.Combo.Input, io.Float.Input, io.Int.Input, io.String.Input)

logger = logging.getLogger("tiller")


class TillerContactSheet(io.ComfyNode):
    """Every hint whose weight file is there, side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerContactSheet",
            display_name="Hint Contact Sheet",
            category=CATEGORY,
            description="Makes every hint of one picture with its default settings and lays them out on one "
            "sheet. Hints whose weight file is missing are named instead of stopping the run.",
            search_aliases=["contact sheet", "compare preprocessors", "all hints", "preview all annotators"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="The picture that the hints are made from; of a batch, the first one."
                ),
                io.String.Input(
                    "hints",
                    default="",
                    multiline=True,
                    tooltip="Names of the hints, separated by commas, as in the node Hint: canny, hed, mlsd. "
                    "Empty makes all of them, which takes minutes without a graphics card.",
                ),
                resolution_input(),
                io.Int.Input(
                    "columns", default=5, min=1, max=32, tooltip="How many hints stand side by side in a row."
                ),
                io.Int.Input(
                    "tile_size",
                    display_name="tile size",
                    default=256,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Side of the square that each hint is fitted into, in pixels.",
                ),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="The hints with their names."),
                io.String.Output(
                    "missing",
                    display_name="missing",
                    tooltip="One line for each hint that could not be made: its name and what to get. "
                    "Empty when every hint is on the sheet.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, hints: str, resolution: int, columns: int, tile_size: int
    ) -> io.NodeOutput:
        chosen, report = _chosen(hints), report_images()
        tiles = []
        for done, (key, node) in enumerate(chosen):
            tiles.append(_tile(key, node, image[:1], resolution))
            report(done + 1, len(chosen))
        missing = "\n".join(f"{tile.name}: {tile.note}" for tile in tiles if tile.picture is None)
        if missing:
            logger.warning("Not on the contact sheet:\n%s", missing)
        return io.NodeOutput(contact_sheet(tiles, columns, tile_size), missing)


def _chosen(hints: str) -> list[tuple[str, type[io.ComfyNode]]]:
    """The hints of a list of names, or all that are made from a picture alone.

    Raises:
        ValueError: for a name that no such hint has.
    """
    able = {key: node for key, node in HINTS if _needs_picture_alone(node)}
    names = [name.strip() for name in hints.replace("\n", ",").split(",") if name.strip()]
    unknown = [name for name in names if name not in able]
    if unknown:
        raise ValueError(
            f"A contact sheet needs names of hints made from a picture alone, got {', '.join(unknown)}. "
            f"There are {', '.join(able)}."
        )
    return [(name, able[name]) for name in names] or list(able.items())


def _needs_picture_alone(node: type[io.ComfyNode]) -> bool:
    """Whether the picture is the node's only socket that has to be connected."""
    links = [
        entry.id
        for entry in node.define_schema().inputs
        if not isinstance(entry, WIDGETS) and not entry.optional
    ]
    return links == ["image"]


def _tile(key: str, node: type[io.ComfyNode], image: torch.Tensor, resolution: int) -> Tile:
    """The hint with the default settings of its node, or what it lacks."""
    settings: dict[str, Any] = {
        entry.id: entry.default for entry in node.define_schema().inputs if isinstance(entry, WIDGETS)
    }
    if "resolution" in settings:
        settings["resolution"] = resolution
    try:
        return Tile(key, node.execute(image=image, **settings).args[0][:1])
    except MissingWeightsError as error:
        return Tile(key, None, error.remedy)
    except UNUSABLE as error:
        return Tile(key, None, str(error))


NODES = (TillerContactSheet,)
