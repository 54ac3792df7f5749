"""The tests that the onnx package ships, run against hec's ONNX backend: passed, refused, failed.

Cases, data, and comparison (tolerances, shapes, types) are those of onnx.backend.test. Its real
networks are left out: they have no data of their own, or must be downloaded.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import ModelProto, SequenceProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from hec.compiler.errors import CompileError, Problem
from hec.compiler.onnx_backend import OnnxBackend
from hec.compiler.target import Target

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
_CHOICES: dict[str, Any] = {"maxpool": "approximate"}  # what a user must ask for, if there is it
CHOSEN = {f.name: _CHOICES[f.name] for f in dataclasses.fields(Target) if f.name in _CHOICES}
ROUNDED = {  # absolute tolerance where what is expected was rounded to more than ONNX allows
    "test_dft_inverse": 1e-6,
    "test_dft_inverse_opset19": 1e-6,
}
Outcome = Literal["passed", "refused", "failed"]
Operator = tuple[str, str]  # domain ("" for the standard set), name


@dataclass(frozen=True, eq=False)
class Case:
    """A model, and inputs with the outputs that ONNX says it has for them."""

    kind: str
    name: str
    model: ModelProto
    samples: Sequence[tuple[list[Any], list[Any]]]
    tolerances: tuple[float, float]  # relative, absolute


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why."""

    kind: str
    name: str
    operators: tuple[Operator, ...]  # of the model, in the order in which they occur
    outcome: Outcome
    problems: tuple[Problem, ...] = ()  # of a case that is refused
    failure: str = ""

    def named(self, problem: Problem) -> list[Operator]:
        """Return the operators of the model whose name occurs in the text of a problem."""
        return [operator for operator in self.operators if _occurs(operator[1], str(problem))]


def _occurs(word: str, text: str) -> bool:
    """Return whether a word occurs, also as the start of a name such as Add_y."""
    start = text.find(word)
    while start >= 0:
        around = text[max(start - 1, 0) : start] + text[start + len(word) :][:1]
        if not any(letter.isalnum() for letter in around):
            return True
        start = text.find(word, start + 1)
    return False


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases of the installed onnx package, in the order of their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, where the package computes what it expects
        found = [case for kind in KINDS for case in _load(kind)]
    return tuple(sorted(found, key=lambda case: (KINDS.index(case.kind), case.name)))


def _load(kind: str) -> Iterator[Case]:
    for case in load_model_tests(kind=kind):
        if case.model is None:
            assert case.model_dir is not None
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            samples = [_stored(model, data) for data in sorted(folder.glob("test_data_set_*"))]
        else:
            model = case.model
            samples = [([*map(_array, i)], [*map(_array, o)]) for i, o in case.data_sets or ()]
        yield Case(kind, case.name, model, samples, (case.rtol, case.atol))


def _stored(model: ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    return (
        _read(folder, "input", model.graph.input),
        _read(folder, "output", model.graph.output),
    )


def _read(folder: Path, name: str, infos: Sequence[ValueInfoProto]) -> list[Any]:
    count = len(list(folder.glob(f"{name}_*.pb")))
    files = [(folder / f"{name}_{number}.pb").read_bytes() for number in range(count)]
    return [_parsed(data, info) for data, info in zip(files, infos, strict=False)]


def _parsed(data: bytes, info: ValueInfoProto) -> Any:
    if info.type.HasField("sequence_type"):
        return numpy_helper.to_list(SequenceProto.FromString(data))
    return numpy_helper.to_array(TensorProto.FromString(data))


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


@cache
def verdicts() -> tuple[Verdict, ...]:
    """Run all cases."""
    return tuple(verdict(case) for case in cases())


def verdict(case: Case, target: Target | None = None, rounded: bool = True) -> Verdict:
    """Run one case, by default with every choice made that a user can make.

    `rounded` allows for the tolerances of `ROUNDED`.
    """
    operators = tuple(dict.fromkeys((_domain(n.domain), n.op_type) for n in case.model.graph.node))
    target = target or Target(**CHOSEN)
    try:
        prepared = OnnxBackend.prepare(case.model, "CPU", target)
        for given, expected in case.samples:
            relative, absolute = case.tolerances
            absolute = max(absolute, ROUNDED.get(case.name, 0.0) if rounded else 0.0)
            Runner.assert_similar_outputs(expected, prepared.run(given), relative, absolute)
    except CompileError as error:
        return Verdict(case.kind, case.name, operators, "refused", error.problems)
    except Exception as error:  # whatever it is, the case failed
        failure = f"{type(error).__name__}: {error}"
        return Verdict(case.kind, case.name, operators, "failed", failure=failure)
    return Verdict(case.kind, case.name, operators, "passed")


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def counts(of: Sequence[Verdict]) -> dict[Outcome, int]:
    """Return how many of the verdicts there are of each outcome."""
    outcomes: tuple[Outcome, ...] = ("passed", "refused", "failed")
    return {outcome: sum(v.outcome == outcome for v in of) for outcome in outcomes}
