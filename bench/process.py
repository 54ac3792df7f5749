"""What a process says about itself. Imports little: the server's memory is measured with it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
_STATUS = Path("/proc/self/status")


def timed(action: Callable[[], Result]) -> tuple[Result, float]:
    """Return what `action` returns, and its seconds by the wall clock."""
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def peak_bytes() -> float:
    """Return the most memory that this process has held: VmHWM, where there is one."""
    if _STATUS.exists():  # unlike getrusage's, it starts anew with the program
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
