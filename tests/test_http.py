"""What each request is answered with: the HTTP contract of the README."""

import gzip
import hashlib
import html
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest
from servers import COUNTER, HTML, ROOT, Function, new_key, wait_until

FORM = {**HTML, "Content-Type": "application/x-www-form-urlencoded"}
SVG = ".//{http://www.w3.org/2000/svg}"


def test_page_is_served_with_its_protections(shared):
    answer = shared.send("GET", "/")
    assert answer.status == 200
    assert answer.body == (ROOT / "static/index.html").read_bytes()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy


@pytest.mark.parametrize(
    "path", [path for path in (ROOT / "static").rglob("*") if path.is_file()], ids=lambda p: p.name
)
def test_file_is_served_for_every_site_and_revalidated_by_its_content(shared, path):
    url = f"/{path.relative_to(ROOT / 'static')}"
    answer = shared.send("GET", url)
    assert answer.body == path.read_bytes()
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "max-age=" in answer.headers["Cache-Control"]
    etag = answer.headers["ETag"]
    assert etag == f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"'
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = shared.send("GET", url, {"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert shared.send("GET", url, {"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize("name", ["click-counter.js", "style.css", "index.html", "icon.svg"])
def test_file_is_compressed_where_the_client_takes_it(shared, name):
    plain = shared.send("GET", f"/{name}")
    packed = shared.send("GET", f"/{name}", {"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    assert packed.body[4:8] == bytes(4)  # no time of packing: every instance sends the same
    assert packed.headers["Content-Type"] == plain.headers["Content-Type"]
    assert packed.headers["ETag"] != plain.headers["ETag"]
    for answer, headers in ((plain, {}), (packed, {"Accept-Encoding": "gzip"})):
        assert answer.headers["Vary"] == "Accept-Encoding"
        again = shared.send("GET", f"/{name}", {**headers, "If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body, again.headers["Vary"]) == (304, b"", "Accept-Encoding")
        assert "Content-Encoding" not in again.headers


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("GZIP", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0, br", False),
     ("br", False), ("identity", False), ("", False), ("xgzip", False), ("gzip;q=1.0", True), ("*", True),
     ("gzip;q=0, *", False), ("*;q=0", False), (",;q=", False), ("identity, gzip;q=0.5", False), ("not-gzip", False),
     ("identity;q=0, *", True)],
)  # fmt: skip
def test_file_is_not_compressed_against_the_clients_will(shared, accepted, compressed):
    answer = shared.send("GET", "/style.css", {"Accept-Encoding": accepted})
    assert (answer.headers.get("Content-Encoding") == "gzip") == compressed


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("style.css", "text/css"),
        ("embed.js", "javascript"),
        ("icon.svg", "image/svg+xml"),
        ("index.html", "text/html"),
    ],
)
def test_file_has_its_type(shared, name, media_type):
    assert media_type in shared.send("GET", f"/{name}").headers["Content-Type"]


@pytest.mark.parametrize("path", ["/", "/style.css", "/value", "/badge.svg", "/badge.json", "/health"])
def test_head_is_answered_like_get_without_content(shared, path):
    get, head = shared.send("GET", path), shared.send("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [("/", "GET, HEAD, OPTIONS"), ("/value", "GET, HEAD, OPTIONS"), ("/style.css", "GET, HEAD, OPTIONS"),
     ("/click", "POST, OPTIONS")],
)  # fmt: skip
def test_wrong_method_names_the_right_ones(shared, path, allow):
    wrong = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - set(allow.split(", "))
    for method in wrong:
        answer = shared.send(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, allow), method
    answer = shared.send("OPTIONS", path)
    assert (answer.status, answer.headers["Allow"], answer.body) == (204, allow, b"")


def test_click_and_count_are_never_stored(shared):
    assert shared.click().headers["Cache-Control"] == "no-store"
    assert shared.send("GET", "/value").headers["Cache-Control"] == "no-store"


def test_form_goes_back_to_its_page(shared):
    before = shared.count()
    answer = shared.send("POST", "/click", {**HTML, "Content-Type": "application/x-www-form-urlencoded"}, b"")
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    assert shared.count() == before + 1


@pytest.mark.parametrize(
    "media_type", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=UTF-8"]
)
def test_type_of_a_form_may_be_written_in_any_case(shared, media_type):
    body = urlencode({"return": "https://attacker.example/"}).encode()
    assert shared.send("POST", "/click", {**HTML, "Content-Type": media_type}, body).status == 400


def test_blanks_around_a_key_do_not_matter(shared):
    key = new_key()
    before = shared.click(key=key).value
    for written in (f"{key} ", f'  "{key}"\t', f" {key.upper()}"):
        assert shared.click(key=written).value == before


def test_every_permitted_character_makes_a_name(shared):
    assert shared.click("a:/b-c.d_E").json()["name"] == "a:/b-c.d_E"
    assert shared.click("a%3A%2Fb-c%2Ed_E").json()["name"] == "a:/b-c.d_E"


@pytest.mark.parametrize("name", ["post-", "post-1", "post-a/b:c"])
def test_prefix_permits_every_name_that_begins_so(shared, name):
    before = shared.count(name)
    assert shared.click(name).json() == {"name": name, "value": before + 1}
    for other in ("pos", "apost-1", "Post-1"):
        assert shared.click(other).status == 404
    assert shared.click("post-*").status == 400


@pytest.mark.parametrize("path", ["/value?name=unknown", "/badge.svg?name=unknown"])
def test_counter_that_is_not_permitted_is_not_found(shared, path):
    assert shared.send("GET", path).status == 404
    assert shared.click("unknown").status == 404


def test_counter_may_be_called_null(start, database):
    function = start(database.url, COUNTERS="null,Null,NULL")
    for name in ("null", "Null", "NULL"):
        assert function.click(name).json() == {"name": name, "value": 1}
        assert function.count(name) == 1


def test_several_counts_have_null_for_what_there_cannot_be(shared):
    shared.click("other")
    names = ["other", "unknown", "not%20good", "", "other", "post-never"]
    answer = shared.send("GET", "/value?" + "&".join(f"name={name}" for name in names))
    assert answer.status == 200
    count = shared.count("other")
    assert [one["value"] for one in answer.json()] == [count, None, None, None, count, 0]
    assert [one["name"] for one in answer.json()] == ["other", "unknown", "not good", "", "other", "post-never"]
    assert shared.send("GET", "/value?name=unknown&name=%20").json() == [
        {"name": "unknown", "value": None},
        {"name": " ", "value": None},
    ]


def test_click_names_one_counter(shared):
    assert shared.send("POST", f"/click?name={COUNTER}&name=other").status == 400
    assert shared.send("GET", "/badge.svg?name=other&name=post-1").status == 400
    assert shared.send("POST", "/click?name=other&name=other").json()["name"] == "other"


def test_count_asks_for_at_most_a_hundred_names(shared):
    query = "&".join(["name=other"] * 100)
    assert len(shared.send("GET", f"/value?{query}").json()) == 100
    assert shared.send("GET", f"/value?{query}&name=other").status == 400


def test_badge_shows_the_count_and_is_revalidated(shared):
    value = shared.click("other").value
    answer = shared.send("GET", "/badge.svg?name=other")
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert f">{value}</text>" in answer.body.decode()
    assert shared.send("GET", "/badge.svg?name=other", {"If-None-Match": answer.headers["ETag"]}).status == 304
    shared.click("other")
    assert shared.send("GET", "/badge.svg?name=other", {"If-None-Match": answer.headers["ETag"]}).status == 200


def test_badge_groups_long_numbers_and_takes_a_label_and_a_colour(start, on_sqlite):
    function = start(on_sqlite.url)
    function.click()
    on_sqlite.sql("update counter set value = 12345678901")
    badge = function.send("GET", "/badge.svg?label=Hello%20there&color=red").body.decode()
    assert ">12,345,678,901</text>" in badge
    assert ">Hello there</text>" in badge
    assert "Hello there: 12,345,678,901" in badge
    assert 'fill="#dd4343"' in badge
    assert 'fill="#ffee00"' in function.send("GET", "/badge.svg?color=%23FFEE00").body.decode()
    assert 'fill="#fe0"' in function.send("GET", "/badge.svg?color=fe0").body.decode()
    assert function.send("GET", "/badge.svg?label=").body.decode().count("<text") == 1


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\"'&amp;]]>", "\"'&amp;]]>"),
        ("a\x00b\x07c\r\nd\x7fe\x85f", "abcdef"),
        ("\ufffe\uffffx", "x"),
        ("\u00fcber \U0001f44b \u8a2a", "\u00fcber \U0001f44b \u8a2a"),
        ("{value} %s", "{value} %s"),
    ],
)
def test_badge_is_well_formed_whatever_its_label(shared, label, text):
    svg = ElementTree.fromstring(shared.send("GET", f"/badge.svg?label={quote(label)}").body)
    texts = svg.findall(SVG + "text")
    assert texts[0].text == text
    assert svg.get("aria-label") == f"{text}: {texts[1].text}"
    assert shared.send("GET", f"/badge.json?label={quote(label)}").json()["label"] == text


