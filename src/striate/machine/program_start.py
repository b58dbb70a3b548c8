"""The time at which this program started, before its first line ran: loading libraries takes seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil


def seconds_since_start() -> float:
    """Wall-clock seconds since the system started this process."""
    try:
        # To a hundredth of a second; psutil knows the start of the system, and thus this time, only to a second.
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - begun
    except (OSError, AttributeError, IndexError, ValueError):  # no Linux
        seconds = time.time() - psutil.Process().create_time()
    return max(0.0, seconds)
