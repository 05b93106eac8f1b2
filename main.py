"""HTTP: the settings, the checks, the answers and the routes of the click counter. Knows nothing of SQL."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import ipaddress
import json
import mimetypes
import os
import re
import signal
import socket
import string
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

import functions_framework.aio
from click import get_current_context
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

import badge
import db
from database_url import DATABASE, NAME, NAME_RULE

KEY = re.compile(r'("?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1')
ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
PAGE = re.compile(r"(https?://[^/?#@\\]+)(?:[/?#].*)?")

BODY_LIMIT = 10_000  # bytes of a body that are accepted
DISCARD_LIMIT = 16_000_000  # bytes, and
DISCARD_TIME = 2.0  # seconds, for which a body is read, so that its sender gets to see the answer
FIELDS_LIMIT = 100  # in a query or a form
PARSED_LIMIT = 2_000  # characters of a header
ADDRESSES_LIMIT = 10_000


# --- Settings ---------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """What the owner has set, but for DATABASE_URL."""

    exact: tuple[str, ...]  # names of counters; the first is the default one
    prefixes: tuple[str, ...]  # of further names
    max_counters: int
    allowed_origins: frozenset[str]
    clicks_per_minute: int  # of one address; 0: no limit

    def permits(self, name: str) -> bool:
        """Tell whether a counter may have this name."""
        return bool(NAME.fullmatch(name)) and (name in self.exact or name.startswith(self.prefixes))


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read the settings; stop the start with a line that names a malformed one and shows a right one."""

    def entries(variable: str, default: str, form: str | re.Pattern[str], example: str) -> list[str]:
        written = (entry.strip(string.whitespace) for entry in environ.get(variable, default).split(","))
        found = [entry for entry in written if entry]
        for entry in found:
            if not re.fullmatch(form, entry):
                sys.exit(f"{variable}: {entry!r} is malformed. Write it like {variable}={example}")
        return found

    def number(variable: str, default: str) -> int:
        text = environ.get(variable, default).strip(string.whitespace)
        if not re.fullmatch("[0-9]{1,9}", text):
            sys.exit(f"{variable}: {text!r} is malformed. Write it like {variable}={default}")
        return int(text)

    example = "hello-world-button,post-*"
    names = entries("COUNTERS", "hello-world-button", rf"{NAME.pattern}\*?", example)
    if not names:
        sys.exit(f"COUNTERS names no counter. Write it like COUNTERS={example}")
    return Settings(
        exact=tuple(name for name in names if not name.endswith("*")),
        prefixes=tuple(name[:-1] for name in names if name.endswith("*")),
        max_counters=number("MAX_COUNTERS", "1000"),
        allowed_origins=frozenset(
            entries("ALLOWED_ORIGINS", "", ORIGIN, "https://example.com,https://www.example.com")
        ),
        clicks_per_minute=number("CLICKS_PER_MINUTE", "600"),
    )


SETTINGS = settings_from(os.environ)


# --- Answers ----------------------------------------------------------------------------------------------------

Headers = dict[str, str]  # names in lower case

EVERY_ANSWER = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer a form on plain HTTP sends `Origin: null`, and is refused
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",  # there are no cookies, so nothing is given away
    "Access-Control-Expose-Headers": "Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Idempotency-Key",
    "Access-Control-Max-Age": "86400",  # seconds that a browser may remember it; Chromium takes 7200 of them
}
EVERY_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
ERROR_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>{0}</title>'
    '<link rel="icon" href="{2}icon.svg" type="image/svg+xml"><link rel="stylesheet" href="{2}style.css"></head>'
    '<body><main><h1>{0}</h1><p>{1}</p><p><a href="{3}">Go back</a></p></main></body></html>'
)


