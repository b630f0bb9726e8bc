"""SparseCtrl equals diffusers' net, frame by frame, and keeps its places in a longer clip."""

import json
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
    from tiller.adapters.control.sparsectrl.apply import load
    from tiller.adapters.identify import Identified

    weights = {f"module.{key}": tensor for key, tensor in sparse.published(net).items()}
    return load(weights, Identified("control", "SparseCtrl", "SD1.5"))


def one_call(net: torch.nn.Module, latent: bool, frames: int) -> tuple[list[torch.Tensor], Any, Any]:
    """diffusers' residuals for two clips with pictures on frames 0 and 4, the marked hints, and the text."""
    height, width = (9, 14) if latent else (8, 12)
    generator = torch.Generator().manual_seed(1)
    pixels = (height, width) if latent else (8 * height, 8 * width)
    hint = torch.zeros(2, 4 if latent else 3, frames, *pixels)
    mask = torch.zeros(2, 1, frames, *pixels)
    hint[:, :, [0, 4]] = torch.rand(hint[:, :, [0, 4]].shape, generator=generator)
    mask[:, :, [0, 4]] = 1.0
    text = torch.randn(2, 7, 48, generator=generator).repeat_interleave(frames, 0)
    sample = torch.randn(2, 4, frames, height, width, generator=generator)
    with torch.no_grad():
        down, middle = net(sample, 431, text, hint, conditioning_mask=mask, return_dict=False)
    return [*down, middle], torch.cat([hint, mask], 1).transpose(1, 2).flatten(0, 1), text


@pytest.mark.parametrize("latent", [True, False], ids=["rgb", "scribble"])
@pytest.mark.parametrize("strength", [1.0, 0.0], ids=["motion", "motion left out"])
def test_residuals_equal_those_of_diffusers(latent, strength):
    net = sparse.sparse_net(latent)
    moved = one_call(net, latent, FRAMES)[0]
    if strength == 0.0:
        sparse.without_motion(net)
    ours = loaded(net).control_model
    from tiller.adapters.motion.network import Effect

    theirs, hints, text = one_call(net, latent, FRAMES)
    with torch.no_grad():
        steps = torch.full((2 * FRAMES,), 431.0)
        given = ours.residuals(ours.encode(hints), steps, text, FRAMES, Effect(strength))
    assert len(given["output"]) == 12
    for one, other in zip([*given["output"], *given["middle"]], theirs, strict=True):
        assert one.shape == other.shape
        assert real.difference(one, other) <= TIGHT * float(other.abs().max())
    if strength == 0.0:
        assert real.difference(theirs[-1], moved[-1]) > 0.1 * float(moved[-1].abs().max())


class PoolVAE:
    """Stands for a VAE: pictures (B,H,W,3) -> latents of 8 x 8 pixel means."""

    def __init__(self) -> None:
        self.encoded: list[int] = []

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.encoded.append(image.shape[0])
        means = torch.nn.functional.avg_pool2d(image.movedim(-1, 1), 8)
        return torch.cat([means, means.mean(1, keepdim=True)], 1)


class Steps:
    """Stands for the model's sampling: every noise level is step 431."""

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(sigma, 431.0)


