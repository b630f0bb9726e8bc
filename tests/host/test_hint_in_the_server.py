"""The all-in-one hint in the real server: each kind equals its own node, and bad options are refused."""

import numpy as np
import pytest
from tiller.tests.host.client import Graph
from tiller.tests.host.feeding import SMALL

KINDS = {
    "canny": "TillerCanny",
    "lineart_standard": "TillerLineArtStandard",
    "scribble": "TillerScribble",
    "scribble_xdog": "TillerScribbleXDoG",
    "threshold": "TillerThreshold",
    "lineart_realistic": "TillerLineArtRealistic",
    "lineart_coarse": "TillerLineArtCoarse",
    "lineart_anime": "TillerLineArtAnime",
    "lineart_anime_denoise": "TillerLineArtAnimeDenoise",
    "mlsd": "TillerMLSD",
    "hed": "TillerHED",
    "pidinet": "TillerPiDiNet",
    "scribble_hed": "TillerScribbleHED",
    "scribble_pidinet": "TillerScribblePiDiNet",
    "sketch_pidinet": "TillerSketchPiDiNet",
    "depth_midas": "TillerDepthMiDaS",
    "depth_anything_v2": "TillerDepthAnythingV2",
    "depth_zoe": "TillerDepthZoe",
    "depth_leres": "TillerDepthLeReS",
    "openpose": "TillerOpenPose",
    "dwpose": "TillerDWPose",
    "oneformer": "TillerSegmentOneFormer",
    "uniformer": "TillerSegmentUniFormer",
    "normal_bae": "TillerNormalBae",
    "normal_midas": "TillerNormalMiDaS",
    "inpaint_lama": "TillerInpaintLaMa",
    "inpaint": "TillerInpaintHint",
    "segment_anything": "TillerSegmentAnything",
    "invert": "TillerInvert",
    "shuffle": "TillerShuffle",
    "tile_resample": "TillerTileResample",
    "blur": "TillerBlur",
    "recolor_luminance": "TillerRecolorLuminance",
    "recolor_intensity": "TillerRecolorIntensity",
    "brightness": "TillerBrightness",
    "color_grid": "TillerColorGrid",
    "qr_code": "TillerQRCode",
}
"""Names that saved graphs hold: they stay."""


def options_of(server, kind):
    options = server.object_info["TillerHint"]["input"]["required"]["hint"][1]["options"]
    return next(option["inputs"] for option in options if option["key"] == kind)


def hint(graph, kind, image, **nested):
    values = {f"hint.{name}": value for name, value in nested.items()}
    return graph.add("TillerHint", **{"hint": kind, "image": image[0], **values})


def test_the_kinds_keep_their_names(server):
    options = server.object_info["TillerHint"]["input"]["required"]["hint"][1]["options"]
    assert [option["key"] for option in options] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_what_its_own_node_gives(server, kind):
    graph = Graph()
    image = graph.add("TestImage", width=90, height=70, batch=2, fill="squares")
    settings = server.defaults(KINDS[kind])
    if "weights" in settings:
        settings |= SMALL
    settings |= {"mask": image[1]} if "mask" in options_of(server, kind).get("required", {}) else {}
    alone = graph.add(KINDS[kind], **settings, **({} if kind == "qr_code" else {"image": image[0]}))
    together = hint(graph, kind, image, **settings)
    probes = [graph.add("TestProbe", value=node[0]) for node in (alone, together)]
    result = server.run(graph)
    assert result.ok, result.errors
    one, other = (server.array(result, probe) for probe in probes)
    np.testing.assert_array_equal(one, other)
    assert set(settings) == {*options_of(server, kind).get("required", {})}


def test_a_nested_value_out_of_range_is_refused_by_name(server):
    graph = Graph()
    image = graph.add("TestImage")
    node = hint(graph, "canny", image, low_threshold=9999, high_threshold=200, resolution=512)
    graph.add("TestProbe", value=node[0])
    result = server.run(graph)
    assert "low_threshold" in str(result.node_errors)


def test_an_unknown_kind_is_refused_with_the_known_ones(server):
    graph = Graph()
    graph.add("TestProbe", value=hint(graph, "telepathy", graph.add("TestImage"))[0])
    result = server.run(graph)
    assert any("'telepathy'" in text and "scribble_xdog" in text for text in result.errors)


def test_a_kind_that_needs_a_picture_says_so(server):
    graph = Graph()
    node = graph.add("TillerHint", **{"hint": "invert"})
    graph.add("TestProbe", value=node[0])
    result = server.run(graph)
    assert result.errors == [
        "The hint 'invert' needs an image, got none. Connect a picture to the image input."
    ]
