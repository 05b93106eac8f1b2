"""pg8000's connection with an asynchronous query. Whatever touches the driver's internals is here."""

from __future__ import annotations

import asyncio
import io
import ssl
from contextlib import suppress
from typing import Any

from database_url import CONNECT_TIMEOUT, Database, raise_fatal_errors, ssl_context_for

QUERY_TIMEOUT = 2.5  # seconds, for all of a reply

Rows = list[Any]  # of what the statements return, each row a list


def _logged_in(database: Database) -> Any:
    """Return a connection of pg8000 that has logged in, which takes a while."""
    from pg8000.core import CoreConnection

    arguments = {**database.arguments, "ssl_context": ssl_context_for(database), "timeout": CONNECT_TIMEOUT}
    driver = CoreConnection(**arguments)
    raise_fatal_errors(driver)
    return driver


class Connection:
    """A connection of pg8000, with a query that does not hold up the event loop."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._socket = driver._usock
        self._stream = driver._sock  # a buffered file over it
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Event | None = None  # while a reply is expected
        self._received = bytearray()  # and not read yet
        self.is_stale = False  # the server has ended it
        self._socket.settimeout(0)
        self._loop.add_reader(self._socket, self._on_readable)

    @classmethod
    async def open(cls, database: Database) -> Connection:
        """Connect and log in, in a thread."""
        return cls(await asyncio.to_thread(_logged_in, database))

    def _on_readable(self) -> None:
        if self._readable:
            self._readable.set()
            return
        try:
            data = self._socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):  # a message of TLS
            return
        except OSError:
            data = b""
        self._received += data  # a notice, say, that will be read with the next reply
        if not data or data.startswith(b"E"):
            self.is_stale = True
            self._loop.remove_reader(self._socket)

    async def query(self, message: str) -> tuple[Rows, int]:
        """Send statements as one message and one transaction; return all their rows, and how many rows they affected.

        A row that was both written and returned counts once. Raise a pg8000.DatabaseError or an OSError.
        """
        from pg8000.core import Context

        if self.is_stale:
            raise ConnectionResetError("The server has ended the connection")
        context = Context(message)
        readable = self._readable = asyncio.Event()
        try:
            self._socket.settimeout(QUERY_TIMEOUT)
            self._driver.send_QUERY(message)
            self._stream.flush()
            self._socket.settimeout(0)
            async with asyncio.timeout(QUERY_TIMEOUT):
                self._driver._sock = io.BytesIO(await self._reply(readable))
            self._driver.handle_messages(context)
        finally:
            self._driver._sock = self._stream
            self._readable = None
        return context.rows or [], context.row_count

    async def _reply(self, readable: asyncio.Event) -> bytearray:
        """Return the reply once all of it is there, however slowly it trickles, or the connection has ended."""
        at, is_complete = 0, False
        while not is_complete:
            await readable.wait()
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                readable.clear()
                continue
            if not data:
                break
            self._received += data
            at, is_complete = _walk(self._received, at)
            if not is_complete:
                await asyncio.sleep(0)  # so that not even a reply in tiny pieces holds up the others
        reply, self._received = self._received[:at], self._received[at:]
        return reply

    def close(self) -> None:
        """Close it, without waiting for the server, which may be the one that does not answer."""
        from pg8000.exceptions import InterfaceError

        self._loop.remove_reader(self._socket)
        self._socket.settimeout(0)
        for close in (self._driver.close, self._stream.close):
            with suppress(InterfaceError, OSError):
                close()


def _walk(reply: bytearray, at: int) -> tuple[int, bool]:
    """Go from the message at this place to the next ones: a byte for the type, then four for the length.

    Return where the first one begins that is not complete, and whether ReadyForQuery came before it:
    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """
    is_ready = False
    while not is_ready and at + 5 <= len(reply):
        end = at + 1 + int.from_bytes(reply[at + 1 : at + 5])
        if end > len(reply):
            break
        is_ready, at = reply[at] == ord("Z"), end
    return at, is_ready
