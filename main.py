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
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

import badge
import db
from batch import log
from database_url import DATABASE, NAME, NAME_RULE

KEY = re.compile(r'("?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1')
ORIGIN = r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
PAGE = re.compile(r"(?!.{2001})(https?://[^/?#@\\]+)(?:[/?#].*)?")
PORT = re.compile(r"^([0-9.]+|\[.*\]):[0-9]{1,5}$")
FORM = "application/x-www-form-urlencoded"

MAX_PATH = 200  # characters
MAX_QUERY = 16_000  # characters: a hundred long names
MAX_FIELDS = 100  # in a query or a form
MAX_PARSED = 500  # characters of a header that is taken apart
MAX_BODY = 10_000  # bytes that are accepted
MAX_DISCARDED = 16_000_000  # bytes, and
BODY_TIMEOUT = 2.0  # seconds, for which a body is read, so that its sender gets to see the answer
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

    def entries(variable: str, default: str, form: str, example: str) -> list[str]:
        written = (entry.strip(string.whitespace) for entry in (environ.get(variable) or default).split(","))
        found = [entry for entry in written if entry]
        for entry in found:
            fault = fault_of_origin(entry) if form == ORIGIN else ""
            if fault or not re.fullmatch(form, entry):
                sys.exit(f"{variable}: {entry!r} {fault or f'is malformed. Write it like {variable}={example}'}")
        return found

    def number(variable: str, default: str) -> int:
        text = environ.get(variable, default).strip(string.whitespace)
        if not re.fullmatch("[0-9]{1,9}", text):
            sys.exit(f"{variable}: {text!r} is malformed. Write it like {variable}={default}")
        return int(text)

    example = "hello-world-button,post-*"
    names = entries("COUNTERS", "hello-world-button", rf"{NAME.pattern}\*?", example)
    if not names:
        sys.exit(f"COUNTERS has no entry. Write it like COUNTERS={example}, or leave it empty for the default")
    example = "https://example.com,https://www.example.com, in lower case and without a path"
    return Settings(
        exact=tuple(name for name in names if not name.endswith("*")),
        prefixes=tuple(name[:-1] for name in names if name.endswith("*")),
        max_counters=number("MAX_COUNTERS", "1000"),
        allowed_origins=frozenset(entries("ALLOWED_ORIGINS", "", ORIGIN, example)),
        clicks_per_minute=number("CLICKS_PER_MINUTE", "600"),
    )


def fault_of_origin(entry: str) -> str:
    """Return what is wrong with an address that is nearly an origin, and what would be right."""
    if re.fullmatch("https?://.*[^/]/", entry):
        return f"ends with a slash. Write it without: {entry[:-1]}"
    if re.fullmatch("http:.*:80|https:.*:443", entry):
        return f"names the default port. Write it without: {entry.rpartition(':')[0]}"
    return ""


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that is one letter from the name of a setting."""
    sentences = []
    for right in VARIABLES:
        near = "|".join(f"{right[:at]}.?{right[at + cut :]}" for at in range(len(right) + 1) for cut in (0, 1))
        found = [name for name in environ if name not in VARIABLES and re.fullmatch(near, name, re.IGNORECASE)]
        sentences += [f"{name} is no setting. Did you mean {right}?" for name in found]
    return sentences


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


class Problem(Exception):
    """An error: its status, further headers, a message that says what to do, and the page to go back to."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] = {}, back: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.headers = headers
        self.back = back


FAULTS = (Problem, db.Unavailable, db.NoRoom)


def problem_of(fault: Exception, back: str | None = None) -> Problem:
    """Return a fault as an HTTP error that leads back to this page, where it is known."""
    if isinstance(fault, Problem):
        return Problem(fault.status, str(fault), fault.headers, fault.back or back)
    status, seconds = (409, "3600") if isinstance(fault, db.NoRoom) else (503, "2")  # an owner may have made room then
    return Problem(status, str(fault), {"Retry-After": seconds}, back)


def respond(
    content: bytes | str, media_type: str | None = None, status: int = 200, headers: Mapping[str, str] = {}
) -> Response:
    return Response(content, status, {**EVERY_ANSWER, **headers}, media_type)


