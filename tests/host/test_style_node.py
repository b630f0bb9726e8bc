"""Apply Style beside the host's Apply Style Model, in the host's own sampler."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run


def style_model():
    """A style adapter of random weights in the host's class, at a small width."""
    real.host()
    from comfy.sd import StyleModel
    from comfy.t2i_adapter.adapter import StyleAdapter

    adapter = StyleAdapter(width=64, context_dim=768, num_head=8, n_layes=3, num_token=8)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in adapter.state_dict().values():
            tensor.normal_(0, 0.2, generator=generator)
    return StyleModel(adapter)


def seen(batch=1):
    from comfy.clip_vision import Output

    output = Output()
    output.last_hidden_state = torch.randn(batch, 17, 64, generator=torch.Generator().manual_seed(8))
    return output


def ours(positive, negative, strength=1.0, rows="positive", batch=1):
    node = real.pack_nodes("style").TillerApplyStyle
    with torch.inference_mode():
        return node.execute(positive, negative, style_model(), seen(batch), strength, rows).args


def core(conditioning, strength, batch=1):
    with torch.inference_mode():
        return (
            real.host()
            .StyleModelApply()
            .apply_stylemodel(conditioning, style_model(), seen(batch), strength, "multiply")[0]
        )


@pytest.mark.parametrize(("strength", "batch"), [(1.0, 1), (0.4, 2), (3.0, 1)])
def test_positive_is_the_hosts_node(strength, batch):
    of = real.family("sd15")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    styled, other = ours(positive, negative, strength, batch=batch)
    hosts = core(positive, strength, batch)
    assert torch.equal(styled[0][0], hosts[0][0])
    assert other is negative
    run = Run(steps=2)
    plain, with_core = real.sample(of, positive, negative, run), real.sample(of, hosts, negative, run)
    assert real.difference(with_core, plain) > 1e-3
    assert real.difference(with_core, real.sample(of, styled, other, run)) == 0.0


def test_webui_is_the_hosts_node_and_empty_tokens_on_the_negative():
    of = real.family("sd15")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    styled, other = ours(positive, negative, 0.7, "webui")
    by_hand = [[torch.cat((negative[0][0], torch.zeros(1, 8, 768)), dim=1), negative[0][1]]]
    run = Run(steps=2)
    with_core = real.sample(of, core(positive, 0.7), by_hand, run)
    assert real.difference(with_core, real.sample(of, styled, other, run)) == 0.0
    assert real.difference(with_core, real.sample(of, core(positive, 0.7), negative, run)) > 1e-3


def test_a_mask_of_attention_grows_as_the_hosts_does():
    of = real.family("sd15")
    generator = torch.Generator().manual_seed(4)
    mask = torch.randn(1, 17, 17, generator=generator).half()
    for given in (mask, mask > 0):
        positive = [
            [real.conditioning(of, 1)[0][0], {"attention_mask": given, "attention_mask_img_shape": (1, 1)}]
        ]
        (styled,), (hosts,) = ours(positive, [])[0], core(positive, 1.0)
        assert torch.equal(styled[1]["attention_mask"], hosts[1]["attention_mask"])
        assert styled[1].keys() == hosts[1].keys()


def test_strength_zero_and_two_times_the_same():
    of = real.family("sd15")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    assert ours(positive, negative, 0.0)[0] is positive
    assert torch.equal(ours(positive, negative)[0][0][0], ours(positive, negative)[0][0][0])
    assert positive[0][0].shape == (1, 16, 768)


def test_another_familys_text_is_refused():
    with pytest.raises(ValueError, match="width 768, but the conditioning has width 2048"):
        ours(real.conditioning(real.family("sdxl"), 1), [])


def test_it_goes_with_a_control_net():
    of = real.family("sd15")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    image, run = real.picture(64, 64), Run(steps=2)
    hosts = real.core_apply(core(positive, 1.0), negative, of.control, image)
    mine = real.tiller_apply(*ours(positive, negative), of.control, image)
    assert real.difference(real.sample(of, *hosts, run), real.sample(of, *mine, run)) == 0.0
