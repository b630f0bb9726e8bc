"""dev.py test, check and bench: each in .venv, with honest exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import models
from .environment import Environment
from .messages import NO_CHROMIUM, Trouble, pip_trouble
from .processes import environment as child_environment
from .processes import run_logged, say

LAYERS = ("unit", "host", "workflows", "browser")
PYTEST = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
)
"""Not `-m pytest`: that puts the repository on sys.path, where our nodes/ hides the host's nodes.py."""

SIDE_BY_SIDE = frozenset({"unit", "host"})
"""Layers whose files run in several processes; the others share one server or one page."""

MOST_PROCESSES = 4
"""Each process of the host layer holds its own models and may start its own server."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)
CJK_FONTS = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")


class Outcome(NamedTuple):
    """One layer's counts. `broken` says why the layer itself failed, beyond its tests."""

    layer: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    broken: str = ""


def find_chromium() -> str | None:
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        if not Path(named).is_file():
            raise Trouble(
                f"CHROMIUM_PATH must name the Chromium program, got {named}. Correct it or unset it."
            )
        return named
    found = [path for name in CHROMIUM_NAMES if (path := shutil.which(name))]
    return next(iter(found + [place for place in CHROMIUM_PLACES if Path(place).is_file()]), None)


def may_install() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def ensure_chromium(log: Path) -> str:
    """The path of Chromium; installed with apt-get where this may be done. Raises Trouble otherwise."""
    found = find_chromium()
    lacking = [] if found else ["chromium"]
    if not CJK_FONTS.exists():
        lacking.append("fonts-noto-cjk")
    if lacking and may_install():
        say(f"Installing {' and '.join(lacking)} with apt-get for the browser tests.")
        changes = {"DEBIAN_FRONTEND": "noninteractive"}
        run_logged(["apt-get", "update"], log, "apt-get update", changes)
        code, text = run_logged(
            ["apt-get", "install", "-y", *lacking], log, f"apt-get install {lacking}", changes
        )
        if code and not found:
            raise Trouble(pip_trouble("Installing Chromium", text, log))
        found = found or find_chromium()
    if not found:
        raise Trouble(NO_CHROMIUM)
    return found


def read_outcome(layer: str, report: Path, code: int, seconds: float) -> Outcome:
    """Counts from pytest's report. A crash, or a layer in which nothing ran, is a failure."""
    if not report.is_file():
        return Outcome(layer, seconds=seconds, broken=f"pytest ended with {code} and no report")
    suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {} if suite is None else suite.attrib
    total, skipped = int(counts.get("tests", 0)), int(counts.get("skipped", 0))
    failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
    passed = max(total - skipped - failed, 0)
    broken = ""
    if passed + failed == 0:
        broken = "no test ran"
    elif code and not failed:
        broken = f"pytest ended with {code}"
    return Outcome(layer, passed, failed, skipped, seconds, broken)


def processes(layer: str, extra: Sequence[str], cores: int | None) -> list[str]:
    """pytest-xdist's arguments: one process per core, whole files to each.

    None for one core, a number of the user's own, or a debugger.
    """
    count = min(cores or 1, MOST_PROCESSES)
    chosen = any(word.startswith("-n") or word == "--pdb" for word in extra)
    if layer not in SIDE_BY_SIDE or count < 2 or chosen:
        return []
    return ["-n", str(count), "--dist", "loadfile"]


def run_layer(
    environment: Environment, layer: str, extra: Sequence[str], variables: dict[str, str]
) -> Outcome:
    say(f"== {layer} ==")
    start = time.monotonic()
    report = environment.places.logs / f"tests-{layer}.xml"
    report.unlink(missing_ok=True)
    named = [part for part in extra if (environment.places.root / part.split("::")[0]).exists()]
    folder = [] if named else [str(environment.places.root / "tests" / layer)]
    side_by_side = processes(layer, extra, os.cpu_count())
    own = [*folder, *side_by_side, f"--junitxml={report}", "-q", *extra]
    command = [str(environment.python), "-c", PYTEST, *own]
    done = subprocess.run(
        command,
        cwd=environment.places.root,
        stdin=subprocess.DEVNULL,
        env=child_environment(environment.variables | {"OMP_NUM_THREADS": "1"} | variables),
        check=False,
    )
    return read_outcome(layer, report, done.returncode, time.monotonic() - start)


def summary(outcomes: Sequence[Outcome]) -> tuple[str, int]:
    """The table of all layers with the total as its last line, and the exit code."""
    lines = [f"{'layer':<10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}"]
    for o in outcomes:
        note = f"  {o.broken}" if o.broken else ""
        lines.append(f"{o.layer:<10} {o.passed:>7} {o.failed:>7} {o.skipped:>8} {o.seconds:>8.1f}{note}")
    failed = sum(o.failed + bool(o.broken) for o in outcomes)
    skipped = sum(o.skipped for o in outcomes)
    total = f"{sum(o.passed for o in outcomes)} passed, {failed} failed"
    lines.append(total + (f", {skipped} skipped" if skipped else ""))
    return "\n".join(lines), 1 if failed or not outcomes else 0


def test(environment: Environment, layers: Sequence[str], extra: Sequence[str]) -> int:
    """Run the layers (all by default), each in its own pytest."""
    outcomes = []
    models.ensure_standins(environment, models.standins.STANDINS)
    for layer in layers or LAYERS:
        variables = {}
        if layer == "browser":
            try:
                variables["CHROMIUM_PATH"] = ensure_chromium(environment.places.logs / "chromium.log")
            except Trouble as trouble:
                print(trouble, file=sys.stderr, flush=True)
                outcomes.append(Outcome(layer, broken="no Chromium"))
                continue
        outcomes.append(run_layer(environment, layer, extra, variables))
    text, code = summary(outcomes)
    say(text)
    return code


def check(environment: Environment) -> int:
    """ruff, ruff format and pyright; all of them, even when the first complains."""
    failed = []
    for title, arguments in (
        ("ruff", ["ruff", "check", "."]),
        ("ruff format", ["ruff", "format", "--check", "."]),
        ("pyright", ["pyright", "--pythonpath", str(environment.python)]),
    ):
        say(f"== {title} ==")
        if run_tool(environment, ["-m", *arguments]):
            failed.append(title)
    say(f"check: {'failed: ' + ', '.join(failed) if failed else 'clean'}")
    return 1 if failed else 0


def bench(environment: Environment, name: str, extra: Sequence[str]) -> int:
    folder = environment.places.root / "bench"
    known = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if name not in known:
        raise Trouble(f"bench needs one of {', '.join(known) or '(none yet)'}, got {name}.", 2)
    return run_tool(environment, [str(folder / f"{name}.py"), *extra])


def tool(environment: Environment, name: str) -> int:
    """One of the small programs in devtools/."""
    return run_tool(environment, [str(environment.places.root / "devtools" / f"{name}.py")])


def run_tool(environment: Environment, arguments: Sequence[str]) -> int:
    """A program of .venv with its output in the terminal."""
    done = subprocess.run(
        [str(environment.python), *arguments],
        cwd=environment.places.root,
        stdin=subprocess.DEVNULL,
        env=child_environment(environment.variables),
        check=False,
    )
    return done.returncode