@pytest.mark.parametrize(
    "query", ["color=nocolor", "color=12345", "color=%22/%3E", "color=url(x)", "label=" + "x" * 251]
)
def test_badge_that_cannot_be_drawn_says_why(shared, query):
    answer = shared.send("GET", f"/badge.json?{query}")
    assert answer.status == 400
    check_problem(answer)
    check_picture(shared.send("GET", f"/badge.svg?{query}"), 400, "bad request", answer.json()["detail"])


def check_picture(answer, status, words, detail):
    assert (answer.status, answer.headers["Content-Type"]) == (status, "image/svg+xml")
    svg = ElementTree.fromstring(answer.body)
    assert [text.text for text in svg.findall(SVG + "text")] == ["clicks", words]
    assert svg.get("aria-label") == svg.find(SVG + "title").text == detail


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """A function whose database is not there."""
    settings = {
        "DATABASE_URL": "postgres://nobody:secret@127.0.0.1:9/nothing",
        "ALLOWED_ORIGINS": "https://trusted.example",
    }
    function = Function(settings, tmp_path_factory.mktemp("away") / "log").started()
    yield function
    function.stop()


def test_badge_that_cannot_be_made_is_a_picture_that_says_so(shared, away):
    for headers in ({}, HTML, {"Accept": "image/avif,image/webp,image/svg+xml,*/*;q=0.8"}):
        answer = shared.send("GET", "/badge.svg?name=unknown", headers)
        check_picture(answer, 404, "not found", "There is no counter unknown. Its name must be listed in COUNTERS.")
        answer = away.send("GET", "/badge.svg", headers)
        detail = ElementTree.fromstring(answer.body).get("aria-label")
        assert "Try again in a moment" in detail
        check_picture(answer, 503, "service unavailable", detail)
        assert answer.headers["Retry-After"] == "2"
    page = away.send("GET", "/value", HTML)
    assert page.headers["Retry-After"] == "2"
    check_page(page, detail)


