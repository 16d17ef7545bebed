"""Errors as problem details (RFC 9457): one form for every error of the API, in words and by a name for programs."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class HttpProblem(Exception):  # noqa: N818 - the word of RFC 9457
    """An error that the API answers with.

    Args:
        status: of HTTP.
        name: for programs, such as "queue-full"; the end of the problem's type.
        detail: what happened, and what to do.
        headers: more headers of the answer.
        extra: more members of the body.
    """

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail = status, name, detail
        self.headers, self.extra = dict(headers or {}), dict(extra or {})


def invalid(error: Mapping[str, Any], *within: str) -> HttpProblem:
    """Return the answer to a value that pydantic refuses: where it stands, and why.

    Args:
        error: one of pydantic's; the value itself is not repeated.
        within: where what it validated stands in the request.
    """
    where = ".".join(map(str, (*within, *error["loc"])))
    return HttpProblem(422, "invalid", f"{where}: {error['msg']}")


def problem_response(request: Request, problem: HttpProblem) -> JSONResponse:
    """Return the answer to a request that failed."""
    body = {
        "type": f"urn:mirip:problem:{problem.name}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": getattr(request.state, "request_id", None),
        **problem.extra,
    }
    # What is left of a body that was refused half way is not waited for.
    closing = {} if request.method == "GET" else {"Connection": "close"}
    return JSONResponse(body, problem.status, {**closing, **problem.headers}, MEDIA_TYPE)
