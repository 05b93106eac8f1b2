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
import string
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

import functions_framework.aio
from click import get_current_context
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

import badge
import db
from database_url import DATABASE, NAME, NAME_RULE

KEY = re.compile(r'("?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1')
ORIGIN = r"(?!http:.*:80$|https:.*:443$)https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
PAGE = re.compile(r"(?!.{2001})(https?://[^/?#@\\]+)(?:[/?#].*)?")
PORT = re.compile(r"^([0-9.]+|\[.*\]):[0-9]{1,5}$")
FORM = "application/x-www-form-urlencoded"
FORM_FIELD = re.compile(r'(?!.*(name|counter))[^\s{"<]+', re.IGNORECASE)  # a button's, a framework's; JSON is none
TRACKING_FIELD = re.compile(r"utm_\w+|\w*cl(k|ick)?id|[gw]braid|mc_[ce]id|igsh|_(ga|gl)?|[tv]", re.IGNORECASE)

MAX_PATH = 200  # characters
MAX_QUERY = 16_000  # characters: a hundred long names
MAX_FIELDS = 100  # in a query or a form
MAX_PARSED = 500  # characters of a header that is taken apart
MAX_BODY = 10_000  # bytes that are accepted
MAX_DISCARDED = 16_000_000  # bytes of a longer one that are read, so that its sender gets to see the answer
BODY_TIMEOUT = 2.0  # seconds
MAX_ADDRESSES = 10_000


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


VARIABLES = ("DATABASE_URL", "COUNTERS", "MAX_COUNTERS", "ALLOWED_ORIGINS", "CLICKS_PER_MINUTE")


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read the settings; stop the start with a line that names a malformed one and shows a right one."""
    example = "COUNTERS=likes,post-*"
    names = entries_of(environ.get("COUNTERS") or "hello-world-button", "COUNTERS", rf"{NAME.pattern}\*?", example)
    if not names:
        sys.exit(f"COUNTERS has no entry. Write it like {example}, or leave it empty for the default")
    example = "ALLOWED_ORIGINS=https://blog.example, in lower case, without a path or a default port"
    return Settings(
        exact=tuple(name for name in names if not name.endswith("*")),
        prefixes=tuple(name[:-1] for name in names if name.endswith("*")),
        max_counters=number_of(environ, "MAX_COUNTERS", "1000"),
        allowed_origins=frozenset(entries_of(environ.get("ALLOWED_ORIGINS", ""), "ALLOWED_ORIGINS", ORIGIN, example)),
        clicks_per_minute=number_of(environ, "CLICKS_PER_MINUTE", "600"),
    )


def entries_of(text: str, variable: str, form: str, example: str) -> list[str]:
    found = [entry for entry in (part.strip(string.whitespace) for part in text.split(",")) if entry]
    for entry in found:
        if form == ORIGIN and entry.endswith("/"):
            sys.exit(f"{variable}: {entry!r} ends with a slash. Write it without: {entry[:-1]}")
        if not re.fullmatch(form, entry):
            sys.exit(f"{variable}: {entry!r} is malformed. Write it like {example}")
    return found


def number_of(environ: Mapping[str, str], variable: str, default: str) -> int:
    text = environ.get(variable, default).strip(string.whitespace)
    if not re.fullmatch("[0-9]{1,9}", text):
        sys.exit(f"{variable}: {text!r} is malformed. Write it like {variable}={default}")
    return int(text)


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is one letter from the name of a setting."""
    sentences = []
    for right in VARIABLES:
        near = "|".join(f"{right[:at]}.?{right[at + cut :]}" for at in range(len(right) + 1) for cut in (0, 1))
        found = [name for name in environ if name not in VARIABLES and re.fullmatch(near, name, re.IGNORECASE)]
        sentences += [f"{name} is no setting. Did you mean {right}?" for name in found]
    return sorted(sentences)


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
MAY_NOT_CLICK = {"Pragma": "click-allowed=no"}  # one of the few headers that another site's script may read
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "*",  # scripts that trace requests add their own
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


class Problem(HTTPException):
    """An error: its status, a message that says what to do, further headers, and the page to go back to."""

    back: str | None = None


