"""The ceiling for a visit: a function that serves the same files, with a constant for the count."""

import mimetypes
from pathlib import Path

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parents[3] / "static"
FILES = {
    f"/{path.relative_to(STATIC).as_posix()}": (path.read_bytes(), mimetypes.guess_type(path.name)[0])
    for path in STATIC.rglob("*")
    if path.is_file()
}
FILES["/"] = FILES["/index.html"]
FILES["/value"] = (b'{"name": "hello-world-button", "value": 1}', "application/json")


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    content, media_type = FILES[request.url.path]
    return Response(content, media_type=media_type)
