"""ControlNet-XS files of random numbers for any UNet of the host, and their published shapes.

Import it as `tiller.tests.host.xs_files`.
"""

import math

import torch

HINT = (16, 16, 32, 32, 96, 96, 256)
KINDS = {"sd15": (768, False), "sd21": (1024, True), "sdxl": (2048, True)}
"""Family -> width of its text, and whether its transformers project by linear layers."""


def conv(name, wide, narrow, kernel):
    return {f"{name}.weight": (wide, narrow, kernel, kernel), f"{name}.bias": (wide,)}


def linear(name, wide, narrow, bias=True):
    return {f"{name}.weight": (wide, narrow)} | ({f"{name}.bias": (wide,)} if bias else {})


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def res_block(name, narrow, wide, embedding):
    shapes = norm(f"{name}.in_layers.0", narrow) | conv(f"{name}.in_layers.2", wide, narrow, 3)
    shapes |= linear(f"{name}.emb_layers.1", wide, embedding)
    shapes |= norm(f"{name}.out_layers.0", wide) | conv(f"{name}.out_layers.3", wide, wide, 3)
    return shapes | ({} if narrow == wide else conv(f"{name}.skip_connection", wide, narrow, 1))


def transformer(name, width, depth, text, is_linear):
    project = linear if is_linear else lambda name, wide, narrow: conv(name, wide, narrow, 1)
    shapes = norm(f"{name}.norm", width) | project(f"{name}.proj_in", width, width)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, context in (("attn1", width), ("attn2", text)):
            shapes |= linear(f"{block}.{attention}.to_q", width, width, False)
            shapes |= linear(f"{block}.{attention}.to_k", width, context, False)
            shapes |= linear(f"{block}.{attention}.to_v", width, context, False)
            shapes |= linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= linear(f"{block}.ff.net.0.proj", 8 * width, width)
        shapes |= linear(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            shapes |= norm(f"{block}.norm{number}", width)
    return shapes | project(f"{name}.proj_out", width, width)


def stages(multiples, depths, blocks):
    """Block by block of an encoder: what it is, how wide, how deep its transformer."""
    found = [("conv", multiples[0], 0)]
    for level, multiple in enumerate(multiples):
        for index in range(blocks[level]):
            found.append(("res", multiple, depths[level][index]))
        if level < len(multiples) - 1:
            found.append(("down", multiple, 0))
    return found


def shapes(family, width, encoder, middle, output, base=320, learned=False):
    """Key -> shape of a file: `width` of its first block, `encoder` as `stages` gives it, `middle` the depth
    of the middle's transformer (0: none), `output` the widths, in multiples, that each output block reads."""
    text, is_linear = KINDS[family]
    embedding, found, before = 4 * base, {}, 0
    for index, (kind, multiple, depth) in enumerate(encoder):
        name, wide = f"control_model.input_blocks.{index}", multiple * width
        reads = before * (width + base)
        if kind == "conv":
            found |= conv(f"{name}.0", wide, 4, 3)
        elif kind == "down":
            found |= conv(f"{name}.0.op", wide, reads, 3)
        else:
            found |= res_block(f"{name}.0", reads, wide, embedding)
        if depth:
            found |= transformer(f"{name}.1", wide, depth, text, is_linear)
        found |= conv(f"enc_zero_convs_in.{index}.0", multiple * base, multiple * base, 1)
        found |= conv(f"enc_zero_convs_out.{index}.0", multiple * base, wide, 1)
        before = multiple
    name, wide = "control_model.middle_block", before * width
    found |= res_block(f"{name}.0", before * (width + base), wide, embedding)
    if middle:
        found |= transformer(f"{name}.1", wide, middle, text, is_linear)
    found |= res_block(f"{name}.{2 if middle else 1}", wide, wide, embedding)
    found |= conv("middle_block_out.0", before * base, wide, 1)
    for index, (multiple, (_, stored, _)) in enumerate(zip(output, reversed(encoder), strict=True)):
        found |= conv(f"dec_zero_convs_out.{index}.0", multiple * base, stored * width, 1)
    channels = 3
    for index, wide in enumerate((*HINT, width)):
        found |= conv(f"input_hint_block.{2 * index}", wide, channels, 3)
        channels = wide
    if learned:
        found |= linear("control_model.time_embed.0", embedding, base)
        found |= linear("control_model.time_embed.2", embedding, embedding)
    return found | {"scale_list": (2 * len(encoder) + 1,)}


STANDINS = {
    "sd15": (stages((1, 1), ((1,), (0,)), (1, 1)), 1, (1, 1, 1, 1)),
    "sdxl": (stages((1, 1, 1), ((0, 0), (1, 1), (2, 2)), (2, 2, 2)), 0, (1,) * 9),
}
PUBLISHED = {
    "sd15": (
        stages((1, 2, 4, 4), ((1, 1),) * 3 + ((0, 0),), (2,) * 4),
        1,
        (4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 1, 1),
    ),
    "sdxl": (stages((1, 2, 4), ((0, 0), (2, 2), (10, 10)), (2,) * 3), 10, (4, 4, 4, 4, 2, 2, 2, 1, 1)),
}
PUBLISHED["sd21"] = PUBLISHED["sd15"]


def tensors(of_shapes, seed=1, dtype=torch.float32):
    """Random numbers for shapes: gains near 1, small biases, the rest normal; no convolution is zero."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in of_shapes.items():
        drawn = torch.randn(shape, generator=generator)
        if key == "scale_list":
            drawn = torch.ones(shape)
        elif len(shape) > 1:
            drawn = drawn * (1 / math.prod(shape[1:])) ** 0.5
        elif key.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        found[key] = drawn.to(dtype)
    return found


def file(family, width=32, learned=False, **settings):
    """A whole file for a stand-in family."""
    encoder, middle, output = STANDINS[family]
    return tensors(shapes(family, width, encoder, middle, output, learned=learned), **settings)
