"""Where a backbone's files are: a local folder, the local Hugging Face cache, or the hub."""

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mirip.errors import BackboneError
from mirip.files import canonical_json, sha256_bytes, sha256_file, write_json
from mirip.workspace import main_root, private_folder

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REQUEST_TIMEOUT_S = 5.0
# A firewall that drops packets costs one request timeout for each of the hub's addresses: this bounds the sum.
_ANSWER_TIMEOUT_S = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class BackboneFolder:
    """A backbone on this machine, in Hugging Face format.

    Attributes:
        path: holds config.json and the weights.
        revision: the hub commit it is a copy of; None for a local folder.
    """

    path: Path
    revision: str | None


def find_local_folder(backbone: str, root: Path | None = None) -> Path | None:
    """Return the folder that `backbone` names, or None where there is none on this machine.

    A relative path is looked up below `root` (default: the working directory), then in the main repository:
    the copy that `dvc exp run --temp` works in lacks what neither Git nor DVC tracks.
    """
    roots = [root or Path.cwd(), main_root()]
    found = (base / Path(backbone).expanduser() for base in roots)  # an absolute path takes the place of its base
    return next((folder for folder in found if (folder / CONFIG).is_file()), None)


def is_hub_id(backbone: str, root: Path | None = None) -> bool:
    """Tell whether `backbone` names a model of the Hugging Face hub and no folder of this machine."""
    return _HUB_ID.fullmatch(backbone) is not None and find_local_folder(backbone, root) is None


def locate_backbone(
    backbone: str, revision: str | None = None, *, root: Path | None = None, download: bool = True
) -> BackboneFolder:
    """Find a backbone's files, downloading them only if they are nowhere on this machine.

    Args:
        backbone: a folder (absolute, or relative to `root`) or a hub id.
        revision: of a hub id: commit, tag or branch.
        root: the project's root; None is the working directory.
        download: False looks on this machine only.

    Raises:
        BackboneError: it is nowhere to be found, after at most 30 s; or its files are incomplete.
    """
    if folder := find_local_folder(backbone, root):
        weight_files(folder)
        return BackboneFolder(folder, None)
    if not _HUB_ID.fullmatch(backbone) or any((base / backbone).is_dir() for base in (root or Path.cwd(), main_root())):
        raise BackboneError(
            f"the backbone folder {backbone} has no {CONFIG} (or does not exist)",
            "put a model in Hugging Face format there (the sample's: `dvc repro data/dvc.yaml:sample`), "
            "or set the recipe's backbone to a hub id such as facebook/dinov2-large",
        )
    path = _from_cache(backbone, revision)
    if path is None and not download:
        raise BackboneError(f"the backbone {backbone} is not on this machine", "an extraction downloads it")
    path = path or _from_hub(backbone, revision)
    return BackboneFolder(path, path.name)  # a snapshot's folder has the name of its commit


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files that belong to the model in `folder`, sorted by name.

    Raises:
        BackboneError: there is none in safetensors format, or one of several is missing.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        raise BackboneError(f"{folder} has no {_WEIGHTS}", "download the model again, or save it in safetensors format")
    names = sorted(set(read_json(folder / _INDEX).get("weight_map", {}).values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise BackboneError(f"{folder} lacks {', '.join(missing) or 'its weights'}", "download the model again")
    return [folder / name for name in names]


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of a backbone's weights; of several files, that of their sorted hashes.

    Raises:
        BackboneError: as `weight_files`.
    """
    hashes = sorted(_remembered_sha256(path) for path in weight_files(folder))
    return hashes[0] if len(hashes) == 1 else sha256_bytes("".join(hashes).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a backbone's JSON files.

    Raises:
        BackboneError: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read ({error})", "download the backbone again") from None
    if not isinstance(value, dict):
        raise BackboneError(f"{path} holds a {type(value).__name__}, not an object", "download the backbone again")
    return value


def _remembered_sha256(path: Path) -> str:
    """Hash a file once; remembered in .mirip/hashes.json for as long as it is the same file, unchanged."""
    path = path.resolve()
    state = path.stat()
    memory = private_folder().hashes
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry == _entry(path, state, str(entry.get("sha256"))):
        return str(entry["sha256"])
    digest = sha256_file(path)
    entry = _entry(path, state, digest)
    if entry == _entry(path, path.stat(), digest):  # else it changed while it was read
        with suppress(OSError, ValueError):  # where nothing can be written, it is hashed again
            write_json(memory, known | {str(path): entry})
    return digest


def _entry(path: Path, state: os.stat_result, digest: str) -> dict[str, int | str]:
    """Return what is remembered of a file, with a hash of all of it, which finds damage.

    tar and rsync give a file the time of change of the one it replaces, but neither its inode nor its ctime.
    """
    values: dict[str, int | str] = {
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
        "inode": state.st_ino,
        "sha256": digest,
    }
    return values | {"check": sha256_bytes(canonical_json([str(path), values]).encode())}


def _from_cache(backbone: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(backbone, revision=revision, local_files_only=True))
        weight_files(path)  # a snapshot is there as soon as one of its files is
    except (LocalEntryNotFoundError, BackboneError):
        return None
    return path if (path / CONFIG).is_file() else None


def _from_hub(backbone: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise _not_found(backbone, revision, "HF_HUB_OFFLINE is set")
    try:
        # The download retries for long where there is no network; this question is asked once.
        commit = _within(
            _ANSWER_TIMEOUT_S,
            lambda: HfApi().model_info(backbone, revision=revision, timeout=_REQUEST_TIMEOUT_S).sha,
        )
        patterns = [CONFIG, PREPROCESSOR, "*.safetensors", _INDEX]
        path = Path(snapshot_download(backbone, revision=commit, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises its own errors, those of two HTTP libraries, and OSError
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise _not_found(backbone, revision, reason) from None
    weight_files(path)
    return path


def _not_found(backbone: str, revision: str | None, reason: str) -> BackboneError:
    pinned = f" --revision {revision}" if revision else ""
    return BackboneError(
        f"the backbone {backbone} is neither a local folder nor in the local Hugging Face cache, and the hub gave no "
        f"answer ({reason})",
        f"either run `hf download {backbone}{pinned}` where there is a network (and copy the "
        "cache), or point recipes.<name>.backbone to a local folder in Hugging Face format",
    )


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise TimeoutError; a call that hangs is left to a daemon thread."""
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return results[0]
