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
