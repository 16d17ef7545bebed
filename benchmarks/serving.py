"""How a server bears load, damaged uploads and ill-behaved clients: rates, times, what is answered, and memory.

Run     python -m benchmarks.serving CHECKPOINT IMAGES [--short] [--seconds 60] [--clients 64] [--mutated 1000]
Prints  JSON with the hardware's name

One client alone is measured first, then many at once, for the same number of seconds. The mutated uploads are cut off,
flipped, of wrong types, empty, bombs and noise. Then come random paths, which may make no metrics of their own; a crowd
of clients at the same moment; clients that hang up midway, and good ones after them; bodies without a length, as one
image and as many; and health checks while uploads stream. All goes over HTTP to a server in a process of its own.
--short makes all of it small, to see that it runs.
"""

import argparse
import io
import json
import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import torch
from PIL import Image

from mirip.features.backbones.backbone import hardware

_MEGABYTE = 2**20


@dataclass
class Sizes:
    """How much of each is sent."""

    seconds: float = 60
    clients: int = 64
    mutated: int = 1000
    paths: int = 10_000
    crowd: int = 400
    leaving: int = 200
    staying: int = 100
    endless_mb: int = 1024
    checks: int = 200


_SHORT = Sizes(seconds=2, clients=4, mutated=14, paths=200, crowd=16, leaving=8, staying=4, endless_mb=300, checks=5)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of JPEG files")
    parser.add_argument("--short", action="store_true")
    for name in ("seconds", "clients", "mutated"):
        parser.add_argument(f"--{name}", type=float if name == "seconds" else int)
    options = parser.parse_args()
    sizes = _SHORT if options.short else Sizes()
    for name in ("seconds", "clients", "mutated"):
        setattr(sizes, name, getattr(options, name) or getattr(sizes, name))
    images = [path.read_bytes() for path in sorted(options.images.glob("*.jpg"))[:64]]
    with tempfile.TemporaryDirectory() as folder, served(options.checkpoint, Path(folder)) as (url, pid):
        found = {"hardware": hardware(torch.device("cpu")), **measure(url, pid, images, sizes)}
    print(json.dumps(found, indent=2))


