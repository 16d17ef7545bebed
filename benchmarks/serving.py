"""How a server bears load and damaged uploads: requests a second, times, what is answered, and memory.

Run     python -m benchmarks.serving CHECKPOINT IMAGES [--seconds 60] [--clients 64] [--mutated 1000]
Prints  JSON with the hardware's name

One client alone is measured first, then many at once, for the same number of seconds. The mutated uploads are cut off,
flipped, of wrong types, empty, bombs and noise. All goes over HTTP to a server in a process of its own.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from PIL import Image

from mirip.features.backbones.backbone import hardware


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of JPEG files")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--mutated", type=int, default=1000)
    options = parser.parse_args()
    images = [path.read_bytes() for path in sorted(options.images.glob("*.jpg"))[:64]]
    with tempfile.TemporaryDirectory() as folder, served(options.checkpoint, Path(folder)) as (url, pid):
        alone = load(url, images, options.seconds, 1)
        many = load(url, images, options.seconds, options.clients)
        before = memory(pid)
        answers = mutated(url, images, options.mutated)
        found = {
            "hardware": hardware(torch.device("cpu")),
            "one_client": alone,
            "clients": {"n": options.clients, **many},
            "throughput_gain": round(many["images_per_second"] / alone["images_per_second"], 2),
            "mutated": answers,
            "memory_mb": {"before": before >> 20, "after": memory(pid) >> 20},
            "ready": requests.get(f"{url}/health/ready", timeout=10).status_code == 200,
        }
    print(json.dumps(found, indent=2))


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
    p50, p95 = np.quantile(times, [0.5, 0.95])
    return {
        "images_per_second": round(len(times) / seconds, 1),
        "p50_ms": round(1000 * float(p50), 1),
        "p95_ms": round(1000 * float(p95), 1),
        "statuses": {str(status): n for status, n in sorted(statuses.items())},
    }


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


def memory(pid: int) -> int:
    """Return the bytes that a process and its children hold."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (str(pid), *children)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
