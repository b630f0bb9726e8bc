"""Finding a node by the names that users know, and its help page in the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiller.tests.browser.page import ComfyPage

DOCS = Path(__file__).resolve().parent.parent.parent / "web" / "docs"
NODE = "TillerCanny"


def heading(text: str) -> str:
    return next(line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#"))


def help_page(node: str, locale: str) -> str:
    path = DOCS / f"{node}.md" if locale == "en" else DOCS / node / f"{locale}.md"
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("typed", ["canny", "CannyEdgePreprocessor"])
def test_search_finds_a_node_by_the_names_users_know(comfy: ComfyPage, typed: str) -> None:
    title = comfy.add(NODE)["title"]
    comfy.call("clear")
    comfy.execute("Workspace.SearchBox.Toggle")
    comfy.page.locator("input[role=combobox]").last.fill(typed)
    found = comfy.page.get_by_test_id("result-item").filter(has_text=title).filter(has_text="tiller")
    found.first.wait_for(timeout=10_000)
    comfy.screenshot(f"search-{'-'.join(comfy.face)}-{typed}")
    found.first.click()
    comfy.page.mouse.click(700, 500)
    comfy.page.wait_for_function(
        "type => app.graph.nodes.some(node => node.type === type)", arg=NODE, timeout=5_000
    )


def test_the_help_of_a_node_opens_in_the_page(comfy: ComfyPage) -> None:
    node = comfy.call("add", NODE)
    comfy.call("center", node)
    comfy.call("select", node)
    comfy.page.get_by_test_id("info-button").click()
    shown = comfy.page.locator(".node-help-content .markdown-content")
    shown.wait_for(timeout=10_000)
    text = help_page(NODE, comfy.face.locale)
    assert heading(text) in shown.inner_text()
    assert shown.locator("h1, h2").count() >= 1