def respond(
    content: bytes | str, media_type: str | None = None, status: int = 200, headers: Mapping[str, str] = {}
) -> Response:
    return Response(content, status, {**EVERY_ANSWER, **headers}, media_type)


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def cacheable_response(
    call: Call, content: bytes, media_type: str, headers: Mapping[str, str], etag: str = ""
) -> Response:
    """Answer with the content, or with 304 where the client names its ETag."""
    etag = etag or etag_of(content)
    headers = {**headers, "ETag": f'"{etag}"'}
    if parse_etags(call.headers.get("if-none-match")).contains_weak(etag):
        return respond(b"", None, 304, {name: text for name, text in headers.items() if name != "Content-Encoding"})
    return respond(content, media_type, 200, headers)


def error_response(problem: Problem, request: Request, headers: Headers) -> Response:
    """Answer with an error in the form that the client can show: a picture, a page, or RFC 9457's JSON."""
    status, title, detail = problem.status_code, HTTPStatus(problem.status_code).phrase, problem.detail
    further = problem.headers or {}
    if request.scope["path"] == "/badge.svg":
        picture = badge.svg("clicks", title.lower(), badge.COLORS["lightgrey"], detail)
        return respond(picture, "image/svg+xml", status, further)
    if prefers_html(headers):
        # The way to the counter's own page: a part of the path in front of the function is not known.
        root = "../" * min(request.scope["raw_path"].count(b"/") - 1, 10) or "./"
        referrer = headers.get("referer", "")
        back = problem.back or (referrer if PAGE.fullmatch(referrer) else root)
        page = ERROR_PAGE.format(*map(html.escape, (title, detail, root, back)))
        return respond(page, "text/html", status, {**EVERY_PAGE, **further})
    content = json.dumps({"title": title, "status": status, "detail": detail})
    return respond(content, "application/problem+json", status, further)


def prefers_html(headers: Headers) -> bool:
    accept = headers.get("accept", "").lower()
    if "text/" not in accept or len(accept) > MAX_PARSED:  # for most clicks: to parse it takes a tenth of their time
        return False
    types = ("application/json", "application/problem+json", "text/html")
    return parse_accept_header(accept, MIMEAccept).best_match(types) == "text/html"


# --- Checks -----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """What a route needs to know of a request."""

    request: Request
    headers: Headers
    names: list[str]  # of counters, well-formed or not; the default one where none is given
    query: dict[str, str]  # its fields; of several with one name, the last
    page: str | None  # where a form's visitor gets back to


def call_of(request: Request, headers: Headers, body: bytes) -> Call:
    """Read a request, whose query and form mean the same by a field `name`."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and (media_type != FORM or b"=" not in body):
        raise Problem(415, f"Send no body, or a form as {FORM}. The counter's name goes here: /click?name=post-1.")
    query, form = fields_of(request.scope["query_string"]), fields_of(body)
    check_fields(request.scope["path"], query, form)
    names = [text for field, text in query + form if field == "name"]
    return Call(request, headers, names or list(SETTINGS.exact[:1]), dict(query), page_of(dict(form)))


def fields_of(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query or a form; raise 400 where there are too many."""
    if not query:
        return []
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Problem(400, f"Send at most {MAX_FIELDS} fields, in UTF-8.") from None


def check_fields(path: str, query: list[tuple[str, str]], form: list[tuple[str, str]]) -> None:
    """Refuse what may name a counter in another way than a field `name`: the default one would be taken instead."""
    lost = [field for field, _ in form if field not in ("name", "return") and not FORM_FIELD.fullmatch(field)]
    if path in ("/click", "/value"):  # the others are pictures and figures, often asked for with fields against caches
        lost += [field for field, _ in query if field != "name" and not TRACKING_FIELD.fullmatch(field)]
    if lost:
        raise Problem(400, f"There is no field {lost[0][:40]!r}, only name. Name a counter like {path}?name=post-1.")


def page_of(form: dict[str, str]) -> str | None:
    """Return where a form wants its visitor to get back to; raise 400 unless that is a page of a listed site."""
    if "return" not in form:
        return None
    page = quote(form["return"], safe="".join(map(chr, range(0x21, 0x7F))))
    site = PAGE.fullmatch(page)
    if site is None or site[1] not in SETTINGS.allowed_origins:
        raise Problem(400, "return must be a page's address on a site that ALLOWED_ORIGINS lists, or be left out.")
    return page


