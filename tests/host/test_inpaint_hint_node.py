"""An inpaint hint reaches the control net as the host's own node brings it there, -1 included."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

RUN = Run(steps=2)


def made(height=64, width=64, masked="-1"):
    node = real.pack_nodes("inpaint_hint").TillerInpaintHint
    mask = torch.zeros(1, height, width)
    mask[:, height // 4 : height // 2, width // 3 : width // 2] = 1.0
    return node.execute(real.picture(height, width), mask, masked).args[0]


def prepared():
    of = real.family("sd15")
    return of, real.conditioning(of, 1), real.conditioning(of, 2)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("resize_mode", ["core", "stretch", "crop", "fill"])
def test_at_the_final_size_it_is_the_hosts_apply_to_the_last_bit(name, resize_mode):
    of = real.family(name)
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, made()), RUN)
    ours = real.tiller_apply(positive, negative, of.control, made(), resize_mode=resize_mode)
    assert real.difference(core, real.sample(of, *ours, RUN)) == 0.0
    black = real.sample(of, *real.core_apply(positive, negative, of.control, made(masked="0")), RUN)
    assert real.difference(core, black) > 1e-3, "the net saw black instead of -1"


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "fill"])
def test_a_hint_of_another_size_stays_hard(resize_mode):
    from tiller.preprocessors.fit import Size, fit_image

    of, positive, negative = prepared()
    run, hint = Run(size=(9, 14), steps=2), made(50, 90)
    fitted = fit_image(hint, Size(72, 112), resize_mode)
    assert set(fitted[fitted < 0].tolist()) == {-1.0}
    core = real.sample(of, *real.core_apply(positive, negative, of.control, fitted), run)
    ours = real.tiller_apply(positive, negative, of.control, hint, resize_mode=resize_mode)
    assert real.difference(core, real.sample(of, *ours, run)) == 0.0


def test_the_all_in_one_node_makes_it_too():
    node = real.pack_nodes("hint").TillerHint
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:32, 21:32] = 1.0
    option = {"hint": "inpaint", "mask": mask, "masked": "-1"}
    assert torch.equal(node.execute(option, real.picture(64, 64)).args[0], made())
