"""A way to a server on which answers fail, are late, cut off, changed or lost, as a test says."""

import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

CREATE = ("/create", "mlflow/logged-models")


class Request(NamedTuple):
    """What came to the proxy.

    Attributes:
        method: GET, POST, ...
        path: with the query.
        digest: of method, path and body.
        range: the bytes that were asked for, as in the header; empty for all.
    """

    method: str
    path: str
    digest: str
    range: str


class Fault(NamedTuple):
    """What happens to an answer.

    Attributes:
        late_s: by how much it is late.
        status: what is answered in place of the server, which is not asked; 0 for the server's own answer.
        kept: how much of the body arrives before the connection breaks; None for all.
        flipped: a byte in the middle of the body is another.
        lost: the server is asked, and the connection breaks without an answer.
    """

    late_s: float = 0.0
    status: int = 0
    kept: float | None = None
    flipped: bool = False
    lost: bool = False


class Proxy:
    """A running proxy.

    Attributes:
        url: its address.
        requests: what came, in order.
        fault: says what happens to the answer to a request; may be set at any time.
    """

    def __init__(self, url: str, fault: Callable[[Request], Fault]) -> None:
        self.url, self.fault, self.requests = url, fault, list[Request]()


def no_fault(request: Request) -> Fault:
    return Fault()


@contextmanager
def proxy_to(uri: str, fault: Callable[[Request], Fault] = no_fault) -> Iterator[Proxy]:
    """Yield a proxy to the server at `uri`, in threads of this process."""
    host, port = urlsplit(uri).hostname or "", urlsplit(uri).port

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            digest = hashlib.sha256(f"{self.command} {self.path}".encode() + body).hexdigest()
            request = Request(self.command, self.path, digest, self.headers.get("Range") or "")
            proxy.requests.append(request)
            happens = proxy.fault(request)
            if happens.status:
                status, headers, content = happens.status, {}, b""
            else:
                server = http.client.HTTPConnection(host, port, timeout=120)
                server.request(self.command, self.path, body, dict(self.headers))
                answer = server.getresponse()
                status, headers, content = answer.status, dict(answer.getheaders()), answer.read()
                server.close()
            time.sleep(happens.late_s)
            if happens.lost:
                self.close_connection = True
                return
            if happens.flipped:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if happens.kept is not None:
                content = content[: int(happens.kept * len(content))]
                self.close_connection = True
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = forward  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client has gone, as it should

    with Server(("127.0.0.1", 0), Handler) as listening:
        proxy = Proxy(f"http://127.0.0.1:{listening.server_address[1]}", fault)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            listening.shutdown()


@contextmanager
def faulty_proxy(uri: str, *, late_s: float = 0.0, paths: tuple[str, ...] = CREATE) -> Iterator[str]:
    """Yield the address of a proxy to `uri`. The first answer to each distinct POST or PATCH is late, or lost.

    What was asked is done, and the client does not hear of it.

    Args:
        uri: of a server.
        late_s: by how much an answer is late; 0 for lost.
        paths: which requests are meant, by the end of their path.
    """
    seen: set[str] = set()
    lock = threading.Lock()

    def fault(request: Request) -> Fault:
        with lock:
            is_first = request.digest not in seen
            seen.add(request.digest)
        meant = request.method in ("POST", "PATCH", "PUT") and request.path.partition("?")[0].endswith(paths)
        return Fault(late_s=late_s, lost=not late_s) if meant and is_first else Fault()

    with proxy_to(uri, fault) as proxy:
        yield proxy.url
