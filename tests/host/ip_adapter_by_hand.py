"""Image prompts as the usual pack applies them: every layer, every step projects and weighs anew.

The semantics of cubiq/ComfyUI_IPAdapter_plus: CrossAttentionPatch.py (ipadapter_attention) and
IPAdapterPlus.py (ipadapter_execute), written anew, with the middle block reached. Layers are told by the
host's own `transformer_index`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import small
from torch.nn.functional import linear, scaled_dot_product_attention

KEYS15 = {"input": (1, 2, 4, 5, 7, 8), "output": tuple(range(3, 12))}
"""Blocks of SD1.5 with cross-attention, in the order of adapter files, before the middle."""


class Given(NamedTuple):
    """What the pack's node is given."""

    weight: float
    weight_type: str
    composition: float | None = None
    boost: float | None = None
    scaling: str = "V only"


def weight_at(given: Given, t: int, block: str, xl: bool) -> float:
    """The weight of transformer `t`, 0 where there is none."""
    w, kind, layers = given.weight, given.weight_type, 11 if xl else 16
    wc = w if given.composition is None else given.composition
    b = w if given.boost is None else given.boost
    layout = t == 3 if xl else t in (4, 5)
    quarter = 0.25 if not xl and t == 4 else 1.0
    style = t == 6 if xl else t <= 3 or t >= 9
    rules: dict[str, Callable[[], float]] = {
        "linear": lambda: w,
        "ease in": lambda: w * (0.05 + 0.95 * (1 - t / layers)),
        "ease out": lambda: w * (0.05 + 0.95 * (t / layers)),
        "ease in-out": lambda: w * (0.05 + 0.95 * (1 - abs(t - layers / 2) / (layers / 2))),
        "reverse in-out": lambda: w * (0.05 + 0.95 * (abs(t - layers / 2) / (layers / 2))),
        "weak input": lambda: w * 0.2 if block == "input" else w,
        "weak output": lambda: w * 0.2 if block == "output" else w,
        "weak middle": lambda: w * 0.2 if block == "middle" else w,
        "strong middle": lambda: w if block == "middle" else w * 0.2,
        "style transfer": lambda: w if style else 0.0,
        "composition": lambda: w * quarter if layout else 0.0,
        "strong style transfer": lambda: 0.0 if layout else w,
        "style and composition": lambda: wc * quarter if layout else w if style else 0.0,
        "strong style and composition": lambda: wc if layout else w,
        "style transfer precise": lambda: b * quarter if layout else w if style else 0.0,
        "composition precise": lambda: w * quarter if layout else b if style else b * 0.1,
    }
    return rules[kind]()


def sides_at(given: Given, t: int, xl: bool, tokens: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of the positive and the negative side at transformer `t`."""
    layout = t == 3 if xl else t in (4, 5)
    swaps = {"style transfer precise": layout, "composition precise": not layout}
    if swaps.get(given.weight_type, False):
        return tokens.cond * 0, tokens.cond
    return tokens.cond, tokens.uncond


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    split = [side.unflatten(-1, (heads, -1)).transpose(1, 2) for side in (q, k, v)]
    return scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def image_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, weight: float, scaling: str
) -> torch.Tensor:
    """Attention on the image's keys and values, weighed as one of the pack's embeds scalings."""
    if scaling == "V only":
        return attend(q, k, v, heads) * weight
    if "penalty" in scaling:
        weight = weight * k.shape[2] / 1280.0
    if "mean" in scaling:
        mean = v.mean(dim=1, keepdim=True)
        return attend(q, k * weight, (v - mean) + mean * weight, heads)
    return attend(q, k * weight, v * weight, heads)


def sites_by_hand(of: Any) -> list[tuple[str, int, int]]:
    """Every cross-attention in the order of adapter files, from the blocks that the papers name."""
    if of.name == "sd15":
        return [(block, i, 0) for block, ids in KEYS15.items() for i in ids] + [("middle", 0, 0)]
    depths = {"input": {4: 1, 5: 1, 7: 2, 8: 2}, "output": {0: 2, 1: 2, 2: 2, 3: 1, 4: 1, 5: 1}}
    found = [(block, i, n) for block, ids in depths.items() for i, deep in ids.items() for n in range(deep)]
    return [*found, ("middle", 0, 0), ("middle", 0, 1)]


def by_hand(of: Any, adapter: Any, tokens: Any, given: Given) -> Any:
    """A clone of the family's model with the adapter in every layer."""
    clone, xl = of.model.clone(), of.name == "sdxl"
    for number, site in enumerate(sites_by_hand(of)):
        to_k, to_v = (adapter.ip_adapter[f"{2 * number + 1}.to_{side}_ip.weight"] for side in "kv")

        def layer(q: Any, k: Any, v: Any, options: Any, to_k: Any = to_k, to_v: Any = to_v) -> torch.Tensor:
            t, chunks, heads = options["transformer_index"], options["cond_or_uncond"], options["n_heads"]
            out = attend(q, k, v, heads)
            weight = weight_at(given, t, options["block"][0], xl)
            if weight == 0:
                return out
            sides = sides_at(given, t, xl, tokens)
            each = q.shape[0] // len(chunks)
            rows = torch.cat([sides[chunk].expand(each, -1, -1) for chunk in chunks])
            return out + image_attention(
                q, linear(rows, to_k), linear(rows, to_v), heads, weight, given.scaling
            )

        clone.set_model_attn2_replace(layer, *site)
    return clone


def adapter_of(base: str, seed: int = 3, variant: str = "IP-Adapter") -> Any:
    """An IPAdapter of random weights for a small model, "sd15" or "sdxl", in the published layout."""
    files = importlib.import_module("tiller.tests.adapter_files")
    records = importlib.import_module("tiller.adapters.image_prompt.records")
    name = {"sd15": "SD1.5", "sdxl": "SDXL"}[base]
    sites = module("adapters.injection.apply").unet_sites(small(base).model)
    flat = files.random_adapter(variant, name, sites, seed, "CLIP-ViT-H")
    state = records.EmbedState("CLIP-ViT-H", "image_embeds", 1, 1024)
    numbers = tuple(2 * i + 1 for i in range(len(sites)))
    parts = [
        {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
        for prefix in ("image_proj.", "ip_adapter.")
    ]
    for key in parts[1]:  # what it adds shall stand clear of rounding
        parts[1][key] *= 8.0 if "to_v" in key else 1.0
    spec = records.AdapterSpec(variant, name, state, None, 4, small(base).text_width, numbers)
    return records.IPAdapter(spec, parts[0], parts[1], "random.safetensors")


def prompt_of(seed: int = 4, count: int = 1, parts: int = 1, encoder: str = "CLIP-ViT-H") -> Any:
    """An ImagePrompt of random embeddings: `count` pictures of a batch in each part."""
    records = importlib.import_module("tiller.adapters.image_prompt.records")
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(count, 1, 1024, generator=generator) for _ in range(parts)]
    state = records.EmbedState(encoder, "image_embeds", 1, 1024)
    return records.ImagePrompt(state, tuple(records.PromptPart(one, torch.zeros_like(one)) for one in made))


def module(name: str) -> Any:
    """A module of the pack that needs the host."""
    real.host()
    return importlib.import_module(f"tiller.{name}")
