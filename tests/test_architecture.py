"""The rules of the house as tests: who may import whom, how large a file and a function may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("compiler", "passes", "runtime")
IMPORTED_FROM = ("hec", "hec.compiler", "hec.passes", "hec.runtime")

# A module may import from its own line, as long as that makes no cycle, and from the lines above.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "target", "functions", "security", "atomic_file", "checked_json"}),
    frozenset({"record", "client_steps", "tensor_ir", "layout", "ckks_ir", "backend"}),
    frozenset({"everything that no other line names"}),  # evaluate, typing_rules, kernels, ...
    frozenset({"passes"}),
    frozenset(
        {
            "lower",
            "depth",
            "bootstrap_placement",
            "parameters",
            "plain_bootstraps",
            "refresh_parameters",
            "strategies",
            "strategy_errors",
            "fidelity",
            "plan",
            "plan_parts",
            "plan_rules",
            "plan_forecast",
            "pipeline",
        }
    ),
    frozenset(
        {
            "report",
            "instance_report",
            "layer_report",
            "server_report",
            "report_schema",
            "report_words",
            "report_cards",
            "report_charts",
            "report_activation_charts",
            "report_network",
            "report_html",
            "layers",
            "advice",
            "alternatives",
            "annotate",
            "compare",
            "explain",
            "explain_levels",
            "explain_matrix",
            "explain_series",
            "check",
            "encrypted_check",
            "clear_model",
            "agreement",
            "onnx_backend",
            "findings",
            "lint_ranges",
            "lint_rules",
            "lint",
        }
    ),
    frozenset(
        {
            "cli_errors",
            "cli_terminal",
            "cli_arrays",
            "cli_files",
            "cli_options",
            "cli_advice",
            "cli_compare",
            "cli_trace",
            "cli_report_tables",
        }
    ),
    frozenset(
        {
            "cli_calibrate",
            "cli_compile",
            "cli_explain",
            "cli_lint",
            "cli_report",
            "cli_check",
            "cli_roles",
            "cli_demo",
        }
    ),
    frozenset({"cli"}),
)
MIDDLE = 2
RUNTIME_MAY_IMPORT = frozenset(
    {
        "errors",
        "atomic_file",
        "checked_json",
        "record",
        "client_steps",
        "tensor_ir",
        "layout",
        "ckks_ir",
        "backend",
        "many_samples",
        "typing_rules",
        "bootstrap_keys",
        "kernels",
        "memory",
        "liveness",
        "noise",
        "pairing",
        "schedule",
        "key_manifest",
        "bootstrapping",
        "cost_table",
        "openfhe_costs",
        "rotation_routes",
        "fourier",
        "weighted_sums",
        "archive",
        "plan",
        "plan_parts",
        "worker_schedule",
        "worker_memory",
    }
)
# These may import the runtime, but only in a function or for types: compiling needs no backend.
MAY_IMPORT_RUNTIME_LATE = frozenset(
    {
        "pipeline",
        "check",
        "encrypted_check",
        "onnx_backend",
        "cli_roles",
        "cli_demo",
        "cli_trace",
        "cli_calibrate",
    }
)
EMPTY = ("compiler/__init__.py", "runtime/__init__.py")
BACKEND_LIBRARIES = frozenset({"tenseal", "openfhe"})
HEAVY = ("tenseal", "_sealapi_cpp", "openfhe", "onnxruntime", "torch", "sklearn", "skl2onnx")

FILE_LINES, FUNCTION_LINES = 400, 50
BANNED_WORDS = frozenset({"utils", "util", "helpers", "helper", "common", "manager"})
BANNED_PREFIXES = ("do_", "process_")


def source_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path relative to the checkout, as test name and in messages."""
    return path.relative_to(ROOT).as_posix()


def unit_of(module: str) -> str:
    """Return the unit of the rules: 'ckks_ir' for hec.compiler.ckks_ir, 'passes', 'runtime'."""
    parts = module.split(".")
    if parts[0] != "hec" or len(parts) == 1:
        return ""
    if parts[1] == "compiler":
        return parts[2] if len(parts) > 2 else ""
    return parts[1]