@pytest.mark.parametrize(
    "label",
    [
        "\u0625\u0639\u062c\u0627\u0628\u0627\u062a",
        "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f",
        "likes \u0625\u0639",
        "\u0710\u0712",
    ],
)
def test_joined_letters_are_not_spread_out(shared, label):
    texts = ElementTree.fromstring(shared.send("GET", f"/badge.svg?label={quote(label)}").body).findall(SVG + "text")
    assert [text.get("textLength") is None for text in texts] == [True, False]


def width(shared, label):
    svg = ElementTree.fromstring(shared.send("GET", f"/badge.svg?label={quote(label)}").body)
    return svg.get("width")


EMOJI = {
    "skin tone": "\U0001f44d\U0001f3fd",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "flag": "\U0001f1e9\U0001f1ea",
    "heart": "\u2764\ufe0f",
    "keycap": "1\ufe0f\u20e3",
    "England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "handshake": "\U0001f9d1\U0001f3fb\u200d\U0001f91d\u200d\U0001f9d1\U0001f3ff",
}


WIDTHS = {  # what takes as much room as what
    "accent apart": ("e\u0301", "\u00e9"),
    "accent on nothing that composes": ("x\u0301", "x"),
    "zero width": ("a\u200bb", "ab"),
    "syllable in parts": ("\u110c\u1169\u11ba", "\uc88b"),
    "not UTF-8": ("a\ufffdb", "ab"),
}


