"""The benchmark of the server, made small: what it says of a server that is well."""

import os
from collections.abc import Callable

import pytest
from serve.conftest import Running

from benchmarks.serving import Sizes, measure

pytestmark = pytest.mark.slow

SMALL = Sizes(seconds=0.5, clients=4, mutated=10, paths=50, crowd=8, leaving=4, staying=3, endless_mb=300, checks=3)


def test_a_server_bears_what_the_benchmark_sends(running: Running, photo: Callable[..., bytes]) -> None:
    images = [photo(seed, size=(300, 200)) for seed in range(4)]
    found = measure(running.url, os.getpid(), images, SMALL)
    assert all(part["ready"] for part in found.values() if isinstance(part, dict))
    assert set(found["many_clients"]["statuses"]) == {"200"}
    assert sum(found["mutated"]["said"].values()) == 10
    assert found["random_paths"]["statuses"] == {"404": 50}
    assert found["random_paths"]["series"]["before"] == found["random_paths"]["series"]["after"]
    assert set(found["crowd"]["statuses"]) == {"200"}
    assert found["hung_up"]["statuses_after"] == {"200": 3}
    said = {found[name]["status"] for name in ("endless_image", "endless_images")}
    assert said <= {"413", "closed"}  # a client that still sends may miss the answer
    assert found["endless_image"]["sent_mb"] < 100
