"""The command line of dev.py."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from . import quickstart, testing
from .environment import ROOT, Environment, prepare
from .messages import Trouble, os_trouble

Command = Callable[[Environment], int]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="dev.py", description="Development of Tiller: run it, test it, measure it."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("quickstart", help="make pictures on a real server, from nothing")
    start.add_argument("--models", type=Path, metavar="DIR", help="your own models (found by their keys)")
    start.add_argument(
        "--output", type=Path, metavar="DIR", help="where the pictures go (default: .dev/quickstart)"
    )
    start.add_argument("--keep", action="store_true", help="leave the page running")
    serve = commands.add_parser("serve", help="run the page with small models of ours")
    for command in (start, serve):
        command.add_argument("--port", type=int, help="port of 127.0.0.1 (default: a free one)")
    test = commands.add_parser("test", help="run the tests; what follows -- goes to pytest")
    test.add_argument(
        "layers", nargs="*", metavar="LAYER", help=f"{', '.join(testing.LAYERS)} (default: all)"
    )
    commands.add_parser("check", help="ruff and pyright")
    bench = commands.add_parser("bench", help="run one measurement; what follows -- goes to it")
    bench.add_argument("name")
    commands.add_parser("locales", help="write locales/en from the schemas and check locales/zh")
    commands.add_parser("workflows", help="write the API form of every shipped workflow")
    return top


def command_of(arguments: Sequence[str]) -> Command:
    """Read the command line. argparse ends the program itself on a wrong one."""
    own, extra = list(arguments), []
    if "--" in own:
        at = own.index("--")
        own, extra = own[:at], own[at + 1 :]
    reader = parser()
    given = reader.parse_args(own)
    if given.command in ("quickstart", "serve"):
        made = quickstart.Options(
            models=getattr(given, "models", None),
            output=getattr(given, "output", None),
            keep=getattr(given, "keep", False),
            port=given.port,
        )
        work = quickstart.quickstart if given.command == "quickstart" else quickstart.serve
        return lambda environment: work(environment, made)
    if given.command == "test":
        unknown = [layer for layer in given.layers if layer not in testing.LAYERS]
        if unknown:
            reader.error(f"test knows the layers {', '.join(testing.LAYERS)}, got {', '.join(unknown)}")
        return lambda environment: testing.test(environment, given.layers, extra)
    if given.command == "bench":
        return lambda environment: testing.bench(environment, given.name, extra)
    if given.command == "check":
        return testing.check
    name = {"locales": "locales", "workflows": "workflow_form"}[given.command]
    return lambda environment: testing.tool(environment, name)


def run(arguments: Sequence[str], ready: Callable[[], Environment] = prepare) -> int:
    """Do what the command line says. Whatever goes wrong becomes one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    command = command_of(arguments)
    signal.signal(signal.SIGTERM, _ended)
    try:
        return command(ready())
    except Trouble as trouble:
        return _say(str(trouble), trouble.code)
    except KeyboardInterrupt:
        return _say("\nStopped. Run the same command again to go on; what is there already is kept.", 130)
    except TimeoutError as error:
        return _say(f"{error} Look into {ROOT / '.dev/logs/server.log'} and run again.", 1)
    except OSError as error:
        _keep_details()
        return _say(os_trouble(error, ROOT), 1)


def _ended(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def _keep_details() -> None:
    """The traceback goes into a log; where even that cannot be written, the sentence has to do."""
    try:
        with (ROOT / ".dev/logs/dev.log").open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    except OSError:
        return
