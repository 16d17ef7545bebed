"""`mirip serve`: a trained model behind an HTTP API."""

import argparse
import sys
from typing import Any

from mirip.cli.command import add_command, add_device_flag
from mirip.cli.scoring import add_checkpoint_flags, min_confidence


def add_commands(commands: Any) -> None:
    """Add it to the commands of `mirip`."""
    command = add_command(commands, "serve", serve)
    add_checkpoint_flags(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    command.add_argument("--port", type=int, default=8000, help="port to listen on; default 8000")
    add_device_flag(command)
    command.add_argument("--queue", type=int, help="the most images that wait, of all requests; default 256")
    command.add_argument("--workers", type=int, help="threads that decode; default one a core, at most 8")


def serve(options: argparse.Namespace) -> int:
    """Serve a trained model over HTTP: scores, comparisons and rankings of images, and their description at /docs."""
    from mirip.serve.server import Server, server_settings

    settings = server_settings(queue_images=options.queue, workers=options.workers, min_confidence=min_confidence())
    if options.host not in ("127.0.0.1", "localhost", "::1") and not settings.api_keys:
        print(f"no key: whoever reaches {options.host} may use this server (set MIRIP_API_KEYS)", file=sys.stderr)
    server = Server(
        options.checkpoint,
        settings,
        host=options.host,
        port=options.port,
        device=options.device or "auto",
        backbone=options.backbone,
    )
    server.run()
    return 0
