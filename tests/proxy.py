"""A TCP proxy, before the function or its Postgres, that can misbehave in every way that networks do."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from itertools import pairwise

STATEMENT = b"insert into click"
REQUEST = b"POST /click"
EXPIRED = b"E\0\0\0\x1dSFATAL\0VFATAL\0C57P05\0Mx\0\0"  # type, length, fields


class Proxy:
    """Pass everything on, or do what `fault` says to whatever has the marker in it.

    `reset`, `close` and `silence` (a black hole) are done `before` it has arrived, or `after` it has been answered,
    so that only the answer is lost: "reset before", "silence after" and so on. `expire before` is what Postgres does to
    an idle connection, just as something is sent on it; it happens once.
    """

    def __init__(self, port: int, marker: bytes = STATEMENT) -> None:
        self.behind = port
        self.marker = marker
        self.connections: list[Connection] = []
        self.fault: str | None = None
        self.hits = 0
        self.round_trips = 0  # what the client sent at once
        self.marked = 0  # those of them that had the marker
        self.largest = 0  # bytes of a request that came at once
        self.longest_reply = 0  # bytes that came at once
        self.appended = b""  # to each reply
        self.pieces: tuple[int, float] | None = None  # bytes, and seconds after each, in which replies trickle
        self.split_at: tuple[int, ...] = ()  # bytes before which a reply is held up for a moment
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.server.close()
        for connection in self.connections:
            connection.silent = False
            connection.end()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.behind))
        except OSError:
            client.close()
            return
        connection = Connection(self, client, server)
        self.connections.append(connection)
        threading.Thread(target=connection.replies, daemon=True).start()
        connection.requests()


class Connection:
    """One proxied connection; each direction has a thread."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.counting = False  # whether the last thing that was passed on had the marker
        self.silent = False
        self.ended = False

    def requests(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(1 << 20):
                self.counting = self.proxy.marker in data
                self.proxy.round_trips += 1
                self.proxy.marked += self.counting
                self.proxy.largest = max(self.proxy.largest, len(data))
                if not self._fails("before"):
                    self.server.sendall(data)
        self.end()

    def replies(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(1 << 20):
                self.proxy.longest_reply = max(self.proxy.longest_reply, len(data))
                if not self._fails("after"):
                    self._pass_on(data)
        self.end()

    def _pass_on(self, data: bytes) -> None:
        data += self.proxy.appended
        size, pause = self.proxy.pieces or (len(data), 0.01 if self.proxy.split_at else 0)
        starts = self.proxy.split_at or range(size, len(data), size)
        for start, end in pairwise((0, *starts, len(data))):
            self.client.sendall(data[start:end])
            time.sleep(pause)

    def _fails(self, when: str) -> bool:
        """Do the fault if this is the moment for it; tell whether what was read must not be passed on."""
        how, _, moment = (self.proxy.fault or "").partition(" ")
        if moment == when and self.counting and not self.silent and not self.ended:
            self.proxy.hits += 1
            if how == "silence":
                self.silent = True
            elif how == "expire":
                self.proxy.fault = None
                self.client.sendall(EXPIRED)
                self.end()
            else:
                self.end(reset=how == "reset")
        return self.silent or self.ended

    def end(self, reset: bool = False) -> None:
        if self.silent or self.ended:
            return  # a black hole does not even say that it is over
        self.ended = True
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (self.client, self.server):
            with suppress(OSError):  # wakes the other thread, so that the socket is really closed
                end.shutdown(socket.SHUT_RD if reset and end is self.client else socket.SHUT_RDWR)
            end.close()
