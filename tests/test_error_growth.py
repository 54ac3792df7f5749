"""The parts of the noise model: tails, steps of polynomials, coherence of errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import stats

from hec.compiler.calibration import Calibration
from hec.compiler.ckks_ir import Polynomial, Program
from hec.compiler.coherence import FEWEST, MULTIPLICATIONS, coherence
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.forecast import forecast
from hec.compiler.kernel_sizes import FEW, PEAKS, KernelSizes
from hec.compiler.kernels import ConstantCache, apply_polynomial
from hec.compiler.polynomial_errors import GRID, Kind, gains, sources, weights
from hec.compiler.predicted_errors import Known, errors_of, fresh_errors
from hec.compiler.tensor_ir import Input, Linear, Multiply, Output, TensorGraph, TensorOperation
from hec.compiler.typing_rules import infer_types
from hec.compiler.variances import FAILURE, laplace, tail
from hec.runtime.simulator import _entering
from sample_graphs import FLAT, compiled, random_graph
from sample_plans import TINY, diagonals, linear_program
from test_forecast import linear

Array = NDArray[np.float64]
SIZE = 12


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


def graph(*operations: TensorOperation) -> TensorGraph:
    return TensorGraph((Input("x", (1, SIZE)), *operations), (Output("y", len(operations)),))


def dense(operand: int, matrix: Array) -> Linear:
    return Linear((operand,), (sp.csr_array(matrix),), np.zeros(len(matrix)), (1, len(matrix)))


def samples(count: int = 400) -> Calibration:
    return Calibration({"x": np.random.default_rng(0).uniform(-1, 1, (count, SIZE))})


def test_errors_of_copies_do_not_average_out() -> None:
    copies = np.zeros((SIZE, SIZE))
    copies[:, 0] = 1.0
    mean = np.full((1, SIZE), 1 / SIZE)
    layers = graph(dense(0, copies), dense(1, mean))
    found = coherence(layers, samples(), (1.0, 0.0, 0.0))
    np.testing.assert_allclose(found, [1.0, 1.0, np.sqrt(SIZE)], rtol=0.1)
    fresh = coherence(layers, samples(), (1e-9, 1.0, 0.0))
    np.testing.assert_allclose(fresh[2], 1.0, rtol=0.15)


def test_errors_that_meet_their_own_values_are_coherent() -> None:
    """Squares: the rule is exact for independent values; a product of a value with its half is."""
    half = dense(0, np.eye(SIZE) / 2)
    squares = graph(Multiply(0, 0, (1, SIZE)))
    np.testing.assert_allclose(coherence(squares, samples(), (1.0, 0.0)), 1.0, rtol=0.1)
    products = graph(half, Multiply(0, 1, (1, SIZE)))
    found = coherence(products, samples(), (1.0, 0.0, 0.0))
    np.testing.assert_allclose(found[2], np.sqrt(2), rtol=0.1)  # both errors are one


def test_coherence_is_measured_on_few_samples_of_a_large_network() -> None:
    weights = sp.csr_array(np.ones((SIZE, SIZE)))
    assert MULTIPLICATIONS // weights.nnz > FEWEST
    layers = graph(Linear((0,), (weights,), np.zeros(SIZE), (1, SIZE)))
    assert len(coherence(layers, samples(3), (1.0, 0.0))) == 2


def known_of(program: Program) -> Known:
    return Known((0.5,) * len(program.instructions))


def test_fresh_errors_are_those_without_what_enters() -> None:
    _, lowered = compiled(random_graph(3), 64, FLAT)
    program, sizes = lowered.program, KernelSizes()
    types = infer_types(program)
    fresh = fresh_errors(program, types, known_of(program), sizes, lowered.sources)
    total = errors_of(program, types, known_of(program), sizes).deviations
    assert set(fresh) == set(lowered.sources)
    last = {layer: position for position, layer in enumerate(lowered.sources)}
    for layer, position in last.items():
        assert fresh[layer] <= total[position] * (1 + 1e-9)
    assert fresh[lowered.sources[0]] == total[0]


def test_coherence_multiplies_what_enters_and_nothing_else() -> None:
    program = linear_program(TINY)
    types, count = infer_types(program), len(program.instructions)
    usual, sizes = known_of(program), KernelSizes()
    once = errors_of(program, types, usual, sizes).deviations
    tripled = replace(usual, coherence=(1.0, 3.0, *(1.0,) * (count - 2)))
    thrice = errors_of(program, types, tripled, sizes).deviations
    assert thrice[0] == once[0]
    assert once[1] < thrice[1] < 3 * once[1]


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
