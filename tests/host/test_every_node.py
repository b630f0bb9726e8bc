"""Each node in the real server: run, cached, changed, batches, odd sizes, interrupted, fed wrongly."""

import numpy as np
import pytest
from tiller.tests.host.feeding import LEFT_OPEN, SOURCES, TEXT, Feeder

from devtools.server_process import ROOT

NAMES = sorted(page.stem for page in (ROOT / "web/docs").glob("*.md"))
EVERY_NODE = pytest.mark.parametrize("name", NAMES)

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"}
WITHOUT_PICTURE = {"TillerQRCode", "TillerRevision", "TillerStackLoRA"}
NEEDS_A_LATENT_PIXEL = {"TillerInstructPix2Pix"}
"""It cuts the picture to a multiple of 8, so there must be 8 pixels each way."""
OWN_FIELD_PER_IMAGE = {"TillerShuffle", "TillerImagePromptNoise"}
"""Image i of a batch has the seed + i, so a batch is not the same as its images one by one."""
READS_FIRST_ONLY = {"TillerContactSheet"}
"""One sheet comes out, whatever the batch."""
MARKS_WITH_MINUS_ONE = {"TillerInpaintHint"}
"""Its hint marks pixels with -1, which is no colour."""
NO_TRANSPARENT = {"TillerApplyControl", "TillerApplyControlUnits", "TillerControlUnit", "TillerReference"}
READS_SIZE_ONLY = {"TillerPixelPerfect"}


def run(server, name, changes=None, **picture):
    feeder = Feeder(server, **picture)
    node = feeder.node(name, **(changes or {}))
    probes = feeder.probes(name, node)
    return feeder, node, probes, server.run(feeder.graph)


def sockets(server, name):
    for group in ("required", "optional"):
        for socket, (kind, *_) in server.object_info[name]["input"].get(group, {}).items():
            yield socket, kind


def images(server, name, probes, result):
    kinds = server.object_info[name]["output"]
    return [server.array(result, probe) for probe, kind in zip(probes, kinds, strict=True) if kind == "IMAGE"]


def fed_kinds(server, name):
    """The types of what goes into a node, those of growing sockets too."""
    for group in ("required", "optional"):
        for kind, *rest in server.object_info[name]["input"].get(group, {}).values():
            if kind == "COMFY_AUTOGROW_V3":
                kind = next(iter(rest[0]["template"]["input"]["required"].values()))[0]
            yield kind


def takes_image(server, name):
    return name not in WITHOUT_PICTURE and any(
        kind in ("IMAGE", "POSE_KEYPOINT", "TILLER_CONTROL_UNIT", "TILLER_FACES")
        for kind in fed_kinds(server, name)
    )


def takes_picture(server, name):
    return takes_image(server, name) or "MASK" in fed_kinds(server, name)


def own_size(server, name):
    """The change that makes a node work at the picture's own size; without it, small ones are enlarged."""
    return {widget: 0 for widget in server.defaults(name) if widget.split(".")[-1] == "resolution"}


def test_the_server_offers_exactly_the_documented_nodes(server):
    assert sorted(server.pack_nodes) == NAMES


@EVERY_NODE
def test_every_socket_can_be_fed(server, name):
    unknown = {kind for _, kind in sockets(server, name)} - WIDGETS - set(SOURCES) - LEFT_OPEN
    assert not unknown, "add a line to SOURCES in feeding.py"


@EVERY_NODE
def test_runs_then_is_cached_then_runs_for_a_changed_input(server, name):
    feeder, node, probes, first = run(server, name, seed=101)
    assert first.ok, first.errors
    again = server.run(feeder.graph)
    assert again.ok
    assert str(node) in again.cached
    if takes_picture(server, name):
        changed = server.run(feeder.graph.change(feeder.picture, seed=202))
    else:
        changed = server.run(feeder.graph.change(node, text=TEXT + "/changed"))
    assert changed.ok, changed.errors
    assert str(node) in changed.executed
    for before, after in zip(
        images(server, name, probes, first), images(server, name, probes, changed), strict=True
    ):
        assert not np.array_equal(before, after), "the first picture is still there"


