"""The parts of the noise model: tails, steps of polynomials, coherence of errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bootstrap_plans import parameters, refreshing_program
from hec.compiler.ckks_ir import Polynomial, Program
from hec.compiler.coherence import GROWING, coherence
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.forecast import forecast
from hec.compiler.kernel_sizes import FEW, PEAKS, KernelSizes
from hec.compiler.kernels import ConstantCache, apply_polynomial
from hec.compiler.polynomial_errors import GRID, Kind, gains, sources, weights
from hec.compiler.predicted_errors import Known, errors_of
from hec.compiler.typing_rules import infer_types
from hec.compiler.variances import FAILURE, laplace, tail
from hec.runtime.simulator import _entering
from sample_graphs import FLAT, compiled, random_graph
from sample_plans import TINY, diagonals, linear_program
from test_forecast import linear


def test_a_tail_is_a_gaussian_s_over_all_slots() -> None:
    for slots in (1, 4096, 2**20):
        missed = 2 * slots * stats.norm.sf(tail(slots))
        assert missed == pytest.approx(FAILURE, rel=1e-6)


def test_the_tail_of_an_error_times_the_key_is_longer() -> None:
    for slots in (1, 4096):
        reach = np.sqrt(laplace(slots)) * tail(slots)
        missed = 2 * slots * stats.laplace.sf(reach, scale=np.sqrt(0.5))
        assert missed == pytest.approx(FAILURE, rel=1e-6)
    random = np.random.default_rng(0)
    complex_ = random.normal(size=(4, 10**6)) / np.sqrt(2)
    product = (complex_[0] + 1j * complex_[1]) * (complex_[2] + 1j * complex_[3])
    real = product.real * np.sqrt(2)  # of variance 1
    assert np.mean(np.abs(real) > 5) == pytest.approx(np.exp(-np.sqrt(2) * 5), rel=0.1)


@pytest.mark.parametrize("degree", [3, 5, 7, 15, 31])
@pytest.mark.parametrize("columns", [(), (1, 4)])
def test_sources_are_the_steps_that_are_priced(degree: int, columns: tuple[int, ...]) -> None:
    random = np.random.default_rng(degree)
    series = Polynomial(0, random.uniform(-1, 1, (degree + 1, *columns)), 2.0**30)
    level, primes = degree.bit_length() + 1, (2**31 - 1,) * 8
    counter, operand = CostCounter(64, primes), Counted(level, 2.0**30)
    apply_polynomial(operand, series, 0, counter, primes, ConstantCache())
    found = Counter(step.kind for step in sources(series, primes, level, 2.0**30))
    assert found[Kind.SWITCH] == counter.key_switches
    assert found[Kind.NUMBER] + found[Kind.VECTOR] == counter.plaintexts
    assert (found[Kind.VECTOR] > 0) == bool(columns)
    assert found[Kind.RESCALE] >= degree.bit_length()


@pytest.mark.parametrize("degree", [3, 8, 31])
def test_what_enters_a_polynomial_grows_by_its_slope(degree: int) -> None:
    coefficients = np.random.default_rng(degree).uniform(-1, 1, degree + 1)
    found = gains(Polynomial(0, coefficients, 2.0**30), 1.0)
    slope = np.polynomial.chebyshev.chebval(GRID, np.polynomial.chebyshev.chebder(coefficients))
    assert found.entering == pytest.approx(np.mean(slope**2), rel=1e-9)
    assert found.entering_most == pytest.approx(np.max(slope**2), rel=1e-9)
    assert found.made[-1] == pytest.approx(1.0)  # the last constant is added to the result
    near = gains(Polynomial(0, coefficients, 2.0**30), 0.05, 0.2)
    assert near.entering == pytest.approx(slope**2 @ weights(0.05), rel=1e-9)
    assert near.entering_most <= found.entering_most


def test_arguments_have_the_magnitude_that_is_asked_for() -> None:
    for magnitude in (0.1, 0.2):
        assert np.sqrt(GRID**2 @ weights(magnitude)) == pytest.approx(magnitude, rel=0.02)
    assert weights(0.9).min() == weights(0.9).max()


def known_of(program: Program) -> Known:
    return Known((0.5,) * len(program.instructions))


@pytest.mark.parametrize("seed", range(6))
def test_with_coherence_errors_are_those_that_were_measured(seed: int) -> None:
    """Whatever enters an instruction may grow so; what it adds itself stays."""
    program = compiled(random_graph(seed), 64, FLAT)[1].program
    types, usual, sizes = infer_types(program), known_of(program), KernelSizes()
    random = np.random.default_rng(seed)
    ruled = errors_of(program, types, usual, sizes).deviations
    pairs = zip(program.instructions, random.uniform(1.0, 3.0, len(ruled)), strict=True)
    factors = [factor if isinstance(x, GROWING) else 1.0 for x, factor in pairs]
    wanted = errors_of(program, types, replace(usual, coherence=factors), sizes).deviations
    found = coherence(program, usual, wanted)
    again = errors_of(program, types, replace(usual, coherence=found), sizes).deviations
    np.testing.assert_allclose(again, wanted, rtol=1e-9)
    assert coherence(program, usual, ruled) == pytest.approx([1.0] * len(ruled))


def test_coherence_has_limits() -> None:
    program = linear_program(TINY)
    usual, count = known_of(program), len(program.instructions)
    huge = coherence(program, usual, [1.0] * count)
    none = coherence(program, usual, [0.0] * count)
    assert (max(huge), min(none)) == (16.0, 1 / 16)


def test_coherence_multiplies_what_enters_and_nothing_else() -> None:
    program = linear_program(TINY)
    types, count = infer_types(program), len(program.instructions)
    usual, sizes = known_of(program), KernelSizes()
    once = errors_of(program, types, usual, sizes).deviations
    tripled = replace(usual, coherence=(1.0, 3.0, *(1.0,) * (count - 2)))
    thrice = errors_of(program, types, tripled, sizes).deviations
    assert thrice[0] == once[0]
    assert once[1] < thrice[1] < 3 * once[1]


def test_after_bootstraps_bounds_follow_what_samples_showed() -> None:
    program = refreshing_program(parameters())
    types, count = infer_types(program), len(program.instructions)
    ruled = Known((0.25,) * count, measured=(1e-9,) * count)

    def bounds(reach: float) -> tuple[float, ...]:
        known = replace(ruled, reaches=(reach,) * count)
        return errors_of(program, types, known, KernelSizes()).bounds

    by_rules = errors_of(program, types, ruled, KernelSizes())
    assert bounds(1e9) == by_rules.bounds
    near, far = bounds(1.0), bounds(3.0)
    assert near[-1] < far[-1] < by_rules.bounds[-1]
    slots = types[-1].blocks * program.parameters.ring_slots
    assert far[-1] == pytest.approx(6 * tail(slots) * by_rules.deviations[-1], rel=0.01)


def test_bounds_of_larger_peaks_are_larger() -> None:
    program = compiled(random_graph(3), 64, FLAT)[1].program
    count = len(program.instructions)
    low, high = (
        forecast(program, Known((0.3,) * count, peaks=(peak,) * count)).bounds
        for peak in (0.3, 0.9)
    )
    assert all(a <= b for a, b in zip(low, high, strict=True)) and low != high


def test_sizes_of_a_matrix_are_those_of_its_entries() -> None:
    instruction = linear((0, 1, 2, 5), 2)
    rows = instruction.matrix.values.toarray()
    size = KernelSizes()(instruction)
    assert size.largest == pytest.approx(float((rows**2).max()))
    assert size.filled == 1.0 and size.encoded == size.diagonals == 4
    lumps = (rows**4).sum(axis=0) / (rows**2).sum(axis=0)
    expected = np.minimum((rows**2).sum(axis=0), FEW * lumps).max()
    assert size.lumpy_power == pytest.approx(float(expected))


def test_the_peak_of_a_baby_step_is_where_its_giant_step_takes_it() -> None:
    instruction = replace(linear((0, 1, 2, 5), 2), matrix=diagonals(1, 16, (2, 1), (0, 1, 2, 5)))
    shape = np.zeros(16)
    shape[:PEAKS] = 1 / 9.0 ** np.arange(PEAKS)
    found = KernelSizes()(instruction).peak_power
    assert found <= float(_entering(instruction, shape).max()) <= 1.3 * found
