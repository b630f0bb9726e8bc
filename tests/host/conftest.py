"""One real server for the whole layer, and the host importable for the tests that run inside it."""

import importlib
import os
import sys
from collections.abc import Iterator

import pytest
from tiller.tests.host.client import HostServer, running_server

HOST = os.environ.get("COMFYUI_PATH")
if HOST and HOST not in sys.path:
    sys.path.insert(0, HOST)
    importlib.import_module("comfy.cli_args").args.cpu = True


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """The real server with the pack in it, started once."""
    with running_server(tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
def run(server: HostServer):
    """`run(graph) -> RunResult`."""
    return server.run
