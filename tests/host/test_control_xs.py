"""ControlNet-XS's two streams run as its authors' loop does, inside the host's own model."""

import copy

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import xs_by_hand as by_hand
from tiller.tests.host import xs_files as files
from tiller.tests.host.inprocess import Run

FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl"])
RUN = Run(steps=2)
CLOSE = 1e-5


def prepared(name, size=(8, 8)):
    of = real.family(name)
    image = real.picture(8 * size[0], 8 * size[1])
    return of, real.conditioning(of, 1), real.conditioning(of, 2), image


def net(name, weights=None, **settings):
    real.host()
    from tiller.adapters.control.xs.apply import load
    from tiller.adapters.identify import Identified

    family = {"sd15": "SD1.5", "sdxl": "SDXL"}[name]
    identified = Identified("control", "ControlNet-XS", family)
    return load(files.file(name, **settings) if weights is None else weights, identified)


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())


def unet_of(name):
    return real.family(name).model.model.diffusion_model


def inputs(unet, rows=2, size=(8, 8)):
    """One call's arguments for a UNet: latent, timesteps, text, pooled text."""
    generator = torch.Generator().manual_seed(4)
    text = next(module.to_k.in_features for key, module in unet.named_modules() if key.endswith("attn2"))
    pooled = torch.randn(rows, 2816, generator=generator) if unet.num_classes else None
    x = torch.randn(rows, unet.in_channels, *size, generator=generator)
    return x, torch.full((rows,), 500.0), torch.randn(rows, 7, text, generator=generator), pooled


def called(unet, control=None, image=None, count=2, patches=None, dtype=torch.float32, **steering):
    """What a UNet gives in one call, outside a sampler, with the control in that call's options."""
    from tiller.adapters.control.call import Call, Steering

    arguments = tuple(value if value is None else value.to(dtype) for value in inputs(unet, count))
    options = {}
    if control is not None:
        control = control.copy()
        control.set_cond_hint(image.movedim(-1, 1))
        control.patch(Call(*arguments[:2], {}, 2, options), Steering(**steering))
    for kind, patch in (patches or {}).items():
        options.setdefault("patches", {}).setdefault(kind, []).append(patch)
    with torch.inference_mode():
        return unet(*arguments, control=None, transformer_options=options)


@FAMILIES
@pytest.mark.parametrize(
    ("strength", "learned", "size"), [(1.0, False, (8, 8)), (0.5, True, (8, 8)), (1.0, True, (9, 14))]
)
def test_it_is_the_authors_loop(name, strength, learned, size):
    of, positive, negative, image = prepared(name, size)
    run = Run(size=size, steps=2)
    weights = files.file(name, learned=learned)
    ours = real.tiller_apply(positive, negative, net(name, weights), image, strength=strength)
    ours = real.sample(of, *ours, run)
    reference = real.sample(by_hand.controlled(of, weights, image, strength), positive, negative, run)
    assert relative(reference, real.sample(of, positive, negative, run)) > 0.01
    assert relative(ours, reference) < CLOSE


def sd2(channels=4):
    """A UNet like SD2's, with random weights; with 9 channels one for inpainting."""
    real.host()
    from comfy import ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from devtools.standins import SD15_UNET

    config = {**SD15_UNET, "num_heads": -1, "num_head_channels": 64, "context_dim": 1024}
    config |= {"use_linear_in_transformer": True, "transformer_depth_output": [1, 1, 0, 0]}
    unet = UNetModel(
        image_size=32, in_channels=channels, out_channels=4, model_channels=320, use_spatial_transformer=True,
        legacy=False, dtype=torch.float32, operations=ops.disable_weight_init, **config,
    )  # fmt: skip
    unet.load_state_dict(files.tensors({key: tuple(t.shape) for key, t in unet.state_dict().items()}, seed=9))
    return unet


@pytest.mark.parametrize("channels", [4, 9])
def test_it_is_the_authors_loop_for_sd2_and_reads_the_latent_of_an_inpainting_model(channels):
    unet = sd2(channels)
    from tiller.adapters.control.xs.apply import load
    from tiller.adapters.identify import Identified

    encoder, middle, output = files.STANDINS["sd15"]
    weights = files.tensors(files.shapes("sd21", 32, encoder, middle, output, learned=True))
    control, image = load(weights, Identified("control", "ControlNet-XS", "SD2")), real.picture(64, 64)
    ours = called(unet, control, image, strength=0.7)
    options = {
        "wrappers": {"diffusion_model": {"test": [by_hand.ByHand(weights, image.movedim(-1, 1), 0.7)]}}
    }
    with torch.inference_mode():
        reference = unet(*inputs(unet), control=None, transformer_options=options)
    assert relative(reference, called(unet)) > 0.01
    assert relative(ours, reference) < CLOSE


