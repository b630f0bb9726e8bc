"""Flux adapters of random weights in the published key layout, and references to hold ours against.

Import it as `tiller.tests.host.flux_adapters`.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as functional
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_flux import CONFIG, HEAD, HEADS, TEXT, small_flux

XLABS, INSTANTX = "Flux IP-Adapter (XLabs)", "Flux IP-Adapter (InstantX)"
WIDTH = HEADS * HEAD
XLABS_KEY = "double_blocks.{}.processor.ip_adapter_double_stream_{}_proj.{}"


def modules() -> SimpleNamespace:
    """The modules of the pack that Flux adapters go through."""
    real.host()
    names = {
        "apply": "injection.apply",
        "flux": "injection.flux",
        "tokens": "injection.tokens",
        "kv": "injection.keys_values",
        "mask": "injection.mask",
        "formats": "image_prompt.formats",
        "layers": "image_prompt.flux_layers",
        "projectors": "image_prompt.projectors",
        "prompts": "image_prompt.apply",
        "records": "image_prompt.records",
        "terms": "image_prompt.terms",
    }
    return SimpleNamespace(
        **{name: importlib.import_module(f"tiller.adapters.{path}") for name, path in names.items()}
    )


def weights(variant: str, of: real.Family, seed: int = 0) -> dict[str, torch.Tensor]:
    """The layer weights of an adapter for the blocks of a small model."""
    blocks = modules().apply.flux_blocks(of.model)
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    if variant == XLABS:
        return {
            XLABS_KEY.format(number, side, kind): drawn(WIDTH, TEXT) if kind == "weight" else drawn(WIDTH)
            for number in range(blocks.double)
            for side in "kv"
            for kind in ("weight", "bias")
        }
    numbers = range(blocks.double + blocks.single)
    return {f"{number}.to_{side}_ip.weight": drawn(WIDTH, TEXT) for number in numbers for side in "kv"}


def adapter(variant: str, of: real.Family, seed: int = 0) -> Any:
    """A loaded adapter for a small model, without a projector."""
    records, held = modules().records, weights(variant, of, seed)
    count = len(held) // (4 if variant == XLABS else 2)
    spec = records.AdapterSpec(variant, "Flux", None, None, 4, TEXT, tuple(range(count)))
    return records.IPAdapter(spec, {}, held, "adapter.safetensors")


def published(variant: str, of: real.Family, seed: int = 0) -> Any:
    """A loaded adapter as a file of it gives, with its projector; known by its keys and shapes."""
    ours, blocks = modules(), modules().apply.flux_blocks(of.model)
    files = importlib.import_module("tiller.tests.adapter_files")
    content = files.random_flux_adapter(variant, WIDTH, blocks.double, blocks.single, seed)
    spec = ours.formats.identify_adapter({key: tuple(value.shape) for key, value in content.items()})
    return ours.records.IPAdapter(spec, *ours.formats.split(content), "published.safetensors")


def prompt_for(spec: Any, seed: int = 0, has_negative: bool = True) -> Any:
    """Random embeddings for an adapter, and others or zeros for the negative side."""
    generator, records = torch.Generator().manual_seed(seed), modules().records
    shape = (1, spec.embeds.tokens, spec.embeds.width)
    embeds, negative = (torch.randn(shape, generator=generator) for _ in range(2))
    part = records.PromptPart(embeds, negative if has_negative else torch.zeros(shape))
    return records.ImagePrompt(spec.embeds, (part,))


def tokens(seed: int = 0, count: int = 1, each: int = 4) -> Any:
    """Random image tokens for both sides, normalised as projectors leave them."""
    generator = torch.Generator().manual_seed(100 + seed)
    sides = [torch.randn(count, each, TEXT, generator=generator) * 3 for _ in range(2)]
    return modules().tokens.Tokens(*sides)


def make(variant: str, seed: int = 0, of: Any = None, held: Any = None, **settings: Any) -> Any:
    """An injection of a random adapter with weight 0.8 at every block that the variant has."""
    ours, of = modules(), of or small_flux()
    given = ours.terms.InjectionSettings(**{"weight": (0.8,), **settings})
    blocks = ours.apply.flux_blocks(of.model)
    return ours.layers.flux_injection(blocks, adapter(variant, of, seed), held or tokens(seed), given)


def rows_of(held: Any, chunks: Any, rows: int) -> torch.Tensor:
    """The tokens that every row of a batch gets: (rows,T,X)."""
    each = rows // len(chunks)
    sides = [held.uncond if chunk == 1 else held.cond for chunk in chunks]
    return torch.cat([side.expand(each, -1, -1) for side in sides])


def diffusers_network(of: real.Family, held: dict[str, torch.Tensor], scale: float) -> Any:
    """diffusers' Flux with the weights of a small model and an XLabs adapter in its own processors."""
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    utils = importlib.import_module("comfy.utils")
    network = of.model.model.diffusion_model
    theirs = FluxTransformer2DModel(
        in_channels=64,
        num_layers=len(network.double_blocks),
        num_single_layers=len(network.single_blocks),
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        pooled_projection_dim=CONFIG["vec_in_dim"],
        guidance_embeds=True,
        axes_dims_rope=tuple(CONFIG["axes_dim"]),
    )
    sizes = {"depth": len(network.double_blocks), "depth_single_blocks": len(network.single_blocks)}
    names = utils.flux_to_diffusers({**CONFIG, **sizes})
    state = network.state_dict()
    theirs.load_state_dict({key: _there(state, names[key]) for key in theirs.state_dict()})
    layers = {}
    for number in range(len(network.double_blocks)):
        for side in "kv":
            for kind in ("weight", "bias"):
                layers[f"{number}.to_{side}_ip.{kind}"] = held[XLABS_KEY.format(number, side, kind)]
    theirs.register_to_config(joint_attention_dim=layers["0.to_k_ip.weight"].shape[1])
    projector = {"proj.weight": torch.zeros(4 * TEXT, 8)}
    processors = theirs._convert_ip_adapter_attn_to_diffusers(
        [{"image_proj": projector, "ip_adapter": layers}], low_cpu_mem_usage=False
    )
    for processor in processors.values():
        processor.scale = [scale]
    theirs.set_attn_processor(processors)
    theirs.encoder_hid_proj = torch.nn.Identity()
    return theirs.eval()


