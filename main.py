"""The HTTP side of the click counter: routes, checks and answers. Knows nothing of SQL."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

import functions_framework.aio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import db

NAME = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
KEY = re.compile(r'("?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1')
ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::\d{1,5})?")

BODY_LIMIT = 10_000  # bytes of a body that are accepted
DISCARD_LIMIT = 16_000_000  # bytes, and
DISCARD_TIME = 2.0  # seconds, for which a body is read away, so that its sender gets to see the answer
NAMES_LIMIT = 100  # counters in one GET /count
HEALTH_TIME = 1.8  # seconds
RETRY_AFTER = "2"  # seconds


# --- Settings ---------------------------------------------------------------------------------------------------


def setting(variable: str, default: str, form: re.Pattern[str], example: str) -> tuple[str, ...]:
    """Read a list separated by commas; stop the start with a sentence where an entry is malformed."""
    entries = tuple(entry.strip() for entry in os.environ.get(variable, default).split(",") if entry.strip())
    for entry in entries:
        if not form.fullmatch(entry):
            sys.exit(f"{variable}: {entry!r} is malformed. Write the list like {variable}={example}")
    return entries


COUNTERS = setting("COUNTERS", "hello-world-button", NAME, "hello-world-button,post-1")
ALLOWED_ORIGINS = setting("ALLOWED_ORIGINS", "", ORIGIN, "https://example.com,https://www.example.com")
if not COUNTERS:
    sys.exit("COUNTERS names no counter. Write the list like COUNTERS=hello-world-button,post-1")


# --- Answers ----------------------------------------------------------------------------------------------------

EVERY_ANSWER = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer a form on plain HTTP sends `Origin: null`, and is refused
    "X-Content-Type-Options": "nosniff",
}
EVERY_FILE = {
    "Cache-Control": "public, max-age=300",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
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


def cacheable(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Answer with the content, or with 304 where the client names its ETag."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**headers, "ETag": etag}
    known = request.headers.get("If-None-Match", "")
    if known == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return answer(b"", None, 304, headers)
    return answer(content, media_type, 200, headers)


# --- Checks -----------------------------------------------------------------------------------------------------

Headers = dict[bytes, bytes]


async def discard_body(request: Request, headers: Headers) -> None:
    """Read the body away, which means nothing here; raise 413 where it is too large, 400 where it does not arrive."""
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return
    size = 0
    try:
        async with asyncio.timeout(DISCARD_TIME):
            async for chunk in request.stream():
                size += len(chunk)
                if size > DISCARD_LIMIT:
                    break
    except (TimeoutError, ClientDisconnect):
        if size <= BODY_LIMIT:
            raise Problem(400, "Bad Request", "The body did not arrive. Send none.", Connection="close") from None
    if size > BODY_LIMIT:
        raise Problem(413, "Content Too Large", f"Send at most {BODY_LIMIT} bytes, or no body.", Connection="close")


def check_origin(headers: Headers) -> None:
    """Refuse what another site makes a browser send: https://pkg.go.dev/net/http#CrossOriginProtection."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site in (b"same-origin", b"none") or (origin and origin.decode("latin-1") in ALLOWED_ORIGINS):
        return
    if not site and (not origin or origin.partition(b"://")[2] == headers.get(b"host", b"") != b""):
        return
    raise Problem(403, "Forbidden", "This site may not click here. Its origin must be listed in ALLOWED_ORIGINS.")


def names_of(request: Request) -> list[str]:
    """Return the names in the query, or the default one; raise 400 for a malformed and 404 for a foreign one."""
    query: bytes = request.scope["query_string"]
    if not query:
        return [COUNTERS[0]]
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=NAMES_LIMIT)
    except ValueError:
        raise Problem(400, "Bad Request", f"Send at most {NAMES_LIMIT} fields in the query.") from None
    names = [value for field, value in fields if field == "name"] or [COUNTERS[0]]
    for name in names:
        if not NAME.fullmatch(name):
            detail = "A name is 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else."
            raise Problem(400, "Bad Request", detail)
        if name not in COUNTERS:
            raise Problem(404, "Not Found", f"There is no counter {name}. Its name must be listed in COUNTERS.")
    return names


