"""TLS 1.3 by tlslite-ng in front of a Postgres. It sends tickets and new keys when it is told to, and tiny records."""

import os
import warnings
from contextlib import suppress

from tls import TlsPostgres

with warnings.catch_warnings():  # it imports asyncore where that is left
    warnings.simplefilter("ignore")
    from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
    from tlslite.constants import KeyUpdateMessageType


class TalkativePostgres(TlsPostgres):
    """The same in TLS 1.3 by tlslite-ng, which can send tickets and new keys whenever it likes, and tiny records."""

    def __init__(self, port, folder):
        super().__init__(port, folder)
        self.settings = HandshakeSettings()
        self.settings.minVersion = self.settings.maxVersion = (3, 4)
        self.settings.ticketKeys = [os.urandom(32)]
        self.connections = []

    def wrap(self, connection):
        secure = TalkativeConnection(connection, self.settings)
        chain = X509CertChain()
        chain.parsePemList("".join(part.bytes().decode() for part in self.certificate.cert_chain_pems))
        key = parsePEMKey(self.certificate.private_key_pem.bytes().decode(), private=True)
        secure.handshakeServer(certChain=chain, privateKey=key, settings=self.settings)
        self.connections.append(secure)
        return secure


class TalkativeConnection(TLSConnection):
    """One connection of it. While it is idle, another thread may make it talk."""

    def __init__(self, connection, settings):
        super().__init__(connection)
        self.settings = settings
        self.ignoreAbruptClose = True
        self.keys_received = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self.close()

    def sendall(self, data):
        """Send it in records of 7 bytes, which go out together."""
        self.recordSize = 7
        self.sock.buffer_writes = True
        super().sendall(data)
        self.sock.flush()
        self.sock.buffer_writes = False

    def send_tickets(self):
        for _ in self._serverSendTickets(self.settings):
            pass

    def send_new_key(self, wants_one_back):
        kinds = KeyUpdateMessageType
        for _ in self.send_keyupdate_request(kinds.update_requested if wants_one_back else kinds.update_not_requested):
            pass

    def _handle_keyupdate_request(self, request):
        yield from super()._handle_keyupdate_request(request)
        self.keys_received += 1
