"""Commands of a project at a tenth of the cost: forks of one Python that has loaded the large libraries.

A pipeline under test starts dozens of processes, each of which would spend seconds on importing torch, MLflow or DVC
and a fraction of one on its work. `commands_folder` is what a test puts first on the PATH: `python`, `dvc`, `mirip`,
`mlflow` and `uvicorn` there start real processes with their own working directory, environment, standard files, exit
code and signals, in which none of *our* code is loaded before. Only the libraries are: a test whose subject is how a
process starts, what it imports or what it costs runs a plain interpreter instead.

This file is also the program of the server that forks them. All processes of one test run share one; it ends with the
last of them.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

LIBRARIES = """
    numpy pandas pyarrow.parquet pyarrow.dataset pyarrow.pandas_compat scipy.stats scipy.optimize scipy.special
    scipy.sparse.csgraph h5py sklearn.linear_model sklearn.pipeline sklearn.preprocessing sklearn.neighbors
    sklearn.model_selection PIL.Image PIL.ImageCms simplejpeg pydantic jinja2 yaml ruamel.yaml rich.table tqdm xxhash
    safetensors.torch matplotlib.figure matplotlib.backends.backend_svg torch torchvision transformers
    mlflow mlflow.pyfunc mlflow.data mlflow.store.tracking.sqlalchemy_store mlflow.store.model_registry.sqlalchemy_store
    mlflow.cli mlflow.server.fastapi_app uvicorn.main uvicorn.protocols.http.auto uvicorn.lifespan.on
    alembic.command sqlalchemy.dialects.sqlite dvc.cli dvc.cli.parser dvc.repo dvc.repo.experiments dvc.stage.run
    dvc.repo.experiments.queue.celery dvc.repo.experiments.executor.local kombu.transport.filesystem
    dvc.cachemgr dvc.data_cloud dvc.repo.reproduce dvc.repo.commit dvc.repo.checkout dvc.utils.hydra hydra.compose
    networkx pygit2 dulwich.porcelain dulwich.worktree dvc_render flatten_dict dvc_task.app dvc_task.worker
    celery.worker.worker celery.concurrency.thread celery.events.dispatcher celery.backends.filesystem billiard.einfo
    pyarrow.acero alembic.config mlflow.store.artifact.artifact_repository_registry PIL.JpegImagePlugin
""".split()

# What is behind each of these commands. A request is one message of JSON with the standard files, its answer the exit
# status; between them, each byte from the client is a signal that has reached it.
CLIENT = """\
import json, os, signal, socket, sys

address, plain, scripts, name, *arguments = sys.argv[1:]
command = [plain, *arguments] if name == "python" else [f"{scripts}/{name}", *arguments]
if name != "python":
    run = {"path": command[0], "argv": command}
elif arguments[:1] == ["-m"]:
    run = {"module": arguments[1], "argv": arguments[1:]}
elif arguments[:1] == ["-c"]:
    run = {"code": arguments[1], "argv": ["-c", *arguments[2:]]}
else:
    os.execv(command[0], command)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(address)
except OSError:  # the tests have ended, and a worker of DVC has not
    os.execv(command[0], command)
caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
for number in caught:
    signal.signal(number, lambda number, _: connection.send(bytes([number])))
message = json.dumps(run | {"cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
connection.sendall(len(message).to_bytes(8, "big"))
socket.send_fds(connection, [b"f"], [0, 1, 2])
connection.sendall(message)
answer = connection.recv(4)
status = int.from_bytes(answer, "big", signed=True) if answer else -signal.SIGKILL
if status < 0:
    if -status in caught:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def commands_folder() -> Path:
    """Return the folder of the commands, whose server runs at least as long as this process."""
    if run := os.environ.get("PYTEST_XDIST_TESTRUNUID"):
        folder = Path(tempfile.gettempdir()) / f"mirip-{run}"
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="mirip-"))
    needed = socket.socket(socket.AF_UNIX)
    with FileLock(folder / "lock"):
        try:
            needed.connect(str(folder / "socket"))
        except OSError:
            _start(folder)
            needed.connect(str(folder / "socket"))
        needed.sendall(bytes(8))  # no command: the server runs until all such connections are closed
    atexit.register(needed.close)
    return folder


