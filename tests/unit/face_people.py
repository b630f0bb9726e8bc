"""Faces without any network: a box, points that stand as a face's do, a vector by number."""

import numpy as np
import torch
from tiller.adapters.faces.align import ARCFACE
from tiller.adapters.faces.records import EMBEDDING, Face, Faces


def vector(seed: int) -> torch.Tensor:
    """(512,) of no particular length."""
    return torch.randn(EMBEDDING, generator=torch.Generator().manual_seed(seed)) * 3


def face(x: float, y: float, side: float = 40.0, score: float = 0.8, seed: int = 0) -> Face:
    """A face in a square box around (x, y)."""
    box = torch.tensor([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    points = torch.from_numpy(np.array(ARCFACE, np.float32)) * (side / 112) + box[:2]
    return Face(box, points, score, vector(seed))


def faces(*seeds: int, height: int = 60, width: int = 80) -> Faces:
    """One random picture for each seed with one face in the middle of it, whose vector the seed makes."""
    generator = torch.Generator().manual_seed(7)
    pictures = torch.rand(len(seeds), height, width, 3, generator=generator)
    found = tuple((face(width / 2, height / 2, seed=seed),) for seed in seeds)
    return Faces(pictures, found, (0,) * len(seeds), "buffalo_l")
