"""Segment Anything beside controlnet-aux: a full MobileSAM, masks in the same colours, largest first."""

import numpy as np
import torch
from _pack import maths
from _pairs import Pair, Row, shared

POINTS_PER_SIDE = 8
"""The grid of 32 takes the reference many minutes."""


def _segment_anything() -> Pair:
    from controlnet_aux.segment_anything import SamAutomaticMaskGenerator
    from controlnet_aux.segment_anything.build_sam import build_sam_vit_t

    theirs, ours = build_sam_vit_t(), maths("segment_anything")
    _draw(theirs)
    state = theirs.state_dict()
    with torch.device("meta"):
        network = maths("networks.sam").Sam(shared().shapes_of(theirs))
    network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
    network.eval()
    generator = SamAutomaticMaskGenerator(theirs, points_per_side=POINTS_PER_SIDE)

    def reference(image: torch.Tensor) -> torch.Tensor:
        masks = []
        for one in image:
            found = generator.generate((one.numpy() * 255).round().astype(np.uint8))
            found.sort(key=lambda mask: mask["area"], reverse=True)
            masks.append(torch.from_numpy(np.stack([mask["segmentation"] for mask in found])))
        return ours.colour_hint(masks, 0)

    def hint(image: torch.Tensor) -> torch.Tensor:
        rules = ours.MaskRules(POINTS_PER_SIDE)
        return ours.colour_hint(ours.automatic_masks(image, network, rules, 0), 0)

    return Pair(hint, reference)


def _draw(network: torch.nn.Module) -> None:
    """Random weights with which the network is sure of its masks, and these are patches."""
    generator = torch.Generator().manual_seed(21)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.dim() > 1:
            tensor.normal_(0, 1.4 / tensor[0].numel() ** 0.5, generator=generator)
        else:
            tensor.fill_(float(name.endswith(("weight", "running_var"))))
    decoder = "mask_decoder"
    state[f"{decoder}.iou_prediction_head.layers.2.bias"].fill_(1.5)
    state[f"{decoder}.output_upscaling.1.weight"].fill_(200.0)
    state[f"{decoder}.output_upscaling.3.weight"][:, 0] = 0.0
    state[f"{decoder}.output_upscaling.3.bias"][0] = 100.0
    for index in range(4):
        last = f"{decoder}.output_hypernetworks_mlps.{index}.layers.2"
        state[f"{last}.weight"][0], state[f"{last}.bias"][0] = 0.0, -2.0
    network.train().eval()


ROWS = (
    Row(
        "segment_anything",
        _segment_anything,
        f"controlnet-aux, {POINTS_PER_SIDE} x {POINTS_PER_SIDE} points",
        1,
    ),
)
