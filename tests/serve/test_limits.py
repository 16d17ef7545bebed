"""What the server refuses, and that it stays well: sizes, counts, queues, slow and impatient clients, keys."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from serve.conftest import Running, Serving, wait_until_ready

from mirip.data import decoder_process

Photo = Callable[..., bytes]
_BOUNDARY = "between"


def _head(name: str = "images") -> bytes:
    return f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()


def _form(*images: bytes, name: str = "images") -> bytes:
    return b"".join(_head(name) + data + b"\r\n" for data in images) + f"--{_BOUNDARY}--\r\n".encode()


def _send(running: Running, body: bytes | Iterator[bytes], route: str = "score", **headers: str) -> requests.Response:
    kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", **headers}
    return requests.post(f"{running.url}/api/v1/{route}", data=body, headers=kind, timeout=60)


def _name(answer: requests.Response) -> str:
    name: str = answer.json()["type"]
    return name.removeprefix("urn:mirip:problem:")


def _memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


@pytest.mark.parametrize(
    ("body", "kind", "status", "name"),
    [
        (b"\x00\xff\xfe", "application/json", 415, "not-a-form"),
        (b'{"a": 1}', "application/json", 415, "not-a-form"),
        (b"", "", 415, "not-a-form"),
        (b"x", "multipart/form-data", 415, "not-a-form"),
        (b"x", f"multipart/form-data; boundary={_BOUNDARY}", 422, "broken-form"),
        (b"x", "multipart/form-data; boundary=" + "y" * 3000, 422, "broken-form"),
        (_form(b"abc")[:60], f"multipart/form-data; boundary={_BOUNDARY}", 422, "broken-form"),
        (_form(), f"multipart/form-data; boundary={_BOUNDARY}", 422, "no-images"),
        (_form(b"abc", name="files"), f"multipart/form-data; boundary={_BOUNDARY}", 422, "unknown-field"),
        (_form(b"x" * 2**20, name="context"), f"multipart/form-data; boundary={_BOUNDARY}", 413, "too-large"),
    ],
)
def test_a_body_that_is_no_form_of_images_is_told_what_it_is(
    running: Running, body: bytes, kind: str, status: int, name: str
) -> None:
    answer = requests.post(f"{running.url}/api/v1/score", data=body, headers={"Content-Type": kind}, timeout=60)
    assert (answer.status_code, _name(answer)) == (status, name)


def test_a_large_image_and_a_large_body_are_refused(serving: Serving) -> None:
    with serving(image_bytes=10_000, request_bytes=50_000) as running:
        wait_until_ready(running)
        assert _name(_send(running, _form(bytes(10_001)))) == "too-large"
        assert _name(_send(running, _form(*[bytes(9_000)] * 6))) == "too-large"
        assert _send(running, _form(*[bytes(9_000)] * 5)).status_code == 200


def test_a_body_without_a_length_is_read_no_further_than_allowed(serving: Serving) -> None:
    sent = [0]

    def endless() -> Iterator[bytes]:
        yield _head()
        for _ in range(400):
            sent[0] += 1
            yield bytes(2**20)

    with serving(image_bytes=2**30, request_bytes=20 * 2**20) as running:
        wait_until_ready(running)
        before = _memory()
        try:
            answer = _send(running, endless())
            assert (answer.status_code, _name(answer)) == (413, "too-large")
        except requests.ConnectionError:  # the server hangs up on what it does not read
            pass
        assert sent[0] < 100
        assert _memory() - before < 150 * 2**20
        assert running.get("/health/ready").status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(serving: Serving) -> None:
    with serving(upload_s=0.3) as running:
        wait_until_ready(running)
        with socket.create_connection(("127.0.0.1", running.server.port or 0), timeout=20) as client:
            client.sendall(
                b"POST /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=between\r\n\r\n--between\r\n"
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_what_all_uploads_hold_together_is_bounded(serving: Serving, photo: Photo) -> None:
    with serving(upload_bytes=100_000) as running:
        wait_until_ready(running)
        answer = _send(running, _form(bytes(200_000)))
        assert (answer.status_code, _name(answer)) == (429, "busy")
        assert "retry-after" in answer.headers
        assert running.post("score", photo(1)).status_code == 200  # what was held is given back


def test_the_queue_counts_images_and_not_requests(serving: Serving, photo: Photo) -> None:
    with serving(queue_images=5) as running:
        wait_until_ready(running)
        answer = running.post("score", *[photo(seed) for seed in range(6)])
        assert (answer.status_code, _name(answer)) == (422, "too-many-images")  # to wait would not help
        assert running.post("score", *[photo(seed) for seed in range(5)]).status_code == 200


def test_many_small_requests_fill_the_queue_too_and_it_empties(serving: Serving, photo: Photo) -> None:
    with serving(queue_images=4, workers=1) as running:
        wait_until_ready(running)
        large = photo(1, "PNG", size=(2400, 1800))
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda n: running.post("score", large, large).status_code, range(48)))
        assert set(answers) == {200, 429}
        assert running.post("score", photo(2)).status_code == 200
        assert running.server.state.service.n_waiting == 0


def test_images_are_not_scored_for_clients_that_have_gone(serving: Serving, photo: Photo) -> None:
    with serving(workers=1) as running:
        wait_until_ready(running)
        large = _form(*[photo(seed, "PNG", size=(1200, 900)) for seed in range(8)])
        head = f"POST /api/v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n"
        head += f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n\r\n"
        for share in (0.3, 1.0) * 15:
            with socket.create_connection(("127.0.0.1", running.server.port or 0), timeout=20) as client:
                client.sendall(head.encode() + large[: int(share * len(large))])
        deadline = time.monotonic() + 60
        while running.server.state.service.n_waiting:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        answers = [running.post("score", photo(seed)).status_code for seed in range(20)]
        assert answers == [200] * 20


def test_a_request_past_its_deadline_is_told_so(serving: Serving, photo: Photo) -> None:
    with serving(workers=1) as running:
        wait_until_ready(running)
        object.__setattr__(running.server.state.settings, "deadline_s", 0.05)
        for n_images in (8, 3, 40):
            answer = running.post("score", *[photo(seed, "PNG", size=(2400, 1800)) for seed in range(2)] * n_images)
            assert (answer.status_code, _name(answer)) == (504, "deadline")
        object.__setattr__(running.server.state.settings, "deadline_s", 30)
        assert running.post("score", photo(1)).status_code == 200


def test_a_decoder_that_hangs_costs_one_image(serving: Serving, photo: Photo) -> None:
    with serving(decode_s=3, workers=1) as running:
        wait_until_ready(running)
        assert running.post("score", photo(1, "TIFF")).status_code == 200
        with decoder_process._lock:
            stopped = [process._popen.pid for process in decoder_process._idle]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        answer = running.post("score", photo(2, "TIFF"), photo(3)).json()
        assert "took more than 3 s" in answer["images"][0]["problem"]["problem"]
        assert answer["images"][1]["result"] is not None
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        assert running.post("score", photo(4, "TIFF")).json()["images"][0]["result"] is not None


def test_it_answers_that_it_lives_while_large_images_are_read(running: Running, photo: Photo) -> None:
    large = photo(1, "PNG", size=(3000, 2000))
    stop = threading.Event()

    def upload() -> None:
        while not stop.is_set():
            running.post("score", large, large)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    times = []
    for _ in range(15):
        start = time.perf_counter()
        assert running.get("/health/live").status_code == 200
        times.append(time.perf_counter() - start)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(times)[len(times) // 2] < 1.0  # 0.1 s on a machine that does nothing else


def test_a_key_is_needed_where_there_are_keys(serving: Serving, photo: Photo) -> None:
    with serving(api_keys=("first", "zweiter-schlüssel")) as running:
        wait_until_ready(running)
        refused = [
            running.post("score", photo(1), headers=headers)
            for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "first"})
        ]
        assert {answer.status_code for answer in refused} == {401}
        assert len({answer.json()["detail"] for answer in refused}) == 1
        right = [{"X-API-Key": "first"}, {"Authorization": "Bearer first"}]
        right += [{"X-API-Key": "zweiter-schlüssel".encode()}, {"X-API-Key": "first", "Authorization": "Bearer other"}]
        for headers in right:
            assert running.post("score", photo(1), headers=headers).status_code == 200
        assert running.get("/api/v1/model").status_code == 401
        assert running.get("/health/live").status_code == 200


def test_paths_that_are_not_there_make_no_metrics_of_their_own(running: Running) -> None:
    def series() -> int:
        return sum(not line.startswith("#") for line in running.get("/metrics").text.splitlines())

    running.get("/wp-login.php")
    running.get("/metrics")
    before = series()
    with requests.Session() as session:
        for number in range(300):
            assert session.get(f"{running.url}/{number}/x{number}.php?y={number}", timeout=30).status_code == 404
    assert series() <= before + 2


def test_other_pages_may_not_read_the_answers(running: Running) -> None:
    answer = running.get("/api/v1/model", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_errors_of_routes_are_problems_too(running: Running) -> None:
    assert running.get("/nowhere").json()["type"] == "urn:mirip:problem:not-found"
    answer = running.get("/api/v1/score")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


def test_neither_names_nor_images_get_into_the_log(
    running: Running, photo: Photo, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        files = [("images", ("kim-minji-secret.jpg", photo(1), "image/jpeg"))]
        requests.post(f"{running.url}/api/v1/score?name=secret", files=files, timeout=60)
        running.post("score", b"secret, and not an image")
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert told
    assert not any("secret" in line for line in told)


def test_a_request_keeps_the_id_that_it_came_with(running: Running) -> None:
    assert running.get("/health/live", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    odd = running.get("/health/live", headers={"X-Request-ID": "a b<script>"}).headers["x-request-id"]
    assert len(odd) == 16


def test_memory_is_given_back(running: Running, photo: Photo) -> None:
    images = [photo(seed, size=(2000, 1500)) for seed in range(8)]
    running.post("score", *images)
    before = _memory()
    for number in range(12):
        running.post("score", *[image + bytes([number]) for image in images])  # other bytes: nothing is remembered
        grown = _memory() - before
        if number >= 5 and grown < 100 * 2**20:
            return
    pytest.fail(f"{grown >> 20} MB are held")
