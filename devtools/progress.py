"""A run on the server as the terminal shows it: the node at work, its steps, and in the end all times."""

from __future__ import annotations

import sys
import time

from .client import Event, Prompt, RunResult
from .messages import Trouble
from .processes import say
from .server_process import Server


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


def say_times(prompt: Prompt, result: RunResult, least: float = 0.0) -> None:
    """The seconds of each node, and of those below `least` together."""
    say("Time of each node:")
    spent = {node: result.seconds.get(node, 0.0) for node in result.executed}
    shown = {node: seconds for node, seconds in spent.items() if seconds >= least}
    for node, seconds in shown.items():
        say(f"  {seconds:7.2f} s  {title_of(prompt, node)}")
    if len(shown) < len(spent):
        say(f"  {sum(spent.values()) - sum(shown.values()):7.2f} s  {len(spent) - len(shown)} others")
    say(f"  {result.total_seconds:7.2f} s  in all")
