"""Reference control equals the formulas worked out by hand, in the host's real sampler."""

import pytest
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.reference_by_hand import Asked, sampled_by_hand
from tiller.tests.host.small_unets import SmallVAE, small

KINDS = ("reference_only", "reference_adain", "reference_adain+attn")
FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl"])
RUN = Run(size=(16, 16), steps=2)
NEAR = 1e-5


def prepared(name="sd15", **more):
    of = small(name, **more)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(128, 128)


def referenced(positive, negative, image, **settings):
    """Both conditionings with a reference, made by the node at its defaults but for `settings`."""
    defaults = {
        "vae": SmallVAE(),
        "kind": "reference_only",
        "style_fidelity": 0.5,
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "window": "noise",
        "mode": "balanced",
        "seed": 0,
    }
    node = real.pack_nodes("reference").TillerReference
    return node.execute(positive, negative, image, **{**defaults, **settings}).args


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())


def compare(of, conditionings, asked, run=RUN, image=None, base=None):
    """Relative difference of the node's picture from the one by hand, and from the one without."""
    image = real.picture(128, 128) if image is None else image
    ours = conditionings
    latent = SmallVAE().encode(image)
    wanted = [Asked(latent, **each) for each in asked]
    for each in asked:
        names = {"weight": "strength", "fidelity": "style_fidelity"}
        settings = {names.get(key, key): value for key, value in each.items()}
        ours = referenced(*ours, image, **settings)
    by_hand = sampled_by_hand(of, wanted, *(base or conditionings), run)
    one = real.sample(of, *ours, run)
    return relative(one, by_hand), relative(one, real.sample(of, *(base or conditionings), run))


@pytest.mark.parametrize("kind", KINDS)
@FAMILIES
def test_each_kind_equals_the_formula_by_hand(name, kind):
    of, positive, negative, _ = prepared(name)
    modes = [("balanced", 0.0), ("balanced", 0.5), ("balanced", 1.0), ("prompt", 1.0), ("control", 0.0)]
    for mode, fidelity in modes:
        asked = {"kind": kind, "fidelity": fidelity, "mode": mode, "seed": 3}
        off, effect = compare(of, (positive, negative), [asked])
        assert off < NEAR, (mode, fidelity)
        assert effect > 1e-3, (mode, fidelity)


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.3, 2.0])
@FAMILIES
def test_the_strength_opens_the_published_blocks(name, weight):
    of, positive, negative, _ = prepared(name)
    asked = {"kind": "reference_adain+attn", "weight": weight}
    assert compare(of, (positive, negative), [asked])[0] < NEAR


@FAMILIES
def test_two_references_share_their_banks(name):
    of, positive, negative, _ = prepared(name)
    asked = [
        {"kind": "reference_adain+attn", "weight": 0.6, "fidelity": 0.9, "seed": 1},
        {"kind": "reference_adain+attn", "fidelity": 0.2, "seed": 2},
    ]
    off, _ = compare(of, (positive, negative), asked)
    assert off < NEAR
    mixed = [{"kind": "reference_only", "mode": "control"}, {"kind": "reference_adain", "mode": "prompt"}]
    assert compare(of, (positive, negative), mixed)[0] < NEAR


@pytest.mark.parametrize(
    "run",
    [
        Run(size=(9, 14), steps=2),
        Run(size=(16, 16), steps=2, batch=2),
        Run(size=(16, 16), steps=2, sampler="dpm_2", scheduler="karras"),
        Run(size=(16, 16), steps=2, cfg=1.0),
    ],
    ids=["9x14", "batch", "dpm_2", "cfg 1"],
)
def test_sizes_batches_and_samplers(run):
    of, positive, negative, _ = prepared()
    image = real.picture(8 * run.size[0], 8 * run.size[1], batch=run.batch)
    for kind in ("reference_only", "reference_adain"):
        assert compare(of, (positive, negative), [{"kind": kind}], run, image)[0] < NEAR


def test_an_inpainting_model_sees_the_whole_picture_as_kept():
    of, positive, negative, _ = prepared(in_channels=9)
    assert compare(of, (positive, negative), [{"kind": "reference_adain+attn"}])[0] < NEAR


def residual_net():
    """A control net that gives the same numbers at every place of an SD1.5 UNet, inputs included."""
    import comfy.controlnet
    import torch

    class Residuals(comfy.controlnet.ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            generator = torch.Generator().manual_seed(8)
            rows, side = x_noisy.shape[0], x_noisy.shape[-1]
            shapes = [(32, side)] * 3 + [(32, side // 2), (64, side // 2), (64, side // 2)]
            shapes += [(64, side // 4), (128, side // 4), (128, side // 4)] + [(128, side // 8)] * 3

            def made(places):
                return [torch.randn(rows, c, s, s, generator=generator) * 0.5 for c, s in places]

            previous = self.previous_controlnet
            if previous is not None:
                previous.get_control(x_noisy, t, cond, batched_number, transformer_options)
            return {"output": made(shapes), "middle": made(shapes[-1:]), "input": made(shapes)[::-1]}

        def copy(self):
            return self

    return Residuals()


def with_residuals(conditioning, net):
    return [[text, {**options, "control": net}] for text, options in conditioning]


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_net_in_the_chain_acts_on_the_drawing_alone(kind):
    of, positive, negative, _ = prepared()
    net = residual_net()
    controlled = with_residuals(positive, net), with_residuals(negative, net)
    off, effect = compare(of, controlled, [{"kind": kind}], base=controlled)
    assert off < NEAR
    assert effect > 1e-3
    assert relative(real.sample(of, *controlled, RUN), real.sample(of, positive, negative, RUN)) > 1e-3
