"""ControlNet-LLLite pushes the inputs of the attention's projections as its authors' formula says."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import lllite_files as files
from tiller.tests.host.inprocess import Run

FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl"])
RUN = Run(steps=2)
CLOSE = 1e-5


def prepared(name):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())


def pushed(net, image, x, chunks=2, **steering):
    """q, k and v that the first layer of input block 4 gets for the tokens x, outside a sampler."""
    from tiller.adapters.control.call import Call, Steering

    net = net.copy()
    net.set_cond_hint(image.movedim(-1, 1))
    net.pre_run(real.family("sdxl").model.model, lambda percent: 1.0 - percent)
    options = {}
    call = Call(torch.zeros(len(x), 4, 8, 8), torch.ones(len(x)), {}, chunks, options)
    net.patch(call, Steering(**steering))
    (patch,) = options["patches"]["attn1_patch"]
    given = {"block": ("input", 4), "block_index": 0, "activations_shape": [len(x), 320, 4, 4]}
    return torch.stack(patch(x, x, x, given))


def tokens(rows=2):
    return torch.randn(rows, 16, 320, generator=torch.Generator().manual_seed(3))


@FAMILIES
@pytest.mark.parametrize(("strength", "size"), [(1.0, (8, 8)), (0.6, (8, 8)), (1.0, (9, 14))])
def test_it_is_the_formula_before_each_projection(name, strength, size):
    of, positive, negative, _ = prepared(name)
    image, run = real.picture(8 * size[0], 8 * size[1]), Run(size=size, steps=2)
    weights = files.file(name)
    ours = real.tiller_apply(positive, negative, files.net(name, weights), image, strength=strength)
    plain = real.sample(of, positive, negative, run)
    with files.hooked(of, weights, image.movedim(-1, 1), strength):
        by_hand = real.sample(of, positive, negative, run)
    ours = real.sample(of, *ours, run)
    assert relative(plain, by_hand) > 0.01
    assert relative(ours, by_hand) < CLOSE


@FAMILIES
def test_the_hosts_own_node_gives_the_same(name):
    of, positive, negative, image = prepared(name)
    net = files.net(name)
    core = real.sample(of, *real.core_apply(positive, negative, net, image, 0.5, 0.0, 1.0), RUN)
    ours = real.sample(of, *real.tiller_apply(positive, negative, net, image, strength=0.5), RUN)
    assert real.difference(core, ours) == 0.0
    assert real.difference(ours, real.sample(of, positive, negative, RUN)) > 0.01


def test_a_batch_of_two_hints_is_two_of_one():
    net, images, x = files.net("sdxl"), real.picture(64, 64, batch=2), tokens()
    together = pushed(net, images, x.repeat(2, 1, 1))
    for index in range(2):
        alone = pushed(net, images[index : index + 1], x[[index, index]])
        assert relative(together[:, [index, index + 2]], alone) < CLOSE


def test_rows_that_are_not_steered_stay_to_the_bit():
    net, images, x = files.net("sdxl"), real.picture(64, 64, batch=2), tokens(4)
    whole = pushed(net, images, x)
    some = pushed(net, images, x, rows=torch.tensor([False, True, True, False]))
    assert torch.equal(some[:, [0, 3]], x[[0, 3]].expand(3, -1, -1, -1))
    assert relative(some[:, [1, 2]], whole[:, [1, 2]]) < CLOSE
    assert float((whole - x).abs().max()) > 0.01
    assert torch.equal(pushed(net, images, x, rows=torch.zeros(4, dtype=torch.bool)), x.expand(3, -1, -1, -1))
    assert torch.equal(pushed(net, images, x, rows=torch.ones(4, dtype=torch.bool)), whole)


def test_a_mask_confines_the_push_to_its_tokens():
    net, image, x = files.net("sdxl"), real.picture(64, 64), tokens()
    whole = pushed(net, image, x)
    assert torch.equal(pushed(net, image, x, mask=torch.ones(1, 1, 50, 70)), whole)
    assert torch.equal(pushed(net, image, x, mask=torch.zeros(1, 1, 64, 64)), x.expand(3, -1, -1, -1))
    mask = torch.zeros(2, 1, 64, 64)
    mask[1, :, :32] = 1.0
    half = pushed(net, image, x, mask=mask)
    assert torch.equal(half[:, 0], x[[0]].expand(3, -1, -1))
    assert torch.equal(half[:, 1, 8:], x[1, 8:].expand(3, -1, -1))
    assert torch.equal(half[:, 1, :8], whole[:, 1, :8])
    both = pushed(net, image, x, mask=mask, rows=torch.tensor([False, True]))
    assert relative(both, half) < CLOSE
    grays = torch.full((1, 1, 8, 8), 0.5)
    assert relative(pushed(net, image, x, mask=grays), (whole + x) / 2) < CLOSE


def test_layers_are_the_input_blocks_and_the_middle():
    net, image, x = files.net("sdxl"), real.picture(64, 64), tokens()
    whole = pushed(net, image, x)
    assert torch.equal(pushed(net, image, x, layers=lambda count: [1.0] * count), whole)
    none = pushed(net, image, x, layers=lambda count: [float(place != 4) for place in range(count)])
    assert torch.equal(none, x.expand(3, -1, -1, -1))
    half = pushed(net, image, x, layers=lambda count: [0.5] * count, strength=0.5)
    assert torch.equal(half, pushed(net, image, x, strength=0.25))
    from tiller.adapters.control.call import Steering

    counted = net.copy()
    counted.pre_run(real.family("sdxl").model.model, lambda percent: 1.0 - percent)
    factors = counted.factors(Steering(2.0, layers=lambda count: list(range(count))))
    assert factors["input", 8] == factors["output", 0] == 16
    assert factors["input", 0] == factors["output", 8] == 0
    assert factors["middle", 0] == 18


@FAMILIES
def test_two_of_them_and_a_control_net_chain(name):
    of, positive, negative, image = prepared(name)
    other, weights, more = real.picture(64, 64, seed=8), files.file(name), files.file(name, seed=2)
    chain = real.core_apply(positive, negative, of.control, image)
    first = files.hooked(of, weights, image.movedim(-1, 1), 1.0)
    with first, files.hooked(of, more, other.movedim(-1, 1), 0.5):
        by_hand = real.sample(of, *chain, RUN)
    ours = real.tiller_apply(positive, negative, files.net(name, weights), image)
    ours = real.tiller_apply(*ours, files.net(name, more), other, strength=0.5)
    ours = real.sample(of, *real.core_apply(*ours, of.control, image), RUN)
    assert relative(ours, by_hand) < CLOSE
    assert relative(by_hand, real.sample(of, *chain, RUN)) > 0.01


def test_it_stands_before_other_patches_of_the_attention():
    """One that merges tokens, or adds to the keys, would otherwise hide the grid from it."""
    of, positive, negative, image = prepared("sdxl")
    model = of.model.clone()
    model.set_model_attn1_patch(lambda q, k, v, options: (q, torch.cat([k, k], 1), torch.cat([v, v], 1)))
    doubled = of._replace(model=model)
    ours = real.tiller_apply(positive, negative, files.net("sdxl"), image)
    plain, merged = real.sample(of, *ours, RUN), real.sample(doubled, *ours, RUN)
    assert relative(merged, plain) < CLOSE


def test_half_precision_weights_run_in_the_models_precision():
    of, positive, negative, image = prepared("sdxl")
    half = files.file("sdxl", dtype=torch.float16)
    ours = real.sample(of, *real.tiller_apply(positive, negative, files.net("sdxl", half), image), RUN)
    full = {key: tensor.float() for key, tensor in half.items()}
    other = real.sample(of, *real.tiller_apply(positive, negative, files.net("sdxl", full), image), RUN)
    assert real.difference(ours, other) == 0.0
    net = files.net("sdxl", half)
    assert {tensor.dtype for tensor in net.network.state_dict().values()} == {torch.float16}


def test_tokens_in_half_precision_stay_so():
    net, image = files.net("sdxl"), real.picture(64, 64)
    whole = pushed(net, image, tokens())
    steering = {"mask": torch.ones(1, 1, 8, 8), "rows": torch.tensor([True, False])}
    half = pushed(net, image, tokens().bfloat16(), **steering)
    assert half.dtype == torch.bfloat16
    assert relative(half[:, 0].float(), whole[:, 0]) < 0.02


def test_the_hint_is_read_once_per_run_and_size_and_nothing_stays(monkeypatch):
    of, positive, negative, image = prepared("sdxl")
    from tiller.adapters.control.lllite.network import LLLiteModule

    calls, condition = [], LLLiteModule.condition
    monkeypatch.setattr(LLLiteModule, "condition", lambda *given: calls.append(1) or condition(*given))
    net = files.net("sdxl")
    before = {key: tensor.clone() for key, tensor in net.network.state_dict().items()}
    plain = real.sample(of, positive, negative, RUN)
    ours = real.tiller_apply(positive, negative, net, image)
    first = real.sample(of, *ours, Run(steps=3))
    assert len(calls) == len(net.network.named) == 4 * 6
    inner = ours[0][0][1]["control"].inner
    assert inner.network is net.network
    assert inner._conditions == {}
    assert inner.cond_hint is None
    assert net._conditions == {}
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0
    assert real.difference(real.sample(of, *ours, Run(steps=3)), first) == 0.0
    assert all(torch.equal(before[key], tensor) for key, tensor in net.network.state_dict().items())
    assert of.model.model_options["transformer_options"] == {}


def test_a_hint_fitted_to_another_size_is_read_again():
    """Parts of a picture may have latents of different sizes with the same grid of tokens."""
    from tiller.adapters.control.call import Call

    net, image, x = files.net("sdxl"), real.picture(64, 64), tokens()
    name = "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    seen = []
    for sizes in (((8, 8), (7, 7)), ((7, 7),)):
        control = net.copy()
        control.set_cond_hint(image.movedim(-1, 1))
        for size in sizes:
            hint = control.pixels(Call(torch.zeros(2, 4, *size), torch.ones(2), {}, 2, {}))
            seen.append(control.condition(name, hint, x, (4, 4)))
    whole, after, fresh = seen
    assert torch.equal(after, fresh)
    assert not torch.equal(whole, fresh)


def test_strength_zero_and_a_window_without_a_step_are_no_control():
    of, positive, negative, image = prepared("sdxl")
    net, run = files.net("sdxl"), Run(steps=2, scheduler="karras")
    plain = real.sample(of, positive, negative, run)
    core = real.core_apply(positive, negative, net, image, 1.0, 0.5, 0.6)
    assert real.difference(real.sample(of, *core, run), plain) == 0.0
    ours = real.tiller_apply(positive, negative, net, image, start_percent=0.9, window="steps")
    assert real.difference(real.sample(of, *ours, run), plain) == 0.0
    ours = real.tiller_apply(positive, negative, net, image, strength=0.0)
    assert ours[0] is positive


def test_load_control_knows_it(tmp_path):
    of, positive, negative, image = prepared("sdxl")
    from safetensors.torch import save_file
    from tiller.adapters.control.load._host import load_control

    weights = files.file("sdxl")
    save_file(weights, tmp_path / "net.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "net.ckpt")
    ours = real.sample(of, *real.tiller_apply(positive, negative, files.net("sdxl", weights), image), RUN)
    for name in ("net.safetensors", "net.ckpt"):
        loaded = load_control(tmp_path / name)
        assert real.difference(
            real.sample(of, *real.tiller_apply(positive, negative, loaded, image), RUN), ours
        ) == 0.0  # fmt: skip


def test_a_file_for_another_model_is_refused():
    of, positive, negative, image = prepared("sd15")
    with pytest.raises(ValueError, match="is for SDXL, but the model is SD1"):
        real.sample(of, *real.core_apply(positive, negative, files.net("sdxl"), image), RUN)
    weights = files.file("sdxl", blocks={"input_blocks_4_1": (5, 2)})
    of = real.family("sdxl")
    message = (
        "16 of 20 fit no place of this model, such as lllite_unet_input_blocks_4_1_transformer_blocks_1_a"
    )
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    with pytest.raises(ValueError, match=message):
        real.sample(of, *real.core_apply(positive, negative, files.net("sdxl", weights), image), RUN)


def test_places_of_another_width_are_refused():
    of, positive, negative, image = prepared("sdxl")
    own = files.module_tensors((4, 4), 640, torch.Generator().manual_seed(1))
    name = "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    net = files.net("sdxl", {f"{name}.{key}": tensor for key, tensor in own.items()})
    with pytest.raises(ValueError, match=f"1 of 1 fit no place of this model, such as {name}"):
        real.sample(of, *real.core_apply(positive, negative, net, image), RUN)


def test_tokens_that_left_their_grid_are_refused():
    net, image = files.net("sdxl"), real.picture(64, 64)
    with pytest.raises(ValueError, match="the model's 4 x 4 grid in 2 rows, got 8 tokens in 2 rows"):
        pushed(net, image, tokens()[:, :8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lllite_unet_input_blocks_4_1_proj_in.down.0.weight": (16, 320)},
            "got lllite_unet_input_blocks_4_1_pr",
        ),
        (
            {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.up.0.bias": (320,)},
            "attn2_to_k. Tiller",
        ),
        (
            {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.extra": (3,)},
            "0_attn1_to_q have them not",
        ),
        (
            {"lllite_unet_input_blocks_8_1_transformer_blocks_0_attn1_to_q.up.0.bias": None},
            "0_attn1_to_q have them",
        ),
        (
            {"lllite_unet_input_blocks_8_1_transformer_blocks_1_attn1_to_q.mid.0.weight": (16, 20)},
            "1_attn1_to_q have",
        ),
    ],
)
def test_a_file_that_would_act_only_in_part_is_refused(change, message):
    real.host()
    from tiller.adapters.identify import UnknownWeightsError

    weights = files.file("sdxl")
    for key, shape in change.items():
        weights.pop(key, None)
        if shape is not None:
            weights[key] = torch.zeros(shape)
    with pytest.raises(UnknownWeightsError, match=message):
        files.net("sdxl", weights)


def test_a_file_without_modules_is_refused():
    real.host()
    from tiller.adapters.identify import UnknownWeightsError

    with pytest.raises(UnknownWeightsError, match="got none"):
        files.net("sdxl", {})
