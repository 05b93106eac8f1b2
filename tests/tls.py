"""TLS in front of a Postgres."""

import _ssl
import ctypes
import select
import socket
import ssl
import threading
from contextlib import suppress

import trustme

OPENSSL = ctypes.CDLL(_ssl.__file__)  # that which Python itself uses
for name in ("SSL_key_update", "SSL_new_session_ticket", "SSL_do_handshake"):
    getattr(OPENSSL, name).argtypes = [ctypes.c_void_p] + [ctypes.c_int] * (name == "SSL_key_update")
KEY_UPDATE_REQUESTED = 1


class TlsPostgres:
    """Postgres behind TLS with a certificate for `localhost`, for the wheel's binaries come without OpenSSL."""

    def __init__(self, port, folder):
        authority = trustme.CA()
        self.rootcert = folder / "root.crt"
        authority.cert_pem.write_to_path(self.rootcert)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.context)
        self.behind = port
        self.seen = []  # "tls" or "plain" for each connection
        self.record = None  # bytes in each record of a reply, all of which are then sent at once
        self.after_reply = None  # update_keys or send_ticket
        self.done_after_reply = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection, suppress(OSError), socket.create_connection(("127.0.0.1", self.behind)) as postgres:
            first = connection.recv(8)  # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
            if first != b"\0\0\0\x08\x04\xd2\x16\x2f":
                self.seen.append("plain")
                return
            connection.sendall(b"S")
            with self.context.wrap_socket(connection, server_side=True) as secure:
                self.seen.append("tls")
                self.pass_on(secure, postgres)

    def pass_on(self, secure, postgres):
        """Pass everything on, in one thread: OpenSSL's connections are not for two."""
        while True:
            readable, _, _ = select.select([secure, postgres], [], [])
            if postgres in readable:
                data = postgres.recv(1 << 20)
                if not data:
                    return
                self.reply(secure, data)
            if secure in readable:
                secure.settimeout(0)
                with suppress(ssl.SSLWantReadError):  # a part of a record, or none of ours
                    while data := secure.recv(65536):
                        postgres.sendall(data)
                    return
                secure.settimeout(None)

    def reply(self, secure, data):
        secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        size = self.record or len(data)
        for start in range(0, len(data), size):
            secure.sendall(data[start : start + size])
        secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        if self.after_reply and data[-6:-1] == b"Z\0\0\0\x05":
            self.after_reply(secure)
            self.done_after_reply += 1


def update_keys(secure):
    """Go on with a new key, and ask the client for one: https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3."""
    pointer = pointer_to(secure)
    assert OPENSSL.SSL_key_update(pointer, KEY_UPDATE_REQUESTED) == 1
    assert OPENSSL.SSL_do_handshake(pointer) == 1  # sends it


def send_ticket(secure):
    """Send another ticket for a session: https://www.rfc-editor.org/rfc/rfc8446#section-4.6.1."""
    pointer = pointer_to(secure)
    assert OPENSSL.SSL_new_session_ticket(pointer) == 1
    assert OPENSSL.SSL_do_handshake(pointer) == 1


def pointer_to(secure):
    """The SSL* of Python's object: behind its reference count, its type and its weak reference to the socket."""
    return ctypes.c_void_p.from_address(id(secure._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
