"""Motion modules between the blocks of a model: where diffusers has them, and only in the clone."""

import importlib
from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import sparse
from tiller.tests.host.inprocess import Run

from devtools import standins

FRAMES = 6
TIGHT = 1e-5


def loaded(net: torch.nn.Module) -> Any:
    real.host()
    from tiller.adapters.identify import Identified
    from tiller.adapters.motion.apply import load

    weights = {key: tensor for key, tensor in sparse.published(net).items() if ".motion_modules." in key}
    return load(weights, Identified("control", "AnimateDiff motion modules", "SD1.5"))


def applied(model: Any, motion: Any, schedule: str = "model", **effect: float) -> Any:
    from tiller.adapters.motion.apply import apply_motion
    from tiller.adapters.motion.network import Effect

    return apply_motion(model, motion, Effect(**effect), schedule)


def called(model: Any, x: torch.Tensor, text: torch.Tensor, **more: Any) -> torch.Tensor:
    """One call of the model's UNet: two conditionings of a clip each, at step 431."""
    options = {**model.model_options["transformer_options"], "cond_or_uncond": [1, 0]}
    with torch.no_grad():
        steps = torch.full((x.shape[0],), 431.0)
        return model.model.diffusion_model(x, steps, context=text, transformer_options=options, **more)


def inputs(height=8, width=12):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, FRAMES, height, width, generator=generator)
    text = torch.randn(2, 7, 48, generator=generator).repeat_interleave(FRAMES, 0)
    return sample, sample.transpose(1, 2).flatten(0, 1), text


@pytest.mark.parametrize("middle", [True, False], ids=["v2", "v3"])
@pytest.mark.parametrize("size", [(8, 12), (9, 14)], ids=["even", "odd"])
def test_a_model_with_motion_equals_diffusers(middle, size):
    net = sparse.motion_unet(middle)
    motion = loaded(net)
    sample, x, text = inputs(*size)
    with torch.no_grad():
        expected = net(sample, 431, text, return_dict=False)[0].transpose(1, 2).flatten(0, 1)
    model = sparse.host_model(net)
    plain = called(model, x, text)
    given = called(applied(model, motion), x, text)
    assert real.difference(given, expected) <= TIGHT * float(expected.abs().max())
    assert real.difference(plain, expected) > 1e-2 * float(expected.abs().max())
    assert real.difference(called(model, x, text), plain) == 0.0
    assert real.difference(called(applied(model, motion, strength=0.0), x, text), plain) == 0.0


CLIP = Run(steps=2, batch=4)


def stand_in() -> Any:
    """The family's stand-in, and the motion modules of the same build."""
    of = real.family("sd15")
    from tiller.adapters.control.load._host import identify_weights, read_weights
    from tiller.adapters.motion.apply import load

    name = "tiller_standin_motion_sd15"
    path = standins.ensure_standins(real.MODELS, [name])[name]
    weights = read_weights(path)[0]
    return of, load(weights, identify_weights(weights, path.name))


def sampled(of: Any, model: Any, run: Run = CLIP) -> torch.Tensor:
    return real.sample(of._replace(model=model), real.conditioning(of, 1), real.conditioning(of, 2), run)


def test_the_clone_moves_and_the_model_stays_as_it_was():
    of, motion = stand_in()
    plain = sampled(of, of.model)
    moving = applied(of.model, motion)
    first = sampled(of, moving)
    assert real.difference(first, plain) > 1e-2
    assert real.difference(sampled(of, of.model), plain) == 0.0
    assert real.difference(sampled(of, moving), first) == 0.0
    assert of.model.model_options["transformer_options"] == {}
    assert moving.get_nested_additional_models()[0].model is motion.network
    assert real.difference(sampled(of, moving.clone()), first) == 0.0
    one = Run(steps=2, batch=1)
    assert real.difference(sampled(of, applied(of.model, motion, strength=0.0)), plain) == 0.0
    assert torch.isfinite(sampled(of, moving, one)).all()
    long = Run(steps=1, batch=33)
    with pytest.raises(ValueError, match=r"at most 32 frames at once, got 33"):
        sampled(of, moving, long)


def test_what_other_packs_do_at_the_same_layers_still_happens():
    of, motion = stand_in()
    from comfy.ldm.modules.attention import SpatialTransformer

    calls, results = [], []

    def theirs(layer, x, emb, context, options, *more):
        calls.append(options["transformer_index"])
        x = layer(x, context, options)
        options["transformer_index"] += 1
        return x * 1.1

    for first in (True, False):
        calls.clear()
        model = of.model.clone() if first else applied(of.model, motion)
        model.set_model_forward_timestep_embed_patch((SpatialTransformer, theirs))
        model = applied(model, motion) if first else model
        given = sampled(of, model, Run(steps=1, batch=4))
        assert calls == [0, 1, 2, 3]
        results.append(given)
    assert real.difference(*results) == 0.0
    assert real.difference(results[0], sampled(of, applied(of.model, motion), Run(steps=1, batch=4))) > 1e-3