@EVERY_NODE
def test_the_same_graph_gives_the_same_numbers_after_the_cache_is_cleared(server, name):
    feeder, _, probes, first = run(server, name, seed=303, width=40, height=24)
    before = images(server, name, probes, first)
    server.client.clear_cache()
    second = server.run(feeder.graph)
    assert second.ok, second.errors
    for one, two in zip(before, images(server, name, probes, second), strict=True):
        np.testing.assert_array_equal(one, two)


@EVERY_NODE
@pytest.mark.parametrize(("width", "height"), [(1, 1), (65, 33), (7, 130)], ids=["1x1", "65x33", "7x130"])
def test_odd_sizes_run_and_stay_in_range(server, name, width, height):
    for changes in ({}, own_size(server, name)):
        _, _, probes, result = run(server, name, changes, width=width, height=height)
        if name in NEEDS_A_LATENT_PIXEL and min(width, height) < 8:
            assert any("at least 8 x 8 pixels" in text for text in result.errors)
            continue
        assert result.ok, result.errors
        for image in images(server, name, probes, result):
            assert image.ndim == 4
            assert np.isfinite(image).all()
            assert image.min() >= (-1 if name in MARKS_WITH_MINUS_ONE else 0)
            assert image.max() <= 1


@EVERY_NODE
@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures(server, name, channels):
    _, _, _, result = run(server, name, channels=channels, width=33, height=20)
    if name in NO_TRANSPARENT and channels == 4:
        assert any("RGBA" in text for text in result.errors)
    else:
        assert result.ok, result.errors


@EVERY_NODE
def test_a_batch_of_two_is_two_of_one(server, name):
    feeder = Feeder(server)
    if not takes_picture(server, name) or name in OWN_FIELD_PER_IMAGE | READS_FIRST_ONLY:
        pytest.skip(f"{name}: no picture goes in, only the first, or each has its own seed by design")
    graph = feeder.graph
    one, two = (
        graph.add("TestImage", seed=1, width=48, height=40),
        graph.add("TestImage", seed=2, width=48, height=40),
    )
    both = graph.add("ImageBatch", image1=one[0], image2=two[0])
    probes = []
    for source in (one, two, both):
        feeder.picture = [source[0], feeder.picture[1]]
        feeder._count = 0
        probes.append(feeder.probes(name, feeder.node(name)))
    result = server.run(graph)
    assert result.ok, result.errors
    single_1, single_2, batch = (images(server, name, each, result) for each in probes)
    for first, second, together in zip(single_1, single_2, batch, strict=True):
        np.testing.assert_array_equal(together, np.concatenate([first, second]))


@EVERY_NODE
def test_an_interrupt_upstream_leaves_the_next_run_clean(server, name):
    feeder = Feeder(server, seed=404)
    slow = feeder.graph.add("TestSlow", value=feeder.picture[0], seconds=30.0)
    feeder.picture = [slow[0], feeder.picture[1]]
    node = feeder.node(name)
    feeder.probes(name, node)
    if not takes_image(server, name):
        feeder.graph.add("TestProbe", value=slow[0])
    stopped = server.run_and_interrupt(feeder.graph, slow)
    assert stopped.interrupted
    after = server.run(feeder.graph.change(slow, seconds=0.0))
    assert after.ok, after.errors


@EVERY_NODE
def test_spoiled_pictures_are_refused_with_a_sentence(server, name):
    if not takes_picture(server, name):
        pytest.skip(f"{name}: no picture goes in")
    spoiled = [({"width": 0, "height": 0}, "0 x 0")]
    if name not in READS_SIZE_ONLY:
        spoiled.append(({"nan": True}, "NaN"))
    for picture, word in spoiled:
        _, _, _, result = run(server, name, **picture)
        assert result.error is not None, f"{name} accepted {picture}"
        assert word in result.errors[0]
        assert result.errors[0].count(".") >= 1


@EVERY_NODE
def test_a_widget_of_the_wrong_type_is_refused_by_name(server, name):
    kinds = {"INT": "many", "FLOAT": "some", "COMBO": "no such option"}
    for socket, kind in sockets(server, name):
        if kind in kinds:
            result = run(server, name, {socket: kinds[kind]})[3]
            assert socket in str(result.node_errors), f"{name}.{socket}"
            return
    pytest.skip(f"{name}: no number and no choice among its widgets")
