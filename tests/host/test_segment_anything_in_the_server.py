"""Segment Anything in the real server: the host's bounding boxes, on its own node and in the all-in-one."""

import numpy as np
from tiller.tests.host.client import Graph

NAME = "TillerSegmentAnything"


def test_a_bounding_box_can_be_connected_to_the_node_and_to_the_all_in_one_node(server):
    graph = Graph()
    image = graph.add("TestImage", width=64, height=48, batch=2)
    box = graph.add("PrimitiveBoundingBox", x=5, y=6, width=30, height=20)[0]
    settings = server.defaults(NAME) | {"resolution": 96}
    written = graph.add(NAME, image=image[0], **{**settings, "boxes": "5,6,35,26"})
    connected = graph.add(NAME, image=image[0], bboxes=box, **settings)
    nested = {f"hint.{name}": value for name, value in {**settings, "bboxes": box}.items()}
    together = graph.add("TillerHint", hint="segment_anything", image=image[0], **nested)
    everything = graph.add(NAME, image=image[0], **settings)
    outputs = (written[0], connected[0], together[0], everything[0], written[1], connected[1])
    probes = [graph.add("TestProbe", value=output) for output in outputs]
    result = server.run(graph)
    assert result.ok, result.errors
    first, second, third, other, *masks = (server.array(result, probe) for probe in probes)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(*masks)
    assert masks[0].shape == (2, 96, 128)
    assert masks[0].any()
