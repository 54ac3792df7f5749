"""The wheel holds every module once, under hec/, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
IGNORED = {"__pycache__", ".pytest_cache"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources so that no `build/` is left in the checkout."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools 77 or later builds the wheel; this one is older")
    pytest.importorskip("build", reason="the package `build` is not installed")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("hec", "compiler", "passes", "runtime"):
        _copy(ROOT / folder, source / folder)
    run = subprocess.run(
        [*BUILD, "--outdir", str(out), str(source)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def _copy(source: Path, destination: Path) -> None:
    """Copy a folder, keeping symbolic links as they are in a checkout."""
    destination.mkdir()
    for path in source.iterdir():
        target = destination / path.name
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_dir() and path.name not in IGNORED:
            _copy(path, target)
        elif path.is_file():
            target.write_bytes(path.read_bytes())


def _expected() -> set[str]:
    modules = {
        f"hec/{path.relative_to(ROOT).as_posix()}"
        for folder in ("compiler", "passes", "runtime")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not IGNORED & set(path.parts)
    }
    data = {
        f"hec/{folder}/{path.name}"
        for folder in ("demo", "costs", "report")
        for path in (ROOT / "hec" / folder).iterdir()
    }
    return modules | data | {"hec/__init__.py", "hec/py.typed"}


def test_the_wheel_holds_exactly_the_modules_of_the_tree(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(_expected())


def test_the_wheel_carries_its_licences(wheel: zipfile.ZipFile) -> None:
    names = {Path(name).name for name in wheel.namelist() if ".dist-info/licenses/" in name}
    assert names == {"LICENSE", "NOTICE"}


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "hec = hec.compiler.cli:main" in wheel.read(entry_points).decode()
