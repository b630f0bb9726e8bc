"""The host's API: post a prompt, follow it over the websocket, collect what it made.

Used by `dev.py quickstart` and by the tests against the real server.
"""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .messages import Trouble
from .socket_messages import MessageSocket

Prompt = dict[str, Any]


class Event(NamedTuple):
    """One message of the server about our prompt: its kind (`executing`, `progress`, ...), node and data."""

    kind: str
    node: str | None
    data: dict[str, Any]


class ImageFile(NamedTuple):
    """A picture on the server: the node that wrote it and where it lies."""

    node: str
    filename: str
    subfolder: str
    type: str


@dataclass
class RunResult:
    """What became of one prompt.

    `executed`: ids of the nodes that ran, in order; `cached`: those that were reused; `seconds`: per node;
    `outputs`: node id -> its ui output; `error`: the server's record of the node that failed, or of a refused
    prompt; `node_errors`: node id -> what validation found (also when only one branch was dropped).
    """

    prompt_id: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    interrupted: bool = False
    node_errors: dict[str, Any] = field(default_factory=dict)
    total_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """The whole prompt ran: no error, no interruption, no dropped branch."""
        return self.error is None and not self.interrupted and not self.node_errors

    @property
    def errors(self) -> list[str]:
        """Every sentence the server has about this prompt: of the failed node and of validation."""
        found = []
        if self.error:
            found.append(str(self.error.get("exception_message") or self.error.get("message") or "").strip())
        for node in self.node_errors.values():
            found += [f"{e['message']}: {e['details']}" for e in node.get("errors", [])]
        return found

    @property
    def images(self) -> list[ImageFile]:
        """Every picture in the outputs."""
        return [
            ImageFile(node, image["filename"], image.get("subfolder", ""), image.get("type", "output"))
            for node, output in self.outputs.items()
            for image in output.get("images", [])
        ]


class Client:
    """Talks to one server on 127.0.0.1."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def request(self, method: str, path: str, body: Any = None, timeout: float = 60.0) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON at a path of the server. Raises Trouble for anything but 200."""
        status, data = self.request("GET", path)
        if status != 200:
            raise Trouble(
                f"The server must answer {path}, got HTTP {status}: {data[:300].decode('utf-8', 'replace')}"
            )
        return json.loads(data)

    def download(self, image: ImageFile) -> bytes:
        """The bytes of a picture file."""
        query = urlencode({"filename": image.filename, "subfolder": image.subfolder, "type": image.type})
        status, data = self.request("GET", f"/view?{query}")
        if status != 200:
            raise Trouble(
                f"The server must give the picture {image.filename}, got HTTP {status}. Look into its log."
            )
        return data

    def interrupt(self) -> None:
        """Stop the prompt that is running."""
        self.request("POST", "/interrupt", {})

    def clear_cache(self) -> None:
        """Unload the models and forget all results before the next prompt."""
        self.request("POST", "/free", {"unload_models": True, "free_memory": True})

    def run(
        self, prompt: Prompt, on_event: Callable[[Event], None] | None = None, timeout: float = 600.0
    ) -> RunResult:
        """Post a prompt in API form and wait for its end. A refused or failed prompt is told in the result.

        Raises TimeoutError when it has not ended in time (it is interrupted then), ConnectionError when
        the server went away.
        """
        client_id = uuid.uuid4().hex
        socket = MessageSocket(self.host, self.port, f"/ws?clientId={client_id}")
        try:
            result = self._submit(prompt, client_id)
            if result.prompt_id:
                self._follow(socket, result, on_event, timeout)
                history = self.get(f"/history/{result.prompt_id}")
                result.outputs = history.get(result.prompt_id, {}).get("outputs", {})
            return result
        finally:
            socket.close()

    def _submit(self, prompt: Prompt, client_id: str) -> RunResult:
        body = {"prompt": prompt, "client_id": client_id, "extra_data": {"extra_pnginfo": {}}}
        status, data = self.request("POST", "/prompt", body)
        try:
            answer = json.loads(data)
        except ValueError:
            answer = {"error": {"message": f"HTTP {status}: {data[:300].decode('utf-8', 'replace')}"}}
        if status != 200 and "error" not in answer:
            answer["error"] = {"message": f"HTTP {status}"}
        error = answer.get("error")
        if isinstance(error, str):
            error = {"message": error}
        node_errors = answer.get("node_errors") or {}
        return RunResult(str(answer.get("prompt_id", "")), error=error, node_errors=node_errors)

    def _follow(
        self,
        socket: MessageSocket,
        result: RunResult,
        on_event: Callable[[Event], None] | None,
        timeout: float,
    ) -> None:
        """Read messages until the server says that the prompt has ended."""
        start = since = time.monotonic()
        current: str | None = None
        while True:
            if time.monotonic() - start > timeout:
                self.interrupt()
                raise TimeoutError(
                    f"The prompt did not end within {timeout:.0f} s; it was at node {current}."
                )
            text = socket.receive(1.0)
            event = _event(text, result.prompt_id) if text else None
            if event is None:
                continue
            if event.kind == "executing":
                now = time.monotonic()
                if current is not None:
                    result.seconds[current] = result.seconds.get(current, 0.0) + now - since
                current, since = event.node, now
            _note(result, event)
            if on_event is not None:
                on_event(event)
            if event.kind == "executing" and event.node is None:
                result.total_seconds = time.monotonic() - start
                return


def _event(text: str, prompt_id: str) -> Event | None:
    message = json.loads(text)
    data = message.get("data") or {}
    if data.get("prompt_id") != prompt_id:
        return None
    node = data.get("node", data.get("node_id"))
    return Event(message["type"], None if node is None else str(node), data)


def _note(result: RunResult, event: Event) -> None:
    if event.kind == "executing" and event.node is not None and event.node not in result.executed:
        result.executed.append(event.node)
    elif event.kind == "execution_cached":
        result.cached |= {str(node) for node in event.data.get("nodes", [])}
    elif event.kind == "execution_error":
        result.error = event.data
    elif event.kind == "execution_interrupted":
        result.interrupted = True
