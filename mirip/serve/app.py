"""The application: routes, errors as problem details, documentation without a network, start and end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from mirip.errors import MiripError
from mirip.serve.access import HANG_UP, AccessMiddleware
from mirip.serve.problems import HttpProblem, invalid, problem_response
from mirip.serve.routers import page, scoring, status
from mirip.serve.state import ServerState

_LOG = logging.getLogger("mirip.serve")
_ASSETS = Path(__file__).parent / "assets"
_NAMES = {404: "not-found", 405: "method-not-allowed"}


def create_app(state: ServerState) -> FastAPI:
    """Return the application that serves a trained model.

    Args:
        state: its model and settings. The model is loaded when the application starts.
    """
    app = FastAPI(
        title="Mirip",
        version="1",
        description="Ranks the quality of artworks. A score is what one model learned from tiers; it replaces no jury.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.mirip = state
    app.include_router(scoring.router)
    app.include_router(page.router)
    app.include_router(status.router)
    _add_documentation(app, state)
    for error, answer in (
        (ClientDisconnect, _on_hang_up),
        (HttpProblem, _on_problem),
        (HTTPException, _on_http_error),
        (RequestValidationError, _on_invalid),
        (Exception, _on_bug),
    ):
        app.add_exception_handler(error, answer)
    app.add_middleware(AccessMiddleware, metrics=state.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: ServerState = app.state.mirip
    state.service.start()
    loading = asyncio.ensure_future(_load(state))
    try:
        yield
    finally:
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await asyncio.to_thread(state.service.stop)


async def _load(state: ServerState) -> None:
    """Load the backbone and check the canary, while the server already says that it lives."""
    try:
        await asyncio.to_thread(state.ranker.load)
        await state.check_canary()
    except MiripError as error:
        state.why_not_ready = str(error)
    except HttpProblem as problem:
        state.why_not_ready = problem.detail
    if state.why_not_ready:
        _LOG.error("not ready: %s", state.why_not_ready)
    else:
        _LOG.info("ready: model %s", state.model.version)


def _add_documentation(app: FastAPI, state: ServerState) -> None:
    describe_routes = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        description: dict[str, Any] = describe_routes()
        if is_new:
            scoring.describe(description, state)
        return description

    app.openapi = openapi  # type: ignore[method-assign]
    app.mount("/assets", StaticFiles(directory=_ASSETS), name="assets")
    app.mount("/web", StaticFiles(directory=page.WEB), name="web")
    icon = "/assets/favicon.svg"

    async def docs() -> HTMLResponse:
        return _closed(
            get_swagger_ui_html(
                openapi_url="/openapi.json",
                title="Mirip",
                swagger_js_url="/assets/swagger-ui-bundle.js",
                swagger_css_url="/assets/swagger-ui.css",
                swagger_favicon_url=icon,
            )
        )

    async def redoc() -> HTMLResponse:
        return _closed(
            get_redoc_html(
                openapi_url="/openapi.json",
                title="Mirip",
                redoc_js_url="/assets/redoc.standalone.js",
                redoc_favicon_url=icon,
                with_google_fonts=False,
            )
        )

    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/redoc", redoc, include_in_schema=False)


def _closed(page: HTMLResponse) -> HTMLResponse:
    """Let a page ask nobody but this server."""
    page.headers["Content-Security-Policy"] = "default-src 'self' 'unsafe-inline' data: blob:"
    return page


async def _on_hang_up(request: Request, error: Any) -> Response:
    return Response(status_code=HANG_UP)


async def _on_problem(request: Request, error: Any) -> Response:
    return problem_response(request, error)


async def _on_http_error(request: Request, error: Any) -> Response:
    name, headers = _NAMES.get(error.status_code, "http-error"), dict(error.headers or {})
    if "Allow" in headers:  # Starlette keeps methods in a set, whose order differs from process to process
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    return problem_response(request, HttpProblem(error.status_code, name, str(error.detail), headers=headers))


async def _on_invalid(request: Request, error: Any) -> Response:
    return problem_response(request, invalid(error.errors()[0]))


async def _on_bug(request: Request, error: Exception) -> Response:
    _LOG.error("%s failed", request.state.request_id, exc_info=error)
    return problem_response(request, HttpProblem(500, "internal", "the server failed: tell its operator"))
