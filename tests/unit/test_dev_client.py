"""The websocket against a server that sends frames in every awkward way."""

import base64
import hashlib
import json
import socket
import struct
import threading

import pytest

from devtools.client import Event, RunResult, _event, _note
from devtools.socket_messages import GUID, Disconnected, MessageSocket


def frame(opcode, payload, final=True):
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + bytes([126]) + struct.pack(">H", len(payload)) + payload
    return head + bytes([127]) + struct.pack(">Q", len(payload)) + payload


class Peer:
    """One accepted connection; shakes hands, then sends what the test says."""

    def __init__(self, accept=True):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accept = accept
        self.thread = threading.Thread(target=self._greet)
        self.thread.start()

    def _greet(self):
        self.peer, _ = self.listener.accept()
        request = self.peer.recv(4096).decode()
        key = next(
            line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key")
        )
        token = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        status = "101 Switching Protocols" if self.accept else "403 Forbidden"
        self.peer.sendall(f"HTTP/1.1 {status}\r\nSec-WebSocket-Accept: {token}\r\n\r\n".encode())

    def close(self):
        self.thread.join()
        self.peer.close()
        self.listener.close()


@pytest.fixture
def pair():
    peer = Peer()
    client = MessageSocket("127.0.0.1", peer.port, "/ws")
    peer.thread.join()
    yield peer.peer, client
    client.close()
    peer.close()


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_messages_of_any_length_arrive_whole(pair, size):
    peer, client = pair
    sender = threading.Thread(target=peer.sendall, args=(frame(1, b"x" * size),))
    sender.start()
    assert client.receive(5) == "x" * size
    sender.join()


def test_pieces_are_joined_pings_answered_and_previews_left_out(pair):
    peer, client = pair
    text = "Grüße".encode()
    peer.sendall(
        frame(2, b"preview") + frame(1, text[:3], final=False) + frame(9, b"hi") + frame(0, text[3:])
    )
    assert client.receive(5) == "Grüße"
    pong = peer.recv(100)
    mask, masked = pong[2:6], pong[6:]
    assert pong[0] == 0x8A
    assert bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked)) == b"hi"


def test_half_a_message_waits_for_its_rest(pair):
    peer, client = pair
    whole = frame(1, b"later")
    peer.sendall(whole[:4])
    assert client.receive(0.05) is None
    peer.sendall(whole[4:] + frame(1, b"next"))
    assert client.receive(5) == "later"
    assert client.receive(5) == "next"


def test_a_closed_connection_is_told(pair):
    peer, client = pair
    peer.sendall(frame(8, b""))
    with pytest.raises(Disconnected):
        client.receive(5)
    peer.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Disconnected):
        client.receive(5)


def test_a_refused_websocket_is_told():
    peer = Peer(accept=False)
    with pytest.raises(Disconnected, match="did not open a websocket"):
        MessageSocket("127.0.0.1", peer.port, "/ws")
    peer.close()


def message(kind, **data):
    return json.dumps({"type": kind, "data": data})


def test_events_of_other_prompts_are_left_out():
    assert _event(message("executing", node="1", prompt_id="other"), "mine") is None
    assert _event(message("status", status={}), "mine") is None
    assert _event(message("executing", node=7, prompt_id="mine"), "mine").node == "7"


def test_a_result_is_gathered_from_the_events():
    result = RunResult("mine")
    for event in (
        Event("execution_cached", None, {"nodes": ["4", 5]}),
        Event("executing", "1", {}),
        Event("executing", "1", {}),
        Event("executing", "2", {}),
        Event("execution_error", "2", {"exception_message": "it broke\n", "node_id": "2"}),
    ):
        _note(result, event)
    assert result.executed == ["1", "2"]
    assert result.cached == {"4", "5"}
    assert result.errors == ["it broke"]
    assert not result.ok


def test_pictures_are_found_in_the_outputs():
    outputs = {
        "9": {"images": [{"filename": "a.png", "subfolder": "s", "type": "output"}]},
        "3": {"text": ["x"]},
    }
    images = RunResult("mine", outputs=outputs).images
    assert [(i.node, i.filename, i.subfolder, i.type) for i in images] == [("9", "a.png", "s", "output")]
