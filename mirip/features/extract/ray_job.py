"""The job of the Ray engine: the only module that imports Ray, in a process of its own.

Images go through two steps of Ray Data: tasks read, decode and fit them (`_Decoding`), actors hold the backbone
(`_Embedding`). Ray lets no step run far ahead of the next. Pixels travel as bytes with their shape, since images of one
block may have several shapes. Ray may run a step twice; whoever takes the rows knows each image by its hash.
"""

import logging
import os
import pickle
import queue
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from mirip.data.image_source import ImageReader
from mirip.errors import BackboneError, DataError, EngineError, MiripError
from mirip.features.backbones.weights import CONFIG, PREPROCESSOR
from mirip.features.cache.feature_cache import LIBRARIES
from mirip.features.extract.engine import Failed, ImageItem, Outcome
from mirip.features.extract.ray import Computing, Connected, RaySettings, Work, receive, send
from mirip.files import sha256_file

_MOST_BLOCKS = 10_000  # of paths: each is an object that Ray keeps track of
_BLOCK_BYTES = 256 << 20  # a block of fitted images is not cut below this
_STORE_BYTES = 2 << 30  # shared memory of a Ray that is started for the extraction
_MOST_DEATHS = 10  # of actors one after the other, while they load the backbone: after that, it is no accident
_MOST_SILENCE_S = 3600.0  # Ray runs a step that crashes again and again, until nothing has come for so long
_SHUTDOWN_S = 15.0  # for Ray to end in order: killed midway, it leaves processes for up to a minute
_CALLS = 5000  # of a process that decodes, before another takes its place
_DECODING_CPUS = 0.5  # beside actors that compute on CPUs, so that decoding finds room wherever an actor does


@dataclass(frozen=True)
class Layout:
    """How the work is laid out over a cluster.

    Attributes:
        device: cpu or cuda.
        actors: how many hold the backbone.
        actor_cpus, actor_gpus: what Ray sets aside for each of them.
        decoding_cpus: what it sets aside for a task that decodes.
    """

    device: str
    actors: int
    actor_cpus: float
    actor_gpus: float
    decoding_cpus: float


