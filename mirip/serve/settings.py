"""What a server takes, how much of it, and from whom."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mirip.data.decoding import MAX_PIXELS
from mirip.params import EvaluateParams

KEYS_VARIABLE = "MIRIP_API_KEYS"
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ServeSettings(BaseModel):
    """The limits of a server.

    Attributes:
        image_bytes: of one image.
        request_bytes: of the body of one request, with or without Content-Length.
        upload_bytes: of all bodies that are being read or scored at once.
        pixels: of one image.
        compare_images, rank_images, score_images: the most images of a request.
        queue_images: the most images that wait, of all requests together.
        upload_s: seconds in which a body has to arrive.
        deadline_s: seconds in which the images of a request have to be scored, from when they have arrived.
        shutdown_s: seconds in which requests under way may end when the server is told to stop.
        decode_s: seconds after which the decoder of an image is given up.
        workers: threads that decode.
        min_confidence: a pair is too close to call if neither image is better with this probability.
        api_keys: who may use the API; empty: everybody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_bytes: Count = 20 * 2**20
    request_bytes: Count = 256 * 2**20
    upload_bytes: Count = 1024 * 2**20
    pixels: Count = MAX_PIXELS
    compare_images: Count = 10
    rank_images: Count = 100
    score_images: Count = 100
    queue_images: Count = 256
    upload_s: Seconds = 60
    deadline_s: Seconds = 60
    shutdown_s: Seconds = 30
    decode_s: Seconds = 30
    workers: Count = 2
    min_confidence: Annotated[float, Field(ge=0.5, lt=1)] = EvaluateParams().min_confidence
    api_keys: tuple[str, ...] = ()


def keys_from_environment() -> tuple[str, ...]:
    """Return the keys in MIRIP_API_KEYS, separated by commas; a command line would show them to all users."""
    return tuple(key for part in os.environ.get(KEYS_VARIABLE, "").split(",") if (key := part.strip()))


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use: by its affinity, and by the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit = _quota(quota_file.read_text().split())
    except (OSError, ValueError):
        return cores
    return max(1, min(cores, limit))


def _quota(words: Sequence[str]) -> int:
    """Read "200000 100000" (microseconds in each period) as 2 cores, "max 100000" as no limit."""
    quota, period = words
    return 10**6 if quota == "max" else -(-int(quota) // int(period))
