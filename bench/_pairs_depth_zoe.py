"""ZoeDepth beside controlnet-aux. Both hold the same tensors: they are large."""

import torch
from _pack import maths
from _pairs import Pair, Row, by_detector, network, shared


def _zoe() -> Pair:
    from controlnet_aux.zoe import ZoeDepth, ZoeDetector, get_config

    with torch.device("meta"):
        theirs = ZoeDepth.build_from_config(get_config("zoedepth", "infer"))
        ours = maths("networks.zoe").ZoeDepth(shared().shapes_of(theirs))
    ours.to_empty(device="cpu")
    drawn = shared().randomise(ours, 3)
    for name, tensor in drawn.items():
        if "gamma_" in name:
            tensor.mul_(0.1)
    torch.nn.Module.load_state_dict(theirs, drawn, strict=False, assign=True)
    head = theirs.conditional_log_binomial.log_binomial_transform
    head.k_idx, head.K_minus_1 = torch.arange(64).view(1, -1, 1, 1), torch.full((1, 1, 1, 1), 63.0)
    for block in theirs.core.core.pretrained.model.blocks:
        block.attn.k_bias = torch.zeros_like(block.attn.q_bias)
    run, hint = network(ours), maths("depth_zoe").depth_zoe
    return Pair(lambda image: hint(image, run, 0), by_detector(ZoeDetector(theirs.eval())))


ROWS = (Row("depth_zoe", _zoe, timed=1),)
