"""InstructPix2Pix in one node: the published formula, and the host's pieces wired by hand."""

import importlib

import pytest
import torch
from tiller.tests.host import inprocess as real

STANDIN = "tiller_standin_ip2p_sd15"


class FakeVAE:
    """Means of 8 x 8 pixels as a latent of four channels."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], dim=1) * 2.0 - 1.0


@real.kept
def model(name="sd15", velocity=False):
    """A random UNet of 8 input channels: the file of the stand-in, or its like for SDXL."""
    real.host()
    standins = importlib.import_module("devtools.standins")
    sd = importlib.import_module("comfy.sd")
    if name == "sd15":
        path = standins.ensure_standins(real.MODELS, [STANDIN])[STANDIN]
        return sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    base, patcher = (
        importlib.import_module("comfy.model_base"),
        importlib.import_module("comfy.model_patcher"),
    )
    layout = standins.STANDINS["tiller_standin_sdxl"].layout()
    layout.shapes["model.diffusion_model.input_blocks.0.0.weight"] = (320, 8, 3, 3)
    loaded = sd.load_state_dict_guess_config(
        standins.random_tensors(layout), output_vae=False, output_clip=False
    )[0].model
    kind = base.ModelType.V_PREDICTION_EDM if velocity else base.ModelType.EPS
    edit = base.SDXL_instructpix2pix(loaded.model_config, model_type=kind)
    edit.diffusion_model = loaded.diffusion_model
    cpu = torch.device("cpu")
    return patcher.ModelPatcher(edit, load_device=cpu, offload_device=cpu)


def conditionings(name="sd15"):
    of = real.family(name)
    return real.conditioning(of, 1), real.conditioning(of, 2)


def instructed(of, positive, negative, pixels, text=7.5, image=1.5):
    node = real.pack_nodes("instruct_pix2pix").TillerInstructPix2Pix
    return node.execute(of, positive, negative, FakeVAE(), pixels, text, image).args


def sampled(guider, latent, steps=3):
    """LATENT that SamplerCustomAdvanced makes of a guider."""
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    noise = custom.Noise_RandomNoise(11)
    sampler = custom.KSamplerSelect.execute("euler").args[0]
    sigmas = custom.BasicScheduler.execute(guider.model_patcher, "normal", steps, 1.0).args[0]
    return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]["samples"]


@pytest.mark.parametrize(("name", "velocity"), [("sd15", False), ("sdxl", False), ("sdxl", True)])
def test_it_is_the_hosts_pieces_wired_by_hand(name, velocity):
    of, (positive, negative) = model(name, velocity), conditionings(name)
    pixels = real.picture(72, 80)
    guider, latent, *_ = instructed(of, positive, negative, pixels)
    pieces = importlib.import_module("comfy_extras.nodes_ip2p").InstructPixToPixConditioning
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    text_and_image, image_only, empty = pieces.execute(positive, negative, pixels, FakeVAE()).args
    hand = custom.DualCFGGuider.execute(of, text_and_image, image_only, negative, 7.5, 1.5, "regular").args[0]
    assert latent["samples"].shape == (1, 4, 9, 10)
    assert not latent["samples"].any()
    expected = sampled(hand, empty)
    assert torch.equal(sampled(guider, latent), expected)
    swapped, *_ = instructed(of, positive, negative, pixels, text=1.5, image=7.5)
    assert real.difference(sampled(swapped, latent), expected) > 1e-3


@pytest.mark.parametrize("velocity", [None, False, True])
def test_three_calls_by_hand_combine_to_its_result(velocity):
    """The published formula on what the model itself gives, with the picture in its eight channels."""
    name = "sd15" if velocity is None else "sdxl"
    of, (positive, negative) = model(name, bool(velocity)), conditionings(name)
    pixels = real.picture(64, 64)
    guider, latent, *_ = instructed(of, positive, negative, pixels)
    seen = []

    def wrapper(apply_model, arguments):
        x, sigma, c = arguments["input"], arguments["timestep"], arguments["c"]
        out = apply_model(x, sigma, **c)
        seen.append((x, sigma, {k: c[k] for k in c if isinstance(c[k], torch.Tensor)}, out))
        return out

    guider.model_patcher = of.clone()
    guider.model_patcher.set_model_unet_function_wrapper(wrapper)
    guider.model_options = guider.model_patcher.model_options
    result = sampled(guider, latent, steps=1)
    picture = FakeVAE().encode(pixels)
    if velocity:
        picture = picture * 0.13025
    inner, rows = of.model, {}
    for x, sigma, c, _ in seen:
        for row in range(len(x)):
            has_text = torch.equal(c["c_crossattn"][row], positive[0][0][0].to(c["c_crossattn"]))
            has_picture = bool(c["c_concat"][row].any())
            if has_picture:
                assert torch.allclose(c["c_concat"][row], picture[0], atol=1e-6)
            one = {k: v[row : row + 1] for k, v in c.items()}
            rows[has_text, has_picture] = inner.apply_model(x[row : row + 1], sigma[row : row + 1], **one)
    assert set(rows) == {(False, False), (False, True), (True, True)}
    nothing, image, both = rows[False, False], rows[False, True], rows[True, True]
    formula = nothing + 1.5 * (image - nothing) + 7.5 * (both - image)
    expected = inner.process_latent_out(formula)
    assert real.difference(result, expected) <= 1e-5 * float(expected.abs().max())
    assert real.difference(expected, inner.process_latent_out(nothing)) > 1e-3


def test_the_negative_that_comes_out_has_no_picture_and_nothing_that_came_in_is_changed():
    of, (positive, negative) = model(), conditionings()
    pixels = real.picture(64, 64)
    before = pixels.clone()
    _, _, text_and_image, middle, empty = instructed(of, positive, negative, pixels)
    assert empty is negative
    assert "concat_latent_image" not in negative[0][1]
    assert "concat_latent_image" not in positive[0][1]
    assert torch.equal(text_and_image[0][0], positive[0][0])
    assert torch.equal(middle[0][0], negative[0][0])
    assert torch.equal(middle[0][1]["concat_latent_image"], FakeVAE().encode(pixels))
    assert torch.equal(pixels, before)


def test_a_batch_of_two_is_two_of_one():
    of, (positive, negative) = model(), conditionings()
    pixels = real.picture(64, 64, batch=2)
    made = instructed(of, positive, negative, pixels)
    assert made[1]["samples"].shape[0] == 2
    assert torch.equal(made[2][0][1]["concat_latent_image"][1:], FakeVAE().encode(pixels[1:]))


def test_gray_and_transparent_pictures():
    of, (positive, negative) = model(), conditionings()
    gray = torch.rand(1, 16, 16, 1, generator=torch.Generator().manual_seed(1))
    made = instructed(of, positive, negative, gray)[2][0][1]["concat_latent_image"]
    assert torch.equal(made, FakeVAE().encode(gray.repeat(1, 1, 1, 3)))
    clear = torch.cat([real.picture(16, 16), torch.zeros(1, 16, 16, 1)], dim=-1)
    made = instructed(of, positive, negative, clear)[2][0][1]["concat_latent_image"]
    assert torch.equal(made, FakeVAE().encode(torch.ones(1, 16, 16, 3)))


def test_what_cannot_be_done_is_said():
    of, (positive, negative) = model(), conditionings()
    ordinary = real.family("sd15").model
    with pytest.raises(
        ValueError, match=r"UNet takes 8 channels, got BaseModel with 4\. Load instruct-pix2pix"
    ):
        instructed(ordinary, positive, negative, real.picture(64, 64))
    with pytest.raises(ValueError, match=r"at least 8 x 8 pixels, got 64 x 7 \(width x height\)"):
        instructed(of, positive, negative, real.picture(7, 64))
    with pytest.raises(ValueError, match=r"^InstructPix2Pix needs an image of shape"):
        instructed(of, positive, negative, torch.zeros(4))
