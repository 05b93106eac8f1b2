"""The HTTP side of the click counter: routes, checks and answers. Knows nothing of SQL."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import mimetypes
import os
import re
import sys
import unicodedata
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

import functions_framework.aio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import db

KEY = re.compile(r'("?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1')
ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")
RETURN = re.compile(r"(https?://[^/?#@\\]+)(?:[/?#].*)?")

BODY_LIMIT = 10_000  # bytes of a body that are accepted
DISCARD_LIMIT = 16_000_000  # bytes, and
DISCARD_TIME = 2.0  # seconds, for which a body is read, so that its sender gets to see the answer
NAMES_LIMIT = 100  # counters in one GET /count
HEALTH_TIME = 1.8  # seconds
RETRY_AFTER = "2"  # seconds
DAYS_LIMIT = 366  # days in one GET /history
LABEL_LIMIT = 250  # characters on a badge


# --- Settings ---------------------------------------------------------------------------------------------------


def setting(variable: str, default: str, form: re.Pattern[str], example: str) -> tuple[str, ...]:
    """Read a list separated by commas; stop the start with a sentence where an entry is malformed."""
    entries = tuple(entry.strip() for entry in os.environ.get(variable, default).split(",") if entry.strip())
    for entry in entries:
        if not form.fullmatch(entry):
            sys.exit(f"{variable}: {entry!r} is malformed. Write it like {variable}={example}")
    return entries


COUNTERS = setting("COUNTERS", "hello-world-button", re.compile(rf"{db.NAME.pattern}\*?"), "hello-world-button,post-*")
ALLOWED_ORIGINS = setting("ALLOWED_ORIGINS", "", ORIGIN, "https://example.com,https://www.example.com")
LIMITS = setting("MAX_COUNTERS", "1000", re.compile("[0-9]{1,9}"), "1000")
if not COUNTERS:
    sys.exit("COUNTERS names no counter. Write it like COUNTERS=hello-world-button,post-*")
if len(LIMITS) != 1:
    sys.exit("MAX_COUNTERS must be one number. Write it like MAX_COUNTERS=1000")

MAX_COUNTERS = int(LIMITS[0])
EXACT = [entry for entry in COUNTERS if not entry.endswith("*")]
PREFIXES = tuple(entry[:-1] for entry in COUNTERS if entry.endswith("*"))


# --- Answers ----------------------------------------------------------------------------------------------------

EVERY_ANSWER = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer a form on plain HTTP sends `Origin: null`, and is refused
    "X-Content-Type-Options": "nosniff",
}
EVERY_FILE = {"Cache-Control": "public, max-age=300"}
EVERY_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Problem(Exception):
    """An error as RFC 9457 has it: status, title, headers, and a detail that says what to do."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = headers

    def answer(self) -> Response:
        content = json.dumps({"title": self.title, "status": self.status, "detail": str(self)})
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        return answer(content, "application/problem+json", self.status, headers)


def answer(content: bytes | str, media_type: str | None, status: int, headers: dict[str, str]) -> Response:
    return Response(content, status, {**EVERY_ANSWER, **headers}, media_type)


def cacheable(call: Call, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Answer with the content, or with 304 where the client names its ETag."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**headers, "ETag": etag}
    known = call.headers.get(b"if-none-match", b"").decode("latin-1")
    if known == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return answer(b"", None, 304, headers)
    return answer(content, media_type, 200, headers)


SHARED = [
    (b"access-control-allow-origin", b"*"),  # there are no cookies, so nothing is given away
    (b"access-control-expose-headers", b"Retry-After"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]
PREFLIGHT = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"Idempotency-Key"),
    (b"access-control-max-age", b"86400"),  # seconds that a browser may remember it; Chromium takes 7200 of them
]


# --- Checks -----------------------------------------------------------------------------------------------------

Headers = dict[bytes, bytes]


class Call(NamedTuple):
    """What a route needs to know of a request."""

    query: bytes
    headers: Headers
    body: bytes