def _there(state: dict[str, torch.Tensor], place: Any) -> torch.Tensor:
    """One tensor of diffusers' network out of the host's."""
    if isinstance(place, str):
        return state[place]
    name, part, *more = place
    value = state[name] if part is None else state[name].narrow(*part)
    return more[0](value) if more else value


def with_diffusers(of: real.Family, layers: dict[str, torch.Tensor], held: Any, scale: float) -> Any:
    """A clone of the small model that computes with diffusers' network instead of the host's."""
    theirs, network = (
        diffusers_network(of, layers, scale),
        of.model.model.diffusion_model,
    )
    extension = importlib.import_module("comfy.patcher_extension")

    def run(
        executor: Any, x: Any, t: Any, context: Any, y: Any, guidance: Any, *rest: Any, **more: Any
    ) -> Any:
        image, ids = network.process_img(x)
        options = next(one for one in rest if isinstance(one, dict))
        embeds = rows_of(held, options["cond_or_uncond"], len(x))
        with torch.no_grad():
            out = theirs(
                image,
                context,
                y,
                t,
                ids[0],
                torch.zeros(context.shape[1], 3),
                guidance.expand(len(x)),
                {"ip_adapter_image_embeds": [embeds]},
                return_dict=False,
            )[0]
        h, w = ((side + 1) // 2 for side in x.shape[-2:])
        whole = out.unflatten(1, (h, w)).unflatten(-1, (16, 2, 2)).permute(0, 3, 1, 4, 2, 5)
        return whole.flatten(4).flatten(2, 3)[..., : x.shape[-2], : x.shape[-1]]

    clone = of.model.clone()
    clone.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "diffusers", run)
    return clone