@pytest.mark.parametrize("latent", [True, False], ids=["rgb", "scribble"])
def test_key_pictures_of_a_clip_come_out_as_in_the_authors_pipeline(latent):
    """animatediff/pipelines/pipeline_animation.py: pictures and a mask of ones on their frames, else 0."""
    from tiller.adapters.control.sparsectrl.frames import SparseSettings

    net = sparse.sparse_net(latent)
    control = loaded(net).with_settings(SparseSettings(key_frames=(-1, 1)))
    vae, pictures = PoolVAE(), real.picture(64, 96, batch=2)
    control.set_cond_hint(pictures.movedim(-1, 1), 1.0, (0.0, 1.0), vae=vae if latent else None)
    control.model_sampling_current = Steps()
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, FRAMES, 8, 12, generator=generator)
    text = torch.randn(2, 7, 48, generator=generator).repeat_interleave(FRAMES, 0)
    rows = sample.transpose(1, 2).flatten(0, 1)
    hints = vae.encode(pictures) * 0.18215 if latent else pictures.movedim(-1, 1)
    hint, mask = torch.zeros(2, FRAMES, *hints.shape[1:]), torch.zeros(2, FRAMES, 1, *hints.shape[2:])
    hint[:, [FRAMES - 1, 1]], mask[:, [FRAMES - 1, 1]] = hints, 1.0
    hint, mask = hint.transpose(1, 2), mask.transpose(1, 2)
    with torch.no_grad():
        theirs = net(sample, 431, text, hint, conditioning_mask=mask, return_dict=False)
        t, cond = torch.full((2 * FRAMES,), 3.0), {"c_crossattn": text}
        given = control.get_control(rows, t, cond, 2, {"cond_or_uncond": [1, 0]})
    assert given["input"] == []
    for one, other in zip([*given["output"], *given["middle"]], [*theirs[0], theirs[1]], strict=True):
        assert real.difference(one, other) <= TIGHT * float(other.abs().max())


def test_frames_with_and_without_a_picture_have_their_own_strength():
    control = loaded(sparse.sparse_net())
    generator = torch.Generator().manual_seed(1)
    rows, text = torch.zeros(2 * FRAMES, 4, 8, 8), torch.randn(2 * FRAMES, 7, 48, generator=generator)

    def residuals(**changes: Any) -> list[torch.Tensor]:
        net = control.with_settings(settings(key_frames=(0, 1), **changes))
        net.set_cond_hint(real.picture(64, 64, batch=2).movedim(-1, 1), vae=PoolVAE())
        net.model_sampling_current = Steps()
        with torch.no_grad():
            given = net.get_control(rows, torch.ones(2 * FRAMES), {"c_crossattn": text}, 2, {})
        return [*given["output"], *given["middle"]]

    factors = torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25, 0.25] * 2).view(-1, 1, 1, 1)
    for plain, given in zip(residuals(), residuals(key_strength=0.5, between_strength=0.25), strict=True):
        assert torch.equal(given, plain * factors)


def test_a_step_on_the_edge_of_the_window_is_in_it_as_the_host_has_it():
    """0.1 in the latent's float32 is a little more than the 0.1 of the window."""
    control = loaded(sparse.sparse_net())
    control.set_cond_hint(real.picture(64, 64).movedim(-1, 1), vae=PoolVAE())
    control.model_sampling_current = Steps()
    arguments = torch.zeros(2, 4, 8, 8), {"c_crossattn": torch.zeros(2, 7, 48)}
    for window, active in (
        ((0.1, 0.0), True),
        ((1.0, 0.1), True),
        ((0.09, 0.0), False),
        ((1.0, 0.11), False),
    ):
        control.timestep_range = window
        with torch.no_grad():
            given = control.get_control(arguments[0], torch.full((2,), 0.1), arguments[1], 1, {})
        assert (given is not None) is active


CLIP = Run(steps=2, batch=4)


def stand_in():
    of = real.family("sd15")
    from tiller.adapters.control.load._host import load_control

    name = "tiller_standin_sparse_sd15"
    net = load_control(standins.ensure_standins(real.MODELS, [name])[name])
    return of, net, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64, batch=2)


def settings(**changes: Any) -> Any:
    from tiller.adapters.control.sparsectrl.frames import SparseSettings

    return SparseSettings(**changes)