async def body_of(request: Request, headers: Headers) -> bytes:
    """Return the body; raise 413 where it is too large, 400 where it does not arrive."""
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return b""
    size, body = 0, b""
    try:
        async with asyncio.timeout(DISCARD_TIME):
            async for chunk in request.stream():
                size += len(chunk)
                body += chunk if size <= BODY_LIMIT else b""
                if size > DISCARD_LIMIT:
                    break
    except (TimeoutError, ClientDisconnect):
        if size <= BODY_LIMIT:
            raise Problem(400, "Bad Request", "The body did not arrive. Send none.", Connection="close") from None
    if size > BODY_LIMIT:
        raise Problem(413, "Content Too Large", f"Send at most {BODY_LIMIT} bytes, or no body.", Connection="close")
    return body


def check_origin(headers: Headers) -> None:
    """Refuse what another site makes a browser send: https://pkg.go.dev/net/http#CrossOriginProtection."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site in (b"same-origin", b"none") or (origin and origin.decode("latin-1") in ALLOWED_ORIGINS):
        return
    if not site and (not origin or origin.partition(b"://")[2] == headers.get(b"host", b"") != b""):
        return
    raise Problem(403, "Forbidden", "This site may not click here. Its origin must be listed in ALLOWED_ORIGINS.")


def fields_of(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query or a form; raise 400 where there are too many."""
    try:
        return parse_qsl(query.decode(errors="replace"), keep_blank_values=True, max_num_fields=NAMES_LIMIT)
    except ValueError:
        raise Problem(400, "Bad Request", f"Send at most {NAMES_LIMIT} fields.") from None


def is_permitted(name: str) -> bool:
    return bool(db.NAME.fullmatch(name)) and (name in EXACT or name.startswith(PREFIXES))


def names_of(fields: list[tuple[str, str]]) -> list[str]:
    """Return the names in a query, or the default one; raise 400 for a malformed and 404 for a foreign one."""
    names = [value for field, value in fields if field == "name"]
    if not names and not EXACT:
        raise Problem(400, "Bad Request", "Name a counter, like ?name=post-1: COUNTERS has no default one here.")
    for name in names:
        if not db.NAME.fullmatch(name):
            raise Problem(400, "Bad Request", db.NAME_RULE)
        if name not in EXACT and not name.startswith(PREFIXES):
            raise Problem(404, "Not Found", f"There is no counter {name}. Its name must be listed in COUNTERS.")
    return names or EXACT[:1]


def name_of(fields: list[tuple[str, str]]) -> str:
    """Return the one name in a query, or the default one; raise 400 where there are several."""
    names = names_of(fields)
    if len(names) > 1:
        raise Problem(400, "Bad Request", "Name one counter only.")
    return names[0]


def key_of(headers: Headers) -> str | None:
    """Return the Idempotency-Key in lower case; raise 400 for a malformed one."""
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    key = KEY.fullmatch(value.decode("latin-1").lower())
    if key is None:
        detail = 'Idempotency-Key must be a UUID like "8e03978e-40d5-43e8-bc93-6894a57f9324", a new one for each click.'
        raise Problem(400, "Bad Request", detail)
    return key[2]


def return_of(call: Call) -> str:
    """Return where a form wants its visitor to get back to; raise 400 unless that is a page of a listed site."""
    if not call.body or not call.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        return "./"
    fields = dict(fields_of(call.body))
    if "return" not in fields:
        return "./"
    page = quote(fields["return"], safe="".join(map(chr, range(0x21, 0x7F))))
    site = RETURN.fullmatch(page)
    if site is None or site[1] not in ALLOWED_ORIGINS:
        detail = "return must be the address of a page whose site is listed in ALLOWED_ORIGINS, or be left out."
        raise Problem(400, "Bad Request", detail)
    return page


# --- The badge --------------------------------------------------------------------------------------------------

COLORS = {  # as https://github.com/badges/shields/tree/master/badge-maker names them
    "brightgreen": "#4b0", "success": "#4b0", "green": "#67ac09", "yellowgreen": "#95991a", "yellow": "#d8b800",
    "orange": "#ea7233", "important": "#ea7233", "red": "#dd4343", "critical": "#dd4343", "blue": "#007ec6",
    "informational": "#007ec6", "grey": "#555", "gray": "#555", "lightgrey": "#939393", "lightgray": "#939393",
    "inactive": "#939393", "black": "#000", "white": "#fff", "pink": "#e0609f", "purple": "#7d4cc2",
}  # fmt: skip
WIDTHS = {  # of Verdana's characters at 11 px: https://github.com/metabolize/anafanafo
    character: width
    for characters, width in {
        "'il": 3.0, "fj ": 3.9, "!t,.": 4.3, "Ir": 4.7, '()-/:;J[]\\|"': 5.0, "csz": 5.8, "?LF": 6.2, "PTYaekovxy": 6.6,
        "Ebdghnpqu0123456789$*_`{}": 7.0, "ABCKRSVXZ&": 7.6, "DGHNOQU": 8.4, "M#+<=>^w~": 9.0, "Wm@": 10.9, "%": 11.9,
    }.items()
    for character in characters
}  # fmt: skip


