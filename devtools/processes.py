"""Programs that dev.py starts: never through a shell, output into a log, one line of progress per stage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICK = 0.2


def say(text: str) -> None:
    print(text, flush=True)


class Stage:
    """One line in the terminal: what is being done, and in the end how long it took."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = time.monotonic()
        self.live = sys.stdout.isatty()
        self.shown = -1

    def tick(self) -> None:
        seconds = int(time.monotonic() - self.start)
        if self.live and seconds != self.shown:
            self.shown = seconds
            print(f"\r  {self.title} ... {seconds} s", end="", flush=True)

    def done(self, note: str = "done") -> None:
        seconds = time.monotonic() - self.start
        print(f"{chr(13) if self.live else ''}  {self.title}: {note} in {seconds:.1f} s", flush=True)

    def failed(self) -> None:
        self.done("failed")


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: UTF-8, unbuffered, and nothing of an outer virtual environment."""
    child = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    }
    child |= {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return child | dict(changes or {})


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    title: str,
    changes: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[int, str]:
    """Run a program (in `folder`) with its output appended to the log: its exit code and what it wrote."""
    log.parent.mkdir(parents=True, exist_ok=True)
    stage = Stage(title)
    with log.open("ab") as file:
        before = file.tell()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(changes),
            cwd=folder,
        )
        try:
            while process.poll() is None:
                stage.tick()
                time.sleep(TICK)
        finally:
            stop(process)
    with log.open("rb") as file:
        file.seek(before)
        text = file.read().decode("utf-8", "replace")
    if process.returncode:
        stage.failed()
    else:
        stage.done()
    return process.returncode, text


def output_of(
    command: Sequence[str | Path], changes: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a program quietly. Returns its exit code, what it printed, and what it complained about."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(changes),
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def stop(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """End a program that was started here: politely first, then for certain."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
