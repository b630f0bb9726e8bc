"""quickstart: pictures from a real server and a real photograph. serve: the same server, kept running."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import models
from .client import Event, Prompt, RunResult
from .environment import Environment
from .messages import STAND_INS, Trouble, last_line, server_died
from .processes import output_of, say
from .server_process import Server, lay_out

RECIPE = "quickstart"
PHOTOS = {"example.png": "astronaut.png", "coffee.png": "coffee.png", "cat.png": "chelsea.png"}
"""Name in the server's input folder -> the picture of scikit-image (free licences: its data/README.txt)."""


@dataclass(frozen=True)
class Options:
    models: Path | None = None
    output: Path | None = None
    keep: bool = False
    port: int | None = None


def copy_photos(environment: Environment, target: Path) -> None:
    """Put real photographs into the server's input folder, from the installed scikit-image."""
    find = "import importlib.util as u; s = u.find_spec('skimage'); print(s.origin if s else '')"
    code, out, err = output_of([environment.python, "-c", find])
    folder = Path(out.strip()).parent / "data" if code == 0 and out.strip() else None
    if folder is None:
        raise Trouble(
            f"The photograph comes with scikit-image, which .venv lacks ({last_line(err)}). "
            "Remove .dev/environment.json and run again."
        )
    target.mkdir(parents=True, exist_ok=True)
    for name, source in PHOTOS.items():
        if not (target / name).is_file():
            shutil.copyfile(folder / source, target / name)


def recipe(environment: Environment, name: str = RECIPE) -> Prompt:
    shipped = models.shipped_prompts(environment.places.root)
    if name not in shipped:
        raise Trouble(
            f"The recipe workflows/api/{name}.json is missing. Restore it (git checkout workflows)."
        )
    return shipped[name]


def make_server(
    environment: Environment, options: Options, model_options: tuple[str, ...], small: bool
) -> Server:
    base = environment.places.dev / "base"
    lay_out(base)
    copy_photos(environment, base / "input")
    log = environment.places.logs / "server.log"
    return Server(environment, base, log, port=options.port, small=small, options=model_options)


def _with_standins(environment: Environment, options: Options) -> Server:
    folder = models.ensure_standins(environment)
    config = environment.places.dev / "base" / "model_folders.yaml"
    return make_server(environment, options, models.standin_options(folder, config), small=True)


def quickstart(environment: Environment, options: Options) -> int:
    """Run the quickstart recipe and print the pictures' paths and the time of each node."""
    prompt = recipe(environment)
    if options.models is None:
        say(STAND_INS)
        prompt = models.made_small(prompt)
        server = _with_standins(environment, options)
    else:
        chosen = models.choose(options.models.expanduser().resolve())
        say(chosen.note)
        prompt = models.with_models(prompt, chosen)
        folders = {"checkpoints": [chosen.checkpoint.path.parent], "controlnet": [chosen.control.path.parent]}
        config = models.extra_paths(folders, environment.places.dev / "base" / "model_folders.yaml")
        server = make_server(environment, options, config, small=False)
    with server:
        result = follow(server, prompt)
        target = (options.output or environment.places.dev / "quickstart").expanduser().resolve()
        report(server, prompt, result, target)
        if options.keep:
            stay(server)
    return 0


def serve(environment: Environment, options: Options) -> int:
    """Keep the server running with stand-ins and photographs in place."""
    with _with_standins(environment, options) as server:
        say("All models are small random stand-ins: everything runs, sampled pictures look like noise.")
        stay(server)
    return 0


def stay(server: Server) -> None:
    say(f"The page is running at {server.address} (Ctrl-C ends it).")
    try:
        while server.process is not None and server.process.poll() is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        say("\nThe server has been ended.")
        return
    code = server.process.returncode if server.process else None
    raise Trouble(server_died(code, server.log, server.log_text()).replace("while starting ", ""))


def title_of(prompt: Prompt, node: str) -> str:
    return prompt[node].get("_meta", {}).get("title") or prompt[node]["class_type"]


class Progress:
    """Follows a run in the terminal: the node at work, its step, its seconds."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt, self.live = prompt, sys.stdout.isatty()
        self.node: str | None = None
        self.count, self.since, self.steps = 0, 0.0, ""

    def __call__(self, event: Event) -> None:
        if event.kind == "executing":
            self._finish()
            self.node, self.since, self.steps = event.node, time.monotonic(), ""
            if self.node is not None:
                self.count += 1
                self._show()
        elif event.kind == "progress" and event.node == self.node:
            self.steps = f", step {event.data['value']}/{event.data['max']}"
            self._show()

    def _line(self) -> str:
        title = title_of(self.prompt, self.node) if self.node in self.prompt else str(self.node)
        return f"  [{self.count}/{len(self.prompt)}] {title}{self.steps}"

    def _show(self) -> None:
        if self.live:
            print(f"\r{self._line()} ...", end="", flush=True)
        elif self.steps:
            print(f"{self._line()}, {time.monotonic() - self.since:.1f} s", flush=True)

    def _finish(self) -> None:
        if self.node is not None:
            start = "\r" if self.live else ""
            print(f"{start}{self._line()}: {time.monotonic() - self.since:.2f} s", flush=True)


def follow(server: Server, prompt: Prompt) -> RunResult:
    """Run a prompt and show its progress. Raises Trouble when it was refused, failed or lost a branch."""
    try:
        result = server.client.run(prompt, Progress(prompt), timeout=24 * 3600)
    except ConnectionError as error:
        code = server.process.poll() if server.process else None
        raise Trouble(
            f"The server went away during the run ({error}; exit code {code}). Look into {server.log}."
        ) from error
    if not result.ok:
        nodes = [
            *result.node_errors,
            *([str(result.error["node_id"])] if result.error and "node_id" in result.error else []),
        ]
        where = ", ".join(title_of(prompt, node) for node in nodes if node in prompt)
        said = " ".join(result.errors) or "it was interrupted"
        raise Trouble(
            f"The recipe did not run{f' (at {where})' if where else ''}: {said} Details: {server.log}"
        )
    return result


def report(server: Server, prompt: Prompt, result: RunResult, target: Path) -> None:
    """Fetch the pictures, then print the time of each node and the path of each picture."""
    target.mkdir(parents=True, exist_ok=True)
    say("Time of each node:")
    for node in result.executed:
        say(f"  {result.seconds.get(node, 0.0):7.2f} s  {title_of(prompt, node)}")
    say(f"  {result.total_seconds:7.2f} s  in all")
    if not result.images:
        raise Trouble(f"The recipe ran but made no picture. Look into {server.log}.")
    say("Pictures:")
    for image in result.images:
        path = target / image.filename
        path.write_bytes(server.client.download(image))
        say(f"  {path}  ({title_of(prompt, image.node)})")
