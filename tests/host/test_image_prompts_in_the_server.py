"""What the real server saves it also loads, without a restart and without moving the file."""

from safetensors import safe_open
from tiller.tests.host.feeding import Feeder


def contents(path):
    with safe_open(path, "np") as file:
        tensors = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata()


def test_a_server_loads_what_it_just_saved_to_the_bit(server):
    feeder = Feeder(server, seed=5)
    encoded = feeder.node("TillerEncodeImagePrompt", weight=0.8)
    feeder.node("TillerSaveImagePrompt", image_prompt=encoded[0], filename_prefix="tests/given")
    first = server.run(feeder.graph)
    assert first.ok, first.errors
    later = Feeder(server)
    load = later.node("TillerLoadImagePrompt", prompt_name="tests/given_00001_.safetensors")
    later.node("TillerSaveImagePrompt", image_prompt=load[0], filename_prefix="tests/again")
    second = server.run(later.graph)
    assert second.ok, second.errors
    given, again = (
        server.base / f"output/image_prompts/tests/{name}_00001_.safetensors" for name in ("given", "again")
    )
    assert contents(given) == contents(again)
    assert contents(given)[1]["encoder"] == "CLIP-ViT-H"


def test_an_unknown_name_is_refused_by_the_server(server):
    feeder = Feeder(server)
    feeder.node(
        "TillerSaveImagePrompt", image_prompt=feeder.node("TillerLoadImagePrompt", prompt_name="../x")[0]
    )
    assert "prompt_name" in str(server.run(feeder.graph).node_errors)