PARSED_HEADERS = ("accept", "accept-encoding", "if-none-match")


def check_lengths(request: Request, headers: Headers) -> None:
    """Refuse what no honest client sends, before it is taken apart."""
    longest = max(len(headers.get(name, "")) for name in PARSED_HEADERS)
    path, query = request.scope["raw_path"], request.scope["query_string"]
    if len(path) > MAX_PATH or len(query) > MAX_QUERY or longest > MAX_PARSED:
        limits = f"{MAX_PATH} characters of path, {MAX_QUERY} of query and {MAX_PARSED} of Accept or If-None-Match"
        raise Problem(400, f"Send at most {limits}.")


async def body_of(request: Request, headers: Headers) -> bytes:
    """Return the body; raise 413 where it is too large, 400 where it does not arrive."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return b""
    size, body = 0, b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                size += len(chunk)
                body += chunk if size <= MAX_BODY else b""
                if size > MAX_DISCARDED:
                    break
    except (TimeoutError, ClientDisconnect):
        if size <= MAX_BODY:  # else it is too large anyway
            raise Problem(400, "The body did not arrive. Send none.", {"Connection": "close"}) from None
    if size > MAX_BODY:
        raise Problem(413, f"Send at most {MAX_BODY} bytes, or no body.", {"Connection": "close"})
    return body


def may_click(headers: Headers) -> bool:
    """Tell whether no unlisted site makes a browser send this: https://pkg.go.dev/net/http#CrossOriginProtection."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or origin in SETTINGS.allowed_origins:
        return True
    return not site and (not origin or origin.partition("://")[2] == headers.get("host", "") != "")


class AddressLimit:
    """Counts the clicks of each address in the minute at hand; of too many addresses, those of their networks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.minute = 0
        self.clicks: list[Counter[bytes]] = []  # of addresses, of their networks, and of the larger ones around these

    def check(self, forwarded: str) -> None:
        """Count a click of the address that Cloud Run has seen, the last; raise 429 where it has had its clicks."""
        now = time.time()
        if now // 60 != self.minute:
            self.minute, self.clicks = int(now // 60), [Counter(), Counter(), Counter()]
        for network, clicks in zip(networks_of(forwarded), self.clicks, strict=False):
            if network in clicks or len(clicks) < MAX_ADDRESSES:
                if clicks[network] >= self.limit:
                    rest = 60 - int(now % 60)
                    detail = f"Too many clicks come from your network. Try again in {rest} s."
                    raise Problem(429, detail, {"Retry-After": str(rest)})
                clicks[network] += 1
                return


def networks_of(forwarded: str) -> list[bytes]:
    """Return the last entry as IPv4 address, /24 and /16, or IPv6 /64, /48 and /32; nothing where it is no address."""
    entry = PORT.sub(r"\1", forwarded[-100:].rpartition(",")[2].strip())
    try:
        address = ipaddress.ip_address(entry.strip("[]"))
    except ValueError:
        return []
    packed = (getattr(address, "ipv4_mapped", None) or address).packed
    return [packed[:4], packed[:3], packed[:2]] if len(packed) == 4 else [packed[:8], packed[:6], packed[:4]]


def forwarded_of(call: Call) -> str:
    """Return the last line of X-Forwarded-For; raise 400 where it may be a trailer, or junk behind an address."""
    lines = call.request.headers.getlist("x-forwarded-for")
    if len(lines) > 1 and ("transfer-encoding" in call.headers or not networks_of(lines[-1])):
        raise Problem(400, "End X-Forwarded-For with an address, and send no body in chunks.")
    return lines[-1]


ADDRESS_LIMIT = AddressLimit(SETTINGS.clicks_per_minute)


def name_of(call: Call) -> str:
    """Return the one name of a call; raise 400 for a malformed and 404 for a foreign one."""
    if not call.names:
        raise Problem(400, "Name a counter, like ?name=post-1: COUNTERS has no default one here.")
    [name, *others] = set(call.names)
    if others:
        raise Problem(400, "Name one counter only.")
    if not NAME.fullmatch(name):
        raise Problem(400, NAME_RULE)
    if not SETTINGS.permits(name):
        raise Problem(404, f"There is no counter {name}. Its name must be listed in COUNTERS.")
    return name


def key_of(headers: Headers) -> str | None:
    """Return the Idempotency-Key in lower case; raise 400 for a malformed one."""
    if "idempotency-key" not in headers:
        return None
    key = KEY.fullmatch(headers["idempotency-key"].strip().lower())
    if key is None:
        example = '"8e03978e-40d5-43e8-bc93-6894a57f9324"'
        raise Problem(400, f"Idempotency-Key must be a UUID like {example}, a new one for each click.")
    return key[2]


# --- Routes -----------------------------------------------------------------------------------------------------

Route = Callable[[Call], Awaitable[Response]]


async def click(call: Call) -> Response:
    """Count one click; a form's visitor is sent back to the page."""
    name, key = name_of(call), key_of(call.headers)
    if SETTINGS.clicks_per_minute and "x-forwarded-for" in call.headers:
        ADDRESS_LIMIT.check(forwarded_of(call))
    count = await db.click(name, key, None if name in SETTINGS.exact else SETTINGS.max_counters)
    if prefers_html(call.headers):
        return respond(b"", None, 303, {"Location": call.page or "./"})
    return respond(f'{{"name": "{name}", "value": {count}}}', "application/json")  # a name needs no escaping


