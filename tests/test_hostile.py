"""Input from people who mean no good: never a 5xx, never a count, nothing internal shown, and the function goes on."""

import socket
from contextlib import closing

import pytest
from servers import Client, new_key

NAMES = {
    "quote": "%27",
    "statement": "x%27);drop%20table%20counter;--",
    "double quote": "%22",
    "backslash": "%5C",
    "braces": "{keys}",
    "percent": "100%25",
    "NUL": "a%00",
    "newline": "hello-world-button%0A",
    "space": "a+b",
    "emoji": "%F0%9F%91%8B",
    "Arabic digits": "%D9%A1",
    "fullwidth": "%EF%BD%81",
    "not UTF-8": "%FF%FE",
    "bad percent-encoding": "%zz",
    "cut percent-encoding": "%",
    "empty": "",
    "101 characters": "a" * 101,
    "100,000 characters": "a" * 60_000,
}

KEYS = {
    "empty": "",
    "number": "1",
    "no UUID": "x" * 36,
    "too long": new_key() + "0",
    "too short": new_key()[:-1],
    "one quote": '"' + new_key(),
    "single quotes": f"'{new_key()}'",
    "two": f"{new_key()}, {new_key()}",
    "parameters": f'"{new_key()}";a=1',
    "braces": f"{{{new_key()}}}",
    "URN": f"urn:uuid:{new_key()}",
    "without hyphens": new_key().replace("-", ""),
    "statement": "'; drop table click; --",
    "not ASCII": "\u00e9" * 36,
    "10 kB": "a" * 10_000,
}

INTERNALS = (
    b"Traceback",
    b".py",
    b"sqlite",
    b"sqlalchemy",
    b"pg8000",
    b"select",
    b"uvicorn.",
    b"site-packages",
)


@pytest.fixture(autouse=True)
def counts_nothing_and_goes_on(shared):
    before = shared.send("GET", "/value?name=hello-world-button&name=other").json()
    yield
    assert shared.send("GET", "/value?name=hello-world-button&name=other").json() == before
    assert shared.process.poll() is None


def check_refused(answer, *statuses):
    assert answer.status in statuses
    assert not [word for word in INTERNALS if word in answer.body]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_malformed_name(shared, name):
    check_refused(shared.click(name) if name else shared.send("POST", "/click?name="), 400)
    check_refused(shared.send("GET", f"/value?name={name}"), 400)
    check_refused(shared.send("GET", f"/badge.svg?name={name}"), 400)


@pytest.mark.parametrize("query", ["name", "name=&name=other", "name=other&name=", "&".join(["a=b"] * 500)])
def test_malformed_query(shared, query):
    check_refused(shared.send("POST", f"/click?{query}"), 400)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_malformed_key(shared, key):
    check_refused(shared.send("POST", "/click", {"Idempotency-Key": key}), 400)


@pytest.mark.parametrize("path", ["/click", "/", "/value", "/nothing"])
@pytest.mark.parametrize("size", [10_001, 3_000_000])
def test_large_body_is_refused_and_the_refusal_seen(shared, path, size):
    for _ in range(5):
        check_refused(shared.send("POST", path, body=b"x" * size), 413)


def test_large_chunked_body_is_refused(shared):
    check_refused(shared.send("POST", "/click", body=iter([b"x" * 100_000] * 30)), 413)


def test_endless_body_is_not_read_for_ever(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
        connection.sendall(b"POST /click HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        sent = 0
        with pytest.raises(OSError):
            while sent < 200_000_000:
                sent += connection.send(b"x" * 65536)
    assert sent < 100_000_000


def test_body_that_does_not_arrive_is_not_waited_for(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
        connection.sendall(b"POST /click HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_client_that_leaves_within_its_body_disturbs_nobody(shared):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
            connection.sendall(b"POST /click HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")


@pytest.mark.parametrize(
    "path",
    ["/../main.py", "/%2e%2e/main.py", "/..%2fmain.py", "/....//main.py", "/%2fetc%2fpasswd", "//etc/passwd",
     "/static/../main.py", "/index.html%00", "/style.css/../../db.py", "/%5c..%5cmain.py", "/clicks.sqlite3",
     "/.git/config"],
)  # fmt: skip
def test_path_traversal(shared, path):
    check_refused(shared.send("GET", path), 404)


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "CONNECT", "BREW", "PUT", "DELETE", "PATCH"])
def test_wrong_method(shared, method):
    check_refused(shared.send(method, "/click"), 400, 404, 405)


@pytest.mark.parametrize(
    "request_",
    [b"nonsense\r\n\r\n", b"POST /click\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
     b"\r\n" * 100,
     b"POST /click HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /click HTTP/1.1\r\nContent-Length: x\r\n\r\n",
     b"POST /click HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"POST /click HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"POST /click HTTP/1.1\r\n: x\r\n\r\n"],
)  # fmt: skip
def test_broken_http(shared, request_):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=8) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b" 500 " not in answer
    assert not [word for word in INTERNALS if word in answer]


def test_trailer_names_no_other_address(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=8) as connection:
        connection.sendall(  # at once, so that all of it is parsed before it is answered
            b"POST /click HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\nX-Forwarded-For: 203.0.113.8\r\n\r\n"
        )
        assert b" 400 " in connection.recv(65536).partition(b"\r\n")[0]


def test_many_connections_that_say_nothing_do_not_stop_it(shared):
    silent = [socket.create_connection(("127.0.0.1", shared.port), timeout=8) for _ in range(200)]
    try:
        assert shared.send("GET", "/").status == 200
    finally:
        for connection in silent:
            connection.close()


def test_refusal_leaves_the_connection_usable(shared):
    client = Client(shared.port)
    with closing(client.connection):
        assert client.click("not permitted".replace(" ", "%20")).status == 400
        assert client.send("GET", "/value").status == 200
