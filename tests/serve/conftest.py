"""A real server with a tiny real backbone, in a thread of the tests: what is sent to it goes over HTTP."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from made_checkpoint import write_checkpoint
from PIL import Image

from mirip.features.backbones.backbone import DINOv2FeatureExtractor
from mirip.models.checkpoint import load_checkpoint, save_checkpoint
from mirip.params import Recipe
from mirip.serve.server import Server
from mirip.serve.settings import ServeSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@dataclass
class Running:
    """A server that listens."""

    server: Server
    url: str

    def post(self, route: str, *images: bytes, **more: Any) -> requests.Response:
        """Send images, declared as nothing, to a route such as "score"."""
        files = [("images", ("x", data, "application/octet-stream")) for data in images]
        return requests.post(f"{self.url}/api/v1/{route}", files=files, timeout=60, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **more)


Serving = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def tiny_recipe(dinov2: Path) -> Recipe:
    return Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Recipe) -> Path:
    """A model that knows the context "oil"."""
    dim = DINOv2FeatureExtractor.from_recipe(tiny_recipe, "cpu").embedding_dim
    path = write_checkpoint(tmp_path_factory.mktemp("served") / "best_model.pt", dim=dim, recipe=tiny_recipe)
    made = load_checkpoint(path)
    save_checkpoint(path, replace(made, context_percentiles={"oil": made.score_percentiles}))
    return path


@pytest.fixture(scope="session")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """Serve the checkpoint with some settings, for as long as a `with` lasts."""

    @contextmanager
    def serve(port: int = 0, **settings: Any) -> Iterator[Running]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("root")))
            server = Server(checkpoint, ServeSettings(**settings), port=port, device="cpu")
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            try:
                yield Running(server, _url(server, thread))
            finally:
                server.stop()
                thread.join(timeout=30)
                assert not thread.is_alive()

    return serve


@pytest.fixture(scope="module")
def running(serving: Serving) -> Iterator[Running]:
    """A server with the settings that it has by itself, ready."""
    with serving() as server:
        wait_until_ready(server)
        yield server


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """A browser that has started."""
    from teacher import browser

    with browser() as started:
        yield started


def wait_until_ready(running: Running) -> None:
    deadline = time.monotonic() + 60
    while running.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline, running.server.state.why_not_ready
        time.sleep(0.05)


def _url(server: Server, thread: threading.Thread) -> str:
    deadline = time.monotonic() + 60
    while server.port is None:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def photo() -> Callable[..., bytes]:
    """What makes the bytes of an image file of soft colours."""

    def make(seed: int = 0, file_format: str = "JPEG", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
        coarse = np.random.default_rng(seed).integers(256, size=(4, 6, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize(size).save(buffer, file_format, **options)
        return buffer.getvalue()

    return make
