"""A server is ready only with the right backbone, and when the canary image has met its score."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from local_servers import free_port
from serve.conftest import Running, Serving, wait_until_ready

from mirip.models.trained_ranker import TrainedRanker
from mirip.serve.canary import canary_image, expected_score
from mirip.serve.server import Server
from mirip.serve.settings import ServeSettings, available_cores


def _wait_for_reason(running: Running) -> str:
    deadline = time.monotonic() + 60
    while (reason := running.get("/health/ready").json()["reason"]) == "the model is being loaded":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(reason)


def test_the_canarys_score_is_kept_and_held_against_the_next_start(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ranker = TrainedRanker.from_checkpoint(checkpoint, device="cpu")
    expected = expected_score(ranker, "v")
    (record,) = (tmp_path / ".mirip" / "canaries").iterdir()
    assert json.loads(record.read_text())["score"] == expected
    (found,) = ranker.score([canary_image()])
    assert found.score == pytest.approx(expected, abs=1e-4)  # type: ignore[union-attr]


def test_a_server_whose_canary_scores_otherwise_is_never_ready(
    serving: Serving, photo: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirip.serve.state.expected_score", lambda ranker, version: 123.0)
    with serving() as running:
        assert "the canary image scores" in _wait_for_reason(running)
        answer = running.post("score", photo(1))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:mirip:problem:not-ready")
        assert running.get("/health/live").status_code == 200


def test_a_server_with_another_backbone_is_never_ready(
    checkpoint: Path, serving: Serving, photo: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainedRanker, "load", _raise_checkpoint_error)
    with serving() as running:
        assert "fingerprint" in _wait_for_reason(running)
        assert running.post("score", photo(1)).status_code == 503


def _raise_checkpoint_error(self: TrainedRanker) -> None:
    from mirip.errors import CheckpointError

    raise CheckpointError("the backbone has another fingerprint")


def test_a_server_whose_scoring_thread_has_ended_is_not_ready(serving: Serving) -> None:
    with serving() as running:
        wait_until_ready(running)
        running.server.state.service.stop()
        answer = running.get("/health/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the thread that scores has ended")


@pytest.mark.parametrize(
    ("text", "cores"),
    [("100000 100000", 1), ("max 100000", None), ("50000 100000", 1), ("nonsense", None), (None, None)],
)
def test_threads_follow_the_limit_of_the_container(tmp_path: Path, text: str | None, cores: int | None) -> None:
    quota = tmp_path / "cpu.max"
    if text is not None:
        quota.write_text(text)
    assert available_cores(quota) == (cores or available_cores(tmp_path / "nowhere"))


def test_the_documentation_needs_no_network(running: Running) -> None:
    for page in ("/docs", "/redoc"):
        html = running.get(page).text
        assert "http://" not in html.replace(running.url, "")
        assert "https://" not in html
        assert "'self'" in running.get(page).headers["content-security-policy"]
        for asset in [part.split('"')[0] for part in html.split('"/assets/')[1:]]:
            assert running.get(f"/assets/{asset}").status_code == 200
    assert running.get("/openapi.json").json()["info"]["title"] == "Mirip"


def test_what_cannot_end_before_the_server_stops_is_told_so(
    serving: Serving, photo: Callable[..., bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, answers = threading.Event(), []
    with caplog.at_level("INFO"), serving(shutdown_s=1) as running:
        wait_until_ready(running)
        ranker, port = running.server.state.ranker, running.server.port or 0
        score = ranker.scored
        monkeypatch.setattr(ranker, "scored", lambda prepared: release.wait(timeout=30) and score(prepared))
        waiting = threading.Thread(target=lambda: answers.append(running.post("score", photo(1))))
        waiting.start()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as uploading:
            uploading.sendall(
                b"POST /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=between\r\n\r\n--between\r\n"
            )
            deadline = time.monotonic() + 30
            while running.server.state.service.n_waiting == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            caplog.clear()
            running.server.stop()
            told = b"".join(iter(lambda: uploading.recv(4096), b""))
        waiting.join(timeout=30)
        release.set()
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b'"urn:mirip:problem:stopping"' in told
    (answer,) = answers
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "urn:mirip:problem:stopping"
    assert not any(record.exc_info for record in caplog.records)
    lines = [record.getMessage() for record in caplog.records if record.name == "mirip.serve"]
    assert sum(" POST /api/v1/score 503 " in line for line in lines) == len(lines) == 2


def test_the_address_that_is_told_can_be_opened(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = Server(checkpoint, ServeSettings(), host="::1", port=0, device="cpu")
    with caplog.at_level("INFO"):
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not (told := [found[0] for line in caplog.messages if (found := re.search(r"http://[^ ,]+", line))]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    running = Running(server, told[0])
    wait_until_ready(running)
    server.stop()
    thread.join(timeout=30)
    assert told[0] == f"http://[::1]:{server.port}"


@pytest.mark.slow
@pytest.mark.integration
def test_told_to_stop_it_ends_what_is_under_way(checkpoint: Path, tmp_path: Path, photo: Callable[..., bytes]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mirip", "serve", "--checkpoint", str(checkpoint), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "DVC_ROOT": str(tmp_path)})
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            if requests.get(f"{url}/health/ready", timeout=5).status_code == 200:
                break
        except requests.ConnectionError:
            pass
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    large = photo(1, "PNG", size=(3000, 2000))

    answers: list[int] = []
    client = threading.Thread(
        target=lambda: answers.append(
            requests.post(f"{url}/api/v1/score", files=[("images", ("x", large))] * 6, timeout=60).status_code
        )
    )
    client.start()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    client.join(timeout=60)
    assert answers == [200]
    assert process.wait(timeout=60) in (0, -signal.SIGTERM)
