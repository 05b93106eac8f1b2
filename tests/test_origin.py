"""The cross-origin table of Go's net/http (csrf_test.go), adapted: 403 exactly where Go refuses."""

import pytest
from servers import new_key

ALLOWED, REFUSED = False, True


def status(function, method, site, origin, host="example.com"):
    headers = {"Host": host}
    if site:
        headers["Sec-Fetch-Site"] = site
    if origin:
        headers["Origin"] = origin
    return function.send(method, "/click", headers).status


@pytest.mark.parametrize(
    ("method", "site", "origin", "refused"),
    [
        pytest.param("POST", "same-origin", "", ALLOWED, id="same-origin allowed"),
        pytest.param("POST", "none", "", ALLOWED, id="none allowed"),
        pytest.param("POST", "cross-site", "", REFUSED, id="cross-site blocked"),
        pytest.param("POST", "same-site", "", REFUSED, id="same-site blocked"),
        pytest.param("POST", "", "", ALLOWED, id="no header with no origin"),
        pytest.param("POST", "", "https://example.com", ALLOWED, id="no header with matching origin"),
        pytest.param("POST", "", "https://attacker.example", REFUSED, id="no header with mismatched origin"),
        pytest.param("POST", "", "null", REFUSED, id="no header with null origin"),
        pytest.param("GET", "cross-site", "", ALLOWED, id="GET allowed"),
        pytest.param("HEAD", "cross-site", "", ALLOWED, id="HEAD allowed"),
        pytest.param("OPTIONS", "cross-site", "", ALLOWED, id="OPTIONS allowed"),
        pytest.param("PUT", "cross-site", "", REFUSED, id="PUT blocked"),
        pytest.param("POST", "", "https://trusted.example", ALLOWED, id="trusted origin without sec-fetch-site"),
        pytest.param("POST", "cross-site", "https://trusted.example", ALLOWED, id="trusted origin with cross-site"),
        pytest.param("POST", "", "https://attacker.example", REFUSED, id="untrusted origin without sec-fetch-site"),
        pytest.param("POST", "cross-site", "https://attacker.example", REFUSED, id="untrusted origin with cross-site"),
        pytest.param("POST", "same-origin", "https://example.com", ALLOWED, id="server: same-origin"),
        pytest.param("POST", "", "http://example.com", ALLOWED, id="server: origin matches host"),
        pytest.param("POST", "cross-site", "https://example.com", REFUSED, id="the browser's word before the host's"),
        pytest.param("POST", "", "https://example.com.attacker.example", REFUSED, id="host as a prefix"),
        pytest.param("POST", "", "https://trusted.example:8443", REFUSED, id="trusted host on another port"),
        pytest.param("POST", "", "http://trusted.example", REFUSED, id="trusted host on another scheme"),
        pytest.param("POST", "", "https://[", REFUSED, id="malformed origin"),
    ],
)
def test_cross_origin(shared, method, site, origin, refused):
    before = shared.count()
    answered = status(shared, method, site, origin)
    assert (answered == 403) == refused
    assert shared.count() == before + (answered == 200)
    assert (answered == 200) == (method == "POST" and not refused)


def test_origin_is_not_compared_with_a_missing_host(shared):
    assert status(shared, "POST", "", "null", host="") == 403


# --- CORS: which sites' scripts are let in ----------------------------------------------------------------------

LISTED, FOREIGN = "https://trusted.example", "https://attacker.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}


def cors(answer):
    return {name: value for name, value in answer.headers.items() if name.lower().startswith("access-control-")}


def test_preflight_lets_every_origin_send_a_click(shared):
    for origin in (LISTED, FOREIGN, "null", ""):
        answer = shared.send("OPTIONS", "/click?name=post-1", {"Origin": origin, **PREFLIGHT})
        assert answer.status == 204
        assert cors(answer) == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": "*",
            "access-control-expose-headers": "Retry-After",
            "access-control-max-age": "86400",
        }


def test_headers_that_a_page_adds_keep_no_click_back(visited, listed, page):
    page.goto(listed.put(visited.function, ""))
    send = "([url, headers]) => fetch(url, {method: 'POST', headers}).then((answer) => answer.json())"
    added = {"traceparent": "00-1-2-3", "sentry-trace": "1-2", "X-Requested-With": "XMLHttpRequest"}
    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json", **added}
    answer = page.evaluate(send, [f"{visited.function.url}/click", headers])
    assert answer == {"name": "hello-world-button", "value": 1}


def check_readable(answer):
    assert cors(answer) == {"access-control-allow-origin": "*", "access-control-expose-headers": "Retry-After"}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_every_origin_may_read_what_became_of_its_click(shared):
    for origin, path, status in (
        (LISTED, "/click", 200),
        (LISTED, "/click?name=unknown", 404),
        (LISTED, "/click?name=%20", 400),
        (FOREIGN, "/click", 403),
        ("null", "/click", 403),
    ):
        answer = shared.send("POST", path, {"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.status == status
        check_readable(answer)


@pytest.mark.parametrize("path", ["/value", "/value?name=unknown", "/badge.svg", "/badge.json", "/click-counter.js"])
def test_everything_else_may_be_read_from_everywhere(shared, path):
    for headers in ({}, {"Origin": FOREIGN}, {"Origin": LISTED}):
        check_readable(shared.send("GET", path, headers))
