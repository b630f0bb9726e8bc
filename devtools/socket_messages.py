"""The receiving side of a websocket, as far as the host's progress messages need it. Source: RFC 6455."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Disconnected(ConnectionError):
    """The server closed the connection."""


class MessageSocket:
    """A connection to 127.0.0.1 that gives whole text messages; binary ones (previews) are left out."""

    def __init__(self, host: str, port: int, path: str, timeout: float = 30.0) -> None:
        self.socket = socket.create_connection((host, port), timeout)
        self.buffer = b""
        self.parts: list[bytes] = []
        self.kind = 0
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest())
        if not head.startswith(b"HTTP/1.1 101") or accept not in head:
            self.close()
            raise Disconnected(f"The server at {host}:{port} did not open a websocket.")

    def receive(self, timeout: float) -> str | None:
        """The next text message, or None when none came within the time."""
        self.socket.settimeout(timeout)
        while True:
            try:
                final, opcode, payload = self._frame()
            except TimeoutError:
                return None
            if opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                raise Disconnected("The server closed the connection.")
            elif opcode in (0, TEXT, BINARY):
                if opcode:
                    self.kind, self.parts = opcode, []
                self.parts.append(payload)
                if final and self.kind == TEXT:
                    return b"".join(self.parts).decode("utf-8")

    def close(self) -> None:
        self.socket.close()

    def _fill(self) -> None:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise Disconnected("The server closed the connection.")
        self.buffer += chunk

    def _frame(self) -> tuple[bool, int, bytes]:
        """One frame. What has arrived of it stays in the buffer when the time is up."""
        self._need(2)
        length, header = self.buffer[1] & 0x7F, 2
        if length == 126:
            self._need(4)
            length, header = struct.unpack(">H", self.buffer[2:4])[0], 4
        elif length == 127:
            self._need(10)
            length, header = struct.unpack(">Q", self.buffer[2:10])[0], 10
        self._need(header + length)
        first, payload = self.buffer[0], self.buffer[header : header + length]
        self.buffer = self.buffer[header + length :]
        return bool(first & 0x80), first & 0x0F, payload

    def _need(self, count: int) -> None:
        while len(self.buffer) < count:
            self._fill()

    def _send(self, opcode: int, payload: bytes) -> None:
        """A short frame of ours; what a client sends is masked."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload[:125]))
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(masked)]) + mask + masked)
