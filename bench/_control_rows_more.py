"""Rows for the controls that are no nets: the hand formula beside ours, through the host's sampler."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _rows import Row, host

KERNEL = 3


def _mean_latent(image: torch.Tensor) -> torch.Tensor:
    """Means of 8 x 8 pixels as a latent of four channels: a VAE without weights."""
    small = F.avg_pool2d(image.movedim(-1, 1), 8)
    return torch.cat([small, small], dim=1)[:, :4] * 4.0 - 2.0


def _vae() -> Any:
    return types.SimpleNamespace(spacial_compression_encode=lambda: 8, encode=_mean_latent)


def _blur(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(x, (KERNEL,) * 4, mode="replicate"), 2 * KERNEL + 1, stride=1)


def _hand_fixed(of: Any, image: torch.Tensor) -> Any:
    """The model with tile_colorfix as the web UI writes it: behind the UNet, in the words of noise."""

    def wrapper(apply_model: Any, arguments: Any) -> torch.Tensor:
        x, sigma = arguments["input"], arguments["timestep"]
        level = sigma.view(-1, 1, 1, 1)
        noise = (x - apply_model(x, sigma, **arguments["c"])) / level
        x0 = x - level * noise
        original = of.model.model.process_latent_in(_mean_latent(image))
        fixed = x0 - _blur(x0) + _blur(original)
        return x - level * ((x - fixed) / level)

    model = of.model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return of._replace(model=model)


def _color_fix(name: str) -> Callable[[], tuple[float, float]]:
    """Tile Color Fix beside the web UI's formula, three steps."""

    def measure() -> tuple[float, float]:
        real = host()
        of = real.family(name)
        positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
        node = real.pack_nodes("tile_color_fix").TillerTileColorFix
        model = node.execute(of.model, image, _vae(), 1.0, KERNEL, 0.0, 0.0, 1.0).args[0]
        plain = real.sample(of, positive, negative)
        hand = real.sample(_hand_fixed(of, image), positive, negative)
        ours = real.sample(of._replace(model=model), positive, negative)
        return real.difference(hand, ours), real.difference(hand, plain)

    return measure


def _inpaint_hint(name: str) -> Callable[[], tuple[float, float]]:
    """A hint with -1 through Apply Control and through the host's node, three steps."""

    def measure() -> tuple[float, float]:
        real = host()
        of = real.family(name)
        positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
        mask = torch.zeros(1, 64, 64)
        mask[:, 16:40, 24:48] = 1.0
        hint = real.pack_nodes("inpaint_hint").TillerInpaintHint.execute(image, mask, "-1").args[0]
        formula = image * (1 - mask.unsqueeze(-1)) - mask.unsqueeze(-1)
        core = real.sample(of, *real.core_apply(positive, negative, of.control, formula))
        ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, hint, resize_mode="crop"))
        return real.difference(core, ours), real.difference(core, real.sample(of, positive, negative))

    return measure


def _revision() -> tuple[float, float]:
    """Revision of two weighted images beside conditioning whose vectors are set by hand, three steps."""
    real = host()
    of = real.family("sdxl")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    embeds = [torch.randn(1, 1280, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    images = {f"image{i}": types.SimpleNamespace(image_embeds=one) for i, one in enumerate(embeds)}
    node = real.pack_nodes("revision").TillerRevision
    ours = node.execute(positive, negative, images, "1, 0.5", 0.0, True, 0).args
    vector = embeds[0] + 0.5 * embeds[1]
    hand = [
        [[torch.zeros_like(one[0][0]), {"pooled_output": pooled}]]
        for one, pooled in ((positive, vector), (negative, torch.zeros(1, 1280)))
    ]
    core = real.sample(of, *hand)
    plain = real.sample(of, positive, negative)
    return real.difference(core, real.sample(of, *ours)), real.difference(core, plain)


def _instruct() -> tuple[float, float]:
    """InstructPix2Pix beside the host's nodes wired by hand, three steps of a random UNet of 8 channels."""
    real = host()
    standins, sd = importlib.import_module("devtools.standins"), importlib.import_module("comfy.sd")
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    pieces = importlib.import_module("comfy_extras.nodes_ip2p").InstructPixToPixConditioning
    name = "tiller_standin_ip2p_sd15"
    path = str(standins.ensure_standins(real.MODELS, [name])[name])
    model = sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]
    of = real.family("sd15")
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    both, middle, latent = pieces.execute(positive, negative, image, _vae()).args

    def sampled(guider: Any) -> torch.Tensor:
        noise, sampler = custom.Noise_RandomNoise(11), custom.KSamplerSelect.execute("euler").args[0]
        sigmas = custom.BasicScheduler.execute(model, "normal", 3, 1.0).args[0]
        run = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent)
        return run.args[0]["samples"]

    def by_hand(last: Any) -> torch.Tensor:
        return sampled(custom.DualCFGGuider.execute(model, both, middle, last, 7.5, 1.5, "regular").args[0])

    node = real.pack_nodes("instruct_pix2pix").TillerInstructPix2Pix
    ours = sampled(node.execute(model, positive, negative, _vae(), image, 7.5, 1.5).args[0])
    return real.difference(by_hand(negative), ours), real.difference(by_hand(negative), by_hand(middle))


def _recolor() -> tuple[float, float]:
    """Lightness of a recoloured picture beside that of the original, saturated noise on both sides."""
    host()
    recolor = importlib.import_module("tiller.preprocessors.recolor")
    image, original = (
        torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    wanted = recolor.lightness(original.double())
    made = recolor.lightness(recolor.recolor(image, original).double())
    return float((made - wanted).abs().max()), float(wanted.abs().max())


ROWS = [
    Row("tile_colorfix", "SD1.5", "three steps", "hand formula", _color_fix("sd15")),
    Row("tile_colorfix", "SDXL", "three steps", "hand formula", _color_fix("sdxl")),
    Row("Inpaint hint (-1)", "SD1.5", "three steps", "ComfyUI", _inpaint_hint("sd15")),
    Row("Inpaint hint (-1)", "SDXL", "three steps", "ComfyUI", _inpaint_hint("sdxl")),
    Row("InstructPix2Pix", "SD1.5", "three steps", "ComfyUI", _instruct),
    Row("Revision", "SDXL", "three steps", "hand formula", _revision),
    Row("Recolor", "any", "L of CIELAB", "the original's", _recolor),
]
