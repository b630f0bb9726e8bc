"""The table of the annotators' published weight files, one module per family."""

from collections.abc import Mapping

from . import (
    depth,
    edges,
    inpaint,
    normal,
    pose,
    segment_anything,
    segmentation,
)
from .weight_file import WeightFile

FAMILIES = (
    depth,
    edges,
    inpaint,
    normal,
    pose,
    segment_anything,
    segmentation,
)

WEIGHT_FILES: Mapping[str, WeightFile] = {file.key: file for family in FAMILIES for file in family.FILES}
