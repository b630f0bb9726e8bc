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
    widgets = {"remove_near": 0.0, "remove_background": 0.0, "boost": False, "resolution": 64}
    widgets |= {"weights": "auto", "merge_weights": "auto"}
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


def test_the_boost_is_another_map_and_asks_for_its_own_file(node):
    boosted = hint(node, boost=True)
    assert boosted.shape == IMAGE.shape
    assert len(boosted.unique()) > 50
    assert not torch.equal(boosted, hint(node))
    assert torch.equal(hint(node, merge_weights="sk_model.pth"), hint(node)), "not looked at without boost"
    with pytest.raises(
        ValueError, match=r"LeReS boost needs weights like those of latest_net_G\.pth, got sk_m"
    ):
        hint(node, boost=True, merge_weights="sk_model.pth")
