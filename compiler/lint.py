"""`hec lint`: what keeps a network from being compiled, and what makes it dear; without compiling.

The network is imported as far as possible, the passes that every program begins with run on what
came out, and each rule of `lint_rules` looks at the result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError, Problem
from hec.compiler.findings import Finding, Severity, Subject, most_levels, with_sinks
from hec.compiler.lint_rules import RULES
from hec.compiler.onnx_import import Survey, survey_onnx
from hec.compiler.onnx_maxima import POOLS
from hec.compiler.target import Target
from hec.passes import SHARED_PASSES, run_tensor_passes
from hec.passes.extend_functions import extend_functions
from hec.passes.fuse_linear import fuse_linear

AnyArray = NDArray[np.generic]
Model = str | os.PathLike[str] | bytes | ModelProto
_WORST_FIRST: tuple[Severity, ...] = ("error", "costly", "note")
_MOST = 20_000  # operations that the passes see


@dataclass(frozen=True)
class Lint:
    """What there is to say about one network."""

    model: str
    levels: int | None  # of a leveled program, at least; None: a node stands in the way
    most_levels: int  # for which the largest modulus of a leveled program has room
    findings: tuple[Finding, ...]

    @property
    def compiles(self) -> bool:
        """Tell whether nothing keeps the network from being compiled."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def is_leveled(self) -> bool:
        """Tell whether counting levels leaves room for a leveled program."""
        return self.levels is not None and self.levels <= self.most_levels

    @property
    def is_cheap(self) -> bool:
        """Tell whether no finding is worse than a note."""
        return all(finding.severity == "note" for finding in self.findings)


def lint(
    model: Model,
    calibration: AnyArray | Mapping[str, AnyArray] | None = None,
    target: Target | None = None,
) -> tuple[Finding, ...]:
    """Return what keeps `model` from being compiled, and what makes it dear, worst first.

    `calibration` holds real inputs, as for `hec.compile`; without it ranges are not known. Raise
    `CompileError` where it does not fit the network.
    """
    return inspect(model, calibration, target).findings


def inspect(
    model: Model,
    calibration: AnyArray | Mapping[str, AnyArray] | None = None,
    target: Target | None = None,
) -> Lint:
    """Return the findings of `lint`, and the depth of the network."""
    target = target or Target()
    try:
        survey = survey_onnx(model, target)
    except CompileError as error:
        name = os.path.basename(model) if isinstance(model, str | os.PathLike) else "model"
        return Lint(name, None, most_levels(target), tuple(_errors(error.problems)))
    if len(survey.graph.operations) > _MOST:
        return _too_long(survey, target)
    rest = _averaged(survey, target) or survey
    seen = Calibration(None, target.input_range)
    if calibration is not None:
        seen = Calibration.from_samples(rest.graph, calibration, target, survey.model.name)
    outside: list[Finding] = []
    try:
        subject = _subject(survey, rest, seen, target)
    except CompileError as error:  # samples lie where a function has no value
        outside = _errors(error.problems)
        subject = _subject(survey, rest, Calibration(None, target.input_range), target)
    findings = outside + [finding for rule in RULES for finding in rule(subject)]
    findings.sort(key=lambda finding: _WORST_FIRST.index(finding.severity))
    levels = None if survey.failures else subject.levels
    return Lint(survey.model.name, levels, subject.most_levels, tuple(findings))


def _errors(problems: Sequence[Problem]) -> list[Finding]:
    return [Finding("cannot-compile", "error", x.message, x.place, x.help) for x in problems]


def _too_long(survey: Survey, target: Target) -> Lint:
    """Return what can be said without the passes, which would take minutes."""
    name, count = survey.model.name, len(survey.graph.operations)
    findings = _errors([problem for _, problem in survey.failures])
    message = f"{count:,} operations are too many for prices; the limit is {_MOST:,}"
    findings.append(Finding("too-long", "costly", message, name, "use a smaller network"))
    return Lint(name, None, most_levels(target), tuple(findings))


def _subject(survey: Survey, rest: Survey, seen: Calibration, target: Target) -> Subject:
    graph = with_sinks(rest.graph) if rest.failures else rest.graph
    known = seen.samples is not None
    shared = [each for each in SHARED_PASSES if known or each is not extend_functions]
    first = shared[: shared.index(fuse_linear)]
    with np.errstate(all="ignore"):  # products of hostile weights may overflow
        recognized = run_tensor_passes(graph, target, seen, first)
        fused = run_tensor_passes(recognized, target, seen, shared[len(first) :])
    return Subject(survey, rest, recognized, fused, seen, target)


def _averaged(survey: Survey, target: Target) -> Survey | None:
    """Return the survey with averages for MaxPool where nothing else fails, so that it is whole."""
    failed = {proto.op_type for proto, _ in survey.failures}
    if not failed or not failed <= POOLS:
        return None
    try:
        return survey_onnx(survey.model.proto, replace(target, maxpool="average"))
    except CompileError:  # the pool itself was malformed
        return None