def test_it_goes_through_the_hosts_node_and_through_ours_alike():
    of, net, positive, negative, pictures = stand_in()
    assert (net.identified.kind, net.identified.family, net.identified.needs_vae) == (
        "SparseCtrl",
        "SD1.5",
        True,
    )
    before = {key: tensor.clone() for key, tensor in net.control_model.state_dict().items()}
    plain = real.sample(of, positive, negative, CLIP)
    vae = PoolVAE()
    core = real.sample(of, *real.core_apply(positive, negative, net, pictures, 0.8, 0.0, 1.0, vae=vae), CLIP)
    assert vae.encoded == [2], "once a run"
    assert real.difference(core, plain) > 1e-3
    for _ in range(2):
        ours = real.tiller_apply(positive, negative, net, pictures, strength=0.8, vae=PoolVAE())
        assert real.difference(real.sample(of, *ours, CLIP), core) == 0.0
    off = real.core_apply(positive, negative, net, pictures, 0.8, 0.0, 0.0, vae=vae)
    assert real.difference(real.sample(of, *off, CLIP), plain) == 0.0
    after = net.control_model.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert net.cond_hint is None
    assert net.cond_hint_original is None


def test_every_setting_does_what_it_says():
    of, net, positive, negative, pictures = stand_in()

    def sampled(control: Any, **changes: Any) -> torch.Tensor:
        applied = real.tiller_apply(positive, negative, control, pictures, vae=PoolVAE(), **changes)
        return real.sample(of, *applied, CLIP)

    plain, default = real.sample(of, positive, negative, CLIP), sampled(net)
    assert real.difference(sampled(net.with_settings(settings(key_frames=(0, -1)))), default) == 0.0
    assert real.difference(sampled(net), default) == 0.0, "the net keeps its own settings"
    for changes in (
        {"key_frames": (1, 2)},
        {"key_frames": (-1, 0)},
        {"motion_strength": 0.0},
        {"motion_scale": 2.0},
        {"mask_strength": 0.5},
        {"key_strength": 0.5},
        {"between_strength": 0.5},
    ):
        assert real.difference(sampled(net.with_settings(settings(**changes))), default) > 1e-5, changes
    nothing = net.with_settings(settings(key_strength=0.0, between_strength=0.0))
    assert real.difference(sampled(nothing), plain) == 0.0
    halves = net.with_settings(settings(key_strength=0.5, between_strength=0.5))
    assert real.difference(sampled(halves), sampled(net, strength=0.5)) <= 1e-5


def test_it_chains_with_another_net_on_either_side():
    of, net, positive, negative, pictures = stand_in()
    vae = PoolVAE()
    alone = real.sample(of, *real.tiller_apply(positive, negative, net, pictures, vae=vae), CLIP)
    before = real.core_apply(positive, negative, of.control, pictures[:1])
    one = real.sample(of, *real.tiller_apply(*before, net, pictures, vae=vae), CLIP)
    after = real.tiller_apply(positive, negative, net, pictures, vae=vae)
    other = real.sample(of, *real.core_apply(*after, of.control, pictures[:1]), CLIP)
    assert real.difference(one, alone) > 1e-3
    assert real.difference(one, other) <= 1e-5 * float(one.abs().max())


def test_what_cannot_be_is_refused_while_sampling():
    of, net, positive, negative, pictures = stand_in()
    with pytest.raises(ValueError, match="reads the hint through a VAE, but no VAE"):
        real.tiller_apply(positive, negative, net, pictures)
    core = real.core_apply(positive, negative, net, pictures)
    with pytest.raises(ValueError, match="SparseCtrl rgb reads its pictures through a VAE"):
        real.sample(of, *core, CLIP)
    for changes, message in (
        ({"key_frames": (0, 4)}, "key frames from 0 to 3 .* got 4: the clip has 4 frames"),
        ({"key_frames": (0,)}, "got 2 pictures and 1 key frames"),
    ):
        control = net.with_settings(settings(**changes))
        applied = real.tiller_apply(positive, negative, control, pictures, vae=PoolVAE())
        with pytest.raises(ValueError, match=message):
            real.sample(of, *applied, CLIP)
    applied = real.tiller_apply(positive, negative, net, pictures, vae=PoolVAE())
    with pytest.raises(ValueError, match=r"at most 32 frames at once, got 33.*Context Windows"):
        real.sample(of, *applied, Run(steps=1, batch=33, size=(8, 8)))


