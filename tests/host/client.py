"""The real server as the tests use it: build a prompt, run it, look at what came out.

    graph = Graph()
    image = graph.add("TestImage", width=65, height=33, batch=2)
    hint = graph.add("TillerCanny", image=image[0])
    probe = graph.add("TestProbe", value=hint[0])
    result = server.run(graph)
    result.executed, result.cached, result.errors, result.node_errors
    server.array(result, probe)  # numpy, exactly what the node gave

Import it as `tiller.tests.host.client`. Nodes TestImage, TestSlow, TestConditioning, TestProbe and
TestModules come from tests/host/testpack.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from devtools import annotator_standins, face_standins, models, onnx_standins, quickstart
from devtools.client import Event, ImageFile, Prompt, RunResult
from devtools.environment import ROOT, Environment, Places
from devtools.server_process import PACK, Server, lay_out

TEST_PACK = "tiller_tests"


class Node(str):
    """A node's id in a graph; `node[0]` is the link to its first output."""

    __slots__ = ()

    def __getitem__(self, output: Any) -> Any:
        return [str(self), output]


class Graph:
    """A prompt in API form. Nested inputs are named flat: `**{"method": "canny", "method.low": 50}`."""

    def __init__(self) -> None:
        self.prompt: Prompt = {}

    @classmethod
    def of(cls, prompt: Prompt) -> Graph:
        """A graph over a prompt in API form, such as a shipped recipe."""
        graph = cls()
        graph.prompt = prompt
        return graph

    def add(self, class_type: str, **inputs: Any) -> Node:
        node = Node(len(self.prompt) + 1)
        self.prompt[str(node)] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}
        return node

    def change(self, node: str, **inputs: Any) -> Graph:
        """A copy of the graph with some inputs of one node changed."""
        other = Graph()
        other.prompt = copy.deepcopy(self.prompt)
        other.prompt[str(node)]["inputs"].update(inputs)
        return other


class HostServer:
    """A running server with the pack and the test-only nodes in it."""

    def __init__(self, server: Server) -> None:
        self.server, self.client = server, server.client

    @property
    def base(self) -> Path:
        return self.server.base

    @cached_property
    def object_info(self) -> dict[str, Any]:
        """What the server says of every node: node id -> definition."""
        return self.client.get("/object_info")

    @property
    def pack_nodes(self) -> dict[str, Any]:
        """The definitions of this pack's nodes."""
        module = f"custom_nodes.{PACK}"
        return {name: info for name, info in self.object_info.items() if info["python_module"] == module}

    def defaults(self, name: str) -> dict[str, Any]:
        """The default of every widget of a node, as the page would send it; the server fills in none.

        The nested inputs of a DynamicCombo's first option are included, named flat.
        """
        return _defaults(self.object_info[name]["input"])

    def log_text(self) -> str:
        return self.server.log_text()

    def run(
        self,
        graph: Graph | Prompt,
        on_event: Callable[[Event], None] | None = None,
        timeout: float = 300.0,
    ) -> RunResult:
        """Run a prompt to its end; whatever went wrong is told in the result."""
        prompt = graph.prompt if isinstance(graph, Graph) else graph
        return self.client.run(prompt, on_event, timeout)

    def run_and_interrupt(self, graph: Graph | Prompt, node: str, timeout: float = 60.0) -> RunResult:
        """Run a prompt and interrupt it as soon as the node is at work."""

        def on_event(event: Event) -> None:
            if event.kind == "executing" and event.node == node:
                self.client.interrupt()

        return self.run(graph, on_event, timeout)

    def probe(self, result: RunResult, node: str) -> dict[str, Any]:
        """What a TestProbe saw: type, shape, dtype, finite, min, max, text."""
        assert result.ok, result.errors or "the prompt was interrupted"
        return result.outputs[str(node)]["probe"][0]

    def array(self, result: RunResult, node: str) -> np.ndarray:
        """Every number that a TestProbe saw, as float32."""
        return np.load(self.base / "output" / self.probe(result, node)["file"])

    def pixels(self, image: ImageFile) -> np.ndarray:
        """The uint8 pixels (H,W,C) of a picture that a node wrote."""
        from PIL import Image

        return np.asarray(Image.open(BytesIO(self.client.download(image))))


def _defaults(inputs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group in ("required", "optional"):
        for name, (kind, *rest) in inputs.get(group, {}).items():
            options = rest[0] if rest else {}
            if kind == "COMFY_DYNAMICCOMBO_V3":
                first = options["options"][0]
                found[prefix + name] = first["key"]
                found |= _defaults(first["inputs"], f"{prefix}{name}.")
            elif "default" in options:
                found[prefix + name] = options["default"]
            elif isinstance(kind, list) or kind == "COMBO":
                choices = kind if isinstance(kind, list) else options.get("options", [])
                found |= {prefix + name: choices[0]} if choices else {}
    return found


def environment() -> Environment:
    """The environment that the tests run in: this Python, and the host of COMFYUI_PATH."""
    host = os.environ.get("COMFYUI_PATH")
    if not host:
        raise RuntimeError("COMFYUI_PATH must name the host's folder; run the tests through dev.py test.")
    return Environment(Places(ROOT), Path(sys.executable), Path(host), users_own=True)


@contextmanager
def running_server(base: Path, options: tuple[str, ...] = ()) -> Iterator[HostServer]:
    """A server over a fresh base folder: the pack, the test nodes, all stand-ins, photographs."""
    here = environment()
    lay_out(base, {PACK: ROOT, TEST_PACK: ROOT / "tests" / "host" / "testpack"})
    quickstart.copy_photos(here, base / "input")
    folder = models.ensure_standins(here, models.standins.STANDINS)
    annotators = annotator_standins.ensure(folder)
    onnx_standins.ensure(folder)
    faces = face_standins.ensure_for_recipes(folder, ROOT)
    config = (
        *models.standin_options(folder, base / "model_folders.yaml"),
        *models.extra_paths(
            {annotators.name: [annotators], faces.name: [faces]}, base / "annotator_folders.yaml"
        ),
    )
    server = Server(here, base, base / "server.log", options=(*config, *options), packs=(PACK, TEST_PACK))
    with server:
        yield HostServer(server)
