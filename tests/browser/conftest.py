"""A real Chromium on the page of a real server.

One server, one Chromium and, at a time, one page of one face (language and renderer) for the whole layer.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright
from tiller.tests.browser.page import FACE_ID, PACK, STAND_INS, ComfyPage, Face

from devtools import annotator_standins, face_standins, models, quickstart
from devtools.environment import ROOT, Environment, Places
from devtools.links import link_file
from devtools.messages import NO_CHROMIUM
from devtools.server_process import Server, lay_out
from devtools.testing import find_chromium

FACES = [Face(locale, renderer) for locale in ("en", "zh") for renderer in ("classic", "vue")]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
"""Rendered without a GPU, and with no way out to any other machine."""


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.exit(NO_CHROMIUM, returncode=1)
    browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server with the pack alone, the stand-ins under their own names, and the photographs.

    The real models are missing, as they are for a user who opens a workflow for the first time; the
    annotators' files are there.
    """
    host = os.environ.get("COMFYUI_PATH")
    if not host:
        pytest.exit(
            "The browser tests need COMFYUI_PATH. Run them with: python3 dev.py test browser", returncode=1
        )
    environment = Environment(Places(ROOT), Path(sys.executable), Path(host), users_own=True)
    base = tmp_path_factory.mktemp("browser")
    lay_out(base)
    names = {*STAND_INS.values(), FACE_ID}
    folder = models.ensure_standins(environment, [name.removesuffix(".safetensors") for name in names])
    for name in names:
        source = next(path for path in folder.rglob(name))
        link_file(source, base / "models" / source.parent.name / name)
    quickstart.copy_photos(environment, base / "input")
    annotators = annotator_standins.ensure(folder)
    faces = face_standins.ensure_for_recipes(folder, ROOT)
    folders = {annotators.name: [annotators], faces.name: [faces]}
    options = models.extra_paths(folders, base / "annotator_folders.yaml")
    with Server(environment, base, base / "server.log", options=options) as running:
        yield running


@pytest.fixture(scope="session", params=FACES, ids="-".join)
def face(request: pytest.FixtureRequest) -> Face:
    return request.param


@pytest.fixture(scope="session")
def opened(face: Face, chromium: Browser, server: Server) -> Iterator[ComfyPage]:
    context = chromium.new_context(viewport={"width": 1600, "height": 900})
    page = ComfyPage(context.new_page(), server.address, face, Places(ROOT).dev / "screenshots")
    page.open()
    yield page
    context.close()


@pytest.fixture
def comfy(opened: ComfyPage, request: pytest.FixtureRequest) -> Iterator[ComfyPage]:
    """The page of a face with an empty canvas; keeps a screenshot and allows no page error."""
    opened.clear()
    yield opened
    opened.screenshot(re.sub(r"^test_", "", request.node.name))
    assert not opened.trouble, "\n".join(opened.trouble)


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    """What the server says of the pack's nodes: node id -> definition."""
    everything = server.client.get("/object_info")
    return {
        name: info for name, info in everything.items() if info["python_module"] == f"custom_nodes.{PACK}"
    }
