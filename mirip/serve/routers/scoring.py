"""POST /api/v1/score, /compare and /rank: images in; scores, pairs and an order out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mirip.errors import CheckpointError
from mirip.models.percentiles import known_contexts
from mirip.models.trained_ranker import ImageProblem, ImageScore, Scored
from mirip.serve.access import check_key
from mirip.serve.problems import MEDIA_TYPE, HttpProblem
from mirip.serve.schemas import (
    Band,
    CompareAnswer,
    ImageAnswer,
    Pair,
    Place,
    Problem,
    RankAnswer,
    Result,
    ScoreAnswer,
)
from mirip.serve.state import ServerState, check_ready, state_of
from mirip.serve.uploads import read_upload

router = APIRouter(prefix="/api/v1", tags=["scoring"])

_Results = Sequence[ImageScore | ImageProblem]
_More = Callable[[ServerState, _Results], dict[str, Any]]
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
    },
}
_SAID = {
    401: "No key, or a wrong one.",
    408: "The body arrived too slowly.",
    413: "Too many bytes.",
    415: "The body is no multipart form.",
    422: "The form cannot be used.",
    429: "Too much waits: try again after Retry-After seconds.",
    503: "The server is not ready, or stops.",
    504: "The images were not scored in time.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}} for status, said in _SAID.items()
}


def form_of_images(least: int, most: int) -> dict[str, Any]:
    """Describe the body of a request; `describe` adds the contexts of the model."""
    image = {"type": "string", "format": "binary"}
    fields: dict[str, Any] = {"images": {"type": "array", "items": image, "minItems": least, "maxItems": most}}
    types = "image/jpeg, image/png, image/webp, image/tiff, image/bmp, image/heic, image/avif, application/octet-stream"
    content = {
        "schema": {"type": "object", "properties": fields, "required": ["images"], "additionalProperties": False},
        "encoding": {"images": {"contentType": types}},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def describe(description: dict[str, Any], state: ServerState) -> None:
    """Put the limits of a server and the contexts of its model into the description of the API."""
    limits = state.settings
    most = {"score": limits.score_images, "compare": limits.compare_images, "rank": limits.rank_images}
    if limits.api_keys:
        schemes = description.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        schemes["key"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        for path, methods in description["paths"].items():
            if path.startswith(router.prefix):
                for method in methods.values():
                    method["security"] = [{"bearer": []}, {"key": []}]
    contexts = known_contexts(state.ranker.checkpoint)
    scores = description["paths"][f"{router.prefix}/order"]["post"]["requestBody"]["content"]["application/json"]
    scores["schema"]["properties"]["scores"]["maxItems"] = limits.rank_images
    scores["schema"]["properties"]["context"]["enum"] = [*contexts, "", None]
    for name, n_images in most.items():
        body = description["paths"][f"{router.prefix}/{name}"]["post"]["requestBody"]
        fields = body["content"]["multipart/form-data"]["schema"]["properties"]
        fields["images"]["maxItems"] = n_images
        if contexts:
            said = "give percentiles within it; empty: among all images"
            fields["context"] = {"type": "string", "enum": ["", *contexts], "description": said}


@router.post("/score", response_model=ScoreAnswer, responses=RESPONSES, openapi_extra=form_of_images(1, 100))
async def score(request: Request) -> Response:
    """Score images: each has its result, or what is wrong with it."""
    state = state_of(request)
    return await _answered(request, state, 1, state.settings.score_images, ScoreAnswer, _nothing)


@router.post("/compare", response_model=CompareAnswer, responses=RESPONSES, openapi_extra=form_of_images(2, 10))
async def compare(request: Request) -> Response:
    """Score two to ten images and say of each pair which is better, or that it is too close to call."""
    state = state_of(request)
    return await _answered(request, state, 2, state.settings.compare_images, CompareAnswer, _pairs)


@router.post("/rank", response_model=RankAnswer, responses=RESPONSES, openapi_extra=form_of_images(1, 100))
async def rank(request: Request) -> Response:
    """Order images, each with the places that it may have, and say which cannot be told apart."""
    state = state_of(request)
    return await _answered(request, state, 1, state.settings.rank_images, RankAnswer, _order)


async def _answered(
    request: Request, state: ServerState, least: int, most: int, answer: type[ScoreAnswer], more: _More
) -> Response:
    """Read the images of a request, score them while the client waits, and answer.

    Args:
        request: with a form of images.
        state: of the server.
        least: images that this request needs.
        most: images that it may have.
        answer: the form of the answer.
        more: what it has beside each image's result.
    """
    check_key(request, state.settings.api_keys)
    check_ready(state)
    with state.memory.held() as held:
        upload = await read_upload(request, state.settings, held, most_images=most)
        if len(upload.images) < least:
            raise HttpProblem(422, "too-few-images", f"send at least {least} images")
        check_context(state, upload.context)
        start = time.perf_counter()
        scored = await _while_awaited(request, state, upload)
    results = [
        found if isinstance(found, ImageProblem) else state.ranker.result(found, upload.context) for found in scored
    ]
    for found in results:
        state.metrics.images.labels("scored" if isinstance(found, ImageScore) else found.kind).inc()
    body = answer(
        model=state.model,
        request_id=request.state.request_id,
        images=[_image_answer(index, found) for index, found in enumerate(results)],
        milliseconds=0.0,
        **await asyncio.to_thread(more, state, results),
    )
    body.milliseconds = round((time.perf_counter() - start) * 1000, 3)  # with the order and the pairs
    return JSONResponse(body.model_dump(mode="json"))


def check_context(state: ServerState, context: str | None) -> None:
    """Refuse a context that the model does not know, before an image is looked at."""
    try:
        state.ranker.check_context(context)
    except CheckpointError as error:
        raise HttpProblem(422, "unknown-context", str(error)) from None


async def _while_awaited(request: Request, state: ServerState, upload: Any) -> list[Scored | ImageProblem]:
    """Score the images of a request; raises ClientDisconnect where the client has hung up meanwhile."""
    scoring = asyncio.ensure_future(state.service.score(upload.images))
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((scoring, gone), return_when=asyncio.FIRST_COMPLETED)
        if not scoring.done():
            raise ClientDisconnect
        return await scoring
    finally:  # also where the server stops meanwhile
        scoring.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _image_answer(index: int, found: ImageScore | ImageProblem) -> ImageAnswer:
    if isinstance(found, ImageProblem):
        return ImageAnswer(index=index, problem=Problem(**found._asdict()))
    return ImageAnswer(index=index, result=Result(**found.to_dict()))


def _nothing(state: ServerState, results: _Results) -> dict[str, Any]:
    return {}


def _pairs(state: ServerState, results: _Results) -> dict[str, Any]:
    """Return each pair of images with a result, and from which confidence on it is called."""
    return _pairs_of(state, _scores(results))


def _order(state: ServerState, results: _Results) -> dict[str, Any]:
    """Return the same, and the places of the images."""
    return order_of(state, _scores(results))


def _scores(results: _Results) -> list[tuple[int, float]]:
    """Return the images with a result by their places in the request, and their scores."""
    return [(index, found.score) for index, found in enumerate(results) if isinstance(found, ImageScore)]


def _pairs_of(state: ServerState, scored: Sequence[tuple[int, float]]) -> dict[str, Any]:
    least = state.settings.min_confidence
    pairs = [Pair(**pair._asdict()) for pair in state.ranker.pairs(scored, min_confidence=least)]
    return {"pairs": pairs, "min_confidence": least}


def order_of(state: ServerState, scored: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return pairs, order and bands of images, each told by its place in the request and its score."""
    found = state.ranker.places([score for _, score in scored], min_confidence=state.settings.min_confidence)
    order = [
        Place(index=scored[row][0], place=place, first=int(found.first[row]), last=int(found.last[row]))
        for place, row in enumerate(found.order.tolist(), start=1)
    ]
    bands = [Band(first=start + 1, last=stop) for start, stop in found.bands]
    return {**_pairs_of(state, scored), "order": order, "bands": bands}
