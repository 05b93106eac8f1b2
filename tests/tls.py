"""TLS in front of a Postgres."""

import socket
import ssl
import threading
from contextlib import suppress

import trustme


class TlsPostgres:
    """Postgres behind TLS with a certificate for `localhost`, for the wheel's binaries come without OpenSSL."""

    def __init__(self, port, folder):
        authority = trustme.CA()
        self.rootcert = folder / "root.crt"
        authority.cert_pem.write_to_path(self.rootcert)
        self.certificate = authority.issue_cert("localhost")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(self.context)
        self.behind = port
        self.seen = []  # "tls" or "plain" for each connection
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def wrap(self, connection):
        return self.context.wrap_socket(connection, server_side=True)

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
            with self.wrap(connection) as secure:
                self.seen.append("tls")
                there = threading.Thread(target=pump, args=[secure, postgres], daemon=True)
                there.start()
                pump(postgres, secure)
                there.join(5)


def pump(source, sink):
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
