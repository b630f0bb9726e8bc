"""Control units in the real server: interrupted in the middle of sampling, and clean afterwards."""

from tiller.tests.host.client import Graph

from devtools.models import made_small, shipped_prompts
from devtools.server_process import ROOT


def recipe(steps):
    prompt = made_small(shipped_prompts(ROOT)["qr_code_art"], size=64, steps=steps)
    return Graph.of(prompt)


def node_of(graph, class_type):
    return next(node for node, entry in graph.prompt.items() if entry["class_type"] == class_type)


def test_an_interrupt_while_sampling_leaves_the_next_run_as_if_it_had_not_been(server):
    graph = recipe(steps=4)
    sampler = node_of(graph, "KSampler")
    clean = server.run(graph)
    assert clean.ok, clean.errors
    wanted = server.pixels(clean.images[-1])
    server.client.clear_cache()

    steps_seen = []

    def stop_after_the_second_step(event):
        if event.kind == "progress" and event.node == sampler:
            steps_seen.append(event.data["value"])
            if event.data["value"] >= 2:
                server.client.interrupt()

    stopped = server.run(graph.change(sampler, steps=200), stop_after_the_second_step)
    assert stopped.interrupted
    assert 2 <= max(steps_seen) < 100
    again = server.run(graph)
    assert again.ok, again.errors
    assert (server.pixels(again.images[-1]) == wanted).all()


def test_a_net_of_another_family_stops_the_run_with_both_names(server):
    graph = recipe(steps=2)
    loader = node_of(graph, "ControlNetLoader")
    result = server.run(graph.change(loader, control_net_name="tiller_standin_control_sdxl.safetensors"))
    assert result.errors == [
        "This control net is for SDXL, but the model is SD1.5. Load a control net made for SD1.5, or sample "
        "with a model of the SDXL family."
    ]


def test_a_window_that_ends_before_it_starts_is_refused(server):
    graph = recipe(steps=2)
    unit = node_of(graph, "TillerControlUnit")
    result = server.run(graph.change(unit, start_percent=0.9, end_percent=0.1))
    assert len(result.errors) == 1
    assert "start_percent 0.9 and end_percent 0.1" in result.errors[0]
    assert "Swap the two values" in result.errors[0]
