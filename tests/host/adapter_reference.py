"""diffusers' UNet with the weights of a small host UNet and an adapter in it, run inside the host's sampler.

Every call of the model goes to it, so that a whole sampling can be compared: the projector, the layers and
which conditioning gets what are diffusers' own.
"""

from __future__ import annotations

import importlib
import unittest.mock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import WIDTH, small

POOLED = 1280
GAINS = {".to_v_ip.": 8.0, "_lora.up.": 0.3}
"""What an adapter adds shall stand clear of rounding, and a LoRA is a small change of its matrix."""


def diffusers_unet(name: str) -> Any:
    """A new UNet2DConditionModel with the weights of `small(name)`."""
    diffusers = importlib.import_module("diffusers")
    importlib.import_module("diffusers.utils.logging").set_verbosity_error()
    utils = importlib.import_module("comfy.utils")
    model = small(name).model.model
    config = model.model_config.unet_config  # with what the host sets for the family
    blocks = len(config["channel_mult"])
    depths = [config["transformer_depth"][2 * block] for block in range(blocks)]
    widths = [WIDTH * factor for factor in config["channel_mult"]]
    heads: Any = config["num_heads"]
    if config["num_head_channels"] > 0:
        heads = [max(1, width // config["num_head_channels"]) for width in widths]
    settings: dict[str, Any] = {}
    if config.get("adm_in_channels"):
        settings = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": config["adm_in_channels"],
        }
    unet = diffusers.UNet2DConditionModel(
        down_block_types=["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        up_block_types=["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        block_out_channels=widths,
        attention_head_dim=heads,
        transformer_layers_per_block=[max(depth, 1) for depth in depths],
        cross_attention_dim=config["context_dim"],
        use_linear_projection=config["use_linear_in_transformer"],
        **settings,
    )
    names = utils.unet_to_diffusers(model.model_config.unet_config)
    weights = model.diffusion_model.state_dict()
    unet.load_state_dict({key: weights[names[key]] for key in unet.state_dict()})
    return unet.requires_grad_(False).eval()


class Picture(NamedTuple):
    """What a projector of diffusers reads: `embeds` (rows,pictures,…) for the positive and the negative side.

    `seen` are the pictures' states (rows,pictures,S,E) of FaceID Plus, whose `embeds` are the vectors.
    """

    embeds: tuple[torch.Tensor, torch.Tensor]
    seen: tuple[torch.Tensor, torch.Tensor] | None = None
    shortcut: bool = False
    structure: float = 1.0


def merge_lora(unet: Any, weights: dict[str, torch.Tensor], strength: float) -> int:
    """Adds the LoRA half of a FaceID file to the weights, layer by layer in diffusers' own order.

    Gives how many matrices were changed.
    """
    changed = 0
    for number, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for part, linear in (
            ("q", attention.to_q),
            ("k", attention.to_k),
            ("v", attention.to_v),
            ("out", attention.to_out[0]),
        ):
            up, down = (weights[f"{number}.to_{part}_lora.{side}.weight"] for side in ("up", "down"))
            linear.weight += strength * up @ down
            changed += 1
    return changed


@contextmanager
def _sizes_of(image_proj: dict[str, torch.Tensor]) -> Iterator[Any]:
    """Within it, diffusers makes the projector of FaceID Plus as wide as its weights are."""
    loaders = importlib.import_module("diffusers.loaders.unet")
    plus, first = loaders.IPAdapterFaceIDPlusImageProjection, "perceiver_resampler.layers.0.1.1.weight"
    if first in image_proj:
        rows, columns = image_proj[first].shape
        tokens = len(image_proj["proj.2.weight"]) // len(image_proj["norm.weight"])
        plus = partial(plus, ffn_ratio=rows / columns, num_tokens=tokens)
    with unittest.mock.patch.object(loaders, "IPAdapterFaceIDPlusImageProjection", plus):
        yield loaders


def diffusers_projector(image_proj: dict[str, torch.Tensor]) -> Any:
    """The projector of an adapter by diffusers' own conversion; bare keys as in the files."""
    with _sizes_of(image_proj) as loaders:
        convert = loaders.UNet2DConditionLoadersMixin._convert_ip_adapter_image_proj_to_diffusers
        return convert(None, image_proj, low_cpu_mem_usage=False).requires_grad_(False).eval()


def load_adapter(
    unet: Any, image_proj: dict[str, torch.Tensor], ip_adapter: dict[str, torch.Tensor], scale: float
) -> None:
    """Brings an adapter into the UNet by diffusers' own conversion; bare keys as in the files."""
    with _sizes_of(image_proj):
        unet._load_ip_adapter_weights(
            [{"image_proj": image_proj, "ip_adapter": ip_adapter}], low_cpu_mem_usage=False
        )
    unet.requires_grad_(False).eval()
    for layer in adapted_layers(unet):
        layer.scale = [scale]


def adapted_layers(unet: Any) -> list[Any]:
    """The layers with keys and values for images, in the order of adapter files."""
    return [each for each in unet.attn_processors.values() if hasattr(each, "to_k_ip")]


def in_sampler(name: str, unet: Any, picture: Picture | None = None) -> Any:
    """A clone of the model of `small(name)` whose calls go to diffusers' UNet, with the picture if given."""
    wrappers = importlib.import_module("comfy.patcher_extension").WrappersMP

    def call(
        executor: Any,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        y: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        chunks = transformer_options["cond_or_uncond"]
        each = len(x) // len(chunks)

        def rows(sides: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat([sides[chunk].expand(each, *sides[chunk].shape[1:]) for chunk in chunks])

        added: dict[str, Any] = {}
        if y is not None:
            height, width = (8.0 * side for side in x.shape[2:])
            sizes = torch.tensor([[height, width, 0.0, 0.0, height, width]]).expand(len(x), -1)
            added = {"text_embeds": y[:, :POOLED], "time_ids": sizes}
        if picture is not None:
            added["image_embeds"] = [rows(picture.embeds)]
        if picture is not None and picture.seen is not None:
            projector = unet.encoder_hid_proj.image_projection_layers[0]
            projector.clip_embeds = rows(picture.seen).flatten(0, 1)[:, None]
            projector.shortcut, projector.shortcut_scale = picture.shortcut, picture.structure
        return unet(x, timesteps, context, added_cond_kwargs=added, return_dict=False)[0]

    clone = small(name).model.clone()
    clone.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, "diffusers", call)
    return clone


def sampled(name: str, model: Any, **run: Any) -> torch.Tensor:
    """LATENT of the host's KSampler with this model, random text on both sides."""
    of = small(name)._replace(model=model)
    return real.sample(of, real.conditioning(of, 1), real.conditioning(of, 2), real.Run(**run))


def random_adapter(variant: str, base: str, name: str, encoder: str | None = None, seed: int = 3) -> Any:
    """An IPAdapter of random weights for `small(name)`, in the published layout, as the loader knows it."""
    files = importlib.import_module("tiller.tests.adapter_files")
    formats = importlib.import_module("tiller.adapters.image_prompt.formats")
    records = importlib.import_module("tiller.adapters.image_prompt.records")
    apply = importlib.import_module("tiller.adapters.injection.apply")
    weights = files.random_adapter(variant, base, apply.unet_sites(small(name).model), seed, encoder)
    for key in weights:
        weights[key] *= next((gain for part, gain in GAINS.items() if part in key), 1.0)
    spec = formats.identify_adapter({key: tuple(value.shape) for key, value in weights.items()})
    return records.IPAdapter(spec, *formats.split(weights), "random.safetensors")


def random_prompt(adapter: Any, pictures: int = 1, seed: int = 4) -> Any:
    """An ImagePrompt of random embeddings that the adapter reads, each picture a part of its own."""
    records = importlib.import_module("tiller.adapters.image_prompt.records")
    state, generator = adapter.spec.embeds, torch.Generator().manual_seed(seed)

    def drawn() -> torch.Tensor:
        return torch.randn(1, state.tokens, state.width, generator=generator)

    parts = [records.PromptPart(drawn(), drawn()) for _ in range(pictures)]
    return records.ImagePrompt(state, tuple(parts))


def random_faces(count: int, seed: int = 6) -> torch.Tensor:
    """Vectors of faces (count,512), of unit length."""
    faces = torch.randn(count, 512, generator=torch.Generator().manual_seed(seed))
    return faces / faces.norm(dim=1, keepdim=True)


class Given(NamedTuple):
    """An adapter and what it reads: an ImagePrompt, vectors of faces (N,512), or both."""

    adapter: Any
    prompt: Any
    faces: torch.Tensor | None


class Case(NamedTuple):
    """One adapter on one small model, given to ours and to diffusers alike.

    `version` 2 of FaceID Plus has the shortcut, `structure` is the weight of what the picture adds to it.
    """

    name: str
    variant: str
    base: str
    encoder: str | None = None
    pictures: int = 1
    weight: float = 0.8
    lora: float = 0.7
    version: int = 1
    structure: float = 1.0

    def given(self) -> Given:
        adapter = random_adapter(self.variant, self.base, self.name, self.encoder)
        prompt = None if adapter.spec.embeds is None else random_prompt(adapter, self.pictures)
        return Given(adapter, prompt, None if adapter.spec.face is None else random_faces(self.pictures))

    def ours(self, given: Given) -> tuple[Any, Any]:
        """The model, with the LoRA half of a FaceID file, and the injection into it."""
        apply = importlib.import_module("tiller.adapters.image_prompt.apply")
        projectors = importlib.import_module("tiller.adapters.image_prompt.projectors")
        settings = importlib.import_module("tiller.adapters.image_prompt.terms").InjectionSettings
        model, adapter = small(self.name).model, given.adapter
        if given.faces is None:
            tokens = projectors.tokens_of(adapter, given.prompt)
        else:
            lora = importlib.import_module("tiller.adapters.lora._host")
            model = lora.add_faceid_lora(model, adapter.ip_adapter, self.lora)
            tokens = projectors.face_tokens(
                adapter, given.faces, given.prompt, self.version == 2, self.structure
            )
        return model, apply.injection_of(model, adapter, tokens, settings(weight=(self.weight,)))

    def theirs(self, given: Given) -> tuple[Any, Any]:
        """A model whose calls go to diffusers' UNet with the adapter, and that UNet."""
        unet, adapter = diffusers_unet(self.name), given.adapter
        if adapter.spec.lora_layers:
            merge_lora(unet, adapter.ip_adapter, self.lora)
        load_adapter(unet, dict(adapter.image_proj), adapter.ip_adapter, self.weight)
        return in_sampler(self.name, unet, self._picture(given)), unet

    def _picture(self, given: Given) -> Picture:
        seen = None
        if given.prompt is not None:
            embeds, negative = (
                torch.stack([getattr(part, side) for part in given.prompt.parts], dim=1)
                for side in ("embeds", "negative")
            )
            seen = embeds, negative
        if given.faces is not None:
            face = given.faces[None]
            if "latents" in given.adapter.image_proj:
                face = face[:, :, None]
            return Picture((face, torch.zeros_like(face)), seen, self.version == 2, self.structure)
        assert seen is not None
        if seen[0].shape[2] == 1:  # one vector per picture is no row of tokens there
            return Picture((seen[0][:, :, 0], seen[1][:, :, 0]))
        return Picture(seen)


class Compared(NamedTuple):
    """Greatest difference and greatest effect of the adapter, and how many layers ours injects into."""

    difference: float
    effect: float
    layers: int

    @property
    def ratio(self) -> float:
        return self.difference / self.effect


def compare(case: Case, **run: Any) -> Compared:
    """A whole sampling with ours beside one that goes through diffusers."""
    given = case.given()
    inject = importlib.import_module("tiller.adapters.injection.apply").inject
    # in this order: a LoRA of ours stays in the weights until another model runs
    plain = sampled(case.name, small(case.name).model, **run)
    theirs = sampled(case.name, case.theirs(given)[0], **run)
    model, injection = case.ours(given)
    ours = sampled(case.name, inject(model, injection), **run)
    return Compared(real.difference(ours, theirs), real.difference(theirs, plain), len(injection.terms))


class PerPicture:
    """A weight for every picture of a batch, where diffusers multiplies by its one."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.weights = weights[:, None, None]

    def __mul__(self, states: torch.Tensor) -> torch.Tensor:
        return self.weights * states


def compare_each_layer(case: Case) -> list[Compared]:
    """As many pictures as layers, each with the adapter in one layer alone: in the order of the file.

    One step, without a negative side.
    """
    given = case.given()
    inject = importlib.import_module("tiller.adapters.injection.apply").inject
    model, injection = case.ours(given)
    each = case.weight * torch.eye(len(injection.terms))
    run = {"batch": len(each), "steps": 1, "cfg": 1.0}
    plain = sampled(case.name, small(case.name).model, **run)
    reference, unet = case.theirs(given)
    for layer, weights in zip(adapted_layers(unet), each, strict=True):
        layer.scale = [PerPicture(weights)]
    terms = {
        site: replace(term, weight=tuple(weights.tolist()))
        for (site, term), weights in zip(injection.terms.items(), each, strict=True)
    }
    theirs = sampled(case.name, reference, **run)
    ours = sampled(case.name, inject(model, type(injection)(terms)), **run)
    return [
        Compared(real.difference(mine, other), real.difference(other, without), 1)
        for mine, other, without in zip(ours, theirs, plain, strict=True)
    ]


def compare_projector(case: Case) -> Compared:
    """The positive side's tokens of FaceID Plus with its shortcut, without a model."""
    projectors = importlib.import_module("tiller.adapters.image_prompt.projectors")
    adapter, prompt, faces = case.given()
    reference = diffusers_projector(dict(adapter.image_proj))
    reference.clip_embeds = torch.cat([part.embeds for part in prompt.parts])[:, None]
    reference.shortcut, reference.shortcut_scale = True, case.structure
    theirs = reference(faces).flatten(0, 1)[None]
    ours = projectors.face_tokens(adapter, faces, prompt, True, case.structure).cond
    return Compared(real.difference(ours, theirs), float(theirs.abs().max()), 0)