@pytest.mark.parametrize(("label", "same"), WIDTHS.values(), ids=WIDTHS)
def test_label_has_the_room_that_it_is_seen_to_take(shared, label, same):
    assert width(shared, f"-{label}-") == width(shared, f"-{same}-")


def test_badges_of_one_page_share_nothing(shared):
    svg = shared.send("GET", "/badge.svg?name=other").body
    assert not re.search(rb"\b(id|xml:id)=|url\(|href", svg)


def test_letters_that_stand_apart_fill_their_room_whatever_font_there_is(shared):
    for label in ("likes", "\u0429\u0429", "\u8a2a\u554f", "a\U0001f44d"):
        texts = ElementTree.fromstring(shared.send("GET", f"/badge.svg?label={quote(label)}").body).findall(
            SVG + "text"
        )
        assert all(int(text.get("textLength")) > 0 for text in texts)


@pytest.mark.parametrize("sequence", EMOJI.values(), ids=EMOJI)
def test_emoji_sequence_counts_once(shared, sequence):
    assert width(shared, f"a{sequence}b") == width(shared, "a\U0001f44db")


def test_badge_for_shields_has_its_schema(shared):
    shared.click("other")
    answer = shared.send("GET", "/badge.json?name=other&label=likes&color=orange")
    value = shared.count("other")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"schemaVersion": 1, "label": "likes", "message": f"{value:,}", "color": "#ea7233"}
    assert shared.send("GET", "/badge.json?name=other", {"If-None-Match": "*"}).status == 304


@pytest.mark.parametrize("path", ["/click", "/click?name=other"])
def test_name_of_a_form_means_what_that_of_the_query_means(shared, path):
    before = shared.count("other")
    body = urlencode({"return": "https://trusted.example/", "name": "other", "like": "1", "utm_source": "x"}).encode()
    answer = shared.send("POST", path, FORM, body)
    assert (answer.status, answer.headers["Location"]) == (303, "https://trusted.example/")
    assert shared.count("other") == before + 1
    assert shared.send("POST", "/click", FORM, b"name=unknown").status == 404
    assert shared.send("GET", "/value", {"Content-Type": FORM["Content-Type"]}, b"name=other").json()["name"] == "other"


def test_further_fields_of_a_form_do_not_matter(shared):
    before = shared.count()
    for field in (
        "go=Like",
        "_wpnonce=1f2e",
        "authenticity_token=a%2Bb",
        "x=1&y=2",
        "like=",
        "return=https%3A%2F%2Ftrusted.example",
    ):
        assert shared.send("POST", "/click", FORM, field.encode()).status == 303
    assert shared.count() == before + 6


def test_empty_body_may_have_any_type(shared):
    before = shared.count()
    for media_type in (
        "application/json",
        "text/plain;charset=UTF-8",
        "multipart/form-data; boundary=x",
        "",
        "nonsense",
    ):
        assert shared.send("POST", "/click", {"Content-Type": media_type}, b"").status == 200
        assert shared.send("POST", "/click", {"Content-Type": media_type}, iter([])).status == 200  # in chunks
    assert shared.count() == before + 10


def test_badge_and_history_take_any_further_field(shared):
    for path in ("/badge.svg", "/badge.json", "/history"):
        assert shared.send("GET", f"{path}?name=other&fresh=17&style=flat&cache=1&x=1").status == 200
        assert shared.send("GET", f"{path}?fresh=17").status == 200


