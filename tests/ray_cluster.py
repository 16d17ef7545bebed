"""A cluster of Ray in miniature: a head and workers as processes of this machine, each with a folder of its own."""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil

_READY_S = 120


class RayCluster:
    """A head that computes nothing, and workers of one CPU each, which claim to have a GPU too; use it as a context.

    Nothing of the project can be imported in a worker's folder, and nothing there has a relative path in common with
    the tests. The address is one of loopback, and a token keeps others out.

    Args:
        n_workers: how many workers.
        lost_after_s: how long a driver looks for a head that died.
        variables: of the environment, for all nodes.
    """

    def __init__(self, n_workers: int = 2, *, lost_after_s: int = 5, variables: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mirip-"))  # a socket's path must be short
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.variables = (variables or {}) | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(lost_after_s),
            "RAY_TMPDIR": str(self.folder),
            "RAY_raylet_start_wait_time_s": str(_READY_S),  # on a machine that does other things too
        }
        self._n_workers = n_workers
        self._nodes: dict[str, psutil.Popen] = {}

    def __enter__(self) -> "RayCluster":
        try:
            port = self.address.split(":")[1]
            self._start("head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
            self._wait_for("head")
            for number in range(self._n_workers):  # one after the other: two that start at once can miss the head
                self._start(f"worker{number}", f"--address={self.address}", "--num-cpus=1", "--num-gpus=1")
                self._wait_for(f"worker{number}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes():
            process.kill()
        for node in self._nodes.values():
            node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """All processes of the cluster that still run, those that compute included."""
        return [process for node in self._nodes.values() for process in descendants(node)]

    def kill_head(self) -> None:
        """End the head at once, as a power failure would."""
        for process in descendants(self._nodes["head"]):
            process.kill()

    def _start(self, name: str, *options: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DVC_ROOT")}
        program = str(Path(sys.executable).with_name("ray"))
        quiet = ["--disable-usage-stats", f"--object-store-memory={100 << 20}"]
        ports = ["--min-worker-port=0", "--max-worker-port=0"]  # any that are free: all nodes share this machine's
        with (folder / "said").open("w") as said:
            self._nodes[name] = psutil.Popen(
                [program, "start", "--block", *quiet, *ports, *options],
                cwd=folder, stdout=said, stderr=said, env=kept | self.variables,
            )  # fmt: skip

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + _READY_S
        while "Ray runtime started" not in (said := (self.folder / name / "said").read_text()):
            assert self._nodes[name].poll() is None, f"{name} ended with {self._nodes[name].poll()}: {said}"
            assert time.monotonic() < deadline, said
            time.sleep(0.05)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started, directly or not, that still run."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def actors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of them that hold the backbone."""
    found = []
    for process in processes:
        try:
            if "_Embedding" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(processes: list[psutil.Process], seconds: float = 30) -> None:
    """Wait until all processes have ended; a zombie has."""
    deadline = time.monotonic() + seconds
    while still := [process for process in processes if is_running(process)]:
        assert time.monotonic() < deadline, [" ".join(process.cmdline())[:100] for process in still]
        time.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def interrupt(process: psutil.Popen) -> None:
    """Press Ctrl-C in the terminal of a process that leads a group: all of the group get it."""
    os.killpg(process.pid, signal.SIGINT)