class Problem(Exception):
    """An error: its status, further headers, and a message that says what to do."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(detail)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.headers = headers


def answer(
    content: bytes | str, media_type: str | None = None, status: int = 200, headers: Mapping[str, str] = {}
) -> Response:
    return Response(content, status, {**EVERY_ANSWER, **headers}, media_type)


def cacheable(call: Call, content: bytes, etag: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """Answer with the content, or with 304 where the client names its ETag."""
    headers = {**headers, "ETag": f'"{etag}"'}
    if parse_etags(call.headers.get("if-none-match", "")[:PARSED_LIMIT]).contains_weak(etag):
        return answer(b"", None, 304, {name: text for name, text in headers.items() if name != "Content-Encoding"})
    return answer(content, media_type, 200, headers)


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def explained(problem: Problem, request: Request, headers: Headers) -> Response:
    """Answer with an error in the form that the client can show: a picture, a page, or RFC 9457's JSON."""
    detail = str(problem)
    if request.scope["path"] == "/badge.svg":
        picture = badge.svg("clicks", problem.title.lower(), badge.COLORS["lightgrey"], detail)
        return answer(picture, "image/svg+xml", problem.status, problem.headers)
    if prefers_html(headers):
        # The way to the counter's own page: a part of the path in front of the function is not known.
        root = "../" * (request.scope["raw_path"].count(b"/") - 1) or "./"
        back = headers["referer"] if PAGE.fullmatch(headers.get("referer", "")) else root
        page = ERROR_PAGE.format(*map(html.escape, (problem.title, detail, root, back)))
        return answer(page, "text/html", problem.status, {**EVERY_PAGE, **problem.headers})
    content = json.dumps({"title": problem.title, "status": problem.status, "detail": detail})
    return answer(content, "application/problem+json", problem.status, problem.headers)


def prefers_html(headers: Headers) -> bool:
    accept = headers.get("accept", "").lower()[:PARSED_LIMIT]
    if "text/" not in accept:  # as for most clicks: to parse it takes a tenth of a click's time
        return False
    accept = re.sub(r";(?!\s*q=)[^,;]*", "", accept)  # charsets and the like
    types = ("application/json", "application/problem+json", "text/html")
    return parse_accept_header(accept, MIMEAccept).best_match(types) == "text/html"


# --- Checks -----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """What a route needs to know of a request."""

    names: list[str]  # in the query
    query: dict[str, str]  # its fields; of several with one name, the last
    headers: Headers
    body: bytes


async def body_of(request: Request, headers: Headers) -> bytes:
    """Return the body; raise 413 where it is too large, 400 where it does not arrive."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
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
        if size <= BODY_LIMIT:  # else it is too large anyway
            raise Problem(400, "The body did not arrive. Send none.", {"Connection": "close"}) from None
    if len(request.headers.getlist("x-forwarded-for")) > 1 and "transfer-encoding" in headers:
        raise Problem(400, "Send one X-Forwarded-For, and no trailer, which would add another.")
    if size > BODY_LIMIT:
        raise Problem(413, f"Send at most {BODY_LIMIT} bytes, or no body.", {"Connection": "close"})
    return body


def check_origin(headers: Headers) -> None:
    """Refuse what another site makes a browser send: https://pkg.go.dev/net/http#CrossOriginProtection."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or origin in SETTINGS.allowed_origins:
        return
    if not site and (not origin or origin.partition("://")[2] == headers.get("host", "") != ""):
        return
    raise Problem(403, "This site may not click here. Its origin must be listed in ALLOWED_ORIGINS.")


