"""The real server as a child process: started on a free port of 127.0.0.1 over a base folder of our own.

The base folder (`--base-directory`) holds custom_nodes, models, input, output and user data, so that the
host's own folder stays untouched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from .client import Client
from .environment import ROOT, Environment
from .links import link_folder
from .messages import (
    ANSI,
    Trouble,
    disk_full,
    no_space_left,
    pack_failed,
    port_taken,
    server_died,
    server_slow,
)
from .processes import Stage, environment, output_of, stop

PACK = "tiller"
FOLDERS = ("custom_nodes", "models/checkpoints", "models/controlnet", "input", "output", "user", "temp")
IN_USE = ("address already in use", "error while attempting to bind")


def lay_out(base: Path, packs: Mapping[str, Path] | None = None) -> None:
    """Make the base folder with links to the packs (by default this one) under custom_nodes."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    for name, source in (packs or {PACK: ROOT}).items():
        link_folder(source, base / "custom_nodes" / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def needs_cpu(python: Path) -> bool:
    """Whether the server must be told `--cpu`. Torch is asked only where a device may be."""
    signs = (Path("/dev/nvidia0"), Path("/dev/kfd"))
    if not (sys.platform == "darwin" or shutil.which("nvidia-smi") or any(sign.exists() for sign in signs)):
        return True
    ask = "import torch; print(torch.cuda.is_available() or torch.backends.mps.is_available())"
    code, out, _ = output_of([python, "-c", ask])
    return code != 0 or out.strip() != "True"


@dataclass
class Server:
    """A server to be used in a `with` block; it ends with the block.

    `small`: the models are the small stand-ins, for which one thread is many times faster than several.
    `command` replaces the program to start (tests do).
    """

    environment: Environment
    base: Path
    log: Path
    port: int | None = None
    small: bool = True
    options: tuple[str, ...] = ()
    packs: tuple[str, ...] = (PACK,)
    command: tuple[str, ...] = ()
    patience: float = 300.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    client: Client = field(default_factory=lambda: Client(0), init=False)

    @property
    def address(self) -> str:
        return self.client.address

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers. Raises Trouble when it dies, is too slow or lacks the pack."""
        if self.port is not None and not is_free(self.port):
            raise Trouble(port_taken(self.port))
        cpu = ("--cpu",) if needs_cpu(self.environment.python) else ()
        stage = Stage("Starting the server")
        for attempt in range(3):
            port = self.port or free_port()
            self.client = Client(port)
            self._launch(port, cpu)
            try:
                self._wait(stage)
                self._check_packs()
            except Trouble:
                self.stop()
                lost_port = any(sign in self.log_text() for sign in IN_USE)
                if lost_port and self.port is None and attempt < 2:
                    continue
                stage.failed()
                raise
            except (KeyboardInterrupt, OSError):
                self.stop()
                raise
            stage.done(f"ready at {self.address}")
            return

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process, patience=10.0)

    def log_text(self) -> str:
        return (
            ANSI.sub("", self.log.read_text(encoding="utf-8", errors="replace")) if self.log.is_file() else ""
        )

    def _launch(self, port: int, cpu: tuple[str, ...]) -> None:
        program = self.command or (str(self.environment.python), str(self.environment.host / "main.py"))
        own = ("--disable-api-nodes", "--listen", "127.0.0.1", "--port", str(port))
        kept = (
            "--base-directory",
            str(self.base),
            "--database-url",
            "sqlite:///:memory:",
            "--disable-auto-launch",
        )
        changes = {"OMP_NUM_THREADS": "1"} if self.small else {}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as file:
            # A session of its own: Ctrl-C reaches dev.py alone, which then ends the server in order.
            self.process = subprocess.Popen(
                [*program, *cpu, *own, *kept, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.base,
                env=environment(changes),
                start_new_session=True,
            )

    def _wait(self, stage: Stage) -> None:
        assert self.process is not None
        start = time.monotonic()
        while True:
            code = self.process.poll()
            if code is not None:
                if no_space_left(self.log.parent):
                    raise Trouble(disk_full(self.log.parent))
                raise Trouble(server_died(code, self.log, self.log_text()))
            try:
                if self.client.request("GET", "/system_stats", timeout=5.0)[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() - start > self.patience:
                raise Trouble(server_slow(self.patience, self.log))
            stage.tick()
            time.sleep(0.1)

    def _check_packs(self) -> None:
        """The host only logs a pack that it could not import, and goes on without it."""
        for pack in self.packs:
            reason = import_failure(self.log_text(), str(self.base / "custom_nodes" / pack))
            if reason:
                raise Trouble(pack_failed(pack, reason, self.log))


def import_failure(log: str, folder: str) -> str | None:
    """What the host's log says of a pack that it could not import or had to skip."""
    for line in log.splitlines():
        for sign in (f"Cannot import {folder} module", f"Skip {folder} module"):
            if sign in line:
                return line.partition(sign)[2].removeprefix(" for custom nodes").lstrip(": ").strip()
    return None
