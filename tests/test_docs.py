"""The documentation keeps its promises: links lead somewhere, commands and options exist."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hec.compiler import (
    agreement,
    check,
    encrypted_check,
    findings,
    lint,
)
from hec.compiler.cli import app

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
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


@cache
def options_of(command: str) -> frozenset[str]:
    """Return the options that the help of a command lists, or of all, for ""."""
    run = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert run.exit_code == 0, run.output
    return frozenset(OPTION.findall(run.stdout))


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_documented_command_has_its_options(page: str, line: str) -> None:
    words = line.partition("#")[0].split()
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    unknown = options - options_of(words[1])
    assert not unknown, f"{page}: {line}: {unknown} in no help text"


def all_options() -> frozenset[str]:
    listing = CliRunner().invoke(app, ["--help"]).stdout.partition("Commands:\n")[2]
    names = [line.split()[0] for line in listing.splitlines() if line.strip()]
    return frozenset().union(*(options_of(name) for name in names), {"--version", "--help"})


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "CHANGELOG.md"])
def test_every_option_in_the_text_exists(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    mentioned = {o for code in re.findall(r"`([^`\n]+)`", text) for o in OPTION.findall(code)}
    assert not mentioned - all_options()


def test_every_option_in_a_message_exists() -> None:
    """Help in error messages is documentation too."""
    known = all_options()
    for folder in ("compiler", "passes", "runtime"):
        for path in (ROOT / folder).glob("*.py"):
            mentioned = set(
                re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text(encoding="utf-8"))
            )
            assert not mentioned - known, name_of(path)


def test_the_options_of_compile_are_all_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert (
        not {o for o in options_of("compile") if o.startswith("--")}
        - set(OPTION.findall(guide))
        - {"--help", "--output"}
    )


JSON_RECORDS = (
    check.Check, check.OutputCheck, check.BootstrapCheck, check.ActivationCheck,
    encrypted_check.EncryptedCheck, agreement.Error, lint.Lint, findings.Finding, findings.Price,
)  # fmt: skip


@pytest.mark.parametrize("record", JSON_RECORDS, ids=lambda record: record.__name__)
def test_every_key_of_the_json_output_is_in_the_guide(record: type) -> None:
    machines = (
        (ROOT / "docs" / "guide.md").read_text(encoding="utf-8").partition("## For machines")[2]
    )
    documented = set(re.findall(r"`([a-z_]+)`", machines))
    assert not {field.name for field in dataclasses.fields(record)} - documented


def test_every_rule_of_lint_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    rules = set()
    for path in (ROOT / "compiler").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        rules |= set(re.findall(r'Finding\(\s*"([a-z-]+)"', text))
    assert len(rules) >= 13
    assert not rules - set(re.findall(r"^\| `([a-z-]+)` \|", guide, re.MULTILINE))
