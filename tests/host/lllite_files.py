"""ControlNet-LLLite files of random numbers, and what they do to a model, restated with forward hooks.

Import it as `tiller.tests.host.lllite_files`.
"""

import math
import re
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from tiller.tests.host import inprocess as real

ATTENTIONS = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q")
KERNELS = {1: (4, 2), 2: (4, 4), 3: (4, 4, 2)}
HALF, EMBEDDING, HIDDEN = 4, 8, 16

BLOCKS = {
    "sd15": {"input_blocks_1_1": (1, 1), "middle_block_1": (1, 2), "output_blocks_2_1": (1, 1)},
    "sdxl": {
        "input_blocks_4_1": (1, 2),
        "input_blocks_5_1": (1, 2),
        "input_blocks_7_1": (2, 3),
        "input_blocks_8_1": (2, 3),
    },
}
"""Block of a stand-in -> its transformer layers, and the depth of the hint's encoder there."""


def module_tensors(kernels, width, generator, dtype=torch.float32):
    """One module's tensors by their names within it."""

    def layer(name, *shape):
        gain = (2 / math.prod(shape[1:])) ** 0.5
        weight = torch.randn(*shape, generator=generator) * gain
        bias = torch.randn(shape[0], generator=generator) * 0.1
        return {f"{name}.weight": weight.to(dtype), f"{name}.bias": bias.to(dtype)}

    tensors = {}
    for index, kernel in enumerate(kernels):
        wide = EMBEDDING if index == len(kernels) - 1 else HALF
        tensors |= layer(f"conditioning1.{2 * index}", wide, HALF if index else 3, kernel, kernel)
    tensors |= layer("down.0", HIDDEN, width)
    tensors |= layer("mid.0", HIDDEN, HIDDEN + EMBEDDING)
    return tensors | layer("up.0", width, HIDDEN)


def file(family, seed=1, dtype=torch.float32, blocks=None, attentions=ATTENTIONS):
    """A whole file for a stand-in family."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for block, (layers, depth) in (blocks or BLOCKS[family]).items():
        for layer in range(layers):
            for attention in attentions:
                name = f"lllite_unet_{block}_transformer_blocks_{layer}_{attention}"
                own = module_tensors(KERNELS[depth], 320, generator, dtype)
                tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    return tensors


def net(family, weights=None, **settings):
    """A control net over a file."""
    real.host()
    from tiller.adapters.control.lllite.apply import load
    from tiller.adapters.identify import Identified

    names = {"sd15": "SD1.5", "sdxl": "SDXL"}
    identified = Identified("control", "ControlNet-LLLite", names[family])
    return load(file(family, **settings) if weights is None else weights, identified)


def path(name):
    """Name of a module -> the projection of the host's UNet that it stands before."""
    words = name.removeprefix("lllite_unet_").replace("_1_transformer_blocks_", ".1.transformer_blocks.")
    words = words.replace("input_blocks_", "input_blocks.").replace("output_blocks_", "output_blocks.")
    return words.replace("_attn", ".attn").replace("_to_", ".to_")


def filled(pixels, stride):
    """The pixels, continued by their last row and column until whole tokens of `stride` pixels are full."""
    while pixels.shape[2] % stride:
        pixels = torch.cat([pixels, pixels[:, :, -1:]], 2)
    while pixels.shape[3] % stride:
        pixels = torch.cat([pixels, pixels[..., -1:]], 3)
    return pixels


@contextmanager
def hooked(of, weights, hint, strength):
    """The formula as it is published, hooked before each projection of the model; hint (n,3,H,W) in 0..1."""
    files = {}
    for key, tensor in weights.items():
        name, _, inner = key.partition(".")
        files.setdefault(name, {})[inner] = tensor
    handles = []
    for name, w in files.items():
        kernels = [tensor.shape[-1] for key, tensor in w.items() if re.match(r"conditioning1.*weight", key)]
        values = filled(hint * 2 - 1, math.prod(kernels))
        for index in (0, 2, 4):
            if f"conditioning1.{index}.weight" in w:
                weight = w[f"conditioning1.{index}.weight"]
                values = F.relu(values) if index else values
                values = F.conv2d(values, weight, w[f"conditioning1.{index}.bias"], stride=weight.shape[-1])
        tokens = values.flatten(2).transpose(1, 2)

        def push(module, args, tokens=tokens, w=w):
            x = args[0]
            down = F.relu(F.linear(x, w["down.0.weight"], w["down.0.bias"]))
            condition = tokens.repeat(x.shape[0] // tokens.shape[0], 1, 1)
            mid = F.relu(F.linear(torch.cat([condition, down], 2), w["mid.0.weight"], w["mid.0.bias"]))
            return (x + strength * F.linear(mid, w["up.0.weight"], w["up.0.bias"]),)

        projection = of.model.model.diffusion_model.get_submodule(path(name))
        handles.append(projection.register_forward_pre_hook(push))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
