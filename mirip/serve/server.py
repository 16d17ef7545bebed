"""A server: the application, the threads that it may use, and an address."""

import logging
import socket
from pathlib import Path

import torch
import uvicorn
from pydantic import ValidationError

from mirip.errors import MiripError, ParamsError
from mirip.models.trained_ranker import TrainedRanker
from mirip.serve.app import create_app
from mirip.serve.settings import ServeSettings, available_cores, keys_from_environment
from mirip.serve.state import ServerState

_MOST_DECODERS = 8
_BACKLOG = 1024


def server_settings(
    *, queue_images: int | None = None, workers: int | None = None, min_confidence: float | None = None
) -> ServeSettings:
    """Return the settings of a server on this machine: keys from the environment, a decoder a core.

    Raises:
        ParamsError: a value is out of its range.
    """
    given = {"queue_images": queue_images, "workers": workers, "min_confidence": min_confidence}
    defaults = {"workers": min(available_cores(), _MOST_DECODERS), "api_keys": keys_from_environment()}
    values = defaults | {name: value for name, value in given.items() if value is not None}
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ParamsError(f"{where}: {first['msg']}, got {first['input']!r}", "give another value") from None


def _most_connections() -> int:
    """Return how many clients may be connected: each takes a file of those that the process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return _BACKLOG
    return max(16, min(_BACKLOG, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64))


def _address(host: str, port: int) -> str:
    """Return host and port as they stand in a URL: an IPv6 address has brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server:
    """Serves one trained model until it is told to stop.

    Args:
        checkpoint: the model's file.
        settings: the limits.
        host, port: where to listen; port 0 takes a free one.
        device: auto, cpu or cuda.
        backbone: folder or hub id of the backbone; None takes the one that the checkpoint names.

    Attributes:
        state: what it serves, and whether it is ready.
        port: where it listens; None before that.

    Raises:
        CheckpointError: the file is missing, damaged, or its weights do not fit its config.
    """

    def __init__(
        self,
        checkpoint: Path,
        settings: ServeSettings,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        device: str = "auto",
        backbone: str | None = None,
    ) -> None:
        torch.set_num_threads(available_cores())
        ranker = TrainedRanker.from_checkpoint(
            checkpoint,
            device=device,
            backbone=backbone,
            max_pixels=settings.pixels,
            decode_limit_s=settings.decode_s,
        )
        self.state = ServerState(ranker, settings)
        self._host, self._asked = host, port
        self.port: int | None = None
        config = uvicorn.Config(
            create_app(self.state),
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=_BACKLOG,
            limit_concurrency=_most_connections(),
            timeout_graceful_shutdown=int(settings.shutdown_s),
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Listen, and return when the process was told to stop and the requests under way have ended.

        Raises:
            MiripError: the address cannot be listened on.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        logging.getLogger("python_multipart").disabled = True  # it would tell bytes of what was sent
        logging.getLogger("uvicorn.access").disabled = True  # it would tell paths as they were asked
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:  # else answers wait for Nagle
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((self._host, self._asked))
                listening.listen(_BACKLOG)
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise MiripError(
                    f"{_address(self._host, self._asked)} cannot be listened on ({reason})",
                    "give another --host or --port",
                ) from None
            self.port = int(listening.getsockname()[1])
            address = _address(self._host, self.port)
            logging.getLogger("mirip.serve").info("http://%s, its description is at /docs", address)
            self._server.run(sockets=[listening])

    def stop(self) -> None:
        """Let `run` return when the requests under way have ended."""
        self._server.should_exit = True
