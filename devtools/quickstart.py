"""quickstart: pictures from a real server and a real photograph. serve: the same server, kept running."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import default_tour, models
from .client import Prompt
from .environment import Environment
from .messages import MODELS_OF_OURS, TOY_MODEL, Trouble, last_line, server_died
from .processes import output_of, say
from .progress import follow, say_times, title_of
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


def _with_models_of_ours(environment: Environment, options: Options) -> Server:
    folder = models.ensure_standins(environment)
    config = environment.places.dev / "base" / "model_folders.yaml"
    return make_server(environment, options, models.standin_options(folder, config), small=True)


def quickstart(environment: Environment, options: Options) -> int:
    """Make pictures: the recipe with the user's models, or a contact sheet with the default model."""
    target = (options.output or environment.places.dev / "quickstart").expanduser().resolve()
    if options.models is None:
        say(TOY_MODEL)
        server, work = _with_models_of_ours(environment, options), default_tour.show
    else:
        chosen = models.choose(options.models.expanduser().resolve())
        say(chosen.note)
        prompt = models.with_models(recipe(environment), chosen)
        folders = {"checkpoints": [chosen.checkpoint.path.parent], "controlnet": [chosen.control.path.parent]}
        config = models.extra_paths(folders, environment.places.dev / "base" / "model_folders.yaml")
        server = make_server(environment, options, config, small=False)
        work = partial(run_recipe, prompt)
    with server:
        work(server, target)
        if options.keep:
            stay(server)
    return 0


def serve(environment: Environment, options: Options) -> int:
    """Keep the server running with models of ours and photographs in place."""
    with _with_models_of_ours(environment, options) as server:
        say(MODELS_OF_OURS)
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


def run_recipe(prompt: Prompt, server: Server, target: Path) -> None:
    """Run it and fetch the pictures, then print the time of each node and the path of each picture."""
    result = follow(server, prompt)
    target.mkdir(parents=True, exist_ok=True)
    say_times(prompt, result)
    if not result.images:
        raise Trouble(f"The recipe ran but made no picture. Look into {server.log}.")
    say("Pictures:")
    for image in result.images:
        path = target / image.filename
        path.write_bytes(server.client.download(image))
        say(f"  {path}  ({title_of(prompt, image.node)})")
