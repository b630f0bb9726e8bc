"""Reference control leaves nothing behind, costs what it says, and refuses what it cannot do."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.small_unets import SmallVAE, small
from tiller.tests.host.test_reference import KINDS, RUN, prepared, referenced, relative


class Counted:
    """Rows of every run of the UNet while it is open."""

    def __init__(self, of):
        self.unet, self.rows = of.model.model.diffusion_model, []

    def __enter__(self):
        self.handle = self.unet.time_embed.register_forward_pre_hook(
            lambda _, given: self.rows.append(given[0].shape[0])
        )
        return self.rows

    def __exit__(self, *_):
        self.handle.remove()


def test_strength_0_gives_the_conditioning_back():
    _, positive, negative, image = prepared()
    ours = referenced(positive, negative, image, strength=0.0)
    assert ours[0] is positive
    assert ours[1] is negative


def test_outside_the_window_nothing_runs_and_nothing_changes():
    of, positive, negative, image = prepared()
    run = RUN._replace(steps=4)
    plain = real.sample(of, positive, negative, run)
    for window, share in (("steps", 0.5), ("noise", 0.4)):
        vae = SmallVAE()
        ours = referenced(positive, negative, image, vae=vae, start_percent=share, window=window)
        with Counted(of) as rows:
            steered = real.sample(of, *ours, run)
        assert rows[:2] == [2, 2]
        assert 4 < len(rows) < 8
        assert relative(steered, plain) > 1e-4
    vae = SmallVAE()
    ours = referenced(positive, negative, image, vae=vae, start_percent=0.9, end_percent=0.9, window="steps")
    with Counted(of) as rows:
        assert real.difference(real.sample(of, *ours, run), plain) == 0.0
    assert rows == [2] * 4
    assert vae.encoded == []


def test_each_step_costs_one_pass_more_over_the_rows_that_see_the_picture():
    of, positive, negative, image = prepared()
    for settings, extra in (({}, 2), ({"mode": "control"}, 1), ({"style_fidelity": 1.0}, 1)):
        vae = SmallVAE()
        with Counted(of) as rows:
            real.sample(of, *referenced(positive, negative, image, vae=vae, **settings), RUN)
        assert rows == [extra, 2] * 2
        assert vae.encoded == [(1, 128, 128, 3)]


@pytest.mark.parametrize("kind", KINDS)
def test_under_control_mode_the_negative_side_is_what_it_is_without(kind):
    of, positive, negative, image = prepared()
    run = RUN._replace(cfg=0.0)
    plain = real.sample(of, positive, negative, run)
    ours = real.sample(of, *referenced(positive, negative, image, kind=kind, mode="control"), run)
    assert real.difference(ours, plain) == 0.0
    ours = real.sample(of, *referenced(positive, negative, image, kind=kind, mode="prompt"), run)
    assert relative(ours, plain) > 1e-3


def test_the_same_graph_gives_the_same_bits_and_the_model_stays_as_it_was():
    of, positive, negative, image = prepared()
    weights = {key: value.clone() for key, value in of.model.model.state_dict().items()}
    plain = real.sample(of, positive, negative, RUN)
    ours = referenced(positive, negative, image, kind="reference_adain+attn")
    first = real.sample(of, *ours, RUN)
    torch.randn(3)
    other = real.sample(of, *referenced(positive, negative, image, seed=1), RUN)
    assert relative(other, first) > 1e-3
    assert real.difference(real.sample(of, *ours, RUN), first) == 0.0
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0
    assert of.model.model_options["transformer_options"] == {}
    after = of.model.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights.items())


def test_both_sides_share_one_object_that_a_run_empties_when_it_ends():
    of, positive, negative, image = prepared()
    ours = referenced(positive, negative, image)
    control = ours[0][0][1]["control"]
    assert control is ours[1][0][1]["control"]
    real.sample(of, *ours, RUN)
    assert control.inner._latents == {}
    assert control.inner._model is None


def test_rows_of_a_batch_do_not_meet():
    of, positive, negative, image = prepared()
    two = torch.cat([image, 0.1 * real.picture(128, 128, seed=9)])
    for kind in KINDS:
        together = real.sample(of, *referenced(positive, negative, two, kind=kind), RUN._replace(batch=2))
        alone = real.sample(of, *referenced(positive, negative, image, kind=kind), RUN)
        assert relative(together[:1], alone) < 1e-5
        one_for_all = real.sample(
            of, *referenced(positive, negative, image, kind=kind), RUN._replace(batch=2)
        )
        assert relative(one_for_all[:1], alone) < 1e-5
        assert relative(together[1:], one_for_all[1:]) > 1e-3


def test_a_cancelled_run_leaves_nothing_behind():
    of, positive, negative, image = prepared()
    ours = referenced(positive, negative, image)
    whole = real.sample(of, *ours, RUN)
    import comfy.model_management

    layer = of.model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1.to_q
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 3:
            raise comfy.model_management.InterruptProcessingException()

    handle = layer.register_forward_pre_hook(stop)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            real.sample(of, *ours, RUN)
    finally:
        handle.remove()
    assert real.difference(real.sample(of, *ours, RUN), whole) == 0.0


def counting_net(seen):
    """A net that changes nothing, and notes each self-attention and each run of the model it acts in."""
    from tiller.adapters.control.patches.apply import ModelPatchNet
    from tiller.adapters.control.patching import add_patch, add_wrapper
    from tiller.adapters.identify import Identified

    class CountingNet(ModelPatchNet):
        def patch(self, call, steering):
            def count(executor, *args, **kwargs):
                seen.append("model")
                return executor(*args, **kwargs)

            add_wrapper(call.options, count)
            add_patch(call.options, "attn1_output_patch", lambda n, options: seen.append("block") or n)

    return CountingNet(Identified("control", "a net that counts", "SD1.5"))


def test_other_nets_that_patch_the_model_stay_out_of_the_writing_pass():
    of, positive, negative, image = prepared()
    blocks = sum(type(m).__name__ == "BasicTransformerBlock" for m in of.model.model.modules())
    plain = real.sample(of, *referenced(positive, negative, image), RUN)
    seen = []
    net = counting_net(seen)
    before = referenced(*real.tiller_apply(positive, negative, net, image), image)
    after = real.tiller_apply(*referenced(positive, negative, image), net, image)
    for conditionings in (before, after):
        seen.clear()
        assert real.difference(real.sample(of, *conditionings, RUN), plain) == 0.0
        assert seen.count("block") == 2 * blocks
        assert seen.count("model") == 2


def masked(positive, negative, image, mask, kind):
    """The reference under a MASK (n,H,W)."""
    from tiller.adapters.control.options import ControlOptions

    return referenced(positive, negative, image, kind=kind, options=ControlOptions(mask=mask))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_ones_is_no_mask_and_one_of_zeros_no_reference(kind):
    of, positive, negative, image = prepared()
    whole = real.sample(of, *referenced(positive, negative, image, kind=kind), RUN)
    plain = real.sample(of, positive, negative, RUN)
    ones = real.sample(of, *masked(positive, negative, image, torch.ones(1, 40, 30), kind), RUN)
    zeros = real.sample(of, *masked(positive, negative, image, torch.zeros(1, 40, 30), kind), RUN)
    half = torch.ones(1, 16, 16)
    half[..., 8:] = 0
    partly = real.sample(of, *masked(positive, negative, image, half, kind), RUN)
    assert real.difference(ones, whole) == 0.0
    assert real.difference(zeros, plain) == 0.0
    assert min(relative(partly, whole), relative(partly, plain)) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_steered_stay_as_they_are(kind):
    """Image 1 of a batch has a mask of zeros, and is what it is without a reference."""
    of, positive, negative, image = prepared()
    run = RUN._replace(batch=2)
    mask = torch.stack([torch.ones(16, 16), torch.zeros(16, 16)])
    plain = real.sample(of, positive, negative, run)
    whole = real.sample(of, *referenced(positive, negative, image, kind=kind), run)
    ours = real.sample(of, *masked(positive, negative, image, mask, kind), run)
    assert relative(ours[:1], whole[:1]) < 1e-6
    assert relative(ours[1:], plain[1:]) < 1e-6


def test_a_curve_over_steps_opens_fewer_blocks_as_it_falls():
    from tiller.adapters.control.curve import Constant
    from tiller.adapters.control.options import ControlOptions

    of, positive, negative, image = prepared()
    weak = referenced(positive, negative, image, strength=0.3)
    half = ControlOptions(steps=Constant(0.5))
    curved = referenced(positive, negative, image, strength=0.6, options=half)
    assert real.difference(real.sample(of, *weak, RUN), real.sample(of, *curved, RUN)) == 0.0


def test_factors_over_layers_are_refused():
    from tiller.adapters.control.curve import Soft
    from tiller.adapters.control.options import ControlOptions

    _, positive, negative, image = prepared()
    with pytest.raises(ValueError, match="options without factors over layers, since strength decides"):
        referenced(positive, negative, image, options=ControlOptions(layers=Soft(0.825)))


def test_other_families_are_refused_by_name():
    of = real.family("flux")
    conditionings = real.conditioning(of, 1), real.conditioning(of, 2)
    with pytest.raises(ValueError, match=r"\(Reference\) is for SD1\.5 or SDXL, but the model is Flux"):
        real.sample(of, *referenced(*conditionings, real.picture(64, 64)), Run())


def test_a_vae_of_another_family_is_refused():
    of, positive, negative, image = prepared()

    class Wide(SmallVAE):
        def encode(self, pixels):
            return super().encode(pixels).repeat(1, 4, 1, 1)

    with pytest.raises(ValueError, match=r"latents of shape \(4, 16, 16\) .* got \(16, 16, 16\)"):
        real.sample(of, *referenced(positive, negative, image, vae=Wide()), RUN)


def test_a_model_that_takes_other_channels_is_refused():
    of = small("sd15", in_channels=8)
    with pytest.raises(ValueError, match="takes 4 channels, or 9 for inpainting, got one that takes 8"):
        real.sample(
            of,
            *referenced(real.conditioning(of, 1), real.conditioning(of, 2), real.picture(128, 128)),
            RUN,
        )


def test_a_foreign_replacement_of_self_attention_stays():
    of, positive, negative, image = prepared()
    patcher = of.model.clone()
    patcher.set_model_attn1_replace(lambda q, k, v, options: v, "middle", 0)
    of = of._replace(model=patcher)
    plain = real.sample(of, positive, negative, RUN)
    ours = real.sample(of, *referenced(positive, negative, image), RUN)
    assert relative(ours, plain) > 1e-3


def test_tiled_self_attention_is_refused():
    of, positive, negative, image = prepared()
    patcher = of.model.clone()
    patcher.set_model_attn1_patch(lambda n, context, value, options: (torch.cat([n, n]), context, value))
    with pytest.raises(ValueError, match="cut it into 2 tiles"):
        real.sample(of._replace(model=patcher), *referenced(positive, negative, image), RUN)
