"""What the benchmarks share: the machine, a step in a process of its own, its peak of memory, and tables."""

import json
import os
import platform
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.01
LIBRARIES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "pillow", "h5py")


def machine() -> dict[str, Any]:
    """Describe the machine: its processor, cores, memory in GiB, system and the versions of libraries."""
    import torch

    from mirip.features.backbones.backbone import hardware

    return {
        "hardware": hardware(torch.device("cpu")),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def run_apart(script: str, options: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a script with options in a process of its own, and return the JSON that it prints.

    Args:
        script: its file.
        options: on its command line.
        folder: what Mirip keeps for itself, `.mirip/`, stays there and out of the project.
    """
    command = [sys.executable, script, *options]
    environment = {**os.environ, "DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def resident_peak(*, children: bool = True) -> int:
    """Return the largest resident set so far in bytes: of this process, and of its largest child if asked for.

    On Linux the kernel is asked for what this program held: getrusage also counts what its parent held when it forked.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts in KiB, on macOS in bytes
    own = _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return own + (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit if children else 0)


@contextmanager
def anonymous_peak() -> Iterator[Callable[[], int]]:
    """Watch this process's anonymous memory; yield what returns its peak in bytes, 0 off Linux."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            peak[0] = max(peak[0], _status("RssAnon"))
            ended.wait(SAMPLE_SECONDS)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield lambda: peak[0]
    finally:
        ended.set()


def _status(name: str) -> int:
    """Return a line of this process's status on Linux, in bytes; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def print_table(lines: list[list[str]], *, markdown: bool, right: Sequence[int] = ()) -> None:
    """Print aligned columns, or a Markdown table, whose columns in `right` are flush right."""
    if markdown:
        rule = ["---:" if column in right else "---" for column in range(len(lines[0]))]
        for line in [lines[0], rule, *lines[1:]]:
            print(f"| {' | '.join(line)} |")
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
