"""OneFormer beside transformers' network with the webui's formula around it."""

import importlib

import numpy as np
import torch
from _pack import maths
from _pairs import Pair, Row, network, picture_by_picture, shared


def _oneformer() -> Pair:
    """Both at the published size, for ADE20K."""
    from PIL import Image

    listing, segmentation = shared().listing("oneformer_ade20k"), maths("segmentation")
    sizes = maths("networks.oneformer_sizes").oneformer_sizes(listing)
    reference = importlib.import_module("tiller.tests.unit.oneformer_reference")
    ours = reference.varied(sizes)
    theirs = reference.in_transformers(ours, sizes)
    colours, run = maths("palettes").PALETTES["ade20k"].colours, network(ours)

    def detect(padded: np.ndarray) -> np.ndarray:
        size = (padded.shape[0], padded.shape[1])
        inner = segmentation.ONEFORMER["ade20k"].size(size)
        seen = np.asarray(Image.fromarray(padded).resize(inner[::-1], Image.Resampling.BILINEAR))
        levels = torch.from_numpy(seen.transpose(2, 0, 1).copy()).float()[None]
        (classes,), (masks,) = reference.reference_logits(theirs, levels)
        return colours[reference.reference_map(classes, masks, inner, size).argmax(dim=0).numpy()]

    return Pair(
        lambda image: segmentation.segments_oneformer(image, run, "ade20k", 0), picture_by_picture(detect)
    )


ROWS = (Row("oneformer", _oneformer, "transformers, the webui's formula around it", timed=1),)