def reference(variant: str, of: real.Family, held: dict[str, torch.Tensor], given: Any, scale: float) -> Any:
    """A clone with diffusers' network for XLabs, with blocks written out for InstantX."""
    if variant == XLABS:
        return with_diffusers(of, held, given, scale)
    return instantx_by_hand(of, held, given, scale, [])


def instantx_by_hand(
    of: real.Family, held: dict[str, torch.Tensor], given: Any, scale: float, hits: list[Any]
) -> Any:
    """A clone whose blocks are written out with InstantX's term, tokens projected anew at every call."""
    clone, network = of.model.clone(), of.model.model.diffusion_model
    count = len(network.double_blocks)

    def own(q: torch.Tensor, number: int, options: Any) -> torch.Tensor:
        hits.append(number)
        embeds = rows_of(given, options["cond_or_uncond"], len(q))
        k, v = (functional.linear(embeds, held[f"{number}.to_{side}_ip.weight"]) for side in "kv")
        split = [each.unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for each in (k, v)]
        normed = [each / (each.square().mean(-1, keepdim=True) + 1e-5).sqrt() for each in split]
        return scale * functional.scaled_dot_product_attention(q, *normed).transpose(1, 2).flatten(2)

    for number, block in enumerate(network.double_blocks):
        clone.set_model_patch_replace(_double(block, number, own), "dit", "double_block", number)
    for number, block in enumerate(network.single_blocks):
        clone.set_model_patch_replace(_single(block, count + number, own), "dit", "single_block", number)
    return clone


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pe: torch.Tensor) -> torch.Tensor:
    math = importlib.import_module("comfy.ldm.flux.math")
    q, k = math._apply_rope(q, k, pe)
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _double(block: Any, number: int, own: Any) -> Any:
    def stream(x: torch.Tensor, mod: Any, attention: Any, norm: Any) -> list[torch.Tensor]:
        qkv = attention.qkv(norm(x) * (1 + mod.scale) + mod.shift)
        q, k, v = qkv.unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        return [*attention.norm(q, k, v), v]

    def run(args: Any, extra: Any) -> Any:
        img, txt = args["img"], args["txt"]
        img1, img2 = block.img_mod(args["vec"])
        txt1, txt2 = block.txt_mod(args["vec"])
        of_img = stream(img, img1, block.img_attn, block.img_norm1)
        of_txt = stream(txt, txt1, block.txt_attn, block.txt_norm1)
        joint = [torch.cat(pair, dim=2) for pair in zip(of_txt, of_img, strict=True)]
        out = _attention(*joint, args["pe"])
        txt_out, img_out = out[:, : txt.shape[1]], out[:, txt.shape[1] :]
        img_out = img_out + own(of_img[0], number, args["transformer_options"])
        img = img + img1.gate * block.img_attn.proj(img_out)
        img = img + img2.gate * block.img_mlp(block.img_norm2(img) * (1 + img2.scale) + img2.shift)
        txt = txt + txt1.gate * block.txt_attn.proj(txt_out)
        txt = txt + txt2.gate * block.txt_mlp(block.txt_norm2(txt) * (1 + txt2.scale) + txt2.shift)
        return {"img": img, "txt": txt}

    return run


def _single(block: Any, number: int, own: Any) -> Any:
    def run(args: Any, extra: Any) -> Any:
        x = args["img"]
        mod, _ = block.modulation(args["vec"])
        made = block.linear1(block.pre_norm(x) * (1 + mod.scale) + mod.shift)
        qkv, mlp = made[..., : 3 * WIDTH], made[..., 3 * WIDTH :]
        q, k, v = qkv.unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        q, k = block.norm(q, k, v)
        out = _attention(q, k, v, args["pe"]) + own(q, number, args["transformer_options"])
        return {"img": x + mod.gate * block.linear2(torch.cat([out, block.mlp_act(mlp)], dim=-1))}

    return run
