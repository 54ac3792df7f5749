"""The notebook of the examples runs from top to bottom, and shows the report."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "report.ipynb"


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    pytest.importorskip("sklearn", reason="the notebook trains a network of scikit-learn")
    pytest.importorskip("skl2onnx", reason="the notebook exports a network of scikit-learn")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()


def outputs(executed: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [out for cell in executed.cells if cell.cell_type == "code" for out in cell.outputs]


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []


def test_it_runs_without_errors_or_warnings(executed: nbformat.NotebookNode) -> None:
    assert [out for out in outputs(executed) if out.output_type == "error"] == []
    assert [out.text for out in outputs(executed) if out.get("name") == "stderr"] == []


def test_it_shows_the_report_in_a_frame(executed: nbformat.NotebookNode) -> None:
    shown = [out.data for out in outputs(executed) if "text/html" in out.get("data", {})]
    (report,) = [data for data in shown if "depth and noise budget" in data["text/html"]]
    assert report["text/html"].startswith('<iframe sandbox="" title="')
    assert re.fullmatch(r"<Report of .*, plan [0-9a-f]{12}, .*>", report["text/plain"])


def test_it_compares_two_ways(executed: nbformat.NotebookNode) -> None:
    told = "".join(out.text for out in outputs(executed) if out.get("name") == "stdout")
    assert re.search(r"chosen by hec +\d+ levels, [\d.]+ s, \d+\.\d% of the samples", told)
    assert re.search(r"degree 7 +\d+ levels", told)
