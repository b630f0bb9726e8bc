"""One ComfyUI page in a real Chromium, driven as a user would."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Locator, Page, Response, TimeoutError

HELPERS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
PACK = "tiller"
"""The folder under custom_nodes: the pack's name in addresses and in the templates dialog."""

READY = """vue => window.app?.extensionManager && window.app.graph && window.LiteGraph
    && Object.keys(LiteGraph.registered_node_types).length > 100 && app.graph.nodes.length > 0
    && LiteGraph.vueNodesMode === vue && (!vue || document.querySelector('[data-node-id]'))"""
"""The page has loaded its first workflow and drawn it; a file dropped earlier can stay undrawn."""
STILL = """document.addEventListener('DOMContentLoaded', () => {
    const style = document.createElement('style')
    style.textContent = '.p-blockui-mask { animation: none !important }'
    document.head.append(style)
})"""
"""On a busy machine the mask of the page's start can miss the end of its animation and then lies over
everything for good; without an animation the front end takes it away at once."""

STAND_INS = {
    "ckpt_name": "tiller_standin_sd15.safetensors",
    "control_net_name": "tiller_standin_control_sd15.safetensors",
    "control_name": "tiller_standin_control_sd15.safetensors",
    "ip_adapter_name": "tiller_standin_ip_adapter_sd15.safetensors",
    "encoder_name": "tiller_standin_encoder_h.safetensors",
    "lora_name": "tiller_standin_lora_sd15.safetensors",
}
FACE_ID = "tiller_standin_faceid_sd15.safetensors"
"""In place of adapters whose name has the word: the node that applies them takes no other."""
SMALL = {
    "hints": "canny, hed",
    "steps": 2,
    "batch_size": 1,
    "union_type": "auto",
    "weight_type": "linear",
}
"""`union_type`: the small control net is no Union net. `weight_type`: the small model has too few layers."""
LATENTS = frozenset({"EmptyLatentImage", "EmptySD3LatentImage"})
SIDE = 64
PICTURES = frozenset({"SaveImage", "PreviewImage"})
ENGLISH_HELP = re.compile(r"/docs/\w+/en\.md$")
"""English help is the flat page; the front end asks for the one by locale first, and gets 404."""


def stand_in(widget: str, file: str) -> str | None:
    """The file chosen in a loader's widget in place of the one that a workflow names; None for no loader."""
    if widget == "ip_adapter_name" and "faceid" in file:
        return FACE_ID
    return STAND_INS.get(widget)


class Face(NamedTuple):
    """What a user chose in the settings: the language and how nodes are drawn."""

    locale: str
    renderer: str

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "Comfy.Locale": self.locale,
            "Comfy.VueNodes.Enabled": self.renderer == "vue",
            "Comfy.TutorialCompleted": True,
            "Comfy.Workflow.Persist": False,
            "LiteGraph.Node.TooltipDelay": 50,
        }