async def value(call: Call) -> Response:
    """Answer with the count of one counter, or a list for several, with null for those that there cannot be."""
    several = len(call.names) > 1
    permitted = list(filter(SETTINGS.permits, call.names)) if several else [name_of(call)]
    counts = dict(zip(permitted, await db.counts(permitted) if permitted else [], strict=True))
    answers = [{"name": name, "value": counts.get(name)} for name in call.names]
    told = {} if may_click(call.headers) else MAY_NOT_CLICK  # to the page's owner, before anybody presses
    return respond(json.dumps(answers if several else answers[0]), "application/json", headers=told)


async def history(call: Call) -> Response:
    """Answer with the clicks of the last days, the oldest first."""
    name, days = name_of(call), call.query.get("days", "30")
    if not re.fullmatch("[1-9][0-9]{0,2}", days) or int(days) > db.MAX_DAYS:
        raise Problem(400, f"days must be a number from 1 to {db.MAX_DAYS}.")
    clicks = [{"day": day, "value": number} for day, number in await db.history(name, int(days))]
    content, headers = json.dumps({"name": name, "days": clicks}).encode(), {"Cache-Control": "public, max-age=60"}
    return cacheable_response(call, content, "application/json", headers)


async def badges(call: Call) -> Response:
    """Answer with the count as a picture, or as what shields.io draws: https://shields.io/badges/endpoint-badge."""
    name = name_of(call)
    try:
        label = badge.label_of(call.query.get("label", "clicks"))
        color = badge.color_of(call.query.get("color", "1d6b52"))
    except ValueError as error:
        raise Problem(400, str(error)) from None
    [count] = await db.counts([name])
    parts, headers = {"label": label, "message": f"{count:,}", "color": color}, {"Cache-Control": "no-cache"}
    if call.request.scope["path"] == "/badge.svg":
        return cacheable_response(call, badge.svg(**parts).encode(), "image/svg+xml", headers)
    content = json.dumps({"schemaVersion": 1, **parts}).encode()
    return cacheable_response(call, content, "application/json", headers)


async def health(call: Call) -> Response:
    """Answer 200 if a click could be counted just now."""
    await db.check_health()
    return respond('{"status": "ok"}', "application/json")


async def file(media_type: str, plain: tuple[bytes, str], zipped: tuple[bytes, str], call: Call) -> Response:
    """Answer with a file as it stands or compressed, each with its ETag."""
    headers = {"Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding"}
    headers |= EVERY_PAGE if media_type == "text/html" else {}
    accepted = parse_accept_header(call.headers.get("accept-encoding", ""), Accept)
    if accepted.best_match(("gzip", "identity")) == "gzip":
        content, etag = zipped
        return cacheable_response(call, content, media_type, headers | {"Content-Encoding": "gzip"}, etag)
    content, etag = plain
    return cacheable_response(call, content, media_type, headers, etag)