def width_of(text: str) -> int:
    """Return about how wide the text is, in px; the picture then sets it to this width, whatever font there is."""

    def width(character: str) -> float:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            return 0
        return 12 if unicodedata.east_asian_width(character) in "WF" else 8

    return round(sum(WIDTHS.get(character) or width(character) for character in text))


class Badge(NamedTuple):
    """A label, a count and a colour, as people know them from https://shields.io."""

    label: str
    message: str
    color: str

    def svg(self) -> str:
        left = width_of(self.label) + 10 if self.label else 0
        right = width_of(self.message) + 10
        text = html.escape(f"{self.label}: {self.message}" if self.label else self.message)
        parts = (self._text(self.label, left / 2, left, "#555") if left else "") + self._text(
            self.message, left + right / 2, right, self.color
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
            f'aria-label="{text}"><title>{text}</title>'
            f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
            f'<rect width="{left}" height="20" fill="#555"/>'
            f'<rect x="{left}" width="{right}" height="20" fill="{self.color}"/></g>'
            '<g font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle" '
            f'text-rendering="geometricPrecision">{parts}</g></svg>'
        )

    @staticmethod
    def _text(text: str, middle: float, width: int, ground: str) -> str:
        digits = ground[1:] if len(ground) == 7 else "".join(digit * 2 for digit in ground[1:])
        red, green, blue = bytes.fromhex(digits)
        fill = "#fff" if (red * 299 + green * 587 + blue * 114) / 255_000 <= 0.69 else "#333"
        return f'<text x="{middle}" y="14" fill="{fill}" textLength="{width - 10}">{html.escape(text)}</text>'


async def badge_of(call: Call) -> Badge:
    """Return what the query asks for; raise 400 for a label or a colour that cannot be shown."""
    query = fields_of(call.query)
    name, fields = name_of(query), dict(query)
    label = re.sub("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", fields.get("label", "clicks")).strip()
    color = fields.get("color", "#1d6b52").lower()
    color = COLORS.get(color) or f"#{color.removeprefix('#')}"
    if len(label) > LABEL_LIMIT:
        raise Problem(400, "Bad Request", f"label can have {LABEL_LIMIT} characters at most.")
    if not re.fullmatch("#([0-9a-f]{3}){1,2}", color):
        raise Problem(400, "Bad Request", f"color must be like 1d6b52, or one of {', '.join(COLORS)}.")
    [value] = await db.values([name])
    return Badge(label, f"{value:,}", color)


# --- Routes -----------------------------------------------------------------------------------------------------


def as_json(name: str, value: int) -> str:
    return f'{{"name": "{name}", "value": {value}}}'  # a checked name needs no escaping


async def click(call: Call) -> Response:
    """Count one click; a form's visitor is sent back to the page."""
    name, key, page = name_of(fields_of(call.query)), key_of(call.headers), return_of(call)
    value = await db.click(name, key, None if name in EXACT else MAX_COUNTERS)
    if b"text/html" in call.headers.get(b"accept", b""):
        return answer(b"", None, 303, {"Location": page})
    return answer(as_json(name, value), "application/json", 200, {})


async def value(call: Call) -> Response:
    """Answer with the count of one counter, or a list for several: null where a name is not permitted."""
    fields = fields_of(call.query)
    names = [value for field, value in fields if field == "name"]
    if len(names) < 2:
        name = name_of(fields)
        [found] = await db.values([name])
        return answer(as_json(name, found), "application/json", 200, {})
    permitted = [name for name in names if is_permitted(name)]
    values = dict(zip(permitted, await db.values(permitted), strict=True)) if permitted else {}
    content = json.dumps([{"name": name, "value": values.get(name)} for name in names])
    return answer(content, "application/json", 200, {})


