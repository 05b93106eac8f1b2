"""The ceiling: what the framework does with a function that does nothing."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response


@functions_framework.aio.http
async def handler(request: Request) -> Response:
    return Response('{"name": "hello-world-button", "value": 1}', media_type="application/json")
