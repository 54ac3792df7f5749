"""The documentation keeps its promises: links lead somewhere, commands and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return the Markdown pages of the project."""
    folders = ("docs", "bench", "examples", "tests", "hec/demo")
    below = (path for folder in folders for path in (ROOT / folder).rglob("*.md"))
    return sorted([*ROOT.glob("*.md"), *below])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [t.partition("#")[0] for t in LINK.findall(text) if "://" not in t]
    broken = [t for t in targets if t and not (page.parent / t).exists()]
    assert not broken, f"{name_of(page)}: {broken}"


def commands() -> list[tuple[str, str]]:
    """Return (page, command line) of every `hec` call in the shell blocks and scripts."""
    found = []
    for page in pages():
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            found += [(name_of(page), line) for line in _calls(block)]
    for script in (ROOT / "examples").glob("*.sh"):
        found += [(name_of(script), line) for line in _calls(script.read_text(encoding="utf-8"))]
    return found


def _calls(block: str) -> list[str]:
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if re.match(r"\s*(\$ )?hec ", line)]


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_documented_command_has_its_options(page: str, line: str) -> None:
    cli = pytest.importorskip("hec.compiler.cli", reason="the command line is not there")
    words = line.partition("#")[0].split()
    run = CliRunner().invoke(cli.app, [words[1], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert run.exit_code == 0, f"{page}: {line}: {run.output}"
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", run.output))
    assert options <= known, f"{page}: {line}: {options - known} in no help text"
