"""Mirip runs on Linux, macOS and Windows: nothing that only one of them has is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from seeded_rows import write

from mirip.features.cache.rows import read_rows
from mirip.files import sync_folder, write_text

ONLY_UNIX = ("fcntl", "resource", "pwd", "grp", "termios")

IMPORT_ALL = f"""
import importlib, os, pkgutil, sys
for name in {ONLY_UNIX!r}:
    sys.modules[name] = None  # an import of it fails, as on Windows
if hasattr(os, "posix_fallocate"):
    del os.posix_fallocate
import mirip
for module in pkgutil.walk_packages(mirip.__path__, "mirip."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("all")
"""


@pytest.mark.slow
def test_every_module_is_imported_without_what_only_unix_has(project_root: Path) -> None:
    command = [sys.executable, "-c", IMPORT_ALL]
    result = subprocess.run(command, capture_output=True, text=True, cwd=project_root)
    assert result.stdout.splitlines()[-1:] == ["all"], result.stderr


def test_a_file_is_written_where_folders_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows gives no handle of a folder."""
    open_ = os.open

    def opened(path: str, flags: int, *options: int, **named: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", path)
        return open_(path, flags, *options, **named)

    monkeypatch.setattr(os, "open", opened)
    sync_folder(tmp_path)
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_rows_are_written_where_no_space_can_be_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_space = write(tmp_path / "reserved.h5", [1, 2, 3]).read_bytes()
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    assert write(tmp_path / "not.h5", [1, 2, 3]).read_bytes() == with_space
    assert len(read_rows(tmp_path / "not.h5").keys) == 3
