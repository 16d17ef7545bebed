import pytest

from mirip.errors import BackboneError, EngineError
from mirip.features.extract.ray_job import Layout, layout


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "actors", "expected"),
    [
        (16, 8, "auto", None, Layout("cuda", 8, 0.0, 1.0, 1.0)),
        (16, 1, "cuda", 2, Layout("cuda", 2, 0.0, 0.5, 1.0)),
        (16, 8, "auto", 4, Layout("cuda", 4, 0.0, 1.0, 1.0)),
        (16, 8, "cpu", None, Layout("cpu", 8, 1.5, 0.0, 0.5)),
        (2, 0, "auto", None, Layout("cpu", 1, 1.5, 0.0, 0.5)),
        (2, 0, "auto", 2, Layout("cpu", 2, 0.5, 0.0, 0.5)),
        (1, 0, "auto", None, Layout("cpu", 1, 0.5, 0.0, 0.5)),
        (2, 0, "auto", 8, Layout("cpu", 8, 0.0, 0.0, 0.5)),
    ],
)
def test_actors_get_a_gpu_or_as_many_cpus_as_they_have_threads(
    cpus: int, gpus: int, device: str, actors: int | None, expected: Layout
) -> None:
    assert layout(cpus, gpus, device=device, actors=actors, threads=2) == expected


@pytest.mark.parametrize("cpus", [1, 2, 3, 16])
@pytest.mark.parametrize("actors", [None, 1, 2, 5])
def test_beside_all_actors_there_is_room_to_decode(cpus: int, actors: int | None) -> None:
    """Otherwise the actors would wait for images for ever."""
    found = layout(cpus, 0, device="auto", actors=actors, threads=2)
    assert found.actors * found.actor_cpus + found.decoding_cpus <= cpus


def test_a_cluster_without_what_is_needed_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"no GPU: wait for its nodes \(`ray status`\)"):
        layout(16, 0, device="cuda", actors=None, threads=2)
    with pytest.raises(EngineError, match="no CPU to decode on"):
        layout(0, 2, device="auto", actors=None, threads=2)
