"""Files written whole or not at all, and the hashes that name their content."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirip.errors import DataError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block succeeds.

    The file is fsynced before it is moved into place and the folder after, so that after a crash
    the final name holds either the old bytes or all of the new ones. If the block raises, the
    temporary file is removed and the old file stays.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as stream:  # Windows syncs only a file that may be written
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a write that fails does not say where
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk: only then does a file that was moved have its new name for sure.

    Windows opens no folder, and writes names to its journal without being asked: there is nothing to do.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # what Windows raises for every folder
        return
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON; a float that is not finite becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Return a YAML file as DVC reads it (see `parse_yaml`); nothing where there is none.

    Raises:
        DataError: it is not valid YAML.
    """
    values = parse_yaml(Path(path).read_bytes(), Path(path).name) if Path(path).is_file() else {}
    return values if isinstance(values, dict) else {}


def parse_yaml(text: str | bytes, name: str = "the text") -> Any:
    """Return what YAML says by its version 1.2, as DVC reads it: 1e-06 is a number.

    Raises:
        DataError: it is not valid YAML; `name` says what.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise DataError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def looked_up(values: Any, name: str) -> Any:
    """Return the value at a dotted name in nested mappings; None where there is none."""
    for key in name.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined with dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_url(location: str) -> bool:
    """Tell a URL such as s3://bucket/prefix from a path."""
    return "://" in location


def sha256_bytes(data: bytes) -> str:
    """Return the sha256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the sha256 of a file's bytes as 64 lower-case hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def md5_file(path: Path | str) -> str:
    """Return the md5 of a file's bytes as 32 lower-case hexadecimal digits: DVC's name for them."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no white space: equal values give equal text, fit for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
