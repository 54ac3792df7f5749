"""Where OpenFHE cannot be imported, the error says so and what would work."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hec.compiler.errors import CompileError
from hec.runtime import sides
from sample_plans import client_part, linear_program

WORKS = (
    '  help: pip install "hec[openfhe]", with CPython 3.10 and glibc 2.35 or later (Debian 12,'
    " Ubuntu 22.04), or CPython 3.12 and glibc 2.39 or later (Ubuntu 24.04)"
)
OLD = "libc.so.6: version `GLIBC_2.38' not found (required by openfhe.so)"


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every import of OpenFHE, and of what imports it, happen again."""
    for name in list(sys.modules):
        if name.split(".")[0] == "openfhe" or name.startswith("hec.runtime.openfhe"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.1")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))


def refusal() -> str:
    part = replace(client_part(linear_program()), backend="openfhe")
    with pytest.raises(CompileError) as caught:
        sides.secret(part)
    with pytest.raises(CompileError) as again:
        sides.evaluator(part, b"", "evaluation.key")
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openfhe", None)  # import it: ModuleNotFoundError
    assert refusal() == (
        "OpenFHE cannot be imported: import of openfhe halted; None in sys.modules\n"
        f"  --> CPython 3.12.1 with glibc 2.36\n{WORKS}"
    )


def test_a_package_that_does_not_fit_the_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openfhe.py").write_text(f'raise ImportError("{OLD}")\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert refusal() == (
        f"OpenFHE cannot be imported: {OLD}\n  --> CPython 3.12.1 with glibc 2.36\n{WORKS}"
    )


def test_a_system_without_glibc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openfhe", None)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert "\n  --> CPython 3.12.1 with no glibc\n" in refusal()
