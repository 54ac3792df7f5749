"""Ways to run a network under encryption: leveled, or refreshed; the cheapest is taken.

A leveled program spends the levels of a fresh ciphertext and ends. A refreshing one evaluates every
activation in a functional bootstrap, which gives the levels back. Which is cheaper is not a
matter of taste: both are made, with all that they cost, and compared; unless counting levels
already tells that one cannot win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.ckks_ir import LinearTransform
from hec.compiler.depth import deepest_path, levels
from hec.compiler.errors import CompileError, Problem, fail
from hec.compiler.forecast import bootstrap_count
from hec.compiler.instances import Instances
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.memory import server_memory
from hec.compiler.parameters import SMALLEST_PRIME_BITS, Choice, choose_parameters
from hec.compiler.refresh_parameters import Chains, choose_refreshing
from hec.compiler.security import MAX_MODULUS_BITS
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Multiply, Polynomial, TensorGraph
from hec.passes import REFRESHING_PASSES, SHARED_PASSES, TENSOR_PASSES, run_tensor_passes
from hec.passes.choose_layouts import choose_layouts

_ASSUMED_MAGNITUDE = 0.5  # root mean square of a tensor in [-1, 1], where nothing was observed
FEW = 4  # activations: up to these, degree 3 may meet an error target; more take degree 7
FASTEST_BOOTSTRAP = 2.0  # seconds; none is faster, however few slots it has (005)


@dataclass(frozen=True)
class Libraries:
    """What the runtime knows of its libraries, so that compiling imports none of them."""

    seal: Instances
    openfhe: Instances
    chains: Chains  # OpenFHE's, for bootstraps
    openfhe_error: Callable[[], CompileError | None]  # why it cannot be imported here


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to run the network, with its program and its price."""

    backend: str
    graph: TensorGraph
    choice: Choice
    magnitudes: Sequence[float]  # root mean square of every tensor, as it lies in the slots
    reason: str = ""  # why it was chosen, in words

    @property
    def seconds(self) -> float:
        """Forecast of one prediction."""
        return self.choice.forecast.total_seconds

    @property
    def way(self) -> str:
        """What the program does, in words."""
        count = bootstrap_count(self.choice.lowered.program)
        depth = f"a leveled program of {self.choice.lowered.program.parameters.top_level} levels"
        return f"{count} functional bootstraps" if count else depth