@FAMILIES
def test_it_reads_what_other_nets_add_and_chains(name):
    of, positive, negative, image = prepared(name)
    weights, other = files.file(name, learned=True), real.picture(64, 64, seed=8)
    chain = real.core_apply(positive, negative, of.control, other, 0.8, 0.0, 1.0)
    reference = real.sample(by_hand.controlled(of, weights, image, 1.0), *chain, RUN)
    after = real.sample(of, *real.tiller_apply(*chain, net(name, weights), image), RUN)
    assert relative(after, reference) < CLOSE
    before = real.tiller_apply(positive, negative, net(name, weights), image)
    before = real.sample(of, *real.core_apply(*before, of.control, other, 0.8, 0.0, 1.0), RUN)
    assert real.difference(before, after) == 0.0
    core = real.core_apply(*chain, net(name, weights), image)
    assert real.difference(real.sample(of, *core, RUN), after) == 0.0
    second = real.tiller_apply(*core, net(name, seed=2), other, strength=0.5)
    assert relative(real.sample(of, *second, RUN), after) > 0.01


@FAMILIES
def test_rows_that_are_not_steered_stay_to_the_bit(name):
    unet, control, images = unet_of(name), net(name, learned=True), real.picture(64, 64, batch=2)
    plain, whole = called(unet, count=4), called(unet, control, images, 4)
    some = called(unet, control, images, 4, rows=torch.tensor([False, True, True, False]))
    assert relative(whole, plain) > 0.01
    assert torch.equal(some[[0, 3]], plain[[0, 3]])
    assert relative(some[[1, 2]], whole[[1, 2]]) < CLOSE
    assert torch.equal(called(unet, control, images, 4, rows=torch.zeros(4, dtype=torch.bool)), plain)
    assert torch.equal(called(unet, control, images, 4, rows=torch.ones(4, dtype=torch.bool)), whole)


def test_what_other_patches_hold_is_not_changed():
    from tiller.adapters.control.call import Call, Steering

    control, options = net("sd15", learned=True).copy(), {}
    control.set_cond_hint(real.picture(64, 64).movedim(-1, 1))
    x, times, text, _ = inputs(unet_of("sd15"))
    rows = torch.tensor([True, False])
    control.patch(Call(x, times, {}, 2, options), Steering(rows=rows))
    given, values = torch.rand(2, 1280), torch.rand(2, 320, 8, 8)
    kept = given.clone(), values.clone()

    def model(*arguments):
        embedded = options["patches"]["emb_patch"][0](given, 320, options)
        changed = options["patches"]["input_block_patch"][0](values, {"block": ("input", 0)})
        return embedded, changed

    embedded, changed = options["wrappers"]["diffusion_model"]["tiller"][0](model, x, times, text)
    assert torch.equal(given, kept[0])
    assert torch.equal(values, kept[1])
    assert torch.equal(embedded[1], given[1])
    assert torch.equal(changed[1], values[1])
    assert not torch.equal(embedded[0], given[0])
    assert not torch.equal(changed[0], values[0])


def test_a_batch_of_two_hints_is_two_of_one():
    unet, control, images = unet_of("sdxl"), net("sdxl"), real.picture(64, 64, batch=2)
    together = called(unet, control, images, 4)
    for index in range(2):
        alone = called(unet, control, images[index : index + 1], 4)
        assert relative(together[[index, index + 2]], alone[[index, index + 2]]) < CLOSE


@FAMILIES
def test_a_mask_of_ones_is_none_and_of_zeros_no_control(name):
    unet, control, image = unet_of(name), net(name, learned=True), real.picture(64, 64)
    plain, whole = called(unet), called(unet, control, image)
    assert torch.equal(called(unet, control, image, mask=torch.ones(1, 1, 50, 70)), whole)
    assert torch.equal(called(unet, control, image, mask=torch.zeros(1, 1, 64, 64)), plain)
    mask = torch.zeros(2, 1, 64, 64)
    mask[1, :, :32] = 1.0
    half = called(unet, control, image, mask=mask)
    assert torch.equal(half[0], plain[0])
    assert relative(half[1], whole[1]) > 0.01


