"""A TCP proxy that delays each direction, as a network between function and database does: LISTEN TARGET SECONDS."""

import asyncio
import sys

import uvloop


class Passing(asyncio.Protocol):
    """Hands what it reads to its peer, so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.peer: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.seconds, self.peer.write, data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer:
            self.peer.close()


class Accepting(Passing):
    """The client's side: connects to the target before it reads."""

    def __init__(self, target: int, seconds: float) -> None:
        super().__init__(seconds)
        self.target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self.connecting = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        make = lambda: Passing(self.seconds)  # noqa: E731
        self.peer, other = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", self.target)
        other.peer = self.transport
        self.transport.resume_reading()


async def main() -> None:
    listen, target, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    server = await asyncio.get_running_loop().create_server(lambda: Accepting(target, seconds), "127.0.0.1", listen)
    await server.serve_forever()


uvloop.run(main())
