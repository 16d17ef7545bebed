"""A real server that speaks S3, and buckets in it for tests to fill."""

import itertools
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
from local_servers import free_port, wait_for
from obstore.store import S3Store

# None of them is a secret: the server takes any. Of a machine in a cloud, its own role would be asked for.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "the-key-of-a-test",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-a-test",
    "AWS_REGION": "us-east-1",
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
}
_numbers = itertools.count()


class Bucket:
    """A new bucket; its images are below the prefix `set`."""

    def __init__(self, server: str) -> None:
        name = f"bucket-{next(_numbers)}"
        self.url = f"s3://{name}/set"
        with urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")):
            pass
        self._store = S3Store(name, prefix="set", endpoint=server, client_options={"allow_http": True})

    def put(self, path: str, data: bytes) -> None:
        obstore.put(self._store, path, data)

    def delete(self, path: str) -> None:
        obstore.delete(self._store, path)

    def put_folder(self, folder: Path) -> None:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(file.relative_to(folder).as_posix(), file.read_bytes())


@contextmanager
def object_store_server(folder: Path) -> Iterator[str]:
    """Yield the address of a server that starts empty."""
    port, log = free_port(), folder / "object_store.log"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=dict(os.environ)) as process,
    ):
        try:
            wait_for(url, process, log)
            yield url
        finally:
            process.kill()
