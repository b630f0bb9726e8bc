"""Which blocks a reference opens, its settings and its noise, without the host."""

import pytest
import torch
from tiller.adapters.control.reference.blend import reference_noise
from tiller.adapters.control.reference.gates import adain_gates, attention_gates
from tiller.adapters.control.reference.settings import ReferenceSettings


def opened(gates, weight):
    return sorted(block for block, gate in gates.items() if weight > gate)


def test_the_widest_transformer_blocks_open_first_and_the_earlier_of_equals():
    assert attention_gates([320, 1280, 640, 1280]) == [0.75, 0.0, 0.5, 0.25]
    sd15 = attention_gates([320] * 2 + [640] * 2 + [1280] * 6 + [640] * 3 + [320] * 3)
    assert [index for index, gate in enumerate(sd15) if gate < 0.3] == [4, 5, 6, 7, 8]
    assert all(gate < 1.0 for gate in sd15)
    assert sum(gate < 0.5 for gate in sd15) == 8


def test_statistics_open_at_the_published_weights():
    sd15, sdxl = adain_gates(False), adain_gates(True)
    outputs = [("output", 0), ("output", 1), ("output", 2), ("output", 3)]
    assert opened(sd15, 1.0) == [("input", 10), ("input", 11), ("middle", 0), *outputs]
    assert opened(sd15, 0.5) == [("input", 11), ("middle", 0), ("output", 0), ("output", 1)]
    assert opened(sdxl, 1.0) == [("input", 8), ("middle", 0), *outputs[:3]]
    assert opened(sdxl, 0.5) == [("middle", 0), ("output", 0), ("output", 1)]
    for gates in (sd15, sdxl):
        assert set(gates) - set(opened(gates, 2.0)) == {("input", 4)}


def test_sdxl_takes_the_cube_and_modes_the_ends():
    assert ReferenceSettings("reference_only").fidelity(False) == 0.5
    assert ReferenceSettings("reference_only").fidelity(True) == 0.125
    for is_sdxl in (False, True):
        assert ReferenceSettings("reference_only", 0.5, "prompt").fidelity(is_sdxl) == 0.0
        assert ReferenceSettings("reference_only", 0.5, "control").fidelity(is_sdxl) == 1.0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("reference",), "kind of reference_only, reference_adain, reference_adain+attn, got 'reference'"),
        (("reference_only", 1.5), "style_fidelity from 0 to 1, got 1.5"),
        (("reference_only", float("nan")), "style_fidelity from 0 to 1, got nan"),
        (("reference_only", 0.5, "unbalanced"), "mode of balanced, prompt, control, got 'unbalanced'"),
    ],
)
def test_unfit_settings_are_refused_in_words(settings, text):
    with pytest.raises(ValueError, match=text.replace("+", r"\+")):
        ReferenceSettings(*settings)


def test_the_noise_is_its_own_and_differs_by_seed_and_timestep():
    torch.manual_seed(1)
    one = reference_noise(3, 500.0, (1, 4, 8, 8))
    torch.manual_seed(2)
    assert torch.equal(one, reference_noise(3, 500.0, (1, 4, 8, 8)))
    assert not torch.equal(one, reference_noise(4, 500.0, (1, 4, 8, 8)))
    assert not torch.equal(one, reference_noise(3, 501.0, (1, 4, 8, 8)))
    reference_noise(2**64 - 1, -0.35, (1, 4, 8, 8))
    assert torch.equal(torch.randn(3), torch.randn(3, generator=torch.Generator().manual_seed(2)))