def test_what_links_pick_up_on_their_way_does_not_matter(shared):
    picked_up = (
        "utm_source=a&utm_campaign=50%off&fbclid=b&gclid=c&GCLID=c&msclkid=d&wbraid=e&mc_cid=f&igsh=g&_ga=h&_=1&v=2"
    )
    assert shared.send("POST", f"/click?name=other&{picked_up}").json()["name"] == "other"
    for path in ("/value", "/history", "/badge.svg", "/badge.json", "/", "/style.css", "/health"):
        assert shared.send("GET", f"{path}?{picked_up}").status == 200


@pytest.mark.parametrize(
    ("page", "location"),
    [
        ("https://trusted.example", "https://trusted.example"),
        ("https://trusted.example/post?a=1&b=2#c", "https://trusted.example/post?a=1&b=2#c"),
        ("https://trusted.example/\u00e9 \r\nX: y", "https://trusted.example/%C3%A9%20%0D%0AX:%20y"),
        ("https://trusted.example//attacker.example", "https://trusted.example//attacker.example"),
    ],
)
def test_form_of_a_listed_site_goes_back_to_its_page(shared, page, location):
    before = shared.count()
    answer = shared.send("POST", "/click", FORM, urlencode({"return": page}).encode())
    assert (answer.status, answer.headers["Location"]) == (303, location)
    assert shared.count() == before + 1


@pytest.mark.parametrize(
    "page",
    ["https://attacker.example/", "//attacker.example", "https://trusted.example.attacker.example/", "/page", "",
     "https://trusted.example@attacker.example/", "https://trusted.example\\@attacker.example/", "javascript:alert(1)",
     "http://trusted.example/", "https://trusted.example:8443/", "https://attacker.example\\.trusted.example/",
     "https:trusted.example", "https:///trusted.example", "\thttps://attacker.example", "https://TRUSTED.example/",
     "https://attacker.example/#https://trusted.example", "https://trusted.example%2f@attacker.example"],
)  # fmt: skip
def test_form_never_leads_to_another_site(shared, page):
    before = shared.count()
    answer = shared.send("POST", "/click", FORM, urlencode({"return": page}).encode())
    assert answer.status == 400
    assert "Location" not in answer.headers
    check_page(answer, "return must be a page's address")
    assert shared.count() == before


def test_health_is_well(shared):
    assert shared.send("GET", "/health").status == 200


@pytest.mark.parametrize("path", ["/nothing", "/static/index.html", "/main.py", "/click/", "/index.html/", "//"])
def test_other_paths_are_not_found(shared, path):
    answer = shared.send("GET", path)
    assert answer.status == 404
    check_problem(answer)


def check_problem(answer):
    """Errors are application/problem+json and say what to do: https://www.rfc-editor.org/rfc/rfc9457."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert problem["title"]
    assert problem["detail"].endswith((".", "./"))


def check_page(answer, words):
    """Errors for people are a page in the look of the counter's own."""
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    text = html.unescape(answer.body.decode())
    assert words in text
    assert "style.css" in text
    return text


ERRORS = {
    "no such page": ("GET", "/nope", {}, 404),
    "no such page in a folder": ("GET", "/a/b", {}, 404),
    "foreign counter": ("POST", "/click?name=unknown", {}, 404),
    "malformed name": ("GET", "/value?name=%20", {}, 400),
    "foreign site": ("POST", "/click", {"Sec-Fetch-Site": "cross-site"}, 403),
    "wrong method": ("GET", "/click", {}, 405),
    "encoded folder": ("GET", "/a%2Fb", {}, 404),
}


@pytest.mark.parametrize(("method", "path", "headers", "status"), ERRORS.values(), ids=ERRORS)
def test_error_for_people_is_a_page_that_says_the_same(shared, method, path, headers, status):
    problem = shared.send(method, path, headers)
    page = shared.send(method, path, {**headers, **HTML})
    check_page(shared.send("POST", path, {**headers, **HTML}, b"x" * 10_001), "Send at most 10000 bytes")
    assert problem.status == page.status == status
    check_problem(problem)
    text = check_page(page, problem.json()["detail"])
    assert problem.json()["title"] in text
    root = "../" if path == "/a/b" else "./"
    assert f'<a href="{root}">' in text
    assert f'href="{root}style.css"' in text