def test_a_mask_confines_what_is_added():
    unet, control, image, seen = unet_of("sd15"), net("sd15"), real.picture(64, 64), []

    def note(values, options):
        if options["block"] == ("input", 0):
            seen.append(values)
        return values

    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32, :] = 1.0
    for steering in ({"strength": 0.0}, {}, {"mask": mask}, {"mask": mask / 2}):
        called(unet, control, image, patches={"input_block_patch": note}, **steering)
    plain, whole, half, quarter = seen
    assert torch.equal(half[:, :, 4:], plain[:, :, 4:])
    assert torch.equal(half[:, :, :4], whole[:, :, :4])
    assert relative(quarter[:, :, :4], (plain + whole)[:, :, :4] / 2) < CLOSE


def test_layers_are_the_input_blocks_the_middle_and_the_decoder_as_their_mirror():
    from tiller.adapters.control.call import Steering

    unet, control, image = unet_of("sd15"), net("sd15", learned=True), real.picture(64, 64)
    plain, whole = called(unet), called(unet, control, image)
    assert torch.equal(called(unet, control, image, layers=lambda count: [1.0] * count), whole)
    assert torch.equal(called(unet, control, image, layers=lambda count: [0.0] * count), plain)
    deep = called(unet, control, image, layers=lambda count: [0.0] * (count - 1) + [1.0])
    assert 0 < relative(deep, plain) != relative(whole, plain)
    factors = control.factors(Steering(2.0, layers=lambda count: list(range(count))))
    assert factors == [0, 2, 4, 6, 8, 6, 4, 2, 0]


def test_half_precision_weights_run_in_the_models_precision():
    unet, image = unet_of("sdxl"), real.picture(64, 64)
    half = files.file("sdxl", learned=True, dtype=torch.float16)
    control = net("sdxl", half)
    assert {tensor.dtype for tensor in control.network.state_dict().values()} == {torch.float16}
    full = net("sdxl", {key: tensor.float() for key, tensor in half.items()})
    assert torch.equal(called(unet, control, image), called(unet, full, image))


def test_a_model_in_half_precision_gets_its_own_type():
    unet, image = copy.deepcopy(unet_of("sdxl")).bfloat16(), real.picture(64, 64)
    control = net("sdxl", learned=True)
    full = called(unet_of("sdxl"), control, image)
    mask = torch.ones(1, 1, 8, 8)
    rows = torch.tensor([True, False])
    for steering in ({}, {"mask": mask, "rows": rows}):
        half = called(unet, control, image, dtype=torch.bfloat16, **steering)
        assert half.dtype == torch.bfloat16
        assert relative(half[:1].float(), full[:1]) < 0.1


def test_the_scales_of_the_file_count():
    unet, image, weights = unet_of("sd15"), real.picture(64, 64), files.file("sd15")
    ours = called(unet, net("sd15", weights | {"scale_list": torch.full((9,), 0.5)}), image)
    assert torch.equal(ours, called(unet, net("sd15", weights), image, strength=0.5))


def test_a_model_that_is_scaled_inside_gets_both_streams_on_its_grid():
    unet, control, image = unet_of("sdxl"), net("sdxl"), real.picture(64, 64)

    def shrink(values, options):
        is_place = options["block"] == ("input", 2)
        return values[..., ::2, ::2] if is_place else values

    plain = called(unet, patches={"input_block_patch_after_skip": shrink, "output_block_patch": grow})
    ours = called(
        unet, control, image, patches={"input_block_patch_after_skip": shrink, "output_block_patch": grow}
    )
    assert relative(ours, plain) > 0.01


def grow(values, skip, options):
    return torch.nn.functional.interpolate(values, skip.shape[-2:]), skip


def test_the_hint_is_read_once_per_run_and_nothing_stays():
    of, positive, negative, image = prepared("sdxl")
    control, calls = net("sdxl", learned=True), []
    control.network.input_hint_block.register_forward_hook(lambda *given: calls.append(1))
    before = {key: tensor.clone() for key, tensor in control.network.state_dict().items()}
    plain = real.sample(of, positive, negative, RUN)
    ours = real.tiller_apply(positive, negative, control, image)
    other = real.tiller_apply(positive, negative, control, real.picture(64, 64, seed=8))
    first = real.sample(of, *ours, RUN)
    assert len(calls) == 1
    inner = ours[0][0][1]["control"].inner
    assert inner.network is control.network
    assert (inner._guidance, inner.cond_hint, control._guidance) == (None, None, None)
    assert real.difference(real.sample(of, *other, RUN), first) > 0.01
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0
    assert real.difference(real.sample(of, *ours, RUN), first) == 0.0
    assert all(torch.equal(before[key], t) for key, t in control.network.state_dict().items())
    assert of.model.model_options["transformer_options"] == {}
    assert inner.get_models() == control.patchers


