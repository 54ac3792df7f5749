"""Which cost table a report uses: the reference machine's, this machine's, or a file's.

`hec calibrate-host` keeps this machine's in the folder for settings (XDG base directories).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hec.compiler import cost_table
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.errors import fail

CALIBRATE: Final = "measure this machine: hec calibrate-host"
LIBRARIES: Final = {"tenseal": "SEAL", "openfhe": "OpenFHE"}


def host_file() -> Path:
    """Return where this machine's table is kept, whether or not there is one."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says that a relative path is to be ignored.
    base = Path(folder) if os.path.isabs(folder) else Path(os.path.expanduser("~"), ".config")
    return base / "hec" / "costs.json"


def stored_table(file: Path) -> CostTable:
    """Return the table that a machine's measurement left in `file`; raise where there is none."""
    if not file.exists():
        raise fail("This machine was not measured yet", str(file), CALIBRATE)
    return cost_table.load(file)


def chosen_table(choice: str | None, backend: str) -> CostTable:
    """Return the table of `choice`: reference, host, or a file; None: this machine's if it has one.

    Raise `CompileError` if a table cannot be read, or one asked for lacks `backend`.
    """
    if choice == "reference":
        return REFERENCE
    file = host_file() if choice in (None, "host") else Path(choice or "")
    if choice is None and not file.exists():
        return REFERENCE
    table = stored_table(file) if choice == "host" else cost_table.load(file)
    if table.covers(backend):
        return table
    if choice is None:
        return REFERENCE
    library = LIBRARIES.get(backend, backend)
    raise fail(f"The cost table has no steps of {library}", str(file), cost_table.HELP)