def test_page_of_an_error_leads_back_to_where_its_visitor_came_from(shared):
    answer = shared.send(
        "POST", "/click", {**HTML, "Origin": "https://blog.example", "Referer": "https://blog.example/"}
    )
    assert answer.status == 403
    assert '<a href="https://blog.example/">' in check_page(answer, "ALLOWED_ORIGINS")


@pytest.fixture
def limited(start, on_sqlite):
    return start(
        on_sqlite.url, CLICKS_PER_MINUTE="1", ALLOWED_ORIGINS="https://trusted.example", MAX_COUNTERS="0",
        COUNTERS="hello-world-button,post-*",
    )  # fmt: skip


def test_page_of_an_error_leads_back_to_the_page_that_its_form_names(limited):
    headers = {**FORM, "Origin": "https://trusted.example", "Referer": "https://trusted.example/"}
    body = urlencode({"return": "https://trusted.example/post?a=1&b=2"}).encode()
    crowded = {**headers, "X-Forwarded-For": "203.0.113.7"}
    wait_until(lambda: limited.send("POST", "/click", crowded, body).status == 429)  # the second of a minute
    for sent, path, status in (
        (crowded, "/click", 429),
        (headers, "/click?name=post-1", 409),
        (headers, "/click?name=unknown", 404),
    ):
        answer = limited.send("POST", path, sent, body)
        assert answer.status == status
        check_page(answer, '<a href="https://trusted.example/post?a=1&b=2">')


@pytest.mark.parametrize(
    "referrer", ["javascript:alert(1)", '"><script>', "data:text/html,x", 'https://x.example/"><script>']
)
def test_page_of_an_error_holds_no_script_of_others(shared, referrer):
    answer = shared.send("GET", "/nope%3Cscript%3E", {**HTML, "Referer": referrer})
    assert b"<script" not in answer.body
    assert b'href="javascript' not in answer.body
    assert b'href="data' not in answer.body


@pytest.mark.parametrize(
    ("accept", "html_comes"),
    [
        ("text/html", True),
        ("text/html;q=0.9,application/json;q=0.8", True),
        ("text/html, application/json", False),
        ("application/json, text/html", False),
        ("text/html, */*", True),
        ("text/*", True),
        ("*/*, text/html", True),
        ("text/html;q=0.5, */*", False),
        ("application/json, text/html;q=0.9", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("application/problem+json,text/html", False),
        ("*/*", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=0", False),
        ("TEXT/HTML;Q=1", True),
        ("image/png", False),
        ("", False),
        (";;;,q=,text/html;q=x", False),
    ],
)
def test_form_of_an_error_is_what_the_client_prefers(shared, accept, html_comes):
    answer = shared.send("GET", "/nope", {"Accept": accept})
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/html" if html_comes else "application/problem+json")


def test_every_error_is_a_problem(shared):
    check_problem(shared.click("a%20b"))
    check_problem(shared.click("unknown"))
    check_problem(shared.send("GET", "/value?name=pos"))
    check_problem(shared.click(key="1"))
    check_problem(shared.send("GET", "/click"))
    check_problem(shared.send("POST", "/click", body=b"x" * 10_001))
    check_problem(shared.send("POST", "/click", {"Sec-Fetch-Site": "cross-site"}))


def test_page_is_served_and_the_rest_says_503_without_a_database(away):
    listed = {"Origin": "https://trusted.example", "Sec-Fetch-Site": "cross-site"}
    with ThreadPoolExecutor() as pool:
        clicked = [pool.submit(away.send, "POST", "/click", headers) for headers in ({}, listed)]
        read = [pool.submit(away.send, "GET", path) for path in ("/value", "/history", "/health")]
    for one in (*clicked, *read):
        answer = one.result()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"
        check_problem(answer)
        assert b"127.0.0.1" not in answer.body
    assert away.send("GET", "/").status == 200
    assert away.send("GET", "/style.css").status == 200
    assert "secret" not in away.output()
