"""The connection: a reply is the same however it arrives, and what a server says between two of them does no harm."""

import pytest
from proxy import Proxy
from talkative import TalkativePostgres


@pytest.fixture
def talkative(postgres, tmp_path):
    server = TalkativePostgres(postgres.port, tmp_path)
    yield server
    server.server.close()


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_reply_is_whole_wherever_it_is_split(postgres, on_postgres, tls, start, sslmode):
    proxy = Proxy(postgres.port if sslmode == "disable" else tls.port)
    function = start(f"{postgres.url(on_postgres.name, proxy.port)}?sslmode={sslmode}")
    function.click()
    proxy.longest_reply = 0
    function.click()
    half = proxy.longest_reply // 2
    assert half > 50
    for place in range(1, half + 1):
        proxy.split_at = (place, place + half)
        assert function.click().value == place + 2
    assert function.output().count("{") == 0
    assert len(proxy.connections) == 1
    proxy.close()


def test_tickets_new_keys_and_tiny_records_between_clicks_are_no_fault(talkative, postgres, on_postgres, start):
    function = start(f"{postgres.url(on_postgres.name, talkative.port)}?sslmode=require")
    function.click()
    [connection] = talkative.connections
    chatter = [
        connection.send_tickets,
        lambda: connection.send_new_key(wants_one_back=False),
        lambda: connection.send_new_key(wants_one_back=True),
    ]
    for expected in range(2, 20):
        for talk in chatter[: expected % 4]:
            talk()
        assert function.click().value == expected
    assert connection.keys_received >= 4  # the client's own: each goes with a later click
    assert function.output().count("{") == 0
    assert talkative.connections == [connection]