async def history(call: Call) -> Response:
    """Answer with the clicks of the last days, the oldest first."""
    fields = fields_of(call.query)
    name, days = name_of(fields), dict(fields).get("days", "30")
    if not re.fullmatch("[1-9][0-9]{0,2}", days) or int(days) > DAYS_LIMIT:
        raise Problem(400, "Bad Request", f"days must be a number from 1 to {DAYS_LIMIT}.")
    found = [{"day": day, "value": value} for day, value in await db.history(name, int(days))]
    content = json.dumps({"name": name, "days": found})
    return cacheable(call, content.encode(), "application/json", {"Cache-Control": "public, max-age=60"})


async def badge_svg(call: Call) -> Response:
    """Answer with the count as a picture, for where no script runs."""
    badge = await badge_of(call)
    return cacheable(call, badge.svg().encode(), "image/svg+xml", {"Cache-Control": "no-cache"})


async def badge_json(call: Call) -> Response:
    """Answer with what shields.io makes a picture of: https://shields.io/badges/endpoint-badge."""
    content = json.dumps({"schemaVersion": 1, **(await badge_of(call))._asdict()})
    return cacheable(call, content.encode(), "application/json", {"Cache-Control": "no-cache"})


async def health(call: Call) -> Response:
    """Answer 200 if the database can be read just now."""
    try:
        async with asyncio.timeout(HEALTH_TIME):
            await db.values(list(COUNTERS[:1]))
    except TimeoutError:
        raise db.Unavailable(db.AWAY) from None
    return answer('{"status": "ok"}', "application/json", 200, {})


async def file(content: bytes, media_type: str, call: Call) -> Response:
    more = EVERY_PAGE if media_type == "text/html" else {}
    return cacheable(call, content, media_type, {**EVERY_FILE, **more})


Route = Callable[[Call], Awaitable[Response]]


def files(folder: Path) -> dict[str, dict[str, Route]]:
    """Return a route for each file, which is read now: no path that a client sends ever gets to the file system."""
    types = mimetypes.MimeTypes()  # the same on every machine, without its /etc/mime.types
    return {
        f"/{path.relative_to(folder).as_posix()}": {
            "GET": partial(file, path.read_bytes(), types.guess_type(path.name)[0] or "application/octet-stream")
        }
        for path in folder.rglob("*")
        if path.is_file()
    }


ROUTES: dict[str, dict[str, Route]] = {
    **files(Path(__file__).parent / "static"),
    "/click": {"POST": click},
    "/value": {"GET": value},
    "/history": {"GET": history},
    "/badge.svg": {"GET": badge_svg},
    "/badge.json": {"GET": badge_json},
    "/health": {"GET": health},
}
ROUTES["/"] = ROUTES["/index.html"]


async def dispatch(request: Request, headers: Headers) -> Response:
    """Answer a request, or raise what is wrong with it."""
    if request.scope["http_version"] == "0.9":  # what the parser makes of a first line without a version
        raise Problem(400, "Bad Request", "Speak HTTP/1.1.")
    body = await body_of(request, headers)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in ("GET", "OPTIONS"):
        check_origin(headers)
    routes = ROUTES.get(request.scope["path"])
    if routes is None:
        raise Problem(404, "Not Found", "There is no such page. The counter's page is at ./")
    route = routes.get(method)
    if route is not None:
        return await route(Call(request.scope["query_string"], headers, body))
    allow = ", ".join(["GET, HEAD" if method == "GET" else method for method in routes] + ["OPTIONS"])
    if method == "OPTIONS":
        return answer(b"", None, 204, {"Allow": allow})
    raise Problem(405, "Method Not Allowed", f"Use {allow} here.", Allow=allow)


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    """Answer one HTTP request: the function's entry point."""
    headers: Headers = dict(request.scope["headers"])
    try:
        response = await dispatch(request, headers)
    except Problem as problem:
        response = problem.answer()
    except db.Unavailable as error:
        response = Problem(503, "Service Unavailable", str(error), Retry_After=RETRY_AFTER).answer()
    except db.Full as error:
        response = Problem(409, "Conflict", str(error)).answer()
    response.raw_headers += SHARED + (PREFLIGHT if request.method == "OPTIONS" else [])
    return response
