"""The real server for the shipped workflows."""

from collections.abc import Iterator

import pytest
from tiller.tests.host.client import HostServer, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """The real server with the pack, and models of ours under the names that the workflows use."""
    with running_server(tmp_path_factory.mktemp("workflows")) as running:
        yield running