def files(folder: Path) -> dict[str, Route]:
    """Return a route for each file, which is read now: no path that a client sends ever gets to the file system."""
    types = mimetypes.MimeTypes()  # the same on every machine, without its /etc/mime.types
    types.add_type("text/plain", ".ts")  # else a film
    routes: dict[str, Route] = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        zipped = gzip.compress(content, mtime=0)  # the same on every instance
        media_type = types.guess_type(path.name)[0] or "application/octet-stream"
        route = partial(file, media_type, (content, etag_of(content)), (zipped, etag_of(zipped)))
        routes[f"/{path.relative_to(folder).as_posix()}"] = route
    return routes


ROUTES: dict[str, Route] = {
    **files(Path(__file__).parent / "static"),
    "/click": click,
    "/value": value,
    "/history": history,
    "/badge.svg": badges,
    "/badge.json": badges,
    "/health": health,
}
ROUTES["/"] = ROUTES["/index.html"]


async def dispatch(request: Request, headers: Headers) -> Response:
    """Answer a request, or raise what is wrong with it."""
    body = await body_of(request, headers)
    check_lengths(request, headers)
    if request.method not in ("GET", "HEAD", "OPTIONS") and not may_click(headers):
        raise Problem(403, "This site may not click here. Its origin must be listed in ALLOWED_ORIGINS.")
    route = ROUTES.get(request.scope["path"])
    if route is None:
        raise Problem(404, "There is nothing here. Open the counter's page, or send POST /click?name=post-1.")
    allow = "POST, OPTIONS" if route is click else "GET, HEAD, OPTIONS"
    if request.method not in allow.split(", "):
        raise Problem(405, f"Use {allow} here.", {"Allow": allow})
    if request.method == "OPTIONS":
        return respond(b"", None, 204, {**PREFLIGHT, "Allow": allow})
    return await answer(route, call_of(request, headers, body))


async def answer(route: Route, call: Call) -> Response:
    """Answer a call, or raise what is wrong as a Problem, which leads back to the page of a form."""
    try:
        return await route(call)
    except db.NoRoom as error:
        problem = Problem(409, str(error), {"Retry-After": "3600"})  # the owner may have made room then
    except db.Unavailable as error:
        problem = Problem(503, str(error), {"Retry-After": "2"})
    except Problem as error:
        problem = error
    problem.back = call.page  # another site's form tells only its origin, as Referer
    raise problem


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    """Answer one HTTP request: the function's entry point."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    try:
        return await dispatch(request, headers)
    except Problem as problem:
        return error_response(problem, request, headers)


# --- On the owner's machine -------------------------------------------------------------------------------------


def introduction(host: str, port: int) -> list[str]:
    """Return sentences on where the counter is and what it counts, so that a setting with a mistake is seen."""
    everywhere = host in ("0.0.0.0", "[::]")  # noqa: S104
    place = "all addresses of this machine; write HOST=127.0.0.1 before the command to keep others out"
    counters = ", ".join([*SETTINGS.exact, *(f"{prefix}*" for prefix in SETTINGS.prefixes)])
    return [
        f"The counter is at http://{'localhost' if everywhere else host}:{port}/, its counts in {DATABASE.place}.",
        f"It listens on {place if everywhere else host}. Ctrl+C stops it.",
        f"It counts {counters}. Other sites that may click: {', '.join(sorted(SETTINGS.allowed_origins)) or 'none'}.",
        *misspelt(os.environ),
    ]


def prepare_start() -> None:
    """Introduce the counter once it listens, and end with the terminal; on Google, do neither."""
    context = get_current_context(silent=True)  # of the command functions-framework
    if context is None or "K_SERVICE" in os.environ:
        return
    host, port = context.params["host"], context.params["port"]
    if host.count(":") > 1 and "[" not in host:  # an IPv6 address, which gunicorn takes in brackets
        os.execv(sys.executable, [*sys.orig_argv, f"--host=[{host}]"])  # noqa: S606
    is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # under nohup

    def in_worker() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it has a handler of its own
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # the master's SIGTERM lets it finish first
        print(*introduction(host, port), sep="\n", flush=True)

    def finish(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    # The framework forks when it listens. Its master would take the end of a terminal for a wish to reload, and pass an
    # interrupt on as a signal that the worker ignores, for 30 s.
    def in_master() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_deaf else finish)
        signal.signal(signal.SIGINT, finish)

    os.register_at_fork(after_in_child=in_worker, after_in_parent=in_master)


prepare_start()