def test_the_linear_schedule_is_that_of_the_training():
    of, motion = stand_in()
    scheduler = importlib.import_module("diffusers").DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear"
    )
    expected = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    linear = applied(of.model, motion, schedule="linear")
    given = linear.get_model_object("model_sampling").sigmas
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-6)
    kept = applied(of.model, motion).get_model_object("model_sampling")
    assert kept is of.model.model.model_sampling
    assert real.difference(sampled(of, linear), sampled(of, applied(of.model, motion))) > 1e-3
    assert type(linear.get_model_object("model_sampling")) is type(kept)


def test_a_sampling_of_another_kind_keeps_its_levels_or_is_refused():
    of, motion = stand_in()
    advanced = importlib.import_module("comfy_extras.nodes_model_advanced").ModelSamplingDiscrete()
    lcm = advanced.patch(of.model, "lcm", False)[0]
    assert torch.isfinite(sampled(of, applied(lcm, motion))).all()
    with pytest.raises(ValueError, match=r"1000 noise levels.*Set beta_schedule to model"):
        applied(lcm, motion, schedule="linear")
    v = advanced.patch(of.model, "v_prediction", True)[0]
    sampling = applied(v, motion, schedule="linear").get_model_object("model_sampling")
    assert type(sampling) is type(v.get_model_object("model_sampling"))
    assert sampling.zsnr


def test_models_and_files_that_do_not_fit_are_refused():
    of, motion = stand_in()
    with pytest.raises(ValueError, match="has motion modules already"):
        applied(applied(of.model, motion), motion)
    with pytest.raises(ValueError, match=r"another UNet: .* Use a model of the SD1\.5 family"):
        applied(real.family("sdxl").model, motion)
    with pytest.raises(ValueError, match=r"need a UNet of the SD1\.5 family, got a Flux"):
        applied(real.family("flux").model, motion)
    small = loaded(sparse.motion_unet(middle=False))
    with pytest.raises(ValueError, match=r"down_blocks 0\.0 has 32 channels, and the model's input block 1"):
        applied(of.model, small)


def test_files_of_other_versions_are_refused():
    real.host()
    from tiller.adapters.identify import Identified
    from tiller.adapters.motion.apply import load

    known = Identified("other", "AnimateDiff motion module", "SD1.5")
    net = sparse.motion_unet(middle=False, motion_max_seq_length=24)
    weights = {key: tensor for key, tensor in sparse.published(net, 24).items() if ".motion_modules." in key}
    with pytest.raises(ValueError, match=r"look like v1: 24 positions.*Get mm_sd_v15_v2 or v3_sd15_mm"):
        load(weights, known)
    half = {key: tensor for key, tensor in weights.items() if key.startswith("down_blocks")}
    with pytest.raises(ValueError, match=r"for down_blocks alone\. A SparseCtrl net goes into Load Control"):
        load(half, known)
    whole = sparse.published(sparse.motion_unet())
    whole = {f"module.{key}": tensor for key, tensor in whole.items() if ".motion_modules." in key}
    load(whole, known)
    with pytest.raises(ValueError, match=r"0 of their weights .* and 1 are not known \(up_blocks\.9\.new\)"):
        load({**whole, "module.up_blocks.9.new": torch.ones(1)}, known)
    whole.pop("module.mid_block.motion_modules.0.temporal_transformer.proj_in.bias")
    whole["module.mid_block.new"] = torch.ones(1)
    with pytest.raises(
        ValueError, match=r"1 of their weights .*proj_in\.bias.* 1 are not known \(mid_block\.new"
    ):
        load(whole, known)


def test_modules_run_in_the_number_type_of_the_model():
    """The host casts the weights for each call; the table of positions goes along."""
    _, motion = stand_in()
    place, module = next(iter(motion.network))
    assert place == ("down_blocks", 0, 0)
    x = torch.randn(6, 320, 4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, half = module(x, 3), module(x.bfloat16(), 3)
    assert half.dtype == torch.bfloat16
    assert real.difference(half.float(), whole) <= 0.05 * float(whole.abs().max())
    assert {weight.dtype for weight in motion.network.parameters()} == {torch.float32}