def cacheable_response(call: Call, content: bytes, etag: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """Answer with the content, or with 304 where the client names its ETag."""
    headers = {**headers, "ETag": f'"{etag}"'}
    if parse_etags(call.headers.get("if-none-match")).contains_weak(etag):
        return respond(b"", None, 304, {name: text for name, text in headers.items() if name != "Content-Encoding"})
    return respond(content, media_type, 200, headers)


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def error_response(problem: Problem, request: Request, headers: Headers) -> Response:
    """Answer with an error in the form that the client can show: a picture, a page, or RFC 9457's JSON."""
    detail = str(problem)
    if request.scope["path"] == "/badge.svg":
        picture = badge.svg("clicks", problem.title.lower(), badge.COLORS["lightgrey"], detail)
        return respond(picture, "image/svg+xml", problem.status, problem.headers)
    if prefers_html(headers):
        # The way to the counter's own page: a part of the path in front of the function is not known.
        root = "../" * min(request.scope["raw_path"].count(b"/") - 1, 10) or "./"
        referrer = headers.get("referer", "")
        back = problem.back or (referrer if PAGE.fullmatch(referrer) else root)
        page = ERROR_PAGE.format(*map(html.escape, (problem.title, detail, root, back)))
        return respond(page, "text/html", problem.status, {**EVERY_PAGE, **problem.headers})
    content = json.dumps({"title": problem.title, "status": problem.status, "detail": detail})
    return respond(content, "application/problem+json", problem.status, problem.headers)


def prefers_html(headers: Headers) -> bool:
    accept = headers.get("accept", "").lower()
    if "text/" not in accept or len(accept) > MAX_PARSED:  # for most clicks: to parse it takes a tenth of their time
        return False
    accept = re.sub(r";(?!\s*q=)[^,;]*", "", accept)  # charsets and the like
    types = ("application/json", "application/problem+json", "text/html")
    return parse_accept_header(accept, MIMEAccept).best_match(types) == "text/html"


# --- Checks -----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """What a route needs to know of a request."""

    request: Request
    headers: Headers
    names: list[str]  # of counters
    query: dict[str, str]  # its fields; of several with one name, the last
    form: dict[str, str]


BADGE_FIELDS = ("name", "label", "color")
FIELDS = {"/click": ("name",), "/value": ("name",), "/history": ("name", "days")}  # of a query
FIELDS |= {"/badge.svg": BADGE_FIELDS, "/badge.json": BADGE_FIELDS}
PICKED_UP = re.compile(  # by links on their way; _, t and v keep caches out
    r"(utm|mc|mtm|pk|hsa|gad|at)_\w+|\w*(clk?|click)id|[gw]braid|gclsrc|igshid|igsh|srsltid|sccid|li_fat_id|epik|mkt_tok"
    r"|ref|ref_(src|url)|trk|spm|si|_(ga|gl|hsenc|hsmi)?|[stv]",
    re.IGNORECASE,
)
NAME_LIKE = re.compile(r'name|counter|[\s{"<]', re.IGNORECASE)


def call_of(request: Request, headers: Headers, body: bytes) -> Call:
    """Read a request; refuse what may name a counter in another way than a field `name`, which would go unseen."""
    path = request.scope["path"]
    if path not in FIELDS:
        return Call(request, headers, [], {}, {})
    example = f"{path}?name=post-1"
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and (media_type != FORM or b"=" not in body):
        raise Problem(415, f"Send no body, or a form as {FORM}. The counter's name goes here: {example}.")
    query, form = fields_of(request.scope["query_string"]), fields_of(body)
    in_query, in_form = ([text for field, text in fields if field == "name"] for fields in (query, form))
    names = in_query if in_query == in_form else in_query + in_form
    told = names or SETTINGS.exact[:1]  # what else may be meant as a name would be lost
    strays = [(field, text) for field, text in query if field not in FIELDS[path] and not PICKED_UP.fullmatch(field)]
    lost = [field for field, _ in strays if path in ("/click", "/value")]
    strays += [(field, text) for field, text in form if field not in ("name", "return")]
    meant = [(field, text or field) for field, text in strays]
    lost += [field for field, name in meant if NAME_LIKE.search(field) or (SETTINGS.permits(name) and name not in told)]
    if lost:
        known = ", ".join(FIELDS[path])
        raise Problem(400, f"There is no field {lost[0][:40]!r}, only {known}. Name a counter like {example}.")
    return Call(request, headers, names, dict(query), dict(form))


def check_lengths(request: Request, headers: Headers) -> None:
    """Refuse what no honest client sends, before it is taken apart."""
    longest = max(len(headers.get(name, "")) for name in ("accept", "accept-encoding", "if-none-match"))
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


def check_origin(headers: Headers) -> None:
    """Refuse what another site makes a browser send: https://pkg.go.dev/net/http#CrossOriginProtection."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or origin in SETTINGS.allowed_origins:
        return
    if not site and (not origin or origin.partition("://")[2] == headers.get("host", "") != ""):
        return
    raise Problem(403, "This site may not click here. Its origin must be listed in ALLOWED_ORIGINS.")


class AddressLimit:
    """Counts the clicks of each address in the minute at hand, in this process's memory alone.

    Beyond 10,000 addresses it counts the networks of the others, and beyond 10,000 of those the larger ones.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.minute = 0
        self.clicks: list[Counter[bytes]] = []  # of addresses, of their networks, and of those around these

    def check(self, forwarded: list[str]) -> None:
        """Count a click of the address that Cloud Run has seen; raise 429 where it has had its clicks."""
        if not self.limit or not forwarded:
            return
        if len(forwarded) > 1:  # a trailer's is one, too
            raise Problem(400, "Send one X-Forwarded-For: nobody can tell which of them is right.")
        now = time.time()
        if now // 60 != self.minute:
            self.minute, self.clicks = int(now // 60), [Counter(), Counter(), Counter()]
        for network, clicks in zip(networks_of(forwarded[0]), self.clicks, strict=False):
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


ADDRESS_LIMIT = AddressLimit(SETTINGS.clicks_per_minute)


def fields_of(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query or a form; raise 400 where there are too many."""
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Problem(400, f"Send at most {MAX_FIELDS} fields, in UTF-8.") from None


def names_of(call: Call) -> list[str]:
    """Return the names that a call gives, whatever they are, or the default one."""
    if not call.names and not SETTINGS.exact:
        raise Problem(400, "Name a counter, like ?name=post-1: COUNTERS has no default one here.")
    return call.names or [SETTINGS.exact[0]]


def name_of(call: Call) -> str:
    """Return the one name of a call, or the default one; raise 400 for a malformed and 404 for a foreign one."""
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


def return_of(call: Call) -> str | None:
    """Return where a form wants its visitor to get back to; raise 400 unless that is a page of a listed site."""
    if "return" not in call.form:
        return None
    page = quote(call.form["return"], safe="".join(map(chr, range(0x21, 0x7F))))
    site = PAGE.fullmatch(page)
    if site is None or site[1] not in SETTINGS.allowed_origins:
        raise Problem(400, "return must be a page's address on a site that ALLOWED_ORIGINS lists, or be left out.")
    return page


# --- Routes -----------------------------------------------------------------------------------------------------

Route = Callable[[Call], Awaitable[Response]]


async def click(call: Call) -> Response:
    """Count one click; a form's visitor is sent back to the page."""
    page = return_of(call)
    try:
        name, key = name_of(call), key_of(call.headers)
        ADDRESS_LIMIT.check(call.request.headers.getlist("x-forwarded-for"))
        count = await db.click(name, key, None if name in SETTINGS.exact else SETTINGS.max_counters)
    except FAULTS as fault:
        raise problem_of(fault, page) from fault  # another site's form tells only its origin, as Referer
    if prefers_html(call.headers):
        return respond(b"", None, 303, {"Location": page or "./"})
    return respond(f'{{"name": "{name}", "value": {count}}}', "application/json")  # a name needs no escaping


async def value(call: Call) -> Response:
    """Answer with the count of one counter, or a list for several, with null for those that there cannot be."""
    names = names_of(call)
    permitted = [name_of(call)] if len(names) == 1 else list(filter(SETTINGS.permits, names))
    counts = dict(zip(permitted, await db.counts(permitted) if permitted else [], strict=True))
    answers = [{"name": name, "value": counts.get(name)} for name in names]
    return respond(json.dumps(answers[0] if len(names) == 1 else answers), "application/json")


async def history(call: Call) -> Response:
    """Answer with the clicks of the last days, the oldest first."""
    name, days = name_of(call), call.query.get("days", "30")
    if not re.fullmatch("[1-9][0-9]{0,2}", days) or int(days) > db.MAX_DAYS:
        raise Problem(400, f"days must be a number from 1 to {db.MAX_DAYS}.")
    clicks = [{"day": day, "value": number} for day, number in await db.history(name, int(days))]
    content, headers = json.dumps({"name": name, "days": clicks}).encode(), {"Cache-Control": "public, max-age=60"}
    return cacheable_response(call, content, etag_of(content), "application/json", headers)


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
    return cacheable_response(call, picture, etag_of(picture), "image/svg+xml", {"Cache-Control": "no-cache"})


async def badge_json(call: Call) -> Response:
    """Answer with what shields.io makes a picture of: https://shields.io/badges/endpoint-badge."""
    content = json.dumps({"schemaVersion": 1, **await badge_parts(call)}).encode()
    return cacheable_response(call, content, etag_of(content), "application/json", {"Cache-Control": "no-cache"})


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
        return cacheable_response(call, *zipped, media_type, headers | {"Content-Encoding": "gzip"})
    return cacheable_response(call, *plain, media_type, headers)


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
    body = await body_of(request, headers)
    check_lengths(request, headers)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in ("GET", "OPTIONS"):
        check_origin(headers)
    routes = ROUTES.get(request.scope["path"])
    if routes is None:
        raise Problem(404, "There is nothing here. Open the counter's page, or send POST /click?name=post-1.")
    if method in routes:
        return await routes[method](call_of(request, headers, body))
    allow = ", ".join(["GET, HEAD" if method == "GET" else method for method in routes] + ["OPTIONS"])
    if method == "OPTIONS":
        return respond(b"", None, 204, {**PREFLIGHT, "Allow": allow})
    raise Problem(405, f"Use {allow} here.", {"Allow": allow})


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    """Answer one HTTP request: the function's entry point."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    try:
        return await dispatch(request, headers)
    except FAULTS as fault:
        return error_response(problem_of(fault), request, headers)


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
    """Introduce the counter once it listens, and end with the terminal; on Google, only log what is misspelt."""
    context = get_current_context(silent=True)  # of the command functions-framework
    if context is None or "K_SERVICE" in os.environ:
        for sentence in misspelt(os.environ):
            log("WARNING", sentence)
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
        signal.signal(signal.SIGQUIT, finish)

    os.register_at_fork(after_in_child=in_worker, after_in_parent=in_master)


prepare_start()