def layout(cpus: float, gpus: float, *, device: str, actors: int | None, threads: int) -> Layout:
    """Lay the work out over what a cluster has: an actor a GPU, or one for every `threads` CPUs.

    More actors than that share what there is.

    Raises:
        BackboneError: the device is cuda and there is no GPU.
        EngineError: there is no CPU.
    """
    if device == "cuda" and not gpus:
        raise BackboneError("device is 'cuda' and the Ray cluster has no GPU", "wait for its nodes (`ray status`)")
    if not cpus:
        raise EngineError("the Ray cluster has no CPU to decode on", "wait for its nodes (`ray status`)")
    if gpus and device != "cpu":
        n = actors or max(int(gpus), 1)
        return Layout("cuda", n, 0.0, min(1.0, gpus / n), min(1.0, cpus))
    n = actors or max(int(cpus) // threads, 1)
    return Layout("cpu", n, max(min(threads, cpus / n) - _DECODING_CPUS, 0.0), 0.0, _DECODING_CPUS)


@dataclass(frozen=True)
class _Plan:
    """What each task and actor knows.

    Attributes:
        settings: what the job was told.
        images: what reads the images, on every node.
        device: cpu or cuda.
        threads: of torch in an actor, as many as the local engine would use: their number may change a rounding.
        libraries: versions that this machine has; other ones may give other bytes.
        backbone: files of the backbone as objects of Ray, by name, with their sha256; empty where all share a disk.
    """

    settings: RaySettings
    images: ImageReader
    device: str
    threads: int
    libraries: dict[str, str]
    backbone: dict[str, tuple[str, Any]] = field(default_factory=dict)


def run_job() -> None:
    """Compute what stdin says, and say on stdout what comes of it: the process's whole life."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not break in between
    settings: RaySettings = receive(sys.stdin.buffer)
    work: queue.Queue[Work | None] = queue.Queue()
    threading.Thread(target=_watch_stdin, args=(work, settings), daemon=True).start()
    try:
        _run(settings, work, answers)
        send(answers, "done")
    except MiripError as error:
        send(answers, error)
    except BrokenPipeError:
        pass
    finally:
        import ray

        ray.shutdown()


def _run(settings: RaySettings, given: "queue.Queue[Work | None]", answers: IO[bytes]) -> None:
    beside = threading.Thread(target=import_module, args=("torch",), daemon=True)
    beside.start()  # while Ray starts
    ray = _connected(settings)
    beside.join()
    import torch

    threads = torch.get_num_threads()
    found = ray.cluster_resources()
    laid_out = layout(
        found.get("CPU", 0), found.get("GPU", 0), device=settings.device, actors=settings.actors, threads=threads
    )
    send(answers, Connected(laid_out.device, laid_out.actors))
    if (work := given.get()) is None:
        return
    plan = _Plan(settings, work.images, laid_out.device, threads, _libraries())
    if settings.address is not None:
        plan = replace(plan, backbone=_shipped(settings.resolved.folder))
    told = False
    for message in _outcomes(work.items, plan, laid_out):
        if isinstance(message, MiripError):
            raise message
        if isinstance(message, Computing):
            if not told:
                send(answers, message)
            told = True
        else:
            send(answers, message)


def _watch_stdin(work: "queue.Queue[Work | None]", settings: RaySettings) -> None:
    """Hand on what is to be computed, and end this process when whoever started it ends, or wants no more."""
    while (message := receive(sys.stdin.buffer)) is not None:
        work.put(message)
    work.put(None)
    import ray

    if settings.address is None and not ray.is_initialized():
        return  # a Ray that is just starting here is stopped by whoever starts it, when it finds no work
    threading.Timer(_SHUTDOWN_S, os._exit, (1,)).start()
    ray.shutdown()
    os._exit(1)


def _connected(settings: RaySettings) -> Any:
    """Connect to the cluster, or start Ray on this machine; return the module."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if settings.address is None:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
            ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
        else:
            import mirip

            # The code travels, so that all nodes run this machine's.
            code = {"py_modules": [str(Path(mirip.__file__).parent)], "excludes": ["__pycache__"]}
            ray.init(address=settings.address, runtime_env=code, **quiet)
    except Exception as error:
        if settings.address is None:
            raise EngineError(f"Ray cannot be started: {_reason(error)}") from None
        raise EngineError(
            f"the Ray cluster at {settings.address} cannot be used: {_reason(error)}",
            "run the extraction on a node of the cluster, with the RAY_AUTH_MODE and the token that its head has; "
            "or unset RAY_ADDRESS to use this machine alone",
        ) from None
    return ray


def _outcomes(items: list[ImageItem], plan: _Plan, laid_out: Layout) -> Iterator[Any]:
    """Yield what the actors send."""
    import ray.data

    settings = plan.settings
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    context.max_consecutive_actor_init_deaths = _MOST_DEATHS
    context.execution_no_progress_timeout_s = _MOST_SILENCE_S
    rows = settings.batch_size * (8 if settings.resolved.fit == "native" else 2)  # of many shapes, more fill a batch
    paths = max(rows, -(-len(items) // _MOST_BLOCKS))
    blocks = [
        pa.table({name: [getattr(item, name) for item in items[start : start + paths]] for name in ImageItem._fields})
        for start in range(0, len(items), paths)
    ]
    decoded = ray.data.from_arrow(blocks).map_batches(
        _Decoding(plan),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=laid_out.decoding_cpus,
        max_calls=_CALLS,  # also keeps Ray from making one step of both, which would decode in the actors
    )
    embedded = decoded.map_batches(
        _Embedding,
        fn_constructor_kwargs={"plan": plan},
        batch_size=rows,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=laid_out.actors),
        num_cpus=laid_out.actor_cpus,
        num_gpus=laid_out.actor_gpus,
    )
    try:
        for table in embedded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for pickled in table["outcome"].to_pylist():
                yield pickle.loads(pickled)
    except (MiripError, BrokenPipeError, GeneratorExit):
        raise
    except Exception as error:
        raise EngineError(
            f"Ray ended before all images were computed: {_reason(error)}",
            "run the same command again, what was computed is kept",
        ) from None


class _Decoding:
    """Turn a block of paths into one of fitted images; a task, so it is called once in a block."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan

    def __call__(self, paths: pa.Table) -> pa.Table:
        """Return the columns sha256, path, pixels, height, width, and error: a pickle, if the image has no pixels."""
        from mirip.features.backbones.backbone import DINOv2FeatureExtractor
        from mirip.features.extract.local import prepared_images

        settings = self._plan.settings
        os.environ["DVC_ROOT"] = str(settings.main_root)
        items = [ImageItem(*row) for row in zip(*(paths[name].to_pylist() for name in ImageItem._fields), strict=True)]
        found: list[tuple[ImageItem, Any, tuple[int, int], bytes]] = []
        try:
            _check_node(self._plan)
            transform = DINOv2FeatureExtractor.from_resolved(settings.resolved, "cpu").transform
            for image in prepared_images(
                items, transform, self._plan.images, settings.max_image_pixels, settings.workers, len(items)
            ):
                if image is None:  # it is waited for
                    continue
                if isinstance(image, Failed):
                    found.append((image.item, b"", (0, 0), pickle.dumps(image.error)))
                else:
                    height, width, _ = image.pixels.shape
                    found.append((image.item, np.ascontiguousarray(image.pixels).data, (height, width), b""))
        except MiripError as error:  # of no image: the extraction cannot go on
            found = [(items[0], b"", (0, 0), pickle.dumps(error))]
        pixels = pa.array([pa.py_buffer(data).to_pybytes() for _, data, _, _ in found], pa.large_binary())
        return pa.table(
            {
                "sha256": [item.sha256 for item, *_ in found],
                "path": [item.path for item, *_ in found],
                "pixels": pixels,
                "height": [shape[0] for _, _, shape, _ in found],
                "width": [shape[1] for _, _, shape, _ in found],
                "error": pa.array([error for *_, error in found], pa.binary()),
            }
        )


class _Embedding:
    """The backbone in an actor: a block of fitted images in, pickled outcomes out."""

    def __init__(self, plan: _Plan) -> None:
        self._batch_size = plan.settings.batch_size
        self._error: MiripError | None = None
        try:
            _check_node(plan)
            self._load(plan)
        except MiripError as error:  # an actor that dies of it would only be started again
            self._error = error

    def _load(self, plan: _Plan) -> None:
        import torch

        from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware

        torch.set_num_threads(plan.threads)
        resolved = replace(plan.settings.resolved, folder=_backbone_folder(plan))
        self._extractor = DINOv2FeatureExtractor.from_resolved(resolved, plan.device)
        self._extractor.load()
        self._ready = Computing(hardware(self._extractor.device))

    def __call__(self, images: pa.Table) -> pa.Table:
        """Embed a block, batch by batch of one shape."""
        from mirip.features.extract.local import computed

        if self._error is not None:
            return _as_table([self._error])
        outcomes: list[Outcome | Computing | MiripError] = [self._ready]
        try:
            outcomes += computed(_images(images), self._extractor, self._batch_size)
        except MiripError as error:
            outcomes = [error]
        return _as_table(outcomes)


def _images(table: pa.Table) -> Iterator[Any]:
    from mirip.features.extract.local import Prepared

    columns = [table[name].to_pylist() for name in ("sha256", "path", "height", "width", "error")]
    pixels = (value for chunk in table["pixels"].chunks for value in chunk)
    for sha256, path, height, width, error, value in zip(*columns, pixels, strict=True):
        item = ImageItem(sha256, path)
        if not error:
            yield Prepared(item, np.frombuffer(value.as_buffer(), np.uint8).reshape(height, width, 3))
            continue
        cause = pickle.loads(error)
        if not isinstance(cause, DataError):
            raise cause
        yield Failed(item, cause)


def _as_table(outcomes: list[Any]) -> pa.Table:
    return pa.table({"outcome": pa.array([pickle.dumps(outcome) for outcome in outcomes], pa.large_binary())})


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


@cache
def _libraries_here() -> dict[str, str]:
    return _libraries()


def _check_node(plan: _Plan) -> None:
    """Raise EngineError where this node lacks what the images need, or has it in other versions."""
    for name, wanted in plan.libraries.items():
        if (here := _libraries_here()[name]) != wanted:
            raise EngineError(
                f"the Ray node {_node()} has {name} {here}, the machine that extracts {wanted}",
                "install the same requirements.txt on all nodes: other versions can give other bytes",
            )
    if problem := plan.images.unavailable():
        raise EngineError(
            f"on the Ray node {_node()}, {problem}",
            "set data.images to a folder that all nodes share or to an object store, or run Ray on one machine",
        )


def _node() -> str:
    import ray.util

    return str(ray.util.get_node_ip_address())


def _shipped(folder: Path) -> dict[str, tuple[str, Any]]:
    """Put the files of a backbone into Ray's object store: the nodes need neither the folder nor the hub."""
    import ray

    names = (CONFIG, PREPROCESSOR)
    paths = [path for path in sorted(folder.iterdir()) if path.name in names or ".safetensors" in path.name]
    return {path.name: (sha256_file(path), ray.put(path.read_bytes())) for path in paths}


def _backbone_folder(plan: _Plan) -> Path:
    """Return the folder of the backbone on this node; what travelled is written to a temporary folder, once a node."""
    import ray

    resolved = plan.settings.resolved
    if not plan.backbone:
        return resolved.folder
    folder = Path(tempfile.gettempdir()) / f"mirip-backbone-{os.getuid()}-{resolved.fingerprint}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, (sha256, held) in plan.backbone.items():
        path = folder / name
        if not (path.is_file() and sha256_file(path) == sha256):
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(ray.get(held))
            Path(file.name).replace(path)
        if sha256_file(path) != sha256:
            raise BackboneError(f"{path} on the Ray node {_node()} is not the file that was sent", "check its disk")
    return folder


def _reason(error: BaseException) -> str:
    """Return the first cause of an error of Ray in one line."""
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    line = next((line.strip(" .:") for line in str(error).splitlines() if line.strip()), "")
    return line.split(". ")[0] or type(error).__name__
