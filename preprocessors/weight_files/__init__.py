"""The table of the annotators' published weight files, one module per family."""

from collections.abc import Mapping

from . import depth, edges, inpaint, normal, pose, segmentation
from .weight_file import WeightFile

WEIGHT_FILES: Mapping[str, WeightFile] = {
    file.key: file for family in (depth, edges, normal, pose, segmentation, inpaint) for file in family.FILES
}