def measure(url: str, pid: int, images: list[bytes], sizes: Sizes) -> dict[str, Any]:
    """Measure one after the other; of each, what the server's process and its decoders hold before and after."""
    found: dict[str, Any] = {}

    def add(name: str, measured: Callable[[], dict[str, Any]]) -> None:
        before = memory(pid)
        found[name] = {**measured(), "memory_mb": {"before": before // _MEGABYTE, "after": memory(pid) // _MEGABYTE}}
        found[name]["ready"] = requests.get(f"{url}/health/ready", timeout=60).status_code == 200

    add("one_client", lambda: load(url, images, sizes.seconds, 1))
    add("many_clients", lambda: {"n": sizes.clients, **load(url, images, sizes.seconds, sizes.clients)})
    gain = found["many_clients"]["images_per_second"] / found["one_client"]["images_per_second"]
    found["throughput_gain"] = round(gain, 2)
    add("mutated", lambda: {"said": mutated(url, images, sizes.mutated)})
    add("random_paths", lambda: random_paths(url, sizes.paths))
    add("crowd", lambda: crowd(url, images, sizes.crowd))
    add("hung_up", lambda: hung_up(url, images, sizes.leaving, sizes.staying))
    add("endless_image", lambda: endless_body(url, pid, sizes.endless_mb, sizes.endless_mb))
    add("endless_images", lambda: endless_body(url, pid, sizes.endless_mb, 10))
    add("health_under_uploads", lambda: health_under_uploads(url, sizes.checks))
    return found


class served:  # noqa: N801 - a context
    """A server of a checkpoint in a process of its own; gives its address and process id."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self._log = (folder / "log").open("w+b")
        command = [sys.executable, "-m", "mirip", "serve", "--port", "0", "--checkpoint", str(checkpoint)]
        self._process = subprocess.Popen(command, stderr=self._log, stdout=self._log)

    def __enter__(self) -> tuple[str, int]:
        """Wait until the server is ready."""
        while True:
            time.sleep(0.2)
            self._log.seek(0)
            lines = self._log.read().decode().splitlines()
            if any("ready: model" in line for line in lines):
                address = next(word for line in lines for word in line.split() if word.startswith("http://"))
                return address.rstrip(","), self._process.pid
            if self._process.poll() is not None:
                raise RuntimeError("\n".join(lines))

    def __exit__(self, *error: object) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()


def load(url: str, images: list[bytes], seconds: float, n_clients: int) -> dict[str, Any]:
    """Send images, one a request, by so many clients at once; each is changed by a byte, so that none is remembered."""
    statuses: Counter[int] = Counter()
    times: list[float] = []
    end, lock = time.monotonic() + seconds, threading.Lock()

    def client(number: int) -> None:
        drawn = random.Random(number)
        with requests.Session() as session:
            while time.monotonic() < end:
                data = drawn.choice(images) + drawn.randbytes(8)
                start = time.perf_counter()
                answer = session.post(f"{url}/api/v1/score", files=[("images", ("x", data))], timeout=120)
                with lock:
                    statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        times.append(time.perf_counter() - start)
                if answer.status_code == 429:
                    time.sleep(0.2)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"images_per_second": round(len(times) / seconds, 1), **quantiles(times), "statuses": counted(statuses)}


def mutated(url: str, images: list[bytes], count: int) -> dict[str, int]:
    """Send damaged files, and count what is said of them."""
    drawn, said = random.Random(0), Counter[str]()
    bomb = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(bomb, "PNG")
    with requests.Session() as session:
        for _ in range(count):
            data = bytearray(drawn.choice(images))
            kind = drawn.randrange(7)
            if kind == 0:
                data = data[: drawn.randrange(len(data))]
            elif kind == 1:
                for _ in range(drawn.randrange(1, 40)):
                    data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
            elif kind == 2:
                data = bytearray(drawn.randbytes(drawn.randrange(5000)))
            elif kind == 3:
                data = bytearray()
            elif kind == 4:
                data = bytearray(bomb.getvalue())
            elif kind == 5:
                data[drawn.randrange(2, 60) : 60] = drawn.randbytes(300)  # the header and its EXIF data
            files = [
                ("images", ("x", bytes(data), drawn.choice(["image/jpeg", "image/heic", "application/octet-stream"])))
            ]
            answer = session.post(f"{url}/api/v1/score", files=files, timeout=120)
            found = (
                answer.json()["images"][0]
                if answer.status_code == 200
                else {"problem": {"kind": str(answer.status_code)}}
            )
            said["scored" if found["problem"] is None else found["problem"]["kind"]] += 1
    return dict(said.most_common())


def random_paths(url: str, count: int) -> dict[str, Any]:
    """Ask for paths that are not there, with all kinds of names; each may not leave a metric behind."""
    drawn, statuses = random.Random(1), Counter[int]()
    requests.get(f"{url}/nowhere", timeout=60)
    before = metric_series(url)
    with requests.Session() as session:
        for _ in range(count):
            words = (drawn.randbytes(drawn.randrange(1, 12)).hex() for _ in range(drawn.randrange(1, 5)))
            path = "/".join(words) + drawn.choice(["", ".php", "/", "?id=1", "/%2e%2e/x"])
            statuses[session.get(f"{url}/{path}", timeout=60).status_code] += 1
    return {"n": count, "statuses": counted(statuses), "series": {"before": before, "after": metric_series(url)}}


def metric_series(url: str) -> int:
    """Return how many numbers /metrics has, after it has counted itself."""
    lines = [requests.get(f"{url}/metrics", timeout=60).text.splitlines() for _ in range(2)][-1]
    return sum(not line.startswith("#") for line in lines)


def crowd(url: str, images: list[bytes], count: int) -> dict[str, Any]:
    """Send an image from each of many clients at the same moment, once; what is refused is not sent again."""
    statuses, barrier, lock = Counter[str](), threading.Barrier(count), threading.Lock()
    times: list[float] = []

    def client(number: int) -> None:
        data = images[number % len(images)] + number.to_bytes(4, "big")
        barrier.wait()
        start = time.perf_counter()
        try:
            status = str(requests.post(f"{url}/api/v1/score", files=[("images", ("x", data))], timeout=120).status_code)
        except requests.RequestException as error:
            status = type(error).__name__
        with lock:
            statuses[status] += 1
            times.append(time.perf_counter() - start)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(client, range(count)))
    return {"n": count, "statuses": dict(statuses.most_common()), "slowest_s": round(max(times), 2)}


def hung_up(url: str, images: list[bytes], leaving: int, staying: int) -> dict[str, Any]:
    """Hang up in the middle of a body or before the answer, many times; then send good requests, one by one."""
    drawn, address = random.Random(2), urlsplit(url)
    for _ in range(leaving):
        body = form([drawn.choice(images) for _ in range(4)])
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as client:
            client.sendall(
                form_head(f"Content-Length: {len(body)}") + body[: int(drawn.choice([0.3, 0.9, 1]) * len(body))]
            )
    start, statuses = time.perf_counter(), Counter[int]()
    with requests.Session() as session:
        for number in range(staying):
            data = images[number % len(images)] + number.to_bytes(4, "big")
            answer = session.post(f"{url}/api/v1/score", files=[("images", ("x", data))], timeout=120)
            statuses[answer.status_code] += 1
    return {"n": leaving, "statuses_after": counted(statuses), "seconds_after": round(time.perf_counter() - start, 2)}


def endless_body(url: str, pid: int, megabytes: int, image_mb: int) -> dict[str, Any]:
    """Stream a body that does not tell its length, in images of a size, and watch what the server holds meanwhile."""
    address, sent, peak, answer = urlsplit(url), 0, memory(pid), b""
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as client:
        try:
            client.sendall(form_head("Transfer-Encoding: chunked"))
            while sent < megabytes and not select.select([client], [], [], 0)[0]:
                client.sendall(http_chunk(b"\r\n--between\r\n" + PART if sent % image_mb == 0 else b""))
                client.sendall(http_chunk(bytes(_MEGABYTE)))
                sent += 1
                peak = max(peak, memory(pid))
        except OSError:  # the server has hung up; what it said before that can still be read
            pass
        with suppress(OSError):
            answer = client.recv(4096)
    status = answer.split(b" ")[1].decode() if b" " in answer else "closed"
    return {"offered_mb": megabytes, "sent_mb": sent, "status": status, "peak_mb": peak // _MEGABYTE}


def http_chunk(data: bytes) -> bytes:
    """Return data as a chunk of a body without a length; nothing for none, which would end the body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def health_under_uploads(url: str, checks: int) -> dict[str, Any]:
    """Time /health/live while four clients send large images without a pause."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((4000, 3000)).save(buffer, "JPEG", quality=95)
    stop, times = threading.Event(), []

    def upload() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                session.post(f"{url}/api/v1/score", files=[("images", ("x", buffer.getvalue()))] * 2, timeout=120)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(upload)
        for _ in range(checks):
            start = time.perf_counter()
            requests.get(f"{url}/health/live", timeout=60).raise_for_status()
            times.append(time.perf_counter() - start)
            time.sleep(0.02)
        stop.set()
    return {"n": checks, **quantiles(times)}


PART = b'Content-Disposition: form-data; name="images"; filename="x"\r\n\r\n'


def form(images: list[bytes]) -> bytes:
    """Return images as the body of a form, as requests made by hand send it."""
    return b"".join(b"--between\r\n" + PART + data + b"\r\n" for data in images) + b"--between--\r\n"


def form_head(length: str) -> bytes:
    """Return the head of a request with such a body."""
    kind = "Content-Type: multipart/form-data; boundary=between"
    return f"POST /api/v1/score HTTP/1.1\r\nHost: x\r\n{length}\r\n{kind}\r\n\r\n".encode()


def counted(statuses: Counter[int]) -> dict[str, int]:
    """Return how often each status was answered, for JSON."""
    return {str(status): n for status, n in sorted(statuses.items())}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return the median, and what 95 and 99 of 100 are within."""
    return {f"p{q}_ms": round(1000 * float(np.quantile(seconds, q / 100)), 1) for q in (50, 95, 99)}


def memory(pid: int) -> int:
    """Return the bytes that a process and its children hold."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (str(pid), *children)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
