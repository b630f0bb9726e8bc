"""Tile Color Fix through the host's sampler, against the published formula in the words of noise."""

import pytest
import torch
import torch.nn.functional as F
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

RUN = Run(steps=3)
DEFAULTS = {
    "strength": 1.0,
    "kernel": 3,
    "sharpness": 0.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
}


class FakeVAE:
    """Means of 8 x 8 pixels: no weights, so that a test knows the latent of a picture."""

    def __init__(self, channels=4):
        self.channels = channels
        self.seen = []

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        self.seen.append(tuple(pixels.shape))
        small = F.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small], dim=1)[:, : self.channels] * 4.0 - 2.0


def fixed(of, image, vae=None, **settings):
    node = real.pack_nodes("tile_color_fix").TillerTileColorFix
    model = node.execute(of.model, image, vae or FakeVAE(), **{**DEFAULTS, **settings}).args[0]
    return of._replace(model=model)


@real.kept
def prepared(name):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


def blur(x, k):
    return F.avg_pool2d(F.pad(x, (k, k, k, k), mode="replicate"), (2 * k + 1, 2 * k + 1), stride=(1, 1))


def by_hand(of, image, run=RUN, strength=1.0, kernel=3, share=0.0, vae=None):
    """The model with the reference's step behind each call of the UNet, on rows of noise."""
    latent = (vae or FakeVAE()).encode(image)
    seen = []

    def wrapper(apply_model, arguments):
        x, sigma = arguments["input"], arguments["timestep"]
        out = apply_model(x, sigma, **arguments["c"])
        level = sigma.view(-1, 1, 1, 1)
        eps = (x - out) / level
        rows = len(arguments["cond_or_uncond"])
        origin = of.model.model.process_latent_in(latent).repeat(x.shape[0] // len(latent), 1, 1, 1)
        x0_predicted = x - level * eps
        x0 = x0_predicted - blur(x0_predicted, kernel) + blur(origin, kernel)
        if share:
            mark = torch.tensor([1.0 - n for n in arguments["cond_or_uncond"]])
            mark = mark.repeat_interleave(x.shape[0] // rows).view(-1, 1, 1, 1)
            x0 = mark * x0 + (1 - mark) * (share * blur(x0, kernel) + (1 - share) * x0)
        mixed = (x - x0) / level * strength + eps * (1 - strength)
        seen.append(rows)
        return x - level * mixed

    model = of.model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return of._replace(model=model), seen


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
@pytest.mark.parametrize(("strength", "sharpness"), [(1.0, 0.0), (0.6, 30.0)])
def test_it_is_the_published_formula(name, strength, sharpness):
    of, positive, negative, image = prepared(name)
    vae = FakeVAE(of.latent_channels)
    if name == "flux":
        vae.encode = lambda pixels: FakeVAE().encode(pixels).repeat(1, 4, 1, 1)
    ours = real.sample(fixed(of, image, vae, strength=strength, sharpness=sharpness), positive, negative, RUN)
    hand, seen = by_hand(of, image, strength=strength, share=sharpness / 100, vae=vae)
    expected = real.sample(hand, positive, negative, RUN)
    assert seen[0] >= 1
    assert relative(ours, expected) < 1e-5
    assert real.difference(ours, real.sample(of, positive, negative, RUN)) > 0.05
    if sharpness:
        without = real.sample(fixed(of, image, vae, strength=strength), positive, negative, RUN)
        assert real.difference(ours, without) > 1e-3


def test_strength_zero_is_the_model_itself_and_no_step_in_the_window_changes_nothing():
    of, positive, negative, image = prepared("sd15")
    assert fixed(of, image, strength=0.0).model is of.model
    plain = real.sample(of, positive, negative, RUN)
    outside = fixed(of, image, start_percent=0.999, end_percent=0.9995)
    assert torch.equal(real.sample(outside, positive, negative, RUN), plain)
    partly = real.sample(fixed(of, image, end_percent=0.4), positive, negative, RUN)
    whole = real.sample(fixed(of, image), positive, negative, RUN)
    assert real.difference(partly, plain) > 1e-3
    assert real.difference(partly, whole) > 1e-3


def test_the_source_model_is_untouched_and_the_same_graph_gives_the_same_twice():
    of, positive, negative, image = prepared("sd15")
    plain = real.sample(of, positive, negative, RUN)
    state = torch.random.get_rng_state()
    model = fixed(of, image)
    first = real.sample(model, positive, negative, RUN)
    assert torch.equal(real.sample(of, positive, negative, RUN), plain)
    assert torch.equal(real.sample(fixed(of, image), positive, negative, RUN), first)
    assert torch.equal(real.sample(model, positive, negative, RUN), first)
    assert not any(of.model.wrappers.get(kind, {}).get("tiller_color_fix") for kind in of.model.wrappers)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_picture_is_encoded_once_for_each_size_and_fitted_to_it():
    of, positive, negative, _ = prepared("sd15")
    vae = FakeVAE()
    model = fixed(of, real.picture(100, 80), vae)
    for size in ((8, 8), (8, 8), (9, 14)):
        real.sample(model, positive, negative, Run(size=size, steps=2))
    assert vae.seen == [(1, 64, 64, 3), (1, 72, 112, 3)]


def test_a_batch_of_pictures_is_its_pictures_one_by_one():
    of, *_ = prepared("sd15")
    images, noise = real.picture(64, 64, batch=2), torch.randn(2, 4, 8, 8)
    node = real.pack_nodes("tile_color_fix").TillerTileColorFix

    def calls(image, x):
        """What one step of the sampler gets from the host, with the whole run's wrapper around it."""
        from tiller.adapters.control.color_fix.apply import ColorFix, ColorFixSettings

        fix = ColorFix(image, FakeVAE(), ColorFixSettings(radius=3))
        fix.before_sampling(lambda *_: None, x, x)
        sigma = torch.full((len(x),), 2.0)
        return fix.predictions(lambda *_: [x * 0.5, x * 0.3], of.model.model, [[{}], [{}]], x, sigma)

    both = calls(images, noise)
    for i in range(2):
        one = calls(images[i : i + 1], noise[i : i + 1])
        assert all(torch.equal(b[i : i + 1], o) for b, o in zip(both, one, strict=True))
    shared = calls(images[:1], noise)
    assert torch.equal(shared[0][:1], both[0][:1])
    assert node.execute(of.model, images, FakeVAE(), **DEFAULTS).args[0] is not of.model


def test_at_cfg_1_the_negative_that_is_not_there_stays_away():
    of, positive, negative, image = prepared("sd15")
    run = Run(steps=2, cfg=1.0)
    ours = real.sample(fixed(of, image, sharpness=50.0), positive, negative, run)
    hand, _ = by_hand(of, image)
    assert relative(ours, real.sample(hand, positive, negative, run)) < 1e-5


def test_it_chains_with_a_control_net_and_with_itself():
    of, positive, negative, image = prepared("sd15")
    control = real.core_apply(positive, negative, of.control, image)
    hand, _ = by_hand(of, image)
    ours = real.sample(fixed(of, image), *control, RUN)
    assert relative(ours, real.sample(hand, *control, RUN)) < 1e-5
    assert real.difference(ours, real.sample(fixed(of, image), positive, negative, RUN)) > 1e-3
    twice = fixed(fixed(of, real.picture(64, 64, seed=9)), image)
    assert real.difference(real.sample(twice, positive, negative, RUN), ours) > 1e-3


def test_it_holds_for_models_that_predict_velocity():
    sampling = __import__("importlib").import_module("comfy_extras.nodes_model_advanced")
    of, positive, negative, image = prepared("sd15")
    patched = sampling.ModelSamplingDiscrete().patch(of.model, "v_prediction", False)[0]
    velocity = of._replace(model=patched)
    hand, _ = by_hand(velocity, image)
    ours = real.sample(fixed(velocity, image), positive, negative, RUN)
    assert relative(ours, real.sample(hand, positive, negative, RUN)) < 1e-5


def test_gray_and_transparent_pictures():
    of, positive, negative, _ = prepared("sd15")
    gray = torch.rand(1, 64, 64, 1, generator=torch.Generator().manual_seed(1))
    run = Run(steps=1)
    three = real.sample(fixed(of, gray.repeat(1, 1, 1, 3)), positive, negative, run)
    assert torch.equal(real.sample(fixed(of, gray), positive, negative, run), three)
    clear = torch.cat([real.picture(64, 64), torch.zeros(1, 64, 64, 1)], dim=-1)
    white = real.sample(fixed(of, torch.ones(1, 64, 64, 3)), positive, negative, run)
    assert torch.equal(real.sample(fixed(of, clear), positive, negative, run), white)


def test_what_cannot_be_done_is_said():
    of, positive, negative, image = prepared("sd15")
    with pytest.raises(ValueError, match=r"^Tile Color Fix needs an image of shape"):
        fixed(of, image[0])
    for settings, said in (
        ({"strength": 2.0}, r"strength from 0 to 1, got 2\.0"),
        ({"kernel": 0}, r"kernel from 1 to 64, got 0"),
        ({"sharpness": -1.0}, r"sharpness of 0 or more, got -1\.0"),
        ({"start_percent": 0.8, "end_percent": 0.2}, r"ends after it starts, got start_percent 0\.8"),
    ):
        with pytest.raises(ValueError, match=said):
            fixed(of, image, **settings)
    with pytest.raises(ValueError, match=r"VAE of the model's family, which makes latents of 4 channels"):
        real.sample(fixed(of, image, FakeVAE(channels=3)), positive, negative, Run(steps=1))
    from tiller.adapters.control.color_fix.apply import ColorFix, ColorFixSettings

    fix = ColorFix(image, FakeVAE(), ColorFixSettings())
    with pytest.raises(ValueError, match=r"latents of pictures .* got 5 dimensions\. Models of videos"):
        fix.before_sampling(lambda *_: None, torch.zeros(1, 16, 3, 8, 8), None)
    x = torch.zeros(1, 4, 6, 5)
    with pytest.raises(ValueError, match=r"the whole latent, got one of 5 x 6 .* such as a tile"):
        fix.predictions(lambda *_: [x, x], of.model.model, [[{}], [{}]], x, torch.ones(1))
