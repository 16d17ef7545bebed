"""GET /api/v1/model, /health/live, /health/ready and /metrics: what the server is and how it does."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mirip.models.percentiles import known_contexts
from mirip.serve.access import check_key
from mirip.serve.routers.scoring import RESPONSES
from mirip.serve.schemas import Health, ModelAnswer
from mirip.serve.state import state_of

router = APIRouter(tags=["status"])


@router.get("/api/v1/model", response_model=ModelAnswer, responses={401: RESPONSES[401]})
async def model(request: Request) -> ModelAnswer:
    """Say which model is served, what its tiers and contexts are, and what a request may hold."""
    state = state_of(request)
    check_key(request, state.settings.api_keys)
    checkpoint, settings = state.ranker.checkpoint, state.settings
    recipe = {name: value for name, value in checkpoint.recipe.items() if isinstance(value, str | int | float | None)}
    return ModelAnswer(
        model=state.model,
        tiers=checkpoint.tiers,
        contexts=known_contexts(checkpoint),
        min_confidence=settings.min_confidence,
        recipe=recipe,
        limits={
            "score_images": settings.score_images,
            "compare_images": settings.compare_images,
            "rank_images": settings.rank_images,
            "image_bytes": settings.image_bytes,
            "request_bytes": settings.request_bytes,
            "pixels": settings.pixels,
        },
    )


@router.get("/health/live", response_model=Health)
async def live() -> Health:
    """Answer, which shows that the server runs."""
    return Health(status="alive")


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health}})
async def ready(request: Request) -> Response:
    """Say whether images may be sent: the model is loaded, and the canary image has met its score."""
    state = state_of(request)
    if state.is_ready:
        return JSONResponse(Health(status="ready").model_dump())
    reason = state.why_not_ready or "the thread that scores has ended"
    return JSONResponse(Health(status="not ready", reason=reason).model_dump(), 503, {"Retry-After": "5"})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return metrics for Prometheus."""
    return Response(generate_latest(state_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
