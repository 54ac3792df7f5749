"""Files in memory that forked processes share: without a name, gone with the last process."""

from __future__ import annotations

import mmap
import os
from typing import Final

from hec.compiler.errors import InvalidProgram

_NAME: Final = "hec"  # in /proc/PID/maps; names nothing


class MemoryFile:
    """So many bytes, for those who map them and for those who want a path; Linux only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create(_NAME)
        os.ftruncate(self.descriptor, size)
        self._map = mmap.mmap(self.descriptor, size)

    @property
    def path(self) -> str:
        """Return a path by which this process, or one that it forked, opens the file."""
        return f"/proc/self/fd/{self.descriptor}"

    def room(self, start: int, size: int) -> memoryview:
        """Return some of its bytes, to be written to."""
        if start + size > self.size:
            raise InvalidProgram(f"{start + size} bytes in a memory file of {self.size}")
        return memoryview(self._map)[start : start + size]

    def close(self) -> None:
        """Give the memory back once no other process has it."""
        self._map.close()
        os.close(self.descriptor)
