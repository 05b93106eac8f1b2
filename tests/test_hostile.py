"""Input from people who mean no good: never a 5xx, never a count, nothing internal shown, and the function goes on."""

import gzip
import socket
from contextlib import closing
from urllib.parse import urlencode

import pytest
from servers import HTML, Client, new_key

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


FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
OTHER_WAYS = {  # to name a counter: what is asked, the type of a body, the body, and the answer's status
    "JSON": ("/click", "application/json", '{"name": "other"}', 415),
    "JSON that says to be a form": ("/click", FORM, '{"name": "other"}', 415),
    "JSON with =": ("/click", FORM, '{"id": "other", "page": "/?a=b"}', 400),
    "JSON with a charset": ("/click", "application/json; charset=utf-8", '{"name": "other"}', 415),
    "form without a type": ("/click", None, "name=other", 415),
    "form as text": ("/click", "text/plain;charset=UTF-8", "name=other", 415),
    "multipart": ("/click", MULTIPART, '--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nother\r\n--x--', 415),
    "empty multipart": ("/click", MULTIPART, "--x--\r\n", 415),
    "two types": ("/click", f"{FORM}, application/json", "name=other", 415),
    "bare name": ("/click", FORM, "other", 415),
    "form in UTF-16": ("/click", FORM, "name=other".encode("utf-16"), 400),
    "form that is compressed": ("/click", FORM, gzip.compress(b"name=other") + b"=", 400),
    "form's other name": ("/click?name=other", FORM, "name=post-1", 400),
    "form's two names": ("/click", FORM, "name=other&name=post-1", 400),
    "form's empty name": ("/click", FORM, "name=", 400),
    "form's empty name beside the query's": ("/click?name=other", FORM, "name=", 400),
    "form's Name": ("/click", FORM, "Name=other", 400),
    "form's Name beside name": ("/click", FORM, "name=other&Name=post-1", 400),
    "form's name[]": ("/click", FORM, "name%5B%5D=other", 400),
    "form's name with a mark": ("/click", FORM, "\ufeffname=other", 400),
    "form's counter": ("/click", FORM, "counter=unknown", 400),
    "Name": ("/click?Name=other", None, "", 400),
    "NAME": ("/click?NAME=other", None, "", 400),
    "counter": ("/click?counter=other", None, "", 400),
    "name[]": ("/click?name%5B%5D=other", None, "", 400),
    "id": ("/click?id=17", None, "", 400),
    "id beside name": ("/click?name=other&id=17", None, "", 400),
    "return": ("/click?return=https://trusted.example/", None, "", 400),
    "name with a blank": ("/click?name%20=other", None, "", 400),
    "name after an escaped &": ("/click?utm_source=x&amp;name=other", None, "", 400),
    "name and Name": ("/click?name=other&Name=post-1", None, "", 400),
    "no field": ("/click?other", None, "", 400),
    "field without a name": ("/click?=other", None, "", 400),
    "escaped =": ("/click?name%3Dother", None, "", 400),
    "escaped ?": ("/click%3Fname=other", None, "", 404),
    "path": ("/click/other", None, "", 404),
    "parameter of the path": ("/click;name=other", None, "", 404),
}  # fmt: skip


@pytest.mark.parametrize(("path", "media_type", "body", "status"), OTHER_WAYS.values(), ids=OTHER_WAYS)
def test_other_way_to_name_a_counter_counts_nothing_and_shows_the_right_one(shared, path, media_type, body, status):
    body = body.encode() if isinstance(body, str) else body
    headers = {} if media_type is None else {"Content-Type": media_type}
    before = [shared.count(name) for name in ("post-1", "post-7")]
    answer = shared.send("POST", path, headers, body)
    check_refused(answer, status)
    if status == 415:
        assert "/click?name=post-1" in answer.json()["detail"]
    assert [shared.count(name) for name in ("post-1", "post-7")] == before


@pytest.mark.parametrize("query", ["Name=other", "counter=other", "name=other&Name=post-1", "other", "id=17"])
def test_other_way_to_name_a_counter_is_not_answered_with_the_default_one(shared, query):
    answer = shared.send("GET", f"/value?{query}")
    check_refused(answer, 400)
    assert "only name. Name a counter like /value?name=post-1" in answer.json()["detail"]


LONG = {  # longer than any browser sends: each cost milliseconds
    "query": ("/value?a=" + "%" * 60_000, {}),
    "query of the page": ("/?a=" + "%" * 60_000, {}),
    "path of slashes": ("/" * 60_000, {}),
    "path of a name": ("/click/" + "a" * 200, {}),
    "Accept": ("/value", {"Accept": "text/html;q=0.5," * 125}),
    "Accept for a badge": ("/badge.svg", {"Accept": "text/html;q=0.5," * 125}),
    "Accept-Encoding": ("/style.css", {"Accept-Encoding": "gzip;q=0.5," * 100}),
    "If-None-Match": ("/style.css", {"If-None-Match": '"x",' * 500}),
}


@pytest.mark.parametrize(("path", "headers"), LONG.values(), ids=LONG)
def test_long_request_is_refused_with_a_short_answer(shared, path, headers):
    for accepted in ({}, HTML):
        answer = shared.send("GET", path, {**accepted, **headers})
        check_refused(answer, 400)
        assert len(answer.body) < 2_000


def test_page_of_an_error_is_short_however_deep_its_path_and_long_its_referrer(shared):
    for path, referrer in (("/" * 200, ""), ("/", "https://x.example/?" + "'" * 60_000)):
        answer = shared.send("POST", path, {**HTML, "Referer": referrer})
        check_refused(answer, 404, 405)
        assert len(answer.body) < 2_000


def test_longest_honest_request_is_answered(shared):
    names = [f"https://blog.example/2026/11/27/a-post-{number}" for number in range(100)]
    query = urlencode([("name", name.ljust(100, "x")) for name in names])
    accept = {"Accept": "text/html," * 40, "Accept-Encoding": "gzip, deflate, br, zstd"}
    assert len(shared.send("GET", f"/value?{query}", accept).json()) == 100


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
        while connection.recv(65536):  # until it is closed
            pass


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
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
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
