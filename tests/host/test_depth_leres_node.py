"""LeReS depth as a node in the real host, with random weight files."""

import pytest
import torch
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

IMAGE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def node():
    real.annotators()
    return load_pack()["TillerDepthLeReS"]


def hint(node, **settings):
    widgets = {"remove_near": 0.0, "remove_background": 0.0, "resolution": 64, "weights": "auto"}
    return node.execute(image=IMAGE, **{**widgets, **settings}).args[0]


def test_the_whole_range_is_used_and_each_end_can_be_removed(node):
    plain = hint(node)
    assert plain.shape == IMAGE.shape
    assert len(plain.unique()) > 50
    near, far = hint(node, remove_near=50.0), hint(node, remove_background=50.0)
    assert (near == 1).sum() > (plain == 1).sum()
    assert (far == 0).sum() > (plain == 0).sum()
    assert torch.equal(near[near < 1], plain[near < 1])
    assert torch.equal(far[far > 0], plain[far > 0])


def test_another_networks_file_is_refused_by_name(node):
    with pytest.raises(
        ValueError, match=r"LeReS depth needs weights like those of res101\.pth, got sk_model\.pth"
    ):
        hint(node, weights="sk_model.pth")