def test_a_file_that_is_not_whole_or_has_more_is_refused_by_name():
    weights = sparse.published(sparse.sparse_net())
    from tiller.adapters.control.sparsectrl.apply import load
    from tiller.adapters.identify import Identified

    known = Identified("control", "SparseCtrl", "SD1.5")
    for key in (
        "down_blocks.1.resnets.1.conv1.weight",
        "down_blocks.0.motion_modules.1.temporal_transformer.norm.bias",
    ):
        without = {name: tensor for name, tensor in weights.items() if name != key}
        with pytest.raises(ValueError, match=r"1 of its weights are missing .* and 0 are not known"):
            load(without, known)
    with pytest.raises(ValueError, match=r"0 of its weights .* and 1 are not known \(up_blocks\.0\.new\)"):
        load({**weights, "up_blocks.0.new": torch.ones(1)}, known)
    spatial = {name: tensor for name, tensor in weights.items() if ".motion_modules." not in name}
    with pytest.raises(ValueError, match=r"SparseCtrl net .* lacks down_blocks\.0\.motion_modules\.0"):
        load(spatial, known)


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    path = real.ROOT / "tests" / "shapes" / f"{name}.json"
    return {key: tuple(shape) for key, shape in json.loads(path.read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize(
    ("name", "latent", "channels"), [("control_sparse_rgb", True, 5), ("control_sparse_scribble", False, 4)]
)
@pytest.mark.parametrize("prefix", ["", "module.", "controlnet."])
def test_the_listing_of_a_published_file_fits_the_net_key_by_key(name, latent, channels, prefix):
    real.host()
    import comfy.ops
    from tiller.adapters.control.sparsectrl.apply import SparseNet, _renamed
    from tiller.adapters.control.sparsectrl.network import read_layout
    from tiller.adapters.identify import identify
    from tiller.adapters.motion.network import Layers

    shapes = shapes_of(name)
    found = identify({prefix + key: shape for key, shape in shapes.items()})
    assert (found.kind, found.family, found.needs_vae) == ("SparseCtrl", "SD1.5", latent)
    assert found.prefix == prefix
    layout = read_layout(shapes)
    assert layout.latent_hints is latent
    assert layout.config["hint_channels"] == channels
    assert {place.level for place in layout.motion} == {0, 1, 2, 3}
    assert [layout.after(place) for place in layout.motion] == [1, 2, 4, 5, 7, 8, 10, 11]
    net = SparseNet(layout, Layers(comfy.ops.disable_weight_init, dtype=torch.float32, device="meta"))
    given = _renamed({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, layout)
    assert {key: tensor.shape for key, tensor in given.items()} == {
        key: tensor.shape for key, tensor in net.state_dict().items()
    }


def test_modes_and_masks_of_a_unit_hold_for_a_clip():
    of, net, positive, negative, pictures = stand_in()

    def sampled(**changes: Any) -> torch.Tensor:
        applied = real.tiller_apply(positive, negative, net, pictures, vae=PoolVAE(), **changes)
        return real.sample(of, *applied, CLIP)

    plain, default = real.sample(of, positive, negative, CLIP), sampled()
    alone = real.tiller_apply(positive, [], net, pictures, vae=PoolVAE(), mode="unbalanced")[0]
    expected = real.sample(of, alone, negative, CLIP)
    assert real.difference(sampled(mode="unbalanced"), expected) <= 1e-5 * float(expected.abs().max())
    assert real.difference(expected, default) > 1e-3
    options = real.pack_nodes("control_options").TillerControlOptions

    def masked(mask: torch.Tensor) -> torch.Tensor:
        return sampled(options=options.execute(layers="", steps="", union_type="auto", mask=mask).args[0])

    assert real.difference(masked(torch.ones(1, 64, 64)), default) == 0.0
    assert real.difference(masked(torch.zeros(1, 64, 64)), plain) == 0.0
    first = torch.zeros(4, 64, 64)
    first[0] = 1.0
    given = masked(first)
    assert real.difference(given[1:], plain[1:]) == 0.0
    assert real.difference(given[:1], plain[:1]) > 1e-4
