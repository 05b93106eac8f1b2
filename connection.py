"""pg8000's connection with an asynchronous query. All that a query touches of the driver's internals is here."""

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
        self._received = bytearray()
        self._at = 0  # where in it the first message begins that is not complete
        self._replied: asyncio.Future[None] | None = None  # while a reply is expected
        self.is_stale = False  # the server has ended it
        self._socket.settimeout(0)
        self._loop.add_reader(self._socket, self._receive)

    @classmethod
    async def open(cls, database: Database) -> Connection:
        """Connect and log in, in a thread."""
        return cls(await asyncio.to_thread(_logged_in, database))

    async def query(self, message: str) -> tuple[Rows, int]:
        """Send statements as one message and one transaction; return all their rows, and how many rows they affected.

        A row that was both written and returned counts once. Raise a pg8000.DatabaseError or an OSError.
        """
        from pg8000.core import Context

        if self.is_stale:
            raise ConnectionResetError("The server has ended the connection")
        context = Context(message)
        self._replied = self._loop.create_future()
        try:
            self._socket.settimeout(QUERY_TIMEOUT)
            self._driver.send_QUERY(message)
            self._stream.flush()
            self._socket.settimeout(0)
            async with asyncio.timeout(QUERY_TIMEOUT):
                await self._replied
            # The driver parses the reply from memory, so it never blocks.
            self._driver._sock = io.BytesIO(self._received[: self._at])
            del self._received[: self._at]
            self._at = 0
            self._driver.handle_messages(context)
        finally:
            self._driver._sock = self._stream
            self._replied = None
        return context.rows or [], context.row_count

    def _receive(self) -> None:
        """Take what has arrived. The loop calls it once for each read, so that no reply holds up the others.

        What comes between two queries, a notice say, is the beginning of the next reply.
        """
        try:
            data = self._socket.recv(65536)  # more than a record of TLS has: nothing stays behind in its buffer
        except (
            BlockingIOError,
            ssl.SSLWantReadError,
            ssl.SSLWantWriteError,
        ):  # a part of a TLS record
            return
        except OSError:
            data = b""
        self._received += data
        if not data or (self._replied is None and self._received.startswith(b"E")):
            self.is_stale = True
            self._loop.remove_reader(self._socket)
        if (self._walk() or not data) and self._replied and not self._replied.done():
            self._replied.set_result(None)

    def _walk(self) -> bool:
        """Go to the first message that is not complete, or behind ReadyForQuery; tell whether that was there.

        A message has a byte for its type, then four for its length:
        https://www.postgresql.org/docs/current/protocol-message-formats.html
        """
        is_ready = False
        while not is_ready and self._at + 5 <= len(self._received):
            end = self._at + 1 + int.from_bytes(self._received[self._at + 1 : self._at + 5])
            if end > len(self._received):
                break
            is_ready, self._at = self._received[self._at] == ord("Z"), end
        return is_ready

    def close(self) -> None:
        """Close it, without waiting for the server, which may be the one that does not answer."""
        from pg8000.exceptions import InterfaceError

        self._loop.remove_reader(self._socket)
        self._socket.settimeout(0)
        for close in (self._driver.close, self._stream.close):
            with suppress(InterfaceError, OSError):
                close()
