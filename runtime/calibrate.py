"""Measure what the steps of every backend cost on this machine: a cost table of its own."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Final

from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.cost_table import (
    REFERENCE,
    CostTable,
    Machine,
    OpenfheSteps,
    nearest_ring,
)
from hec.compiler.errors import CompileError
from hec.runtime import tenseal_steps
from hec.runtime.openfhe_threads import threads
from hec.runtime.step_timing import Stopwatch

_CPUINFO: Final = Path("/proc/cpuinfo")
_STEPS: Final = 41  # that `tell` is told of, with both backends
_LONGEST_NAME: Final = 100  # characters of a processor's name

Told = Callable[[str, int, int], None]  # what is measured, done, of how many


@dataclass(frozen=True)
class Calibration:
    """A machine's table, and how far it can be trusted."""

    table: CostTable
    spread: float  # typical distance of the quartiles of a step's repeats, over their median
    waited: float  # share of the time in which the machine did something else
    without: str  # why OpenFHE was not measured; "": it was


def calibrate(
    name: str = "this machine", tell: Told = lambda what, done, total: None
) -> Calibration:
    """Measure this machine: under two minutes where nothing else runs."""
    done = 0

    def count(what: str) -> None:
        nonlocal done
        tell(what, done, _STEPS)
        done += 1

    alone, parallel = Stopwatch(), Stopwatch(clock=perf_counter)
    seal = tuple(tenseal_steps.measure(ring, alone, count) for ring in tenseal_steps.CHAINS)
    openfhe, without, threads = _openfhe(parallel, count)
    table = CostTable(name, _machine(threads), seal, openfhe)
    spread = max(alone.spread, parallel.spread)
    return Calibration(table, spread, alone.waited, without)


def calibrate_ring(parameters: EncryptionParameters) -> CostTable:
    """Measure only the steps that programs of these parameters take: seconds.

    Raise `CompileError` if they are OpenFHE's, and it is not there.
    """
    ring, name = parameters.ring_degree, "this machine, now"
    if not parameters.digits:
        nearest = nearest_ring(tenseal_steps.CHAINS, ring)
        return CostTable(name, _machine(1), (tenseal_steps.measure(nearest, Stopwatch()),))
    from hec.runtime import openfhe_steps as steps

    watch = Stopwatch(clock=perf_counter)
    found = steps.measure(nearest_ring(steps.RINGS, ring), watch)
    if parameters.bootstrapping is not None:
        small = steps.measure(steps.RINGS[0], watch)
        found = replace(found, bootstrap=steps.measure_bootstrap(small, watch))
    return CostTable(name, _machine(threads()), REFERENCE.seal, (found,))


def _openfhe(
    watch: Stopwatch, tell: Callable[[str], None]
) -> tuple[tuple[OpenfheSteps, ...], str, int]:
    try:
        from hec.runtime import openfhe_steps as steps
    except CompileError as error:
        return (), error.problems[0].message, 1
    found = tuple(steps.measure(ring, watch, tell) for ring in steps.RINGS)
    factor = steps.measure_bootstrap(found[0], watch, tell)
    return tuple(replace(each, bootstrap=factor) for each in found), "", threads()


def _machine(count: int) -> Machine:
    packages = ((name, _version(name)) for name in ("tenseal", "openfhe"))
    return Machine(
        _processor(),
        os.cpu_count() or 1,
        count,
        datetime.date.today().isoformat(),
        tuple(f"{name} {number}" for name, number in packages if number),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())[:_LONGEST_NAME]
