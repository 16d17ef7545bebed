"""An image whose score is known: what goes through the whole server has to come out as it did before."""

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.files import write_json
from mirip.models.trained_ranker import TrainedRanker
from mirip.workspace import private_folder

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}  # of a score; what another processor may round otherwise


def canary_image() -> bytes:
    """Return a small image of soft colours and hard edges, as PNG; its pixels are always the same."""
    rows, columns = np.mgrid[0:96, 0:128]
    red, green = 255 * rows // 95, 255 * columns // 127
    blue = np.where((rows // 12 + columns // 16) % 2, 220, 40)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def expected_score(ranker: TrainedRanker, version: str) -> float:
    """Return the score that the canary had when this model was first served here, or else what the model alone gives.

    The latter passes no queue and no batch, and is kept for the next start.

    Args:
        ranker: the trained model.
        version: names its file.
    """
    path = _record(ranker, version)
    try:
        return float(json.loads(path.read_text())["score"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    fitted = ranker.model.extractor.transform.fitted(decode_image(canary_image()).pixels)
    with torch.inference_mode():
        features = ranker.model.embed(torch.from_numpy(fitted).permute(2, 0, 1)[None])
        score = float(ranker.model.score(features))
    with suppress(OSError):  # a place that may only be read: each start then trusts itself
        write_json(path, {"score": score})
    return score


def is_as_expected(ranker: TrainedRanker, found: float, expected: float) -> bool:
    """Tell whether the canary's score is the known one, but for rounding."""
    return abs(found - expected) <= _TOLERANCE[ranker.model.extractor.recipe.compute_dtype]


def _record(ranker: TrainedRanker, version: str) -> Path:
    return private_folder().root / "canaries" / f"{version}-{ranker.checkpoint.fingerprint[:16]}.json"
