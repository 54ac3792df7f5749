"""Ways to run a network under encryption: leveled, or refreshed; the cheapest is taken.

A leveled program spends the levels of a fresh ciphertext and ends. A refreshing one evaluates every
activation in a functional bootstrap, which gives the levels back. Which is cheaper is not a
matter of taste: both are made, with all that they cost, and compared; unless counting levels
already tells that one cannot win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import product
from math import inf

from hec.compiler import ckks_ir
from hec.compiler.calibration import Calibration
from hec.compiler.coherence import coherence
from hec.compiler.depth import fewest_levels
from hec.compiler.errors import CompileError
from hec.compiler.evaluate import evaluate
from hec.compiler.fidelity import fidelity
from hec.compiler.forecast import CONFIDENCE, bootstrap_count
from hec.compiler.instances import Instances
from hec.compiler.layout import ceil_power_of_two
from hec.compiler.memory import server_memory
from hec.compiler.observed import Observed, observe
from hec.compiler.parameters import SMALLEST_PRIME_BITS, Choice, Layouts, choose_parameters
from hec.compiler.plain_bootstraps import cheapest_refreshes
from hec.compiler.plan_parts import CalibrationResult
from hec.compiler.predicted_errors import Known
from hec.compiler.refresh_parameters import RING_DEGREES, Chains, choose_refreshing
from hec.compiler.security import MAX_MODULUS_BITS
from hec.compiler.strategy_errors import (
    no_batch,
    not_installed,
    too_many_levels,
    too_much_memory,
)
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)
from hec.passes import (
    POLYNOMIAL_PASSES,
    SCALING_PASSES,
    SERIES_PASSES,
    SHARED_PASSES,
    TENSOR_PASSES,
    TensorPass,
    run_tensor_passes,
)
from hec.passes.activate_polynomials import has_products
from hec.passes.choose_layouts import choose_layouts, layouts_to_compare
from hec.passes.place_bootstraps import REFRESH, place_bootstraps

FUNCTIONAL_BOOTSTRAP = 2.0  # seconds; none is faster, however few slots it has (005)
NOISE = 0.02  # standard deviation at the outputs, share of their rms, that bootstraps may cause
SQUARE = 3  # coefficients of a polynomial that is a square
WHOLE_RING = 2**20  # images to a ciphertext: more than the slots of any ring
MANY = 64  # images, from which on it may pay that a ciphertext holds one element of each
PLAIN_BOOTSTRAP = 5.0  # likewise, of one after which there is more than one level


@dataclass(frozen=True)
class Libraries:
    """What the runtime knows of its libraries, so that compiling imports none of them."""

    seal: Instances
    openfhe: Instances
    chains: Chains  # OpenFHE's, for bootstraps
    openfhe_error: Callable[[], CompileError | None]  # why it cannot be imported here
    simulated_errors: Callable[[ckks_ir.Program, Mapping[str, Array]], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to run the network, with its program and its price."""

    backend: str
    graph: TensorGraph
    choice: Choice
    observed: Observed
    reason: str = ""  # why it was chosen, in words
    keeps: bool = True  # the error or the agreement that was asked for, on samples
    calibrated: CalibrationResult | None = None  # None: there are no samples
    coherence: tuple[float, ...] = ()  # of errors, by instruction; (): unknown

    @property
    def seconds(self) -> float:
        """Forecast of one prediction."""
        return self.choice.forecast.total_seconds

    @property
    def share(self) -> int:
        """Images in every ciphertext."""
        return self.choice.lowered.program.parameters.batch

    @property
    def slots(self) -> int:
        """Slots that an image has in a ciphertext."""
        return self.choice.lowered.program.parameters.slots

    @property
    def noise(self) -> float:
        """Return the predicted error of the outputs, a share of the largest one's rms."""
        sizes = (self.observed.magnitudes[x.operand] * x.factor for x in self.graph.outputs)
        return self.choice.forecast.output_error / CONFIDENCE / (max(sizes) or 1.0)

    @property
    def way(self) -> str:
        """What the program does, in words."""
        program = self.choice.lowered.program
        if self.share > 1:
            return f"{self.share} images a ciphertext on {self.backend}"
        count = bootstrap_count(program)
        fits = {x.fit.function for x in self.graph.operations if isinstance(x, Bootstrap) and x.fit}
        if not count:
            return f"a leveled program of {program.parameters.top_level} levels"
        return f"{count} {'plain' if fits == {REFRESH} else 'functional'} bootstraps"


