"""Networks of annotators in the running server: loaded once, given up at the user's word, missing, chosen."""

import numpy as np
from tiller.tests.host.client import Graph

from devtools import annotator_standins

LOADED = "Loaded the weights of PiDiNet"


def pidinet(seed: int, **changes):
    """A graph with the hint of one picture, and its probe."""
    graph = Graph()
    image = graph.add("TestImage", width=64, height=64, seed=seed)
    settings = {"safe": False, "resolution": 64, "weights": "auto", **changes}
    return graph, graph.add("TestProbe", value=graph.add("TillerPiDiNet", image=image[0], **settings)[0])


def run(server, seed, **changes):
    graph, probe = pidinet(seed, **changes)
    result = server.run(graph)
    assert result.ok, result.errors
    return server.array(result, probe)


def give_up_everything(server):
    """`/free`, and a prompt without networks: what was asked for is done by the time the next one starts."""
    server.client.clear_cache()
    graph = Graph()
    graph.add("TestProbe", value=graph.add("TestImage", seed=9)[0])
    assert server.run(graph).ok


def test_a_second_run_loads_nothing_and_one_after_free_loads_again(server):
    give_up_everything(server)
    before = server.log_text().count(LOADED)
    first = run(server, 1)
    assert server.log_text().count(LOADED) == before + 1
    other = run(server, 2)
    assert not np.array_equal(first, other)
    assert server.log_text().count(LOADED) == before + 1
    give_up_everything(server)
    assert np.array_equal(run(server, 1), first)
    assert server.log_text().count(LOADED) == before + 2


def test_the_files_that_are_there_can_be_chosen(server):
    options = server.object_info["TillerPiDiNet"]["input"]["required"]["weights"][1]["options"]
    assert options[0] == "auto"
    assert {published.name for published in annotator_standins.PUBLISHED.values()} <= set(options)
    assert np.array_equal(run(server, 1, weights="table5_pidinet.pth"), run(server, 1))


def test_another_networks_file_is_refused_with_its_name(server):
    graph, _ = pidinet(1, weights="ControlNetHED.pth")
    (said,) = server.run(graph).errors
    assert "got ControlNetHED.pth, which holds HED (ControlNetHED.pth)" in said
    assert "https://huggingface.co/lllyasviel/Annotators" in said