@dataclass
class Strategies:
    """The candidates for one network, each made once it is asked for."""

    imported: TensorGraph
    calibration: Calibration
    target: Target
    libraries: Libraries
    progress: Callable[[str], None]

    def best(self) -> Candidate:
        """Return the cheapest candidate of the backend asked for, and why it is.

        Raise `CompileError` where there is none, with the problems of every way.
        """
        match self.target.backend:
            case "tenseal":
                return _with_reason(self.leveled(self.libraries.seal), "--backend tenseal")
            case "openfhe":
                ways = (lambda: self.leveled(self.libraries.openfhe), self.refreshing)
            case _:
                ways = (lambda: self.leveled(self.libraries.seal), self.refreshing)
        return self._available(self._cheapest(*ways))

    def leveled(self, instances: Instances) -> Candidate:
        """Return the leveled program on the library of `instances`."""
        self._check_depth(instances)
        self.progress("polynomials for activations")
        graph = run_tensor_passes(self._shared, self.target, self.calibration, TENSOR_PASSES)
        magnitudes = _magnitudes(graph, self.calibration)
        self.progress("layouts, scales, parameters")
        layouts = _layouts(graph, self.target)
        choice = choose_parameters(graph, layouts, instances, magnitudes, self.target)
        return Candidate(instances.backend, graph, choice, magnitudes)

    def refreshing(self) -> Candidate:
        """Return the program whose activations are functional bootstraps."""
        self.progress("series for activations")
        graph = run_tensor_passes(self._shared, self.target, self.calibration, REFRESHING_PASSES)
        magnitudes = _magnitudes(graph, self.calibration)
        self.progress("layouts, bootstraps, parameters")
        layouts = _layouts(graph, self.target)
        chains = self.libraries.chains
        choice = choose_refreshing(graph, layouts, chains, magnitudes, self.target)
        return Candidate("openfhe", graph, choice, magnitudes)

    @cached_property
    def _shared(self) -> TensorGraph:
        """The graph after the passes that all ways begin with; a second time they find nothing."""
        graph = self.imported
        for tensor_pass in SHARED_PASSES:
            graph = tensor_pass(graph, self.target, self.calibration)
        return graph

    def _cheapest(
        self, first: Callable[[], Candidate], second: Callable[[], Candidate]
    ) -> Candidate:
        """Return the cheaper of the leveled and the refreshing way."""
        try:
            leveled = first()
        except CompileError as problem:
            return self._only(second, problem)
        if leveled.seconds <= FASTEST_BOOTSTRAP * self._nonlinear():
            reason = f"{leveled.way} takes less time than any bootstraps"
            return _with_reason(leveled, reason)
        try:
            refreshing = second()
        except CompileError as problem:
            return _with_reason(leveled, f"bootstraps are impossible: {_first(problem)}")
        ways = sorted((leveled, refreshing), key=lambda candidate: candidate.seconds)
        if not self._fits(ways[0]) and self._fits(ways[1]):
            ways.reverse()
        reason = " against ".join(f"{each.way}: {each.seconds:.3g} s" for each in ways)
        return _with_reason(ways[0], reason)

    def _only(self, second: Callable[[], Candidate], problem: CompileError) -> Candidate:
        """Return the refreshing way, the leveled one being impossible."""
        try:
            found = second()
        except CompileError as other:
            raise CompileError(*problem.problems, *other.problems) from None
        return _with_reason(found, f"{found.way}: {_first(problem)}")

    def _available(self, found: Candidate) -> Candidate:
        """Return `found` if `auto` can run it here, else say what to install and what it costs."""
        if found.backend != "openfhe" or self.target.backend != "auto":
            return found
        problem = self.libraries.openfhe_error()
        if problem is None:
            return found
        try:
            leveled = self.leveled(self.libraries.seal)
        except CompileError:
            raise _not_installed(found, problem) from None
        return _with_reason(leveled, f"{leveled.way}; OpenFHE, which is faster, is not installed")

    def _fits(self, candidate: Candidate) -> bool:
        limit = self.target.max_ram
        return limit is None or server_memory(candidate.choice.lowered.program).least <= limit

    def _nonlinear(self) -> int:
        """Count the operations that would become bootstraps."""
        kinds = (Activation, Multiply, Polynomial)
        return sum(isinstance(operation, kinds) for operation in self._shared.operations)

    def _check_depth(self, instances: Instances) -> None:
        """Refuse at once what has more levels than the largest modulus could hold."""
        rings = MAX_MODULUS_BITS[self.target.security]
        limit = max(bits for ring, bits in rings.items() if ring <= instances.largest_ring)
        path = [self._shared.operations[i] for i in deepest_path(self._shared)]
        activations = sum(isinstance(operation, Activation) for operation in path)
        each = 2 if activations <= FEW else 3
        fewest = each * activations + sum(map(levels, path))
        if fewest * SMALLEST_PRIME_BITS > limit:
            raise fail(
                f"a leveled program would need {fewest} levels or more, {SMALLEST_PRIME_BITS} bits"
                f" each; at {self.target.security}-bit security a modulus has {limit} bits",
                f"{len(self._shared.operations)} layers",
                "use --backend openfhe, which refreshes ciphertexts, or fewer activations",
            )


def _layouts(graph: TensorGraph, target: Target) -> Callable[[int], LaidOutGraph]:
    return lru_cache(lambda slots: choose_layouts(graph, slots, target))


def _magnitudes(graph: TensorGraph, calibration: Calibration) -> list[float]:
    """Return the root mean square of every tensor, as it will lie in the slots."""
    return [
        _ASSUMED_MAGNITUDE
        if values.values is None
        else float(np.sqrt(np.mean(np.square(values.values))))
        for values in calibration.ranges(graph)
    ]


def _with_reason(candidate: Candidate, reason: str) -> Candidate:
    return Candidate(
        candidate.backend, candidate.graph, candidate.choice, candidate.magnitudes, reason
    )


def _first(problem: CompileError) -> str:
    return problem.problems[0].message


def _not_installed(found: Candidate, problem: CompileError) -> CompileError:
    memory = server_memory(found.choice.lowered.program).least
    why = problem.problems[0]
    matrices = sum(
        isinstance(x, LinearTransform) for x in found.choice.lowered.program.instructions
    )
    message = (
        f"this network needs {found.way} on OpenFHE, which cannot be imported here; a prediction"
        f" would take {found.seconds:.0f} s and {memory / 1e9:.1f} GB"
    )
    return CompileError(Problem(message, f"{matrices} matrices; {why.place}", why.help))
