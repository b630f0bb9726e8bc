"""The expanded default model inside the real host: the same numbers as the narrow networks it came from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiller.adapters.identify import identify, read_shapes
from tiller.tests.host import inprocess
from tiller.tests.host.client import environment

from default_model import evaluate, expand, files, text
from devtools import default_model


@pytest.fixture(scope="module")
def folder() -> Path:
    return default_model.ensure(environment())


@pytest.fixture(scope="module")
def narrow():
    tokenizer = environment().host / "comfy" / "sd1_tokenizer"
    return evaluate.Models(files.STORED, tokenizer)


@pytest.fixture(scope="module")
def wide(folder):
    """The host's own objects, loaded from the expanded files by the functions of its loader nodes."""
    inprocess.host()
    import comfy.controlnet
    import comfy.model_management
    import comfy.sd

    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(folder / files.CHECKPOINT))
    controls = {
        part: comfy.controlnet.load_controlnet(str(folder / name)) for part, name in files.CONTROLS.items()
    }
    wrapped = [control.control_model_wrapped for control in controls.values()]
    comfy.model_management.load_models_gpu([model, *wrapped], force_full_load=True)
    yield SimpleNamespace(model=model, clip=clip, vae=vae, controls=controls)
    comfy.model_management.unload_all_models()


@pytest.fixture(scope="module")
def rows():
    random = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 32, 32, generator=random)
    hint = (torch.rand(2, 3, 256, 256, generator=random) > 0.9).float()
    return x, torch.tensor([700.0, 40.0]), hint


def test_the_files_are_known_as_sd15(folder):
    for name, kind in (
        (files.CHECKPOINT, "checkpoint"),
        *((name, "control") for name in files.CONTROLS.values()),
    ):
        known = identify(read_shapes(folder / name))
        assert (known.role, known.family) == (kind, "SD1.5"), name


@torch.inference_mode()
def test_one_call_of_the_unet_under_control_is_the_narrow_one(narrow, wide, rows):
    x, timesteps, hint = rows
    context = narrow.context(["a red circle, blue background", ""])
    places = expand.features().places
    for part, control in wide.controls.items():
        mine = narrow.controls[part](x, timesteps, context, hint)
        theirs = control.control_model(x=x, hint=hint, timesteps=timesteps, context=context)
        residuals = [*theirs["output"], *theirs["middle"]]
        for a, b in zip(mine, residuals, strict=True):
            assert a.abs().max() > 0.01
            assert (b[:, places] - a).abs().max() < 1e-4
            assert b.count_nonzero() <= a.numel()
        given = {"output": list(theirs["output"]), "middle": list(theirs["middle"])}
        wanted = narrow.unet(x, timesteps, context, mine)
        got = wide.model.model.diffusion_model(x, timesteps, context=context, control=given)
        assert (got - wanted).abs().max() < 1e-4, part
    plain = narrow.unet(x, timesteps, context)
    assert (wide.model.model.diffusion_model(x, timesteps, context=context) - plain).abs().max() < 1e-4
    assert (plain - wanted).abs().max() > 0.01


@torch.inference_mode()
def test_the_host_reads_prompts_as_the_training_did(narrow, wide):
    prompts = ["a big red star on the top left, blue striped background", "", "a portrait, pink hair"]
    for prompt in prompts:
        theirs = wide.clip.encode_from_tokens(wide.clip.tokenize(prompt))
        assert (theirs - narrow.context([prompt])).abs().max() < 1e-5, prompt
    assert theirs.shape[1] == text.LENGTH


@torch.inference_mode()
def test_the_autoencoder_is_the_narrow_one(narrow, wide):
    picture = torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(0))
    latent = narrow.autoencoder.encode(picture.movedim(-1, 1))
    theirs = wide.vae.encode(picture) * 0.18215
    assert (theirs - latent).abs().max() < 1e-4 * latent.abs().max()
    decoded = wide.vae.decode(latent / 0.18215)
    assert (decoded - narrow.autoencoder.decode(latent).movedim(1, -1).clamp(0, 1)).abs().max() < 1e-4


def test_the_hosts_sampler_makes_the_picture_of_the_evaluation(narrow, wide):
    """So that the figures of `default_model.evaluate` are figures of the host."""
    import nodes

    scene = evaluate.scenes.draw(7, evaluate.scenes.draw_object)
    _, hints = evaluate.hints_of([scene.picture], "lines")
    mine = evaluate.sample(narrow, [scene.prompt], [7], [evaluate.Control("lines", hints)], steps=6)[0]
    encode, empty = nodes.CLIPTextEncode().encode, nodes.EmptyLatentImage().generate(256, 256)[0]
    positive, negative = encode(wide.clip, scene.prompt)[0], encode(wide.clip, "")[0]
    hint = hints.movedim(1, -1)
    apply = nodes.ControlNetApplyAdvanced().apply_controlnet
    positive, negative = apply(positive, negative, wide.controls["lines"], hint, 1.0, 0.0, 1.0)
    sampled = nodes.common_ksampler(
        wide.model, 7, 6, evaluate.CFG, "euler", "simple", positive, negative, empty
    )
    decoded = wide.vae.decode(sampled[0]["samples"])[0]
    difference = decoded - torch.from_numpy(mine).float() / 255
    # Half a level of rounding, and float32 sums in another order over six steps.
    assert difference.abs().max() < 0.5 / 255 + 1e-3
