"""The API against its own description: what that allows is answered as it says, all else by a problem that it names."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve.conftest import Running, Serving, wait_until_ready

pytestmark = pytest.mark.slow

FORMS = ["/api/v1/score", "/api/v1/compare", "/api/v1/rank", "/api/v1/preview"]
POSTS = [*FORMS, "/api/v1/order"]
PAGES = ["/api/v1/model", "/health/live", "/health/ready", "/metrics"]
EXAMPLES = 20


@pytest.fixture(scope="module")
def with_keys(serving: Serving) -> Iterator[Running]:
    with serving(api_keys=("first", "second")) as server:
        wait_until_ready(server)
        yield server


@pytest.fixture(scope="module")
def read(photo: Callable[..., bytes]) -> Callable[[Running], Any]:
    """What lets schemathesis read the description of a server; it then sends real images."""
    import schemathesis  # takes half a second

    images = [photo(seed, name) for seed, name in enumerate(("JPEG", "JPEG", "PNG", "WEBP", "TIFF"))]
    schemathesis.openapi.format("binary", st.sampled_from(images))
    return lambda server: schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module")
def schema(read: Callable[[Running], Any], running: Running) -> Any:
    return read(running)


@pytest.fixture(scope="module")
def schema_with_keys(read: Callable[[Running], Any], with_keys: Running) -> Any:
    return read(with_keys)


def ask(operation: Any, *, violated: bool = False, **headers: str) -> set[int]:
    """Send what the description allows, or what it does not, and return the statuses of the answers.

    Every answer must have a status, a type and a form that the description names.
    """
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS

    statuses: set[int] = set()
    mode = GenerationMode.NEGATIVE if violated else GenerationMode.POSITIVE
    # It does not know that one right key is enough, nor that a form has no types: a number is a text like any other.
    excluded = CHECKS.get_by_names(["ignored_auth", *(["negative_data_rejection"] if violated else [])])

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode))
    def answered(case: Any) -> None:
        answer = case.call(headers=headers)
        statuses.add(answer.status_code)
        case.validate_response(answer, headers=headers, excluded_checks=excluded)

    answered()
    return statuses


def test_the_description_names_these_routes(schema: Any) -> None:
    assert {operation.ok().path for operation in schema.get_all_operations()} == {*POSTS, *PAGES}


@pytest.mark.parametrize("path", POSTS)
def test_what_the_description_allows_has_answers_of_its_form(schema: Any, path: str) -> None:
    assert ask(schema[path]["POST"]) == {200}


@pytest.mark.parametrize("path", POSTS)
def test_what_it_does_not_allow_is_a_problem_that_it_names(schema: Any, path: str) -> None:
    statuses = ask(schema[path]["POST"], violated=True)
    assert 422 in statuses
    assert max(statuses) < 500


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_answers_of_their_form(schema: Any, path: str) -> None:
    assert ask(schema[path]["GET"]) == {200}


@pytest.mark.parametrize("path", [*POSTS, "/api/v1/model"])
def test_a_key_is_described_where_it_is_needed(schema_with_keys: Any, path: str) -> None:
    operation = schema_with_keys[path]["GET" if path == "/api/v1/model" else "POST"]
    assert operation.definition.raw["security"] == [{"bearer": []}, {"key": []}]
    assert ask(operation, **{"X-API-Key": "first"}) == {200}
    assert ask(operation, **{"X-API-Key": "wrong", "Authorization": "Bearer wrong"}) == {401}
