"""What is asked in another way than the routes take it: HEAD, other methods, a slash too many, no HTTP at all."""

import socket

import pytest
import requests
from serve.conftest import Running

PAGES = ["/", "/api/v1/model", "/health/live", "/health/ready", "/metrics", "/docs", "/redoc", "/openapi.json"]
UPLOADS = ["/api/v1/score", "/api/v1/compare", "/api/v1/rank", "/api/v1/preview", "/api/v1/order"]
SECRET = b"secret-7391"


def send(running: Running, data: bytes) -> bytes:
    """Send bytes as they are, and return how the answer begins."""
    with socket.create_connection(("127.0.0.1", running.server.port or 0), timeout=20) as client:
        client.sendall(data)
        return client.recv(1000)


@pytest.mark.parametrize("path", [*PAGES, "/assets/favicon.svg"])
def test_head_has_the_headers_of_get_and_no_body(running: Running, path: str) -> None:
    get, head = (requests.request(method, running.url + path, timeout=30) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which has counted the first
        assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("path", UPLOADS)
def test_head_of_a_route_that_takes_images_is_refused(running: Running, path: str) -> None:
    answer = requests.head(running.url + path, timeout=30)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", [*PAGES, *UPLOADS])
def test_another_method_is_a_problem_that_names_those_allowed(running: Running, path: str, method: str) -> None:
    answer = requests.request(method, running.url + path, timeout=30)
    assert (answer.status_code, answer.json()["type"]) == (405, "urn:mirip:problem:method-not-allowed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == ("POST" if path in UPLOADS else "GET, HEAD")


@pytest.mark.parametrize("path", [*PAGES[1:], *UPLOADS])
def test_a_slash_at_the_end_makes_another_path_and_leads_nowhere(running: Running, path: str) -> None:
    answer = requests.get(f"{running.url}{path}/", timeout=30, allow_redirects=False)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:mirip:problem:not-found")


def test_a_page_of_another_site_is_not_let_in(running: Running) -> None:
    asks = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answer = requests.options(f"{running.url}/api/v1/score", headers=asks, timeout=30)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00" + SECRET + b"\r\n\r\n",  # TLS
        b"GET /" + SECRET + b"\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno header " + SECRET + b"\r\n\r\n",
        b"POST /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: " + SECRET + b"\r\n\r\n",
        b"POST /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + SECRET,
    ],
)
def test_what_is_no_http_is_refused_and_none_of_it_is_told(
    running: Running, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        assert send(running, data).startswith(b"HTTP/1.1 400 ")
    assert "secret" not in caplog.text
    assert running.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /%ff%00" + SECRET + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /health/live?" + SECRET + b" HTTP/1.1\r\nHost: " + SECRET + b"\r\n\r\n", 200),
        (b"CONNECT " + SECRET + b":443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (SECRET.upper() + b" /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + SECRET + b"\r\n\r\n", 200),
    ],
)
def test_odd_requests_are_told_by_their_route_alone(
    running: Running, data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        assert send(running, data).startswith(b"HTTP/1.1 %d " % status)
    assert "secret" not in caplog.text.lower()
    assert "secret" not in running.get("/metrics").text.lower()


def test_a_body_without_an_end_is_not_read_by_a_method_that_takes_none(running: Running) -> None:
    head = b"PUT /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
    answer = send(running, head)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"connection: close" in answer.lower()
