"""Machine and versions, for bug reports and for repeating a run."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from striate.machine.processor import processor_name
from striate.runs.files import read_optional_json
from striate.version import VERSION

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "scikit-learn",
    "scipy",
    "mlxtend",
    "matplotlib",
    "cyclopts",
    "pydantic",
    "rich",
)


def describe_environment() -> dict[str, Any]:
    """Plain values: versions of striate, Python and its packages; processor, memory, GPUs, threads."""
    import torch

    return {
        "striate": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in _PACKAGES},
        "executable": sys.executable,
        "STRIATE_DATA": os.environ.get("STRIATE_DATA"),
    }


def read_environment(path: Path) -> dict[str, Any]:
    """env.json as one flat mapping, without missing values; empty where the file is damaged or missing."""
    values = read_optional_json(path)
    if not isinstance(values, dict):
        return {}
    packages = values.pop("packages", {})
    flat = values | (packages if isinstance(packages, dict) else {})
    return {key: value for key, value in flat.items() if value not in (None, [])}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