@dataclass
class AddressLimit:
    """Counts the clicks of each address in the minute at hand, in this process's memory alone."""

    limit: int
    minute: int = 0
    clicks: dict[bytes, int] = field(default_factory=dict)

    def check(self, headers: Headers) -> None:
        """Count a click of the address that Cloud Run has seen; raise 429 where it has had its clicks."""
        address = address_of(headers) if self.limit else None
        if address is None:
            return
        now = time.time()
        if now // 60 != self.minute:
            self.minute, self.clicks = int(now // 60), {}
        clicks = self.clicks.get(address, 0)
        if clicks >= self.limit:
            rest = 60 - int(now % 60)
            detail = f"Too many clicks come from your network. Try again in {rest} s."
            raise Problem(429, detail, {"Retry-After": str(rest)})
        if clicks or len(self.clicks) < ADDRESSES_LIMIT:
            self.clicks[address] = clicks + 1


def address_of(headers: Headers) -> bytes | None:
    """Return the IPv4 address, or an IPv6 address's first 64 bits, of X-Forwarded-For's last entry."""
    try:
        address = ipaddress.ip_address(headers["x-forwarded-for"].rpartition(",")[2].strip())
    except (KeyError, ValueError):
        return None
    return (getattr(address, "ipv4_mapped", None) or address).packed[:8]


ADDRESS_LIMIT = AddressLimit(SETTINGS.clicks_per_minute)


def fields_of(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query or a form; raise 400 where there are too many."""
    try:
        return parse_qsl(query.decode(errors="replace"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT)
    except ValueError:
        raise Problem(400, f"Send at most {FIELDS_LIMIT} fields.") from None


def names_of(call: Call) -> list[str]:
    """Return the names in a query, whatever they are, or the default one."""
    if not call.names and not SETTINGS.exact:
        raise Problem(400, "Name a counter, like ?name=post-1: COUNTERS has no default one here.")
    return call.names or [SETTINGS.exact[0]]


def name_of(call: Call) -> str:
    """Return the one name in a query, or the default one; raise 400 for a malformed and 404 for a foreign one."""
    [name, *others] = names_of(call)
    if others:
        raise Problem(400, "Name one counter only.")
    if not NAME.fullmatch(name):
        raise Problem(400, NAME_RULE)
    if not SETTINGS.permits(name):
        raise Problem(404, f"There is no counter {name}. Its name must be listed in COUNTERS.")
    return name


def key_of(headers: Headers) -> str | None:
    """Return the Idempotency-Key in lower case; raise 400 for a malformed one."""
    value = headers.get("idempotency-key")
    if value is None:
        return None
    key = KEY.fullmatch(value.strip().lower())
    if key is None:
        example = '"8e03978e-40d5-43e8-bc93-6894a57f9324"'
        raise Problem(400, f"Idempotency-Key must be a UUID like {example}, a new one for each click.")
    return key[2]


def return_of(call: Call) -> str:
    """Return where a form wants its visitor to get back to; raise 400 unless that is a page of a listed site."""
    is_form = call.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded")
    fields = dict(fields_of(call.body)) if is_form else {}
    if "return" not in fields:
        return "./"
    page = quote(fields["return"], safe="".join(map(chr, range(0x21, 0x7F))))
    site = PAGE.fullmatch(page)
    if site is None or site[1] not in SETTINGS.allowed_origins:
        raise Problem(400, "return must be a page's address on a site that ALLOWED_ORIGINS lists, or be left out.")
    return page


# --- Routes -----------------------------------------------------------------------------------------------------

Route = Callable[[Call], Awaitable[Response]]


async def click(call: Call) -> Response:
    """Count one click; a form's visitor is sent back to the page."""
    page = return_of(call)
    if page != "./":  # where the page of an error leads back to; another site's form tells only its origin
        call.headers["referer"] = page
    name, key = name_of(call), key_of(call.headers)
    ADDRESS_LIMIT.check(call.headers)
    count = await db.click(name, key, None if name in SETTINGS.exact else SETTINGS.max_counters)
    if prefers_html(call.headers):
        return answer(b"", None, 303, {"Location": page})
    return answer(f'{{"name": "{name}", "value": {count}}}', "application/json")  # a name needs no escaping


async def value(call: Call) -> Response:
    """Answer with the count of one counter, or a list for several, with null for those that there cannot be."""
    names = names_of(call)
    permitted = [name_of(call)] if len(names) == 1 else list(filter(SETTINGS.permits, names))
    counts = dict(zip(permitted, await db.counts(permitted) if permitted else [], strict=True))
    answers = [{"name": name, "value": counts.get(name)} for name in names]
    return answer(json.dumps(answers[0] if len(names) == 1 else answers), "application/json")


async def history(call: Call) -> Response:
    """Answer with the clicks of the last days, the oldest first."""
    name, days = name_of(call), call.query.get("days", "30")
    if not re.fullmatch("[1-9][0-9]{0,2}", days) or int(days) > db.MOST_DAYS:
        raise Problem(400, f"days must be a number from 1 to {db.MOST_DAYS}.")
    clicks = [{"day": day, "value": number} for day, number in await db.history(name, int(days))]
    content = json.dumps({"name": name, "days": clicks}).encode()
    return cacheable(call, content, etag_of(content), "application/json", {"Cache-Control": "public, max-age=60"})


async def badge_parts(call: Call) -> dict[str, str]:
    """Return the label, the count and the colour of a badge; raise 400 for what cannot be shown."""
    name = name_of(call)
    label, color = call.query.get("label", "clicks"), call.query.get("color", "1d6b52")
    try:
        label, color = badge.label_of(label), badge.color_of(color)
    except ValueError as error:
        raise Problem(400, str(error)) from None
    [count] = await db.counts([name])
    return {"label": label, "message": f"{count:,}", "color": color}


async def badge_svg(call: Call) -> Response:
    """Answer with the count as a picture, for where no script runs."""
    picture = badge.svg(**await badge_parts(call)).encode()
    return cacheable(call, picture, etag_of(picture), "image/svg+xml", {"Cache-Control": "no-cache"})


async def badge_json(call: Call) -> Response:
    """Answer with what shields.io makes a picture of: https://shields.io/badges/endpoint-badge."""
    content = json.dumps({"schemaVersion": 1, **await badge_parts(call)}).encode()
    return cacheable(call, content, etag_of(content), "application/json", {"Cache-Control": "no-cache"})


async def health(call: Call) -> Response:
    """Answer 200 if a click could be counted just now."""
    await db.check_health()
    return answer('{"status": "ok"}', "application/json")


async def file(media_type: str, plain: tuple[bytes, str], zipped: tuple[bytes, str], call: Call) -> Response:
    """Answer with a file as it stands or compressed, each with its ETag."""
    headers = {"Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding"}
    headers |= EVERY_PAGE if media_type == "text/html" else {}
    accepted = parse_accept_header(call.headers.get("accept-encoding", "")[:PARSED_LIMIT], Accept)
    if accepted.best_match(("gzip", "identity")) == "gzip":
        return cacheable(call, *zipped, media_type, headers | {"Content-Encoding": "gzip"})
    return cacheable(call, *plain, media_type, headers)


def files(folder: Path) -> dict[str, dict[str, Route]]:
    """Return a route for each file, which is read now: no path that a client sends ever gets to the file system."""
    types = mimetypes.MimeTypes()  # the same on every machine, without its /etc/mime.types
    types.add_type("text/plain", ".ts")  # else a film
    routes: dict[str, dict[str, Route]] = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        zipped = gzip.compress(content, mtime=0)  # the same on every instance
        media_type = types.guess_type(path.name)[0] or "application/octet-stream"
        route = partial(file, media_type, (content, etag_of(content)), (zipped, etag_of(zipped)))
        routes[f"/{path.relative_to(folder).as_posix()}"] = {"GET": route}
    return routes


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
        raise Problem(400, "Speak HTTP/1.1.")
    body = await body_of(request, headers)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in ("GET", "OPTIONS"):
        check_origin(headers)
    routes = ROUTES.get(request.scope["path"])
    if routes is None:
        raise Problem(404, "There is nothing at this address. Open the counter's page, or send POST /click.")
    if method in routes:
        fields = fields_of(request.scope["query_string"])
        names = [value for field, value in fields if field == "name"]
        return await routes[method](Call(names, dict(fields), headers, body))
    allow = ", ".join(["GET, HEAD" if method == "GET" else method for method in routes] + ["OPTIONS"])
    if method == "OPTIONS":
        return answer(b"", None, 204, {**PREFLIGHT, "Allow": allow})
    raise Problem(405, f"Use {allow} here.", {"Allow": allow})


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    """Answer one HTTP request: the function's entry point."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    try:
        return await dispatch(request, headers)
    except Problem as error:
        problem = error
    except db.Unavailable as error:
        problem = Problem(503, str(error), {"Retry-After": "2"})
    except db.NoRoom as error:
        problem = Problem(409, str(error), {"Retry-After": "3600"})  # the owner may have made room by then
    return explained(problem, request, headers)


# --- On the owner's machine -------------------------------------------------------------------------------------


def prepare_local_start() -> None:
    """Say where the counter is once it listens, end with the terminal, and stop at once where the port is taken."""
    context = get_current_context(silent=True)  # of the command functions-framework
    if context is None or "K_SERVICE" in os.environ:
        return
    host, port = context.params["host"], context.params["port"]
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (")[0].rstrip(".")
        sys.exit(f"{host}:{port} cannot be used: {reason}. Write HOST=127.0.0.1 PORT=8081 before the command.")
    everywhere = host == "0.0.0.0"  # noqa: S104
    place = "all addresses of this machine; write HOST=127.0.0.1 before the command to keep others out"
    words = (
        f"The counter is at http://{'localhost' if everywhere else host}:{port}/, its counts in {DATABASE.place}.\n"
        f"It listens on {place if everywhere else host}. Ctrl+C stops it."
    )

    def in_worker() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # the master's SIGTERM lets it finish first
        print(words, flush=True)

    # The framework forks when it listens. Its master process takes the end of a terminal for a wish to reload.
    ignores = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # under nohup
    ends = signal.SIG_IGN if ignores else lambda *_: signal.raise_signal(signal.SIGTERM)
    os.register_at_fork(after_in_child=in_worker, after_in_parent=lambda: signal.signal(signal.SIGHUP, ends))


prepare_local_start()
