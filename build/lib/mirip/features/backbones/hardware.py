"""What computes, in words."""

import platform
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """Describe a device, e.g. "NVIDIA H200" or "Intel(R) Xeon(R) Processor, 2 threads"."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