def imports(tree: ast.AST, late: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield every imported module, and whether the import waits: in a function, or for types."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        inside = late or for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.Import):
            yield from ((alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            module = node.module or ""
            yield module, late
            if module in IMPORTED_FROM:  # from hec.compiler import ckks_ir
                yield from ((f"{module}.{alias.name}", late) for alias in node.names)
        yield from imports(node, inside)


def unit_of_file(path: Path) -> str:
    return path.stem if path.parent.name == "compiler" else path.relative_to(ROOT).parts[0]


def forbidden(unit: str, imported: str, late: bool) -> bool:
    """Return whether `unit` may not import the unit `imported`."""
    if unit == "runtime":
        return imported != "runtime" and imported not in RUNTIME_MAY_IMPORT
    if imported == "runtime":
        return not (late and unit in MAY_IMPORT_RUNTIME_LATE)
    return layer(imported) > layer(unit)


def layer(unit: str) -> int:
    return next((height for height, units in enumerate(LAYERS) if unit in units), MIDDLE)


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    unit = unit_of_file(path)
    broken = [
        module
        for module, late in imports(parse(path))
        if path.name != "__init__.py" or unit == "passes"
        if (imported := unit_of(module)) and forbidden(unit, imported, late)
    ]
    assert not broken, f"{name_of(path)} may not import {broken}"


def test_imports_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in source_files():
        module = "hec." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        early = {name for name, late in imports(parse(path)) if not late}
        graph[module] = {name for name in early if name.startswith("hec.")} - {module}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", EMPTY)
def test_a_package_that_must_stay_empty_imports_nothing(name: str) -> None:
    assert not list(imports(parse(ROOT / name)))


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_only_the_runtime_touches_a_backend_library(path: Path) -> None:
    used = {module.split(".")[0] for module, _ in imports(parse(path))}
    assert unit_of_file(path) == "runtime" or not used & BACKEND_LIBRARIES


def test_importing_hec_loads_no_backend() -> None:
    program = f"import sys, hec; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_facade_has_what_it_names_and_nothing_else() -> None:
    assert all(hasattr(hec, name) for name in hec.__all__)
    assert not hasattr(hec, "decompile")
    with pytest.raises(AttributeError, match="module 'hec' has no attribute 'decompile'"):
        _ = hec.decompile


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_a_file_stays_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_a_function_stays_short(path: Path) -> None:
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, f"{name_of(path)}: {long}"


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_names_say_what_a_thing_is(path: Path) -> None:
    bad = [name for name in defined_names(path) if is_banned(name)]
    assert not bad, f"{name_of(path)}: {bad}"


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_a_library_module_does_not_print(path: Path) -> None:
    calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    prints = [
        call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert not prints, f"{name_of(path)}: print in lines {prints}"


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_a_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(parse(path)), f"{name_of(path)} has no docstring"


def test_every_public_function_and_class_says_what_it_does() -> None:
    silent = [
        f"{name_of(path)}: {node.name}"
        for path in source_files()
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node) and not is_overload(node)
    ]
    assert not silent


def is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Return whether it is one of several signatures, whose last definition says what it does."""
    return any(isinstance(x, ast.Name) and x.id == "overload" for x in node.decorator_list)


def test_the_layers_name_modules_that_exist() -> None:
    named = frozenset().union(*LAYERS) - LAYERS[MIDDLE] - {"passes"} | RUNTIME_MAY_IMPORT
    modules = {path.stem for path in (ROOT / "compiler").glob("*.py")}
    assert not named - modules


def test_a_pass_is_named_as_its_file() -> None:
    """Files that passes/__init__.py lists are passes; the others serve passes."""
    order = {module.split(".")[-1] for module, _ in imports(parse(ROOT / "passes/__init__.py"))}
    for path in (ROOT / "passes").glob("*.py"):
        functions = {node.name for node in parse(path).body if isinstance(node, ast.FunctionDef)}
        assert path.stem not in order or path.stem in functions, name_of(path)


def test_every_file_of_passes_is_used() -> None:
    used = {module for path in source_files() for module, _ in imports(parse(path))}
    files = {f"hec.passes.{path.stem}" for path in (ROOT / "passes").glob("[!_]*.py")}
    assert not files - used


def defined_names(path: Path) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in ast.walk(parse(path)) if isinstance(node, kinds)]
    return [*names, path.stem]


def is_banned(name: str) -> bool:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    return bool(BANNED_WORDS & set(snake.split("_"))) or snake.startswith(BANNED_PREFIXES)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
