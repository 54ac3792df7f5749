"""Whether this process may fork, on how many cores, and how what it forks starts and ends."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Final, NoReturn

_DESCRIPTORS: Final = Path("/proc/self/fd")
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # microseconds, or max; of a period
_STANDARD: Final = (0, 1, 2)
_PR_SET_PDEATHSIG: Final = 1
_FAILED: Final = 1
_ENDING: Final = {signal.SIGINT, signal.SIGTERM}


def available_cores() -> int:
    """Return how many cores this process may use, all of them, a container's quota included."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, ceil(int(quota) / int(period)))
    return max(1, cores)


def is_busy(workers: int) -> bool:
    """Tell whether others want so much of this machine that `workers` would wait for each other.

    By the load of the last minute, to which they have added up to one each themselves.
    """
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1) + workers / 2
    except OSError:  # the system does not tell
        return False


def why_not() -> str:
    """Return why this process should not fork; empty if it may.

    Linux only: elsewhere there is no memory file. A fork copies only the thread that asks for it,
    and what others hold stays locked in the copy, where nobody opens it: that goes for all that
    threads of Python may hold. Threads of libraries (numpy's, onnxruntime's) hold nothing that
    workers ask for, as libc and numpy see to their own locks.
    """
    if not sys.platform.startswith("linux") or not hasattr(os, "memfd_create"):
        return "this system is not Linux"
    if not _DESCRIPTORS.is_dir():
        return "/proc is not there"
    threads = len(sys._current_frames())
    return f"this process has {threads} threads of Python" if threads > 1 else ""


def fork(work: Callable[[], None], kept: Collection[int]) -> int:
    """Return the number of a new process that does `work` and ends, at the latest with this one.

    It has no descriptors but `kept`, and ignores Ctrl-C, which is for this process to handle.
    """
    parent = os.getpid()
    # A signal that reaches the copy before `_detach` would raise in it what is to raise here.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        process = _copy()
        if process:
            return process
        _work(work, kept, parent, unblocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _copy() -> int:
    """Return 0 in the copy, and its number here."""
    with warnings.catch_warnings():
        # Since 3.12 Python warns of threads of libraries, too; `why_not` has looked for others.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def reap(process: int) -> None:
    """End a process that `fork` started here, at once, and leave no zombie."""
    with suppress(ChildProcessError, ProcessLookupError):
        found, _ = os.waitpid(process, os.WNOHANG)
        if not found:  # it is there and this process's: its number is not another one's by now
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _work(
    work: Callable[[], None], kept: Collection[int], parent: int, unblocked: set[int]
) -> NoReturn:
    """Never return into what this is a copy of: no `finally` of it, no `atexit`."""
    status = _FAILED
    try:
        _detach(kept, parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        work()
        status = 0
    finally:
        os._exit(status)


def _detach(kept: Collection[int], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_FAILED)
    gc.freeze()  # what is inherited is not looked at again, and so not copied
    for name in os.listdir(_DESCRIPTORS):
        if int(name) not in kept and int(name) not in _STANDARD:
            with suppress(OSError):  # the one of this listing
                os.close(int(name))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in _STANDARD:
        os.dup2(null, standard)
