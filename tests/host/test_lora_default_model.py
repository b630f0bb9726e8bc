"""Block weights on the default model: a small LoRA that makes pictures lighter, whole, by halves, not at all.

The LoRA is one step of ascent: for the layers that end an attention or a feed-forward, the gradient of how
light the prediction is, cut down to rank 4. Nothing is trained.
"""

from pathlib import Path

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.client import environment
from tiller.tests.host.lora_files import RANK, load, loras

from default_model import evaluate, files
from devtools import default_model

__all__ = ["loras"]
PREFIX = "diffusion_model."
ENDINGS = ("attn1.to_out.0.weight", "attn2.to_out.0.weight", "ff.net.2.weight")
PROMPT = "a big blue circle, yellow background"
STEPS, SIDE = 4, 192
STRENGTH = 4.0
"""Length of the step over all layers, in the units of the weights: small against their own."""


@pytest.fixture(scope="module")
def loaded():
    folder = default_model.ensure(environment())
    real.host()
    import comfy.model_management
    import comfy.sd

    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(Path(folder) / files.CHECKPOINT))
    comfy.model_management.load_models_gpu([model], force_full_load=True)
    yield model, clip, vae
    comfy.model_management.unload_all_models()


@torch.no_grad()
def lighter(vae):
    """The direction in the latents (4,) from grey to white, of length 1."""
    grey, white = (vae.encode(torch.full((1, 64, 64, 3), level)) for level in (0.5, 1.0))
    way = (white - grey).mean(dim=(0, 2, 3))
    return way / way.norm()


def gradients(model, clip, vae):
    """Name of a layer -> gradient of how light the predicted picture is, at three noise levels."""
    unet = model.model.diffusion_model
    layers = {name: weight for name, weight in unet.named_parameters() if name.endswith(ENDINGS)}
    generator = torch.Generator().manual_seed(1)
    way = lighter(vae)[None, :, None, None]
    timesteps = torch.tensor([900.0, 600.0, 300.0])
    words = clip.encode_from_tokens(clip.tokenize("a red circle")).float().expand(3, -1, -1)
    try:
        with torch.enable_grad():
            for weight in layers.values():
                weight.requires_grad_(True)
            x = torch.randn(3, 4, 16, 16, generator=generator)
            noise = unet(x, timesteps, context=words.detach())
            found = torch.autograd.grad((-noise * way).mean(), list(layers.values()))
    finally:
        for weight in layers.values():
            weight.requires_grad_(False)
    return dict(zip(layers, found, strict=True))


def light_lora(model, clip, vae):
    """The step of ascent at rank RANK, as a file's tensors."""
    weights = {}
    for name, gradient in gradients(model, clip, vae).items():
        u, s, v = torch.linalg.svd(gradient.float(), full_matrices=False)
        key = f"{PREFIX}{name}".removesuffix(".weight")
        weights[f"{key}.lora_B.weight"] = (u[:, :RANK] * s[:RANK]).contiguous()
        weights[f"{key}.lora_A.weight"] = v[:RANK].contiguous()
    length = sum(float(t.square().sum()) for key, t in weights.items() if "lora_B" in key) ** 0.5
    return {key: t * (STRENGTH / length if "lora_B" in key else 1.0) for key, t in weights.items()}


@torch.no_grad()
def picture(loaded, model):
    """IMAGE (1,SIDE,SIDE,3) of the prompt."""
    import nodes

    _, clip, vae = loaded
    positive, negative = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, ""))
    latent = nodes.EmptyLatentImage().generate(SIDE, SIDE)[0]
    sampled = nodes.common_ksampler(
        model, 1, STEPS, evaluate.CFG, "euler", "simple", positive, negative, latent
    )
    return vae.decode(sampled[0]["samples"])


def test_blocks_do_their_share(loaded, loras):
    """Lightness 0..1, measured: plain 0.57, whole 0.75, OUT alone 0.72, IN alone 0.57.

    Mean change of the picture: whole 0.31, OUT 0.28, IN 0.04.
    """
    plain_model = loaded[0]
    name = loras("light.safetensors", light_lora(*loaded))
    drawn = {"plain": picture(loaded, plain_model)}
    for preset in ("ALL", "INALL", "OUTALL"):
        drawn[preset] = picture(loaded, load(plain_model, None, name, preset=preset)[0])
    lightness = {preset: float(image.mean()) for preset, image in drawn.items()}
    change = {preset: float((image - drawn["plain"]).abs().mean()) for preset, image in drawn.items()}
    assert lightness["ALL"] > lightness["plain"] + 0.08
    assert lightness["plain"] + 0.05 < lightness["OUTALL"] < lightness["ALL"]
    assert change["ALL"] > change["OUTALL"] > 2 * change["INALL"] > 0.02
    assert load(plain_model, None, name, preset="NONE")[0] is plain_model