@dataclass
class Strategies:
    """The candidates for one network, each made once it is asked for."""

    imported: TensorGraph
    calibration: Calibration
    target: Target
    libraries: Libraries
    progress: Callable[[str], None]
    _planned: dict[int, Layouts] = field(default_factory=dict, init=False)

    def best(self) -> Candidate:
        """Return the cheapest candidate of the backend asked for, and why it is.

        Raise `CompileError` where there is none, with the problems of every way.
        """
        if self.target.batch > 1:
            return self._with_coherence(self._within_memory(self._batched()))
        if self.target.backend == "tenseal":
            only = replace(
                self._measured(self.leveled(self.libraries.seal)), reason="--backend tenseal"
            )
            return self._with_coherence(self._within_memory(only))
        wants_openfhe = self.target.backend == "openfhe"
        library = self.libraries.openfhe if wants_openfhe else self.libraries.seal
        return self._with_coherence(self._within_memory(self._available(self._ranked(library))))

    def leveled(self, instances: Instances, share: int = 1) -> Candidate:
        """Return the leveled program on the library of `instances`.

        `share` images have slots of every ciphertext, or as many as there are slots.
        """
        self._check_depth(instances)
        self.progress("polynomials for activations")
        graph, observed = self._polynomials
        self.progress("layouts, scales, parameters")
        layouts, target = self._layouts(share), replace(self.target, batch=share)
        choice = choose_parameters(graph, layouts, instances, observed.magnitudes, target)
        return Candidate(instances.backend, graph, choice, observed)

    @cached_property
    def _polynomials(self) -> tuple[TensorGraph, Observed]:
        """The graph of leveled programs, the same for every library."""
        graph = self._after_shared(TENSOR_PASSES)
        return graph, observe(graph, self.calibration)

    def _layouts(self, share: int) -> Layouts:
        """Return the layouts of that graph by slots of an image, planned once each."""
        if share not in self._planned:
            most = self.target.max_input_ciphertexts * ceil_power_of_two(share)  # for each image
            target = replace(self.target, batch=share, max_input_ciphertexts=most)
            graph, _ = self._polynomials
            self._planned[share] = lru_cache(lambda slots: layouts_to_compare(graph, slots, target))
        return self._planned[share]

    def refreshing(self) -> Candidate:
        """Return the program whose activations are functional bootstraps."""
        self.progress("series for activations")
        graph = self._after_shared(SERIES_PASSES)
        if has_products(graph):
            return self._placed(graph)
        graph = run_tensor_passes(graph, self.target, self.calibration, SCALING_PASSES)
        return self._refreshed(graph, RING_DEGREES)

    def _placed(self, graph: TensorGraph) -> Candidate:
        """Return `graph` with further bootstraps where the levels that products take run out.

        On the smallest ring on which the errors of all bootstraps leave the outputs exact enough;
        a small ring has few levels after a bootstrap, and bootstraps with large errors.
        """
        found, problems = list[Candidate](), list[CompileError]()
        for ring_degree in RING_DEGREES:
            self.progress("placement of bootstraps")
            try:
                found.append(self._placed_on(graph, ring_degree))
            except CompileError as problem:
                problems.append(problem)
                continue
            if found[-1].noise <= NOISE:
                return found[-1]
        if not found:
            raise CompileError(*(each for problem in problems for each in problem.problems))
        return min(found, key=lambda candidate: candidate.noise)

    def _placed_on(self, graph: TensorGraph, ring_degree: int) -> Candidate:
        rings = (ring_degree,)
        found = cheapest_refreshes(graph, self.libraries.chains, self.target, rings)
        graph = place_bootstraps(graph, found.placement.readers, self.calibration)
        graph = run_tensor_passes(graph, self.target, self.calibration, SCALING_PASSES)
        return self._refreshed(graph, rings)

    def plain(self) -> Candidate:
        """Return the program whose polynomials are exact, refreshed where levels run out."""
        self.progress("polynomials")
        graph = self._after_shared(POLYNOMIAL_PASSES)
        self.progress("placement of bootstraps")
        found = cheapest_refreshes(graph, self.libraries.chains, self.target)
        graph = place_bootstraps(graph, found.placement.readers, self.calibration)
        graph = run_tensor_passes(graph, self.target, self.calibration, SCALING_PASSES)
        return self._refreshed(graph, (found.parameters.ring_degree,))

    def _refreshed(self, graph: TensorGraph, rings: tuple[int, ...]) -> Candidate:
        observed = observe(graph, self.calibration)
        self.progress("layouts, bootstraps, parameters")
        layouts = lru_cache(lambda slots: choose_layouts(graph, slots, self.target))
        chains = self.libraries.chains
        choice = choose_refreshing(graph, layouts, (chains, rings), observed, self.target)
        return Candidate("openfhe", graph, choice, observed)

    @cached_property
    def _shared(self) -> TensorGraph:
        """The graph after the passes that all ways begin with."""
        return run_tensor_passes(self.imported, self.target, self.calibration, SHARED_PASSES)

    def _after_shared(self, passes: Sequence[TensorPass]) -> TensorGraph:
        """Return the graph after `passes`, of which the first are shared."""
        done = len(SHARED_PASSES)
        return run_tensor_passes(self._shared, self.target, self.calibration, passes, done)

    def _batched(self) -> Candidate:
        """Return the leveled program with the fewest seconds for each image of the batch.

        Images share ciphertexts by powers of two: as many as there are, or where there are many, as
        many as a ciphertext has slots, so that nothing is rotated.
        """
        asked, libraries = self.target.backend, (self.libraries.seal, self.libraries.openfhe)
        shares = [ceil_power_of_two(self.target.batch)]
        if WHOLE_RING > shares[0] >= MANY:
            shares.append(WHOLE_RING)
        found, problems = list[Candidate](), list[CompileError]()
        for library, share in product(libraries, shares):
            known = (each for each in found if each.backend == library.backend)
            if asked not in ("auto", library.backend) or any(each.slots == 1 for each in known):
                continue
            try:
                found.append(self._measured(self.leveled(library, share)))
            except CompileError as error:
                problems.append(error)
        if not found:
            raise no_batch(problems[0])
        found.sort(key=lambda each: (not self._fits(each), not each.keeps, self._each(each)))
        told = "; ".join(f"{each.way}, {self._each(each):.3g} s an image" for each in found)
        best = replace(found[0], reason=told)
        problem = self.libraries.openfhe_error() if asked == "auto" else None
        if best.backend == "openfhe" and problem is not None:
            here = [each for each in found if each.backend != "openfhe"]
            if not here:
                raise not_installed(best.way, best.seconds, best.choice.lowered.program, problem)
            best = replace(here[0], reason=f"{told}; OpenFHE is faster, and not installed")
        return best

    def _each(self, found: Candidate) -> float:
        """Return the seconds of every image, some of which may wait for a run of their own."""
        runs = -(-self.target.batch // found.share)
        return found.seconds * runs / self.target.batch

    def _ranked(self, library: Instances) -> list[Candidate]:
        """Return the ways, the best first; one that counting shows cannot win is not tried."""
        found, problems = list[Candidate](), list[CompileError]()
        leveled = partial(self.leveled, library)
        ways: tuple[Callable[[], Candidate], ...] = (leveled, self.refreshing, self.plain)
        for way in ways:
            if not self._may_win(way, found):
                continue
            try:
                found.append(self._measured(way()))
            except CompileError as problem:
                problems.append(problem)
        if not found:
            raise CompileError(*(each for problem in problems for each in problem.problems))
        found.sort(key=lambda each: (not self._fits(each), not each.keeps, each.seconds))
        told = [
            f"{each.way}, {each.seconds:.3g} s{'' if each.keeps else ', less exact than asked for'}"
            for each in found
        ]
        told += [problem.problems[0].message for problem in problems]
        return [replace(each, reason="; ".join(told)) for each in found]

    def _measured(self, candidate: Candidate) -> Candidate:
        """Return the candidate with what its fits do to the outputs on the samples."""
        samples, outputs = self.calibration.samples, candidate.observed.outputs
        if samples is None:
            return candidate  # nothing is known to be wrong
        errors = candidate.observed.approximation
        is_exact = bool(errors) and not any(errors)
        wanted = outputs if is_exact else self._exact
        found = fidelity(self._shared, wanted, outputs)
        keeps = self.target.degree is not None or found.keeps(self.target)
        count = len(next(iter(samples.values())))
        return replace(candidate, keeps=keeps, calibrated=found.result(count))

    @cached_property
    def _exact(self) -> tuple[Array, ...]:
        """The outputs of the network itself on the samples."""
        values = evaluate(self._shared, self.calibration.samples or {})
        return tuple(output.factor * values[output.operand] for output in self._shared.outputs)

    def _may_win(self, way: Callable[[], Candidate], found: Sequence[Candidate]) -> bool:
        fastest = min((each.seconds for each in found if each.keeps), default=inf)
        if way == self.plain:
            exact = not any(isinstance(x, Activation) for x in self._shared.operations)
            return exact and fastest > PLAIN_BOOTSTRAP
        if way != self.refreshing:
            return True
        count = self._nonlinear()
        return count > 0 and fastest > FUNCTIONAL_BOOTSTRAP * count

    def _available(self, ranked: Sequence[Candidate]) -> Candidate:
        """Return the best that `auto` can run here; or say what to install and what it costs."""
        best = ranked[0]
        if best.backend != "openfhe" or self.target.backend != "auto":
            return best
        problem = self.libraries.openfhe_error()
        if problem is None:
            return best
        leveled = next((each for each in ranked if each.backend != "openfhe"), None)
        if leveled is None:
            raise not_installed(best.way, best.seconds, best.choice.lowered.program, problem)
        better = "faster" if leveled.keeps else "more exact"
        return replace(leveled, reason=f"{leveled.way}; OpenFHE is {better}, and not installed")

    def _fits(self, candidate: Candidate) -> bool:
        limit = self.target.max_ram
        return limit is None or server_memory(candidate.choice.lowered.program).least <= limit

    def _within_memory(self, found: Candidate) -> Candidate:
        """Return `found`; raise `CompileError` if its server needs more than `--max-ram`."""
        if self._fits(found) or self.target.max_ram is None:
            return found
        least = server_memory(found.choice.lowered.program).least
        raise too_much_memory(found.way, least, self.target.max_ram)

    def _with_coherence(self, found: Candidate) -> Candidate:
        """Return `found`, with what errors do beyond the rules where no bootstrap makes them."""
        if self.calibration.samples is None or bootstrap_count(found.choice.lowered.program):
            return found
        self.progress("errors")
        program, sources = found.choice.lowered.program, found.choice.lowered.sources
        known = Known(tuple(found.observed.magnitudes[source] for source in sources))
        measured = self.libraries.simulated_errors(program, self.calibration.samples)
        return replace(found, coherence=coherence(program, known, measured))

    def _nonlinear(self) -> int:
        """Count the operations that would become bootstraps: squares beside products do not."""
        keeps_squares = has_products(self._shared)

        def is_refreshed(operation: TensorOperation) -> bool:
            match operation:
                case Activation():
                    return True
                case Polynomial():
                    return not keeps_squares or len(operation.coefficients) > SQUARE
                case Multiply():
                    return not keeps_squares
                case _:
                    return False

        return sum(map(is_refreshed, self._shared.operations))

    def _check_depth(self, instances: Instances) -> None:
        """Refuse at once what has more levels than the largest modulus could hold."""
        rings = MAX_MODULUS_BITS[self.target.security]
        limit = max(bits for ring, bits in rings.items() if ring <= instances.largest_ring)
        fewest = fewest_levels(self._shared)
        if fewest * SMALLEST_PRIME_BITS > limit:
            layers = len(self._shared.operations)
            raise too_many_levels(
                (fewest, SMALLEST_PRIME_BITS), limit, layers, self.target.security
            )
