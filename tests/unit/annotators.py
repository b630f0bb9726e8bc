"""What the annotator tests share: random weights, and the size rule of the references."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

SHAPES = Path(__file__).resolve().parent.parent / "shapes"
SIZES = [(128, 128), (83, 151)]
"""(height, width) of the pictures: as the networks like it, and no multiple of anything."""


def listing(key: str) -> dict[str, tuple[int, ...]]:
    """The key -> shape listing of a published weight file."""
    return {name: tuple(shape) for name, shape in json.loads((SHAPES / f"{key}.json").read_text()).items()}


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def randomise(module: torch.nn.Module, seed: int = 0, gain: float = 1.5) -> dict[str, torch.Tensor]:
    """Draws every tensor of a network anew, in place, so that maps vary; gives its state dict."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, gain / tensor[0].numel() ** 0.5, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean") or name.endswith("bias"):
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.is_floating_point():
            tensor.uniform_(0.7, 1.3, generator=generator)
    return module.state_dict()


def at_working_size(array: np.ndarray, resolution: int) -> np.ndarray:
    """The webui's resize: shorter side to `resolution`, then padded to multiples of 64 by repetition."""
    k = resolution / min(array.shape[:2])
    size = int(np.round(array.shape[1] * k)), int(np.round(array.shape[0] * k))
    if k != 1:
        array = cv2.resize(array, size, interpolation=cv2.INTER_CUBIC if k > 1 else cv2.INTER_AREA)
    return np.pad(array, [(0, -size[1] % 64), (0, -size[0] % 64), (0, 0)], mode="edge")


def detected(
    detector: Callable[..., np.ndarray], array: np.ndarray, resolution: int, *given: float
) -> np.ndarray:
    """The detector's map at the webui's working size, the pad cut off; `given`: its own settings."""
    padded = at_working_size(array, resolution)
    side = min(padded.shape[:2])
    found = detector(padded, *given, detect_resolution=side, image_resolution=side, output_type="np")
    k = resolution / min(array.shape[:2])
    return found[: round(array.shape[0] * k), : round(array.shape[1] * k)]
