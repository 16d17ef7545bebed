"""The Ray engine: decoding in tasks and the backbone in actors, on this machine or on a cluster.

Ray is used by a process of its own, the job (ray_job.py): a driver of Ray is ended by Ray when its cluster dies, and
this process has to tell of that in one line. Where this process ends, however it does, the job sees its stdin end and
stops, and takes a Ray that was started for it along.
"""

import os
import pickle
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from mirip.data.image_source import ImageReader, ImageSource
from mirip.errors import EngineError, MiripError
from mirip.features.backbones.recipe import ResolvedRecipe
from mirip.features.extract.engine import Computed, Failed, ImageItem, Outcome
from mirip.wording import counted
from mirip.workspace import main_root

LENGTH = struct.Struct("<Q")  # of a message, which follows as a pickle
_START = (
    "import sys; sys.path[:] = sys.argv[1:]; from mirip.features.extract.ray_job import run_job; run_job()"  # as -c
)
_ADDRESS_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 180.0  # of Ray, on a machine that does other things too
_CONNECT_TIMEOUT_S = 60.0  # to a cluster, the code included
_STOP_TIMEOUT_S = 20.0
_TICK_S = 0.1
_AHEAD = 8  # messages that wait to be taken: where the store is slow, Ray waits


@dataclass(frozen=True)
class RaySettings:
    """What the job is told.

    Attributes:
        address: of a cluster, as in RAY_ADDRESS; None starts Ray on this machine.
        resolved: the recipe.
        device: auto, cpu or cuda.
        actors: how many hold the backbone; None is one a GPU, or as many as the CPUs allow.
        batch_size: images in a pass of the backbone.
        workers: threads that read, decode and transform, in each task that does so.
        max_image_pixels: a larger image is an error.
        main_root: of the main repository, whose DVC cache a link may lead to.
    """

    address: str | None
    resolved: ResolvedRecipe
    device: str
    actors: int | None
    batch_size: int
    workers: int
    max_image_pixels: int
    main_root: Path


@dataclass(frozen=True)
class Work:
    """What the job computes, once it has said that Ray is there.

    Attributes:
        images: what the items' paths are relative to, on every node.
        items: the images.
    """

    images: ImageReader
    items: list[ImageItem]


@dataclass(frozen=True)
class Connected:
    """What the job says once Ray is there: the device and the actors that will be."""

    device: str
    actors: int


@dataclass(frozen=True)
class Computing:
    """What the job says before the first outcome: the backbone is loaded, on this hardware."""

    hardware: str