def name_of(request: Request) -> str:
    """Return the one name in the query, or the default one; raise 400 where there are several."""
    names = names_of(request)
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


# --- Routes -----------------------------------------------------------------------------------------------------


def as_json(name: str, value: int) -> str:
    return f'{{"name": "{name}", "value": {value}}}'  # a checked name needs no escaping


async def click(request: Request, headers: Headers) -> Response:
    """Count one click; a form is sent back to its page."""
    name = name_of(request)
    value = await db.click(name, key_of(headers))
    if b"text/html" in headers.get(b"accept", b""):
        return answer(b"", None, 303, {"Location": "./"})
    return answer(as_json(name, value), "application/json", 200, {})


async def count(request: Request, headers: Headers) -> Response:
    """Answer with the count of one counter, or a list for several."""
    names = names_of(request)
    parts = [as_json(name, value) for name, value in zip(names, await db.values(names), strict=True)]
    return answer(parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]", "application/json", 200, {})


async def badge(request: Request, headers: Headers) -> Response:
    """Answer with the count as a picture, for where no script runs."""
    [value] = await db.values([name_of(request)])
    text = f"{value}x"
    width = 20 + 7.5 * len(text)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="24" role="img" aria-label="{text}">'
        f'<rect width="{width}" height="24" rx="12" fill="#1f6f54"/><text x="{width / 2}" y="16.5" fill="#fff" '
        f'font-family="Verdana,DejaVu Sans,sans-serif" font-size="12" text-anchor="middle">{text}</text></svg>'
    )
    return cacheable(request, svg.encode(), "image/svg+xml", {"Cache-Control": "no-cache"})


async def health(request: Request, headers: Headers) -> Response:
    """Answer 200 if the database can be read just now."""
    try:
        async with asyncio.timeout(HEALTH_TIME):
            await db.values([COUNTERS[0]])
    except TimeoutError:
        raise db.Unavailable(db.AWAY) from None
    return answer('{"status": "ok"}', "application/json", 200, {})


async def file(content: bytes, media_type: str, request: Request, headers: Headers) -> Response:
    more = EVERY_PAGE if media_type == "text/html" else {}
    return cacheable(request, content, media_type, {**EVERY_FILE, **more})


Route = Callable[[Request, Headers], Awaitable[Response]]


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
    "/count": {"GET": count},
    "/badge.svg": {"GET": badge},
    "/health": {"GET": health},
}
ROUTES["/"] = ROUTES["/index.html"]


async def dispatch(request: Request) -> Response:
    """Answer a request, or raise what is wrong with it."""
    headers: Headers = dict(request.scope["headers"])
    if request.scope["http_version"] == "0.9":  # what the parser makes of a first line without a version
        raise Problem(400, "Bad Request", "Speak HTTP/1.1.")
    await discard_body(request, headers)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in ("GET", "OPTIONS"):
        check_origin(headers)
    routes = ROUTES.get(request.scope["path"])
    if routes is None:
        raise Problem(404, "Not Found", "There is no such page. The counter's page is at ./")
    route = routes.get(method)
    if route is not None:
        return await route(request, headers)
    allow = ", ".join(["GET, HEAD" if method == "GET" else method for method in routes] + ["OPTIONS"])
    if method == "OPTIONS":
        return answer(b"", None, 204, {"Allow": allow})
    raise Problem(405, "Method Not Allowed", f"Use {allow} here.", Allow=allow)


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    """Answer one HTTP request: the function's entry point."""
    try:
        return await dispatch(request)
    except Problem as problem:
        return problem.answer()
    except db.Unavailable as error:
        return Problem(503, "Service Unavailable", str(error), Retry_After=RETRY_AFTER).answer()
    except db.Full:
        return Problem(409, "Conflict", "This counter has reached its limit. Click another one.").answer()
