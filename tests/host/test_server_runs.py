"""The real server and the client: what ran, what was reused, what was refused, what was interrupted."""

import time

import numpy as np
import pytest
from tiller.tests.host.client import Graph

from devtools.models import made_small, shipped_prompts
from devtools.server_process import ROOT


def test_the_pack_is_imported_without_a_complaint(server):
    text = server.log_text()
    assert "Cannot import" not in text
    assert "IMPORT FAILED" not in text
    assert "custom_nodes/tiller" in text.replace("\\", "/")


def test_a_prompt_gives_the_numbers_of_its_nodes(server):
    graph = Graph()
    image = graph.add("TestImage", width=7, height=5, batch=2, channels=4, fill="constant", value=0.25)
    probe = graph.add("TestProbe", value=image[0])
    result = server.run(graph)
    assert result.ok
    assert server.array(result, probe).shape == (2, 5, 7, 4)
    assert (server.array(result, probe) == 0.25).all()


def test_a_second_run_is_cached_and_a_changed_input_runs_again(server):
    graph = Graph()
    image = graph.add("TestImage", width=9, height=9, seed=int(time.time()))
    inverted = graph.add("ImageInvert", image=image[0])
    graph.add("TestProbe", value=inverted[0])
    first = server.run(graph)
    again = server.run(graph)
    changed = server.run(graph.change(image, seed=1))
    assert first.executed == ["1", "2", "3"]
    assert not first.cached
    assert again.executed == []
    assert again.cached == {"1", "2", "3"}
    assert changed.executed == ["1", "2", "3"]
    assert all(first.seconds[node] >= 0 for node in first.executed)


def test_outputs_of_a_cached_run_are_still_told(server):
    graph = Graph()
    probe = graph.add("TestProbe", value=graph.add("TestImage", width=3, height=3)[0])
    first, again = server.run(graph), server.run(graph)
    assert "2" in again.cached
    np.testing.assert_array_equal(server.array(first, probe), server.array(again, probe))


def test_an_interrupt_ends_the_run_at_once(server):
    graph = Graph()
    image = graph.add("TestImage", seed=5)
    slow = graph.add("TestSlow", value=image[0], seconds=60.0)
    graph.add("TestProbe", value=slow[0])
    start = time.monotonic()
    result = server.run_and_interrupt(graph, slow)
    assert result.interrupted
    assert not result.ok
    assert time.monotonic() - start < 10
    assert server.run(graph.change(slow, seconds=0.0)).ok


def test_a_failing_node_is_named_with_its_text(server):
    graph = Graph()
    image = graph.add("TestImage", width=0, height=0)
    graph.add("SaveImage", images=image[0], filename_prefix="empty")
    result = server.run(graph)
    assert result.error is not None
    assert result.error["node_id"] == "2"
    assert result.errors[0]
    assert not result.ok


def test_a_refused_prompt_tells_node_and_input(server):
    graph = Graph()
    graph.add("TestProbe", value=graph.add("TestImage", width=-1)[0])
    result = server.run(graph)
    assert result.prompt_id == ""
    assert "width" in str(result.node_errors["2" if "2" in result.node_errors else "1"])
    assert any("width" in text for text in result.errors)


def test_a_dropped_branch_is_not_ok(server):
    graph = Graph()
    good, bad = graph.add("TestImage"), graph.add("TestImage", width=-1)
    graph.add("TestProbe", value=good[0])
    graph.add("TestProbe", value=bad[0])
    result = server.run(graph)
    assert result.prompt_id
    assert result.node_errors
    assert not result.ok


def test_an_unknown_node_is_refused_by_name(server):
    graph = Graph()
    graph.add("NoSuchNode")
    result = server.run(graph)
    assert any("NoSuchNode" in text for text in result.errors)


def test_a_run_that_takes_too_long_is_interrupted(server):
    graph = Graph()
    graph.add("TestProbe", value=graph.add("TestSlow", value=graph.add("TestImage")[0], seconds=60.0)[0])
    start, after = time.monotonic(), Graph()
    with pytest.raises(TimeoutError, match="2 s"):
        server.run(graph, timeout=2)
    after.add("TestProbe", value=after.add("TestImage")[0])
    assert server.run(after).ok
    assert time.monotonic() - start < 10


def test_progress_is_told_step_by_step(server):
    events = []
    prompt = made_small(shipped_prompts(ROOT)["quickstart"], size=64, steps=2)
    result = server.run(prompt, events.append)
    assert result.ok, result.errors
    steps = [(e.data["value"], e.data["max"]) for e in events if e.kind == "progress"]
    assert (1, 2) in steps
    assert (2, 2) in steps
    picture = server.pixels(result.images[-1])
    assert picture.ndim == 3
    assert picture.std() > 0


def test_nan_and_odd_pictures_reach_the_node(server):
    graph = Graph()
    image = graph.add("TestImage", width=1, height=3, channels=1, nan=True)
    probe = graph.add("TestProbe", value=image[0])
    result = server.run(graph)
    assert server.probe(result, probe)["finite"] is False
    assert np.isnan(server.array(result, probe)).sum() == 1
