"""What the routes of one server share."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from mirip.models.trained_ranker import ImageProblem, TrainedRanker
from mirip.serve.access import ServerMetrics
from mirip.serve.canary import canary_image, expected_score, is_as_expected
from mirip.serve.problems import HttpProblem
from mirip.serve.schemas import ModelReference
from mirip.serve.service import ScoringService
from mirip.serve.settings import ServeSettings
from mirip.serve.uploads import UploadedImage, UploadMemory


@dataclass
class ServerState:
    """A model that is served, and whether it is ready.

    Attributes:
        ranker: the trained model.
        settings: the limits.
        why_not_ready: what is waited for, or what is wrong; empty where the canary has met its score.
    """

    ranker: TrainedRanker
    settings: ServeSettings
    why_not_ready: str = "the model is being loaded"
    metrics: ServerMetrics = field(default_factory=ServerMetrics)

    def __post_init__(self) -> None:
        self.service = ScoringService(self.ranker, self.settings)
        self.memory = UploadMemory(self.settings.upload_bytes)
        self.model = ModelReference(version=self.ranker.version, fingerprint=self.ranker.checkpoint.fingerprint)
        self.metrics.waiting.set_function(lambda: self.service.n_waiting)
        self.metrics.ready.set_function(lambda: float(self.is_ready))

    @property
    def is_ready(self) -> bool:
        """Whether images may be sent."""
        return not self.why_not_ready and self.service.is_alive

    async def check_canary(self) -> None:
        """Send the canary through the server, and become ready where its score is the known one."""
        expected = await asyncio.to_thread(expected_score, self.ranker, self.model.version)
        (found,) = await self.service.score([UploadedImage(canary_image(), "image/png")])
        if isinstance(found, ImageProblem):
            self.why_not_ready = f"the canary image has no score: {found}"
        elif not is_as_expected(self.ranker, found.score, expected):
            self.why_not_ready = f"the canary image scores {found.score:.4f}, {expected:.4f} is known"
        else:
            self.why_not_ready = ""


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request came to."""
    state: ServerState = request.app.state.mirip
    return state


def check_ready(state: ServerState) -> None:
    """Refuse a request while the server is not ready; raises HttpProblem 503."""
    if not state.is_ready:
        why = state.why_not_ready or "the thread that scores has ended"
        raise HttpProblem(503, "not-ready", f"the server is not ready: {why}", headers={"Retry-After": "5"})
