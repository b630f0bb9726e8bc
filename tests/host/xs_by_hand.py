"""ControlNet-XS as its authors publish it, over the host's own blocks: what ours is held against.

Import it as `tiller.tests.host.xs_by_hand`.
"""

import torch
from tiller.tests.host import inprocess as real
from torch import nn

HEADS = {768: lambda width: 8, 1024: lambda width: width // 8, 2048: lambda width: max(width // 64, 1)}
EPSILON = {768: 1e-6, 1024: 1e-6, 2048: 1e-5}
STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)


def within(weights, prefix):
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}


def loaded(module, weights):
    module.load_state_dict(weights)
    return module


def conv(weights, stride=1):
    wide, narrow, kernel, _ = weights["weight"].shape
    return loaded(nn.Conv2d(narrow, wide, kernel, stride, kernel // 2), weights)


def layer(weights, text):
    """One layer of the thin encoder as the host's class."""
    real.host()
    from comfy.ldm.modules.attention import SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock

    if "weight" in weights:
        return conv(weights)
    if "op.weight" in weights:
        wide, narrow = weights["op.weight"].shape[:2]
        return loaded(Downsample(narrow, True, out_channels=wide), weights)
    if "in_layers.0.weight" in weights:
        narrow, wide = weights["in_layers.0.weight"].shape[0], weights["out_layers.0.weight"].shape[0]
        embedding = weights["emb_layers.1.weight"].shape[1]
        return loaded(ResBlock(narrow, embedding, 0.0, out_channels=wide), weights)
    width, heads = weights["norm.weight"].shape[0], HEADS[text](weights["norm.weight"].shape[0])
    depth = len({key.split(".")[1] for key in weights if key.startswith("transformer_blocks")})
    module = SpatialTransformer(
        width, heads, width // heads, depth, context_dim=text, use_linear=weights["proj_in.weight"].ndim == 2
    )
    module.norm.eps = EPSILON[text]
    return loaded(module, weights)


def block(weights, text):
    from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential

    count = len({key.split(".")[0] for key in weights})
    return TimestepEmbedSequential(*(layer(within(weights, f"{n}."), text) for n in range(count)))


class ByHand:
    """The whole loop of both streams in place of the model's own."""

    def __init__(self, weights, hint, strength):
        self.weights, self.hint, self.strength = weights, hint, strength
        self.text = next(t.shape[1] for key, t in weights.items() if key.endswith("attn2.to_k.weight"))
        count = len({key.split(".")[2] for key in weights if key.startswith("control_model.input_blocks")})
        self.inputs = [
            block(within(weights, f"control_model.input_blocks.{n}."), self.text) for n in range(count)
        ]
        self.middle = block(within(weights, "control_model.middle_block."), self.text)

    def conv(self, name, values):
        return conv(within(self.weights, f"{name}.0."))(values)

    def guided(self):
        values = self.hint
        for index, stride in enumerate(STRIDES):
            values = nn.functional.silu(values) if index else values
            values = conv(within(self.weights, f"input_hint_block.{2 * index}."), stride)(values)
        return values

    def __call__(self, executor, x, timesteps, context, y, control, options, **kwargs):
        from comfy.ldm.modules.diffusionmodules.openaimodel import apply_control
        from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

        base, s = executor.class_obj, self.strength
        time = timestep_embedding(timesteps, base.model_channels)
        emb = base.time_embed(time)
        own = within(self.weights, "control_model.time_embed.")
        if own:
            inner = nn.functional.silu(nn.functional.linear(time, own["0.weight"], own["0.bias"]))
            emb = nn.functional.linear(inner, own["2.weight"], own["2.bias"]) * s**0.3 + emb * (1 - s**0.3)
        if y is not None:
            emb = emb + base.label_emb(y)
        h_base, h_control = x, x[:, :4]
        skips, stored = [], []
        for index, (module, thin) in enumerate(zip(base.input_blocks, self.inputs, strict=True)):
            h_base, h_control = module(h_base, emb, context), thin(h_control, emb, context)
            if index == 0:
                guided = self.guided()
                h_control = h_control + guided.repeat(len(x) // len(guided), 1, 1, 1)
            h_base = apply_control(h_base, control, "input")
            h_base = h_base + self.conv(f"enc_zero_convs_out.{index}", h_control) * s
            skips.append(h_base)
            stored.append(h_control)
            h_control = torch.cat([h_control, self.conv(f"enc_zero_convs_in.{index}", h_base)], 1)
        h_base, h_control = base.middle_block(h_base, emb, context), self.middle(h_control, emb, context)
        h_base = apply_control(h_base, control, "middle")
        out = within(self.weights, "middle_block_out.0.")
        h_base = h_base + conv(out)(h_control) * s
        for index, module in enumerate(base.output_blocks):
            h_base = h_base + self.conv(f"dec_zero_convs_out.{index}", stored.pop()) * s
            h_base = torch.cat([h_base, apply_control(skips.pop(), control, "output")], 1)
            shape = skips[-1].shape if skips else None
            h_base = module(h_base, emb, context, {}, shape)
        return base.out(h_base)


def controlled(of, weights, image, strength):
    """The family with a model that runs the loop above; `image` is the hint (n,H,W,3)."""
    from comfy.patcher_extension import WrappersMP

    model = of.model.clone()
    by_hand = ByHand(weights, image.movedim(-1, 1), strength)
    model.add_wrapper(WrappersMP.DIFFUSION_MODEL, by_hand)
    return of._replace(model=model)
