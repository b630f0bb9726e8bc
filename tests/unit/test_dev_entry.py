"""dev.py runs before anything is installed, on any Python, and never shows a traceback."""

import ast
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from devtools import cli
from devtools.messages import Trouble

ROOT = Path(__file__).resolve().parent.parent.parent


def test_dev_py_parses_on_python_3_6():
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_an_old_python_gets_a_sentence():
    pretend = (
        "import sys, runpy; sys.version_info = (3, 8, 1); sys.argv = ['dev.py', 'test'];"
        f"runpy.run_path({str(ROOT / 'dev.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs Python 3.10 or newer, this one is 3.8" in done.stderr
    assert "Traceback" not in done.stderr


BEFORE_ANY_SET_UP = [
    ROOT / "dev.py",
    *sorted((ROOT / "devtools").glob("*.py")),
    ROOT / "default_model" / "files.py",
]


@pytest.mark.parametrize("path", BEFORE_ANY_SET_UP, ids=lambda p: p.name)
def test_imports_on_top_are_of_the_standard_library(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    for node in tree.body:
        if ast.unparse(node) == "from default_model import files":
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_no_program_is_started_through_a_shell():
    for path in [ROOT / "dev.py", *(ROOT / "devtools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert "shell" not in {keyword.arg for keyword in node.keywords}, path
                assert ast.unparse(node.func) not in ("os.system", "os.popen"), path


def failing(error):
    def ready():
        raise error

    return ready


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (Trouble("It was this. Do that.", 3), 3, "It was this. Do that."),
        (KeyboardInterrupt(), 130, "Stopped. Run the same command again"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "is full. Free some space"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/some/file"),
            1,
            "No permission to write /some/file",
        ),
        (TimeoutError("The prompt did not end within 9 s."), 1, "did not end within 9 s"),
        (ConnectionResetError("reset"), 1, "The system refused: reset"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_becomes_a_sentence_and_a_code(error, code, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.run(["check"], ready=failing(error)) == code
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert "Traceback" not in shown.out + shown.err


def test_an_unknown_layer_is_refused_before_anything_is_set_up(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["test", "unti"], ready=failing(AssertionError("it set up")))
    assert ended.value.code == 2
    assert "unit, host, workflows, browser" in capsys.readouterr().err


def test_what_follows_two_dashes_goes_to_pytest(monkeypatch):
    given = []
    monkeypatch.setattr(cli.testing, "test", lambda *arguments: given.append(arguments[1:]) or 0)
    assert cli.run(["test", "unit", "host", "--", "-k", "canny"], ready=lambda: None) == 0
    assert given == [(["unit", "host"], ["-k", "canny"])]
