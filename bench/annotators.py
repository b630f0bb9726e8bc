"""Our annotators beside controlnet-aux's, same random weights: `python3 dev.py bench annotators [speed]`.

Prints the greatest and the mean difference in levels of 255 at three sizes; with `speed`, the seconds of CPU
for eight pictures of 768 x 768 as well, the sides taking turns. Both sides get pictures at the working size;
the rule that brings them there is tested in tests/unit.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from _pack import maths

SIZES = {"512 x 512": (1, 512, 512), "777 x 523": (1, 523, 777), "3 of 512 x 640": (3, 640, 512)}
"""Name -> batch, height, width; the second is no multiple of 64."""

SPEED = (8, 768, 768)
ROUNDS = 2
AT_ONCE = {"contiguous": 1, "channels_last": 4}


class Annotator(NamedTuple):
    """One hint: our function and network, the reference's detector and module, and how each is asked."""

    name: str
    hint: Callable[..., torch.Tensor]
    module: Callable[[], torch.nn.Module]
    reference: Callable[[], torch.nn.Module]
    detector: Callable[[torch.nn.Module], Any]
    layout: str = "contiguous"
    gain: float = 1.4
    options: tuple[tuple[str, Any], ...] = ()


def annotators() -> list[Annotator]:
    from controlnet_aux import HEDdetector, PidiNetDetector
    from controlnet_aux.hed import ControlNetHED_Apache2
    from controlnet_aux.pidi.model import pidinet

    edges = maths("soft_edge")
    hed, pidi = maths("networks.hed").HED, maths("networks.pidinet").PiDiNet
    last = "channels_last"
    return [
        Annotator("hed", edges.soft_edges_hed, hed, ControlNetHED_Apache2, HEDdetector, last, 0.9),
        Annotator("pidinet", edges.soft_edges_pidinet, pidi, pidinet, PidiNetDetector, last, 2.0),
        Annotator(
            "sketch_pidinet",
            edges.sketch_pidinet,
            pidi,
            pidinet,
            PidiNetDetector,
            last,
            2.0,
            (("apply_filter", True),),
        ),
    ]


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    """(batch,height,width,3) float32 0..1: photographs, stretched."""
    import cv2
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.chelsea()]
    stretched = [cv2.resize(photographs[i % 3], (width, height)) for i in range(batch)]
    return torch.from_numpy(np.stack(stretched).astype(np.float32) / 255.0)


def pair(which: Annotator) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """The reference's detector, and our network as the host runs it, with the same weights."""
    reference, ours = which.reference().eval(), which.module().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in reference.state_dict().values():
        if tensor.dim() > 1:
            tensor.normal_(0, which.gain / tensor[0].numel() ** 0.5, generator=generator)
    ours.load_state_dict(reference.state_dict())
    layout = torch.channels_last if which.layout == "channels_last" else torch.contiguous_format
    ours = ours.to(memory_format=layout)

    def network(batch: torch.Tensor) -> torch.Tensor:
        parts = batch.split(AT_ONCE[which.layout])
        return torch.cat([ours(part.contiguous(memory_format=layout)) for part in parts]).contiguous()

    return which.detector(reference), network


def as_packs_do(which: Annotator, detector: Any, image: torch.Tensor) -> torch.Tensor:
    """Picture by picture: tensor to 8 bit, padded, detector, cropped, back to a tensor."""
    padded = maths("padded").padded_batch(image, 0)
    short = min(padded.array.shape[1:3])
    made = [
        detector(
            one, detect_resolution=short, image_resolution=short, output_type="np", **dict(which.options)
        )
        for one in padded.array
    ]
    cropped = [one[: padded.size[0], : padded.size[1]] for one in made]
    return torch.from_numpy(np.stack(cropped).astype(np.float32) / 255.0)


def differences(which: Annotator, detector: Any, network: Any) -> str:
    """One row of the table."""
    cells = []
    for size in SIZES.values():
        image = pictures(*size)
        wanted = as_packs_do(which, detector, image) * 255
        apart = (which.hint(image, network, resolution=0) * 255 - wanted).abs()
        cells.append(f"{float(apart.max()):.0f} / {float(apart.mean()):.4f} ({wanted.unique().numel()})")
    return f"| {which.name} | " + " | ".join(cells) + " |"


def speed(which: Annotator, detector: Any, network: Any) -> str:
    """Seconds of CPU of both sides, least of the rounds, and their ratio."""
    image = pictures(*SPEED)
    theirs, ours = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        as_packs_do(which, detector, image)
        theirs.append(time.process_time() - start)
        start = time.process_time()
        which.hint(image, network, resolution=0)
        ours.append(time.process_time() - start)
    return f"| {which.name} | {min(theirs):.1f} | {min(ours):.1f} | {min(theirs) / min(ours):.2f}x |"


def main(arguments: list[str]) -> int:
    warnings.simplefilter("ignore")
    measured = [(which, *pair(which)) for which in annotators()]
    with torch.inference_mode():
        print("Differences in levels of 255: greatest / mean (distinct levels of the reference's maps)")
        print(f"| hint | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}")
        for which, detector, network in measured:
            print(differences(which, detector, network), flush=True)
        if "speed" in arguments:
            print("\nSeconds of CPU for 8 pictures of 768 x 768\n| hint | controlnet-aux | ours | ratio |")
            print("|---|---|---|---|")
            for which, detector, network in measured:
                print(speed(which, detector, network), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
