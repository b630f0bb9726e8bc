"""UniFormer beside the webui's formula, restated around our network."""

import numpy as np
import torch
from _pack import maths
from _pairs import Pair, Row, network, picture_by_picture, shared
from torch.nn import functional

GAIN = 1.5


def _uniformer() -> Pair:
    """Both at the published size."""
    import cv2

    tests, segmentation = shared(), maths("segmentation")
    module = maths("networks.uniformer").UniFormer.from_shapes(tests.listing("uniformer"))
    tests.randomise(module, 0, GAIN)
    colours, run = maths("palettes").PALETTES["ade20k"].colours, network(module)

    def detect(padded: np.ndarray) -> np.ndarray:
        size = padded.shape[:2]
        scale = min(2048 / max(size), 512 / min(size))
        inner = int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)
        seen = cv2.resize(padded, inner[::-1], interpolation=cv2.INTER_LINEAR)[..., ::-1]
        logits = run(torch.from_numpy(seen.transpose(2, 0, 1).copy()).float()[None])
        for each in (inner, size):
            logits = functional.interpolate(logits, size=each, mode="bilinear", align_corners=False)
        return colours[logits.softmax(dim=1).argmax(dim=1)[0].numpy()]

    return Pair(lambda image: segmentation.segments_uniformer(image, run, 0), picture_by_picture(detect))


ROWS = (Row("uniformer", _uniformer, "the webui's formula, our network", timed=1),)