def _start(folder: Path) -> None:
    (folder / "socket").unlink(missing_ok=True)
    (folder / "client.py").write_text(CLIENT)
    for name in ("python", "dvc", "mirip", "mlflow", "uvicorn"):
        words = (sys.executable, "-IS", folder / "client.py", folder / "socket", sys.executable)
        quoted = " ".join(f'"{word}"' for word in (*words, Path(sys.executable).parent, name))
        (folder / name).write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        (folder / name).chmod(0o700)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, __file__, str(folder / "socket")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    assert server.stdout is not None
    with server.stdout:
        assert server.stdout.readline() == b"ready\n", (folder / "log").read_text()
    server.returncode = 0  # it may outlive this process: nothing waits for it, and no warning says so


class _Server:
    """Who waits for which child, and who needs the server at all."""

    def __init__(self, address: str) -> None:
        self._address = Path(address)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen(64)
        self._ended, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._children: dict[socket.socket, int] = {}
        self._needed_by: set[socket.socket] = set()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno())

    def serve(self) -> dict[str, Any]:
        """Serve until nobody needs it and end this process; in a child, return the request that it is to run."""
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listening:
                    if request := self._accept():
                        return request
                elif source is self._ended:
                    self._ended.recv(4096)
                    self._answer()
                elif source in self._children:
                    self._pass_on(source)
                elif source in self._needed_by:
                    self._forget(source)

    def _accept(self) -> dict[str, Any] | None:
        connection, _ = self._listening.accept()
        try:
            size = int.from_bytes(_received(connection, 8), "big")
            if size == 0:
                self._needed_by.add(connection)
                self._selector.register(connection, selectors.EVENT_READ)
                return None
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            request: dict[str, Any] = json.loads(_received(connection, size))
        except (EOFError, OSError):  # the client was killed as it began
            connection.close()
            return None
        child = os.fork()
        if child == 0:
            self._leave()
            connection.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            return request
        for file in files:
            os.close(file)
        self._children[connection] = child
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _leave(self) -> None:
        """Forget, in a child, all that is the server's."""
        os.setpgid(0, 0)  # of its own: a signal is meant for the command with all that it started
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests in the background would not inherit
        self._selector.close()
        for mine in (self._listening, self._ended, self._wake, *self._children, *self._needed_by):
            mine.close()

    def _answer(self) -> None:
        by_child = {child: connection for connection, child in self._children.items()}
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child, status = ended
                connection = by_child[child]
                with suppress(OSError):
                    connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
                self._forget(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        try:
            signals = connection.recv(64)
        except OSError:
            signals = b""
        if not signals:  # the client was killed, and so would have been the command in its place
            self._selector.unregister(connection)
        for number in signals or [signal.SIGKILL]:
            with suppress(ProcessLookupError):
                os.killpg(self._children[connection], number)

    def _forget(self, connection: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()
        self._children.pop(connection, None)
        self._needed_by.discard(connection)
        if not self._needed_by:
            for child in self._children.values():
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            shutil.rmtree(self._address.parent, ignore_errors=True)
            os._exit(0)


def _received(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        parts.append(connection.recv(size))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def _run(request: dict[str, Any]) -> None:
    """Run what was asked for as the command line of an interpreter would."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    sys.executable = request["python"]  # by which DVC starts its workers and MLflow its servers
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if "path" in request:
        sys.path[0] = str(Path(request["path"]).parent)
        runpy.run_path(request["path"], run_name="__main__")
    elif "module" in request:
        sys.path[0] = request["cwd"]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = ""
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})


def _exit_status(request: dict[str, Any]) -> int:
    try:
        _run(request)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _main() -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as in stages/__init__.py
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in LIBRARIES:
            importlib.import_module(library)
    ours = [name for name in sys.modules if name.partition(".")[0] in ("mirip", "stages")]
    assert not ours, ours
    gc.collect()
    gc.freeze()  # or each collection in a child would touch, and so copy, all of this
    python = str(Path(sys.argv[1]).with_name("python"))
    server = _Server(sys.argv[1])
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    status = _exit_status({**server.serve(), "python": python})
    # As an interpreter ends, but for the taking apart of all these libraries.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    _main()