@dataclass
class ComfyPage:
    """The page of one face. `trouble` collects page errors and answers >= 400 for the pack's files."""

    page: Page
    address: str
    face: Face
    screenshots: Path
    trouble: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Store the face's settings, load the page and wait until it can be used."""
        answer = self.page.request.post(f"{self.address}/settings", data=self.face.settings)
        assert answer.ok, f"the server refused the settings: {answer.status}"
        self.page.on("pageerror", lambda error: self.trouble.append(f"page error: {error}"))
        self.page.on("response", self._note)
        self.page.set_default_timeout(20_000)
        self.page.add_init_script(STILL)
        self.load()

    def load(self) -> None:
        """Load the page, or load it again, and wait until it can be used."""
        self.page.goto(self.address)
        self.page.wait_for_function(READY, arg=self.face.renderer == "vue", timeout=90_000)
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate(HELPERS)

    def _note(self, response: Response) -> None:
        own = f"/extensions/{PACK}/" in response.url or f"/workflow_templates/{PACK}/" in response.url
        if own and response.status >= 400 and not ENGLISH_HELP.search(response.url):
            self.trouble.append(f"{response.status} for {response.url}")

    def call(self, name: str, *arguments: Any) -> Any:
        """Result of `tillerPage.<name>(...arguments)` of page.js."""
        return self.page.evaluate(
            "async ([name, given]) => await tillerPage[name](...given)", [name, list(arguments)]
        )

    def wait(self, name: str, *arguments: Any, timeout: float = 15_000) -> None:
        """Wait until `tillerPage.<name>(...arguments)` is true."""
        self.page.wait_for_function(
            "([name, given]) => tillerPage[name](...given)", arg=[name, list(arguments)], timeout=timeout
        )

    def execute(self, command: str) -> None:
        """A command of the front end, as its menu and keys run it."""
        self.page.evaluate("id => app.extensionManager.command.execute(id)", command)

    def clear(self) -> None:
        """Close what is open and empty the canvas."""
        self.page.keyboard.press("Escape")
        self.call("clear")
        self.trouble.clear()

    def settle(self, nodes: int) -> None:
        """Wait until a workflow of so many nodes is there and the scan for missing files is over."""
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=nodes, timeout=20_000)
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(300)

    def drop(self, workflow: Path) -> None:
        """Drop a workflow file on the canvas."""
        text = workflow.read_text(encoding="utf-8")
        for left in (2, 1, 0):
            self.call("drop", workflow.name, text)
            self.settle(len(json.loads(text)["nodes"]))
            if self._is_drawn(left):
                return
            self.load()
            self.call("clear")

    def _is_drawn(self, left: int) -> bool:
        """Whether Vue has drawn the graph; on a busy machine a page can stay undrawn until it is reloaded.

        The nodes are then in the graph and run, but nothing is seen and no choice is noticed. Raises when
        `left` is 0.
        """
        if self.face.renderer != "vue":
            return True
        try:
            self.page.wait_for_selector("[data-node-id]", state="attached", timeout=5_000)
        except TimeoutError:
            if not left:
                raise
            return False
        return True

    def open_template(self, workflow: Path) -> Locator:
        """Open the templates dialog at the pack's page; the card of the workflow."""
        self.execute("Comfy.BrowseTemplates")
        group = self.page.get_by_role("dialog").get_by_text(PACK, exact=True).first
        group.wait_for(timeout=20_000)
        group.click()
        card = self.page.get_by_test_id(f"template-workflow-{workflow.stem}")
        card.wait_for(timeout=20_000)
        card.scroll_into_view_if_needed()  # the dialog loads a thumbnail when its card comes into sight
        return card

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Node id -> type, title, registered, values, widgets, inputs, outputs."""
        return {node["id"]: node for node in self.call("nodes")}

    def add(self, kind: str) -> dict[str, Any]:
        """Put a new node on the canvas; its entry as in `nodes()`."""
        made = self.call("add", kind)
        return self.nodes()[made]

    def use_stand_ins(self, seed: int) -> None:
        """Point the loaders to the small random models and make the run short, through the widgets."""
        for node in self.call("nodes"):
            for widget in node["widgets"]:
                name, change = widget["name"], None
                if name in STAND_INS:
                    change = stand_in(name, widget["value"])
                elif name in SMALL:
                    change = SMALL[name]
                elif name == "seed":
                    change = seed
                elif name in ("width", "height") and node["type"] in LATENTS:
                    change = SIDE
                if change is not None:
                    self.call("set", node["id"], name, change)
        self._see_stand_ins()

    def _see_stand_ins(self) -> None:
        """Wait until the page misses no model any more, choosing again where it still does.

        On a busy machine the page's scan for missing models can end after the choice, and then shows what
        was missing before it.
        """
        for left in (2, 1, 0):
            try:
                self.page.wait_for_function("tillerPage.missingModels().length === 0", timeout=5_000)
                return
            except TimeoutError:
                if not left:
                    raise
            missing = {model["node"]: model["name"] for model in self.call("missingModels")}
            for node in self.call("nodes"):
                for widget in node["widgets"]:
                    chosen = stand_in(widget["name"], missing.get(node["id"], ""))
                    if node["id"] in missing and chosen is not None and widget["value"] == chosen:
                        for name in (missing[node["id"]], chosen):
                            self.call("set", node["id"], widget["name"], name)

    def run(self, timeout: float = 120.0) -> None:
        """Press the Run button and wait until the server has finished; fails with the server's words."""
        self.page.get_by_test_id("queue-button").click()
        self.wait("finished", timeout=timeout * 1000)
        failed = [event["detail"] for event in self.call("events") if event["kind"] == "execution_error"]
        errors = self.call("nodeErrors")
        assert not failed, f"the run failed: {failed}"
        assert not errors, f"the server refused nodes: {errors}"

    def executed(self) -> set[str]:
        """Ids of the nodes that reported an output in the last run."""
        return {str(event["detail"]["node"]) for event in self.call("events") if event["kind"] == "executed"}

    def hover(self, node: str, widget: str | None = None) -> str:
        """Rest the mouse on a node's title or on one of its widgets; the text of the tooltip."""
        self.page.mouse.move(5, 5)
        self.call("center", node)
        self.page.wait_for_timeout(300)
        tip = self.page.locator(".p-tooltip" if self.face.renderer == "vue" else ".node-tooltip").first
        if self.face.renderer == "vue":
            own = self.page.locator(f'[data-node-id="{node}"]')
            if widget is None:
                own.get_by_test_id("node-title").hover()
            else:
                shown = next(
                    own_widget["shown"]
                    for own_widget in self.nodes()[node]["widgets"]
                    if own_widget["name"] == widget
                )
                own.get_by_text(shown, exact=True).first.hover()
        else:
            x, y = self.call("place", node, widget)
            self.page.mouse.move(x - 4, y)
            self.page.mouse.move(x, y, steps=3)
        tip.wait_for(timeout=5_000)
        return tip.inner_text().strip()

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the page under the screenshots folder."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        path = self.screenshots / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-')}.png"
        self.page.screenshot(path=str(path))
        return path
