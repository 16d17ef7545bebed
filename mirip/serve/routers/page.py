"""GET /, the page for teachers, and what it asks beside scores: POST /api/v1/order and /api/v1/preview."""

import asyncio
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from mirip.models.trained_ranker import Scored
from mirip.serve.access import check_key
from mirip.serve.problems import HttpProblem, invalid
from mirip.serve.routers.scoring import RESPONSES, check_context, form_of_images, order_of
from mirip.serve.schemas import OrderAnswer, PercentileOf, Scores
from mirip.serve.state import ServerState, check_ready, state_of
from mirip.serve.uploads import read_text, read_upload

WEB = Path(__file__).parents[1] / "web"
router = APIRouter(tags=["page"])

# The page asks nobody but its own server, and runs no script that does not come from a file of it.
_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
_JSON = {"application/json": {"schema": Scores.model_json_schema()}}
_JPEG: dict[str, Any] = {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Return the page."""
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return FileResponse(WEB / "index.html", headers=headers)


@router.post(
    "/api/v1/order",
    response_model=OrderAnswer,
    responses=RESPONSES,
    openapi_extra={"requestBody": {"required": True, "content": _JSON}},
)
async def order(request: Request) -> Response:
    """Order images by scores that they have already: places, bands and pairs, as /api/v1/rank gives them."""
    state = state_of(request)
    check_key(request, state.settings.api_keys)
    check_ready(state)
    most, start = state.settings.rank_images, time.perf_counter()
    with state.memory.held() as held:
        text = await read_text(request, state.settings, held)
    try:
        asked = Scores.model_validate_json(text)
    except ValidationError as error:
        raise invalid(error.errors()[0], "body") from None
    if len(asked.scores) > most:
        raise HttpProblem(422, "too-many-images", f"a request has at most {most} scores here")
    check_context(state, asked.context)
    found = await asyncio.to_thread(_ordered, state, asked)
    milliseconds = round((time.perf_counter() - start) * 1000, 3)
    body = OrderAnswer(model=state.model, request_id=request.state.request_id, milliseconds=milliseconds, **found)
    return JSONResponse(body.model_dump(mode="json"))


def _ordered(state: ServerState, asked: Scores) -> dict[str, Any]:
    """Return what OrderAnswer has beside what every answer has."""
    results = [state.ranker.result(Scored(score, ()), asked.context) for score in asked.scores]
    percentiles = [
        PercentileOf(**{name: getattr(each, name) for name in PercentileOf.model_fields}) for each in results
    ]
    return {**order_of(state, list(enumerate(asked.scores))), "percentiles": percentiles}


@router.post(
    "/api/v1/preview",
    response_class=Response,
    responses={**RESPONSES, 200: {"description": "The image, upright, as a JPEG file of some 1,600 pixels.", **_JPEG}},
    openapi_extra=form_of_images(1, 1),
)
async def preview(request: Request) -> Response:
    """Return an image as a browser can show it."""
    state = state_of(request)
    check_key(request, state.settings.api_keys)
    with state.memory.held() as held:
        upload = await read_upload(request, state.settings, held, most_images=1)
        jpeg = await state.service.preview(upload.images[0])
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
