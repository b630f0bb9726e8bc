"""What the shipped code may never do, read from its source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = [
    ROOT / "__init__.py",
    *(p for room in ("nodes", "preprocessors", "adapters") for p in (ROOT / room).rglob("*.py")),
]
FORBIDDEN_MODULES = {
    "subprocess", "socket", "urllib", "http", "requests", "aiohttp", "httpx", "ftplib", "pickle", "marshal",
    "shelve", "ctypes", "huggingface_hub", "pip", "importlib",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "print"}
HEAVY_MODULES = {
    "cv2",
    "segno",
    "onnxruntime",
    "transformers",
    "controlnet_aux",
    "insightface",
    "skimage",
    "scipy",
    "spandrel",
}
FILES = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))


def imported(nodes):
    """Top-level names of the modules that these statements import; relative imports aside."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@FILES
def test_no_network_no_processes_no_pickles(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not set(imported(ast.walk(tree))) & FORBIDDEN_MODULES


@FILES
def test_no_evaluation_and_no_print(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & FORBIDDEN_CALLS
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not attributes & {"os.system", "os.popen", "os.environ", "sys.path", "torch.load", "np.load"}


@FILES
def test_heavy_libraries_wait_until_they_are_needed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not set(imported(tree.body)) & HEAVY_MODULES


@FILES
def test_only_the_named_files_meet_the_host(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    met = set(imported(ast.walk(tree))) & {
        "comfy",
        "comfy_api",
        "folder_paths",
        "nodes",
        "server",
        "execution",
    }
    if path.parent.name == "nodes":
        assert met <= {"comfy_api"}
    elif path.name in ("_host.py", "apply.py"):
        assert met <= {"comfy", "folder_paths"}
    else:
        assert not met
