"""A way to a server on which answers are late or lost: what was asked is done, and the client does not hear of it."""

import hashlib
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CREATE = ("/create", "mlflow/logged-models")


@contextmanager
def faulty_proxy(uri: str, *, late_s: float = 0.0, paths: tuple[str, ...] = CREATE) -> Iterator[str]:
    """Yield the address of a proxy to `uri`. The first answer to each distinct POST or PATCH is late, or lost.

    Args:
        uri: of a server.
        late_s: by how much an answer is late; 0 for lost.
        paths: which requests are meant, by the end of their path.
    """
    seen: set[str] = set()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            digest = hashlib.sha256(f"{self.command} {self.path}".encode() + body).hexdigest()
            with lock:
                faulty = self.command in ("POST", "PATCH", "PUT") and digest not in seen
                faulty = faulty and self.path.partition("?")[0].endswith(paths)
                seen.add(digest)
            server = http.client.HTTPConnection(urlsplit(uri).hostname or "", urlsplit(uri).port, timeout=120)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if faulty:
                time.sleep(late_s)
            if faulty and not late_s:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Disposition"):
                if value := answer.getheader(name):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client has gone, as it should

    with Server(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
