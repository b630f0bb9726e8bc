"""ControlNeXt's network and its injection are the published ones, at the published shapes."""

import json
from pathlib import Path

import pytest
import torch
from tiller.adapters.control.controlnext.network import VARIANTS, addition, build, cross_normalised
from tiller.tests.unit import control_next_reference as reference

SHAPES = Path(__file__).parent.parent / "shapes"
FILES = {"SD1.5": "control_next_sd15", "SDXL": "control_next_with_stem", "SVD": "control_next_with_stem"}
COUNTS = {"SD1.5": (51, 5_352_327), "SDXL": (52, 3_526_400), "SVD": (52, 3_526_400)}


def listing(family):
    return json.loads((SHAPES / f"{FILES[family]}.json").read_text(encoding="utf-8"))


def weights_of(family, seed=0):
    return reference.random_weights(listing(family), seed)


def features(network, hint, timesteps, family):
    return network.features(network.prepare(hint, VARIANTS[family].padding), timesteps)


def relative(one, other):
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("family", FILES)
def test_the_networks_keys_and_shapes_are_the_published_ones(family):
    weights = weights_of(family)
    state = build(weights).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == listing(family)
    assert (len(state), sum(tensor.numel() for tensor in state.values())) == COUNTS[family]
    assert all(bool((state[key] == weights[key]).all()) for key in state)


@pytest.mark.parametrize("family", FILES)
@pytest.mark.parametrize("size", [(64, 64), (72, 112)])
def test_the_features_are_the_references(family, size):
    weights = weights_of(family)
    hint = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    for timesteps in (torch.tensor([999.0]), torch.tensor([261.5, 3.25])):
        expected = reference.features(weights, hint, timesteps, family)
        assert relative(features(build(weights), hint, timesteps, family), expected) < 2e-6


@pytest.mark.parametrize("family", FILES)
def test_the_injection_is_the_references(family):
    variant = VARIANTS[family]
    generator = torch.Generator().manual_seed(2)
    control = torch.randn(2, 16, 9, 14, generator=generator) * 3 + 1
    for size in ((9, 14), (3, 4), (2, 2)):
        hidden = torch.randn(2, 16, *size, generator=generator) * 1.7 + 0.2
        scale = torch.tensor([1.0, 0.6])
        expected = reference.injected(control, hidden, family, scale)
        factor = (scale * variant.factor)[:, None, None, None]
        assert relative(hidden + addition(control, hidden, variant) * factor, expected) < 2e-6


def test_cross_normalised_features_have_the_hidden_states_mean_and_deviation():
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(3, 4, 5, 6, generator=generator) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1)
    matched = cross_normalised(torch.rand(1, 4, 9, 9, generator=generator), hidden, 1e-12)
    for row, state in zip(matched, hidden, strict=True):
        assert float(row.mean()) == pytest.approx(float(state.mean()), abs=1e-6)
        assert float(row.std()) == pytest.approx(float(state.std()), rel=1e-5)


def test_the_scale_is_the_files_where_it_has_one():
    assert build(weights_of("SD1.5")).own_scale == pytest.approx(0.37)
    assert build(weights_of("SDXL")).own_scale == 1.0


def test_weights_in_half_precision_are_widened():
    half = {key: tensor.half() for key, tensor in weights_of("SDXL").items()}
    assert {tensor.dtype for tensor in build(half).state_dict().values()} == {torch.float32}


def test_a_file_with_missing_unknown_or_unfit_keys_is_refused():
    whole = weights_of("SD1.5")
    without = {key: tensor for key, tensor in whole.items() if key != "down_res.1.norm2.bias"}
    with pytest.raises(
        ValueError, match=r"of 51 tensors was needed, but the file lacks down_res\.1\.norm2\.bias\."
    ):
        build(without)
    with pytest.raises(ValueError, match=r"has the unknown extra\.weight"):
        build({**whole, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"has in another shape down_res\.0\.norm2\.bias"):
        build({**whole, "down_res.0.norm2.bias": torch.zeros(7)})
    with pytest.raises(ValueError, match=r"lacks scale\. Load the controlnet file"):
        build({key: tensor for key, tensor in whole.items() if key != "scale"})


def test_the_first_version_for_video_is_refused_by_name():
    third = {"down_res.2.conv1.weight": torch.zeros(256, 256, 3, 3)}
    with pytest.raises(ValueError, match="first version for Stable Video Diffusion"):
        build({**weights_of("SVD"), **third})


def test_features_of_another_width_than_the_hidden_state_are_refused():
    with pytest.raises(ValueError, match="gives 16 channels, but the model's hidden state has 8"):
        addition(torch.rand(1, 16, 4, 4), torch.rand(1, 8, 4, 4), VARIANTS["SDXL"])
