"""Time the architecture, and say whether the performance requirements are met.

Reads   params.yaml: the active recipe and the sizes of the head (its weights are seeded, not trained)
Writes  metrics/benchmark.json
Run     python -m stages.benchmark      (or `dvc repro benchmark`)

A pair is two images of 6 megapixels. Latency and memory are requirements of a GPU: elsewhere the values are written,
and the verdict is `not_measured`. `train_seconds_10k` is the time of 100 full epochs on the 8,000 training rows of
10,000 images, without calibration. Of a recipe whose features are imported, no image can be timed: only scores from
cached features and training are, at the width of dinov2-large.
"""

from mirip.models.latency import benchmark
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Measure as params.yaml says."""
    print(f"benchmark: {benchmark(Workspace(), load_params()).summary()}")


if __name__ == "__main__":
    run(main)