def test_a_hint_fitted_to_another_size_is_read_again():
    from tiller.adapters.control.call import Call

    control = net("sd15")
    control.set_cond_hint(real.picture(64, 64).movedim(-1, 1))
    for size in ((8, 8), (7, 9), (8, 8)):
        call = Call(torch.zeros(2, 4, *size), torch.ones(2), {}, 2, {})
        read = control.guidance(call)
        assert read.shape[-2:] == size
        assert control.guidance(call) is read


def test_strength_zero_and_a_window_without_a_step_are_no_control():
    of, positive, negative, image = prepared("sd15")
    control, run = net("sd15", learned=True), Run(steps=2, scheduler="karras")
    plain = real.sample(of, positive, negative, run)
    core = real.core_apply(positive, negative, control, image, 1.0, 0.5, 0.6)
    assert real.difference(real.sample(of, *core, run), plain) == 0.0
    assert torch.equal(called(unet_of("sd15"), control, image, strength=0.0), called(unet_of("sd15")))


def test_load_control_knows_it(tmp_path):
    of, positive, negative, image = prepared("sdxl")
    from safetensors.torch import save_file
    from tiller.adapters.control.load._host import load_control

    weights = files.file("sdxl", learned=True)
    save_file(weights, tmp_path / "net.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "net.ckpt")
    ours = real.sample(of, *real.tiller_apply(positive, negative, net("sdxl", weights), image), RUN)
    for name in ("net.safetensors", "net.ckpt"):
        loaded = load_control(tmp_path / name)
        assert real.difference(
            real.sample(of, *real.tiller_apply(positive, negative, loaded, image), RUN), ours
        ) == 0.0  # fmt: skip


def test_a_file_for_another_model_is_refused():
    _, positive, negative, image = prepared("sdxl")
    with pytest.raises(ValueError, match="is for SD1"):
        real.sample(real.family("sdxl"), *real.core_apply(positive, negative, net("sd15"), image), RUN)
    encoder = files.stages((1, 1), ((1, 1), (0,)), (2, 1))
    longer = files.tensors(files.shapes("sd15", 32, encoder, 1, (1,) * 5))
    wider = files.tensors(files.shapes("sd15", 32, *files.STANDINS["sd15"], base=640))
    of, positive, negative, image = prepared("sd15")
    for weights, message in (
        (longer, "needs a model of 5 input and 5 output blocks, got 4 and 4"),
        (wider, "first block is 640 channels wide, got 320"),
    ):
        with pytest.raises(ValueError, match=message):
            real.sample(of, *real.core_apply(positive, negative, net("sd15", weights), image), RUN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"middle_block_in.0.weight": (3,)}, "what does not fit is middle_block_in.0.weight"),
        ({"enc_zero_convs_in.2.0.bias": None}, "what does not fit is enc_zero_convs_in.2.0.bias"),
        ({"enc_zero_convs_in.3.0.bias": None, "enc_zero_convs_in.3.0.weight": None}, "the number of conv"),
        ({"control_model.input_blocks.1.0.in_layers.2.weight": None}, "in_layers.2.weight is missing"),
        (
            {"control_model.time_embed.0.bias": (1280,)},
            "what does not fit is control_model.time_embed.0.bias",
        ),
    ],
)
def test_a_file_of_another_layout_is_refused(change, message):
    real.host()
    from tiller.adapters.identify import UnknownWeightsError

    weights = files.file("sd15")
    for key, shape in change.items():
        weights.pop(key, None)
        if shape is not None:
            weights[key] = torch.zeros(shape)
    with pytest.raises(UnknownWeightsError, match=message):
        net("sd15", weights)


def test_a_text_of_another_width_is_refused():
    real.host()
    from tiller.adapters.identify import UnknownWeightsError

    with pytest.raises(UnknownWeightsError, match="text width of 768, 1024, 2048, got None"):
        net("sd15", {"enc_zero_convs_in.0.0.weight": torch.zeros(3)})