class RayEngine:
    """The backbone in actors of Ray.

    RAY_ADDRESS names a cluster, as everywhere in Ray; without it, Ray is started on this machine and ends with the
    extraction.

    Args:
        resolved: the recipe.
        device: auto (CUDA where the cluster has a GPU), cpu or cuda.
        actors: how many hold the backbone; None is one a GPU, or one for each share of CPUs: as many as the local
            engine would use threads.
        images: what the items' paths are relative to; on a cluster, all nodes reach it.
        batch_size: images in a pass of the backbone.
        workers: threads that read, decode and transform, in each task that does so.
        max_image_pixels: a larger image is an error.
    """

    name = "ray"

    def __init__(
        self,
        resolved: ResolvedRecipe,
        device: str,
        *,
        actors: int | None,
        images: ImageSource,
        batch_size: int,
        workers: int,
        max_image_pixels: int,
    ) -> None:
        given = os.environ.get("RAY_ADDRESS", "").strip()
        address = None if given in ("", "local") else given
        self.opening = "starting Ray" if address is None else f"connecting to Ray at {address}"
        self._settings = RaySettings(
            address=address,
            resolved=resolved,
            device=device,
            actors=actors,
            batch_size=batch_size,
            workers=workers,
            max_image_pixels=max_image_pixels,
            main_root=main_root(),
        )
        self._images = images
        self.device = self.place = self.hardware = ""
        self.ready_at = 0.0

    def __enter__(self) -> "RayEngine":
        """Start the job.

        Raises:
            BackboneError: the cluster has no GPU, and the device is cuda.
            EngineError: Ray is not installed, cannot be started, or does not answer at RAY_ADDRESS.
        """
        if find_spec("ray") is None:
            raise EngineError("extract.engine is ray, and Ray is not installed", "run `uv pip install 'ray[data]'`")
        if self._settings.address is not None:
            check_address(self._settings.address)
        self._job = _Job(self._settings)
        try:
            starts = self._settings.address is None
            connected = self._job.next_message(_START_TIMEOUT_S if starts else _CONNECT_TIMEOUT_S)
            if connected is None and not starts:
                raise EngineError(
                    f"what answers at RAY_ADDRESS {self._settings.address} gave no answer of Ray for "
                    f"{_CONNECT_TIMEOUT_S:.0f} s",
                    "look at `ray status` there, or unset RAY_ADDRESS to use this machine alone",
                )
            if not isinstance(connected, Connected):
                raise self._job.death("did not start")
        except BaseException:
            self._job.stop()
            raise
        self.device, self._actors = connected.device, counted(connected.actors, "actor")
        where = "" if self._settings.address is None else f" at {self._settings.address}"
        self.place = f"{self.device}, engine {self.name}{where} with {self._actors}"
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the job, and a Ray that was started for it."""
        self._job.stop()

    def compute(self, items: Sequence[ImageItem]) -> Generator[Outcome, None, None]:
        """Yield what the job sends, and None while it sends nothing."""
        images, paths = self._images.shared([item.path for item in items])
        self._job.send(Work(images, [ImageItem(item.sha256, path) for item, path in zip(items, paths, strict=True)]))
        while True:
            message = self._job.next_message(_TICK_S)
            if isinstance(message, Computing):
                self.hardware = f"{message.hardware}, engine {self.name} with {self._actors}"
                self.ready_at = time.monotonic()
                yield None
            elif message is None or isinstance(message, Computed | Failed):
                yield message
            elif isinstance(message, EOFError):
                if self._settings.address is not None:
                    self._check_alive(self._settings.address)
                raise self._job.death("ended before all images were computed")
            else:
                return

    def _check_alive(self, address: str) -> None:
        try:
            check_address(address)
        except EngineError as error:
            raise EngineError(
                f"the Ray cluster at {address} died while features were computed",
                "start it and run the same command again, what was computed is kept",
            ) from error


def check_address(address: str) -> None:
    """Look whether anything answers where RAY_ADDRESS says that a cluster is: Ray itself would wait for long.

    Raises:
        EngineError: nothing does, or it is not an address of the form host:port.
    """
    if address == "auto":  # the cluster that runs on this machine; Ray finds it, or says at once that there is none
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise EngineError(
            f"RAY_ADDRESS is {address!r}, not host:port or auto",
            "run the extraction on a node of the cluster, with the address that `ray start --head` printed there",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ADDRESS_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EngineError(
            f"no Ray cluster answers at RAY_ADDRESS {address} ({reason})",
            "start its head (`ray start --head`), or unset RAY_ADDRESS to use this machine alone",
        ) from None


class _Job:
    """The process that uses Ray; messages of its own come through its stdout, what Ray prints goes into a file."""

    def __init__(self, settings: RaySettings) -> None:
        with tempfile.NamedTemporaryFile(prefix="mirip-ray-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the caller, which decides
            )
        self._keep_log = False
        self._messages: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(settings)

    def send(self, message: object) -> None:
        """Send something to the job."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which the next message says
            send(self._process.stdin, message)

    def next_message(self, timeout_s: float) -> Any:
        """Return the next message: an EOFError where the job has ended, None where nothing comes in time.

        Raises:
            MiripError: if that is the message.
        """
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(message, MiripError):
            raise message
        return message

    def death(self, what: str) -> EngineError:
        """Return the error of a job that ended, or hangs, without a word of its own."""
        self._keep_log = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TICK_S)
        code = self._process.poll()
        how = "no answer" if code is None else f"exit code {code}"
        advice = f"run the same command again, what was computed is kept; {self._log} has what Ray printed"
        return EngineError(f"Ray {what} ({how})", advice)

    def stop(self) -> None:
        """End the job; it has some seconds to put Ray in order."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self._reader.is_alive():
            if time.monotonic() > deadline:
                self._process.kill()
            with suppress(queue.Empty):  # it may wait to hand on a message
                self._messages.get(timeout=_TICK_S)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if not self._keep_log:
            self._log.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        while (message := receive(self._process.stdout)) is not None:
            self._messages.put(message)
        self._messages.put(EOFError())


def send(stream: IO[bytes], message: object) -> None:
    """Write a message."""
    data = pickle.dumps(message)
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Return the next message, None where the stream ends."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return pickle.loads(data) if len(data) == length else None
