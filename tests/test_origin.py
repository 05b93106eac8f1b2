"""The cross-origin table of Go's net/http (csrf_test.go), adapted: 403 exactly where Go refuses."""

import pytest

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


def test_preflight_of_a_listed_origin_is_let_in(shared):
    answer = shared.send("OPTIONS", "/click?name=post-1", {"Origin": LISTED, **PREFLIGHT})
    assert answer.status == 204
    assert cors(answer) == {
        "access-control-allow-origin": LISTED,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Idempotency-Key",
        "access-control-expose-headers": "Retry-After, Click-Counter-Access",
        "access-control-max-age": "86400",
    }
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://trusted.example", "https://trusted.example.attacker.example", "\xe9", ""]
)
def test_preflight_of_another_origin_is_not(shared, origin):
    answer = shared.send("OPTIONS", "/click", {"Origin": origin, **PREFLIGHT})
    assert cors(answer) == {}
    assert answer.headers["Vary"] == "Origin"


def test_listed_origin_may_read_what_became_of_its_click(shared):
    for path, status in (("/click", 200), ("/click?name=unknown", 404), ("/click?name=%20", 400)):
        answer = shared.send("POST", path, {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"})
        assert answer.status == status
        assert cors(answer) == {
            "access-control-allow-origin": LISTED,
            "access-control-expose-headers": "Retry-After, Click-Counter-Access",
        }
        assert answer.headers["Vary"] == "Origin"


def test_other_origin_may_not(shared):
    answer = shared.send("POST", "/click", {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert cors(answer) == {}
    assert answer.headers["Vary"] == "Origin"


def test_listed_origin_may_read_when_to_come_back(start):
    function = start("postgres://u:p@127.0.0.1:9/d", ALLOWED_ORIGINS=LISTED)
    answer = function.send("POST", "/click", {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert cors(answer)["access-control-allow-origin"] == LISTED
    assert "Retry-After" in cors(answer)["access-control-expose-headers"]


@pytest.mark.parametrize("path", ["/count", "/count?name=unknown", "/badge.svg", "/badge.json", "/click-counter.js"])
def test_everything_else_may_be_read_from_everywhere(shared, path):
    for headers in ({}, {"Origin": FOREIGN}, {"Origin": LISTED}):
        answer = shared.send("GET", path, headers)
        assert cors(answer) == {
            "access-control-allow-origin": "*",
            "access-control-expose-headers": "Retry-After, Click-Counter-Access",
        }
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize(("origin", "access"), [(FOREIGN, "read"), ("null", "read"), (LISTED, None), (None, None)])
def test_count_tells_a_site_that_is_not_listed_that_it_may_only_read(shared, origin, access):
    answer = shared.send("GET", "/count", {"Origin": origin} if origin else {})
    assert answer.headers.get("Click-Counter-Access") == access
    assert answer.headers["Vary"] == "Origin"
