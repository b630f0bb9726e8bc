"""LaMa's filling beside the web UI's formula around spandrel's own LaMa."""

import numpy as np
import torch
from _pack import maths
from _pairs import Hint, Pair, Row, network, shared

WORKED_AT = 256


def _hole(height: int, width: int) -> np.ndarray:
    """(height,width) uint8: a disc, 255 inside."""
    import cv2

    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), min(height, width) // 4, 255, -1)
    return mask


def _lama() -> Pair:
    from spandrel.architectures.LaMa import LaMa

    theirs = LaMa(in_nc=4, out_nc=3).eval()
    ours = maths("networks.lama").LaMaGenerator(shared().shapes_of(theirs.model.model))
    ours.load_state_dict(shared().randomise(theirs.model.model, 6, 1.2))
    run, fill = network(ours), maths("inpaint_lama").inpaint_lama

    def hint(image: torch.Tensor) -> torch.Tensor:
        mask = torch.from_numpy(_hole(*image.shape[1:3]).astype(np.float32) / 255.0)
        return fill(image, mask, run, WORKED_AT)

    return Pair(hint, _by_the_webui(theirs))


def _by_the_webui(model: torch.nn.Module) -> Hint:
    """Colours and hole resized together, the hole filled, the filling enlarged and laid over."""
    import cv2

    def one(colours: np.ndarray) -> np.ndarray:
        height, width = colours.shape[:2]
        mask, k = _hole(height, width), WORKED_AT / min(height, width)
        small = shared().at_working_size(np.dstack([colours, mask]), WORKED_AT).astype(np.float32) / 255.0
        feed = torch.from_numpy(small).permute(2, 0, 1)[None]
        hole = (feed[:, 3:] > 0.5).float()
        made = (model(feed[:, :3] * (1 - hole), hole)[0] * 255.0).numpy().transpose(1, 2, 0)
        made = made.clip(0, 255).astype(np.uint8)[: round(height * k), : round(width * k)]
        made = cv2.resize(made, (width, height)).astype(np.float32)
        alpha = mask[..., None].astype(np.float32) / 255.0
        return (made * alpha + colours * (1 - alpha)).clip(0, 255)

    def hint(image: torch.Tensor) -> torch.Tensor:
        levels = (image.numpy() * 255).round().astype(np.uint8)
        made = np.stack([np.floor(one(colours)) for colours in levels])
        return torch.from_numpy(made.astype(np.float32) / 255.0)

    return hint


ROWS = (Row("inpaint_lama", _lama, "the webui's formula, spandrel's network", timed=2),)
