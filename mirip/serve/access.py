"""Who may ask, and what is told of each request: keys, request ids, a line in the log, metrics.

Neither images nor file names, paths as they were asked or keys get into a log or a metric: a request is told by its
route's template.
"""

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirip.serve.problems import HttpProblem, problem_response

_LOG = logging.getLogger("mirip.serve")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
_UNKNOWN = "unknown"
HANG_UP = 499  # of nginx: nobody reads this answer
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """What Prometheus is told."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("mirip_requests", "Requests that ended.", labels, registry=self.registry)
        self.seconds = Histogram(
            "mirip_request_seconds", "Time from a request to its answer.", ("route",),
            registry=self.registry, buckets=_BUCKETS,
        )  # fmt: skip
        self.images = Counter("mirip_images", "Images by what came of them.", ("outcome",), registry=self.registry)
        self.waiting = Gauge("mirip_images_waiting", "Images that have no result yet.", registry=self.registry)
        self.ready = Gauge("mirip_ready", "1 where the canary has met its score.", registry=self.registry)


class AccessMiddleware:
    """Gives each request an id, answers HEAD as GET, and tells of a request when it ends.

    What the end of the server interrupts is answered 503.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        start, status = time.perf_counter(), HANG_UP  # where no answer was begun, the client has gone
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # uvicorn leaves out the body

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*map(_with_head, message.get("headers", [])), *headers]
            await send(message)

        try:
            await self._app(inner, receive, answer)
        except asyncio.CancelledError:  # the server was told to stop, and the time for what was under way is over
            if status == HANG_UP:
                detail = "the server stops, and this was not ended in time: send it again when a server is ready"
                problem = HttpProblem(503, "stopping", detail, headers={"Retry-After": "5"})
                await problem_response(Request(scope), problem)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
            route = getattr(inner.get("route"), "path", _UNKNOWN)
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            _LOG.info("%s %s %s %d %.0f ms", request_id, method, route, status, seconds * 1000)


def _with_head(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Say that HEAD is allowed wherever GET is."""
    name, value = header
    return (name, b"GET, HEAD") if (name.lower(), value) == (b"allow", b"GET") else header


def check_key(request: Request, keys: Sequence[str]) -> None:
    """Refuse a request without one of the keys, in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    All keys are compared, each in a time that does not depend on where it differs.

    Raises:
        HttpProblem: 401, the same for no key and a wrong one.
    """
    if not keys:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = [request.headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
    sent = [value.encode("latin-1") for value in given]  # the bytes of the header
    known = [key.encode("utf-8", "surrogateescape") for key in keys]
    matches = [hmac.compare_digest(value, key) for value in sent for key in known]
    if not any(matches):
        raise HttpProblem(
            401,
            "key-needed",
            "send a key in the header Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
