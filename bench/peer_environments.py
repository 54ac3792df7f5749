"""Environments of the peers: each of its own, made with venv and pip when first asked for.

What is installed is printed, and kept beside the environment; a list that changed makes it anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

STAMP = "installed.txt"  # in the environment's folder, once all is installed
MESSAGE = 300  # characters of pip's last words


@dataclass(frozen=True)
class Environment:
    """What pip is asked for, call by call."""

    name: str
    installs: tuple[tuple[str, ...], ...]

    @property
    def wanted(self) -> str:
        """Return the list as it is kept."""
        return "\n".join(" ".join(packages) for packages in self.installs) + "\n"


ORION = Environment(
    "orion",
    (
        ("torch==2.13.0", "numpy", "scipy<=1.14.1", "PyYAML", "certifi", "h5py"),
        ("matplotlib", "tqdm"),
        ("--no-deps", "orion-fhe==1.0.2"),  # it asks for torchvision, which it hardly uses
    ),
)
TENSEAL = Environment("tenseal", (("tenseal", "numpy"),))


class NotInstalled(Exception):  # its name is its message's first word
    """A peer cannot be installed here; says why."""


def python_of(environment: Environment, folder: Path, base: str = sys.executable) -> Path:
    """Return the environment's interpreter; make the environment under `folder` if need be.

    Raise `NotInstalled` with the last line of what failed.
    """
    home = folder / environment.name
    python, stamp = home / "bin" / "python", home / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == environment.wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run([base, "-m", "venv", str(home)])
    for packages in environment.installs:
        print(f"{environment.name}: pip install {' '.join(packages)}", file=sys.stderr, flush=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *packages])
    frozen = _run([str(python), "-m", "pip", "freeze"])
    print(f"{environment.name} holds {', '.join(frozen.split())}", file=sys.stderr, flush=True)
    stamp.write_text(environment.wanted, encoding="utf-8")
    return python


def _run(command: list[str]) -> str:
    """Return what `command` prints; raise `NotInstalled` if it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise NotInstalled(str(problem)) from problem
    if run.returncode:
        words = [x for x in (run.stderr + run.stdout).splitlines() if x.strip()]
        raise NotInstalled((words or [f"exit status {run.returncode}"])[-1][:MESSAGE])
    return run.stdout
