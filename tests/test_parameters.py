"""Parameters: secure, accepted by SEAL, the smallest ring, and as exact as promised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from math import log2
from typing import cast

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler import parameters
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram
from hec.compiler.instances import Modulus, SealInstances, seal_bits
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.lower import ScalePlan, lower
from hec.compiler.parameters import (
    RELATIVE_PRECISION,
    Chain,
    Choice,
    _Search,
    _shortest,
    choose_parameters,
    promised_precision,
)
from hec.compiler.security import MAX_MODULUS_BITS, is_secure
from hec.compiler.target import SecurityBits, Target
from hec.compiler.tensor_ir import Linear, TensorGraph
from hec.compiler.typing_rules import infer_types
from hec.passes.choose_layouts import choose_layouts, layouts_to_compare
from hec.runtime.tenseal_context import TensealContext
from hec.runtime.tenseal_primes import primes
from sample_graphs import Builder

HELP = (
    "  help: use fewer or lower-degree activations (--degree 2), give --calibration so that"
    " intervals are narrow, or ask for less --precision; --backend openfhe refreshes ciphertexts"
)


SEAL = SealInstances(primes)


def layouts(graph: TensorGraph) -> Callable[[int], LaidOutGraph]:
    return lru_cache(lambda slots: layouts_to_compare(graph, slots, Target()))


def choose(graph: TensorGraph, target: Target) -> Choice:
    magnitudes = [0.5] * len(graph.operations)
    return choose_parameters(graph, layouts(graph), SEAL, magnitudes, target)


def network(squares: int = 0, degree: int = 0) -> TensorGraph:
    b = Builder(np.random.default_rng(0))
    x = b.linear((b.input("x", 1, 12),), 1, 8)
    for _ in range(squares):
        x = b.linear((b.multiply(x, x),), 1, 8)
    if degree:
        x = b.linear((b.polynomial(x, degree),), 1, 8)
    return b.graph(x)


NETWORKS = {
    "layer": network(),
    "two squares": network(squares=2),
    "four squares": network(squares=4),
    "a series of degree 7": network(degree=7),
    "a square and degree 5": network(1, 5),
}
CASES = [(128, name) for name in NETWORKS] + [(192, "two squares"), (256, "a series of degree 7")]


@lru_cache
def chosen(security: SecurityBits, name: str) -> Choice:
    return choose(NETWORKS[name], Target(security=security))


def parameters_of(choice: Choice) -> EncryptionParameters:
    return choice.lowered.program.parameters


@pytest.mark.parametrize(("security", "name"), CASES)
def test_the_modulus_is_secure_and_seal_agrees(security: SecurityBits, name: str) -> None:
    found = parameters_of(chosen(security, name))
    assert found.security == security
    assert is_secure(found.ring_degree, found.modulus_bits, security)
    TensealContext(found)  # raises where SEAL's own check refuses


@pytest.mark.parametrize(("security", "name"), CASES)
def test_the_program_is_well_typed_and_as_exact_as_promised(
    security: SecurityBits, name: str
) -> None:
    choice = chosen(security, name)
    infer_types(choice.lowered.program)
    assert choice.forecast.output_error <= 2.0**-choice.precision


@pytest.mark.parametrize(("security", "name"), CASES)
def test_no_level_is_left_over(security: SecurityBits, name: str) -> None:
    program = chosen(security, name).lowered.program
    inner = [value.level for value in infer_types(program)[:-2]]
    assert inner[0] == program.parameters.top_level
    assert min(inner) == 0


@pytest.mark.parametrize(("security", "name"), CASES)
def test_the_special_prime_is_as_large_as_any_other(security: SecurityBits, name: str) -> None:
    found = parameters_of(chosen(security, name))
    assert found.special_primes[0].bit_length() >= max(found.primes).bit_length()


@pytest.mark.parametrize(("security", "name"), CASES)
def test_no_smaller_ring_would_do(
    security: SecurityBits, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    degree = parameters_of(chosen(security, name)).ring_degree
    smaller = {n: bits for n, bits in MAX_MODULUS_BITS[security].items() if n < degree}
    monkeypatch.setattr(parameters, "MAX_MODULUS_BITS", {security: smaller})
    with pytest.raises(CompileError):
        choose(NETWORKS[name], Target(security=security))


def test_more_security_takes_a_larger_ring() -> None:
    sizes = [parameters_of(chosen(security, "four squares")).ring_degree for security in (128, 256)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", ["two squares", "a series of degree 7"])
def test_more_precision_is_predicted_where_more_is_asked_for(name: str) -> None:
    reached = []
    for precision in (4, 12, 20):
        choice = choose(NETWORKS[name], Target(precision=precision))
        reached.append(-log2(choice.forecast.output_error))
        assert choice.precision == precision <= reached[-1]
    assert reached == sorted(reached)
    assert reached[0] < reached[-1]


def test_precision_is_relative_to_the_outputs_unless_it_is_given() -> None:
    graph = NETWORKS["layer"]
    assert promised_precision(graph, Target()) == RELATIVE_PRECISION
    assert promised_precision(graph, Target(precision=11.5)) == 11.5
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 4)
    four = b.graph(x, x, x, x)  # with factors 1 to 4
    assert promised_precision(four, Target()) == RELATIVE_PRECISION - 2


def test_the_sign_of_an_output_changes_no_precision() -> None:
    graph = NETWORKS["layer"]
    (output,) = graph.outputs
    flipped = replace(graph, outputs=(replace(output, factor=-output.factor),))
    choices = [choose(x, Target()) for x in (graph, flipped)]
    assert choices[0].precision == choices[1].precision
    assert choices[0].forecast.output_error == choices[1].forecast.output_error > 0


def test_a_chain_fits_where_the_special_prime_is_as_large_as_the_others() -> None:
    modulus = Chain(ScalePlan(30, 20, 30), first=40, levels=3).modulus
    assert modulus.bits == 130
    assert [SEAL.fits(modulus, limit) for limit in (169, 170, 300)] == [False, True, True]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chain_is_as_short_as_can_be(name: str) -> None:
    graph = NETWORKS[name]
    laid_out = choose_layouts(graph, 16, Target())

    def types(chain: Chain, first: int, levels: int) -> None:
        primes = (2**first, *[2**chain.plan.prime] * levels)
        modulus = EncryptionParameters(32, primes, (2**60,), 128)
        infer_types(lower(laid_out, modulus, chain.plan).program)

    for chain in list(parameters._chains(graph))[::31]:
        types(chain, chain.first, chain.levels)
        if chain.first > parameters.SMALLEST_PRIME_BITS:
            with pytest.raises(InvalidProgram):
                types(chain, chain.first - 2, chain.levels)


def test_what_the_limit_leaves_goes_to_the_special_prime_and_then_to_the_first() -> None:
    modulus = Modulus(first=40, scaling=30, levels=2)
    assert [seal_bits(modulus, limit) for limit in (140, 160, 170, 300)] == [
        [40, 30, 30, 40],
        [40, 30, 30, 60],
        [50, 30, 30, 60],
        [60, 30, 30, 60],
    ]


def message(graph: TensorGraph, target: Target) -> str:
    with pytest.raises(CompileError) as caught:
        choose(graph, target)
    return str(caught.value)


def with_known_numbers(message: str, limit: int) -> str:
    """Replace the bits needed and the levels that fit, if plausible, by BITS and FIT."""
    found = re.search(r"needs (\d+) levels, (\d+) bits .* about (\d+) levels", message)
    assert found is not None and limit < int(found[2]) < 2 * limit
    assert int(found[1]) / 3 < int(found[3]) < int(found[1])
    return message.replace(f", {found[2]} bits", ", BITS bits").replace(f"about {found[3]}", "FIT")


def test_a_network_that_is_too_deep_is_told_where_its_levels_go() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.polynomial(b.linear((b.input("x", 1, 4),), 1, 4), 7)
    for _ in range(36):
        x = b.multiply(x, x)
    squares = "".join(f", multiply{i}: 1" for i in range(3, 13))
    assert with_known_numbers(message(b.graph(x), Target()), 881) == (
        "the model needs 40 levels, BITS bits of modulus or more; at 128-bit security ring degree"
        " 32768 holds 881 bits, FIT levels\n"
        "  --> levels by layer: polynomial2: 3, linear1: 1"
        f"{squares}, and 26 more layers: 26\n{HELP}"
    )


def test_the_limit_is_that_of_the_wanted_security() -> None:
    first = message(network(squares=14), Target(security=256)).splitlines()[0]
    assert with_known_numbers(first, 476) == (
        "the model needs 29 levels, BITS bits of modulus or more; at 256-bit security ring degree"
        " 32768 holds 476 bits, FIT levels"
    )


@pytest.mark.parametrize(("squares", "degree", "levels"), [(35, 0, 71), (100, 3, 204)])
def test_no_depth_is_too_large_to_be_refused(squares: int, degree: int, levels: int) -> None:
    found = message(network(squares, degree), Target())
    assert found.startswith(f"the model needs {levels} levels, ")


def test_small_primes_are_few_in_a_large_ring() -> None:
    with pytest.raises(InvalidProgram, match=r"^primes of \(40, 22, .* ring degree 32768: "):
        primes(32768, [40] + [22] * 20)


def test_a_layer_of_constants_has_parameters() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 8)
    b.add(Linear((x,), (sp.csr_array((4, 8)),), np.ones(4), (1, 4)))
    choice = choose(b.graph(1), Target())
    assert choice.forecast.output_error <= 2.0**-RELATIVE_PRECISION


def test_a_precision_beyond_reach_is_refused() -> None:
    found = message(NETWORKS["a series of degree 7"], Target(precision=50))
    reached = re.search(r"exact to (\d\d\.\d) bits", found)
    assert reached is not None and 25 < float(reached[1]) < 50
    assert found.replace(reached[1], "33.3") == (
        "the outputs would be exact to 33.3 bits, not the 50.0 asked for\n"
        "  --> ring degree 32768, the largest modulus of 128-bit security\n" + HELP
    )


@pytest.mark.parametrize("precision", [0.0, 12.0, 60.0])
def test_a_bound_that_ends_early_says_what_the_search_would(precision: float) -> None:
    graph = NETWORKS["two squares"]
    chains = sorted(parameters._chains(graph), key=lambda chain: (chain.levels, chain.first))[::40]
    magnitudes = [0.5] * len(graph.operations)
    search = parameters._Search(layouts(graph)(4096)[0], 8192, SEAL, magnitudes, Target())
    limit = MAX_MODULUS_BITS[128][8192]
    fitting = [chain for chain in chains if SEAL.fits(chain.modulus, limit)]
    best = search.best(fitting, precision)
    assert best is not None
    exact = best.forecast.output_error <= 2.0**-precision
    assert search.has_exact(fitting, precision) == exact == (precision < 60)


class Lengths:
    """A search that finds, for every number of levels, a program of these seconds."""

    def __init__(self, seconds: dict[int, float], digits: int, exact: bool = True) -> None:
        self.seconds, self.digits, self.exact = seconds, digits, exact
        self.asked = list[int]()

    def best(self, chains: Iterable[Chain], precision: float) -> Choice | None:
        levels = next(iter(chains)).levels
        self.asked.append(levels)
        if levels not in self.seconds:
            return None
        found = chosen(128, "layer")
        program = found.lowered.program
        parameters = replace(program.parameters, digits=self.digits)
        lowered = replace(found.lowered, program=replace(program, parameters=parameters))
        error = 0.0 if self.exact else 2.0 ** (levels - precision)
        seconds = (self.seconds[levels],)
        forecast = replace(found.forecast, seconds=seconds, output_error=error)
        return replace(found, lowered=lowered, forecast=forecast, precision=precision)


@pytest.mark.parametrize(
    ("digits", "expected", "asked"), [(0, 5.0, [2, 3]), (3, 4.0, [2, 3, 4, 5])]
)
def test_more_primes_are_tried_where_they_may_be_faster(
    digits: int, expected: float, asked: list[int]
) -> None:
    """On OpenFHE, as long as that helps; on SEAL, the fewest are the fastest."""
    chains = [Chain(ScalePlan(30, 20, 30), 40, levels) for levels in range(2, 8)]
    search = Lengths({3: 5.0, 4: 4.0, 5: 4.5, 6: 1.0}, digits)
    found = _shortest(cast("_Search", search), chains, 5.0)
    assert found is not None and found.forecast.total_seconds == expected
    assert search.asked == asked


def test_the_most_exact_length_is_told_where_none_is_exact_enough() -> None:
    chains = [Chain(ScalePlan(30, 20, 30), 40, levels) for levels in range(2, 8)]
    search = Lengths({3: 5.0, 4: 4.0}, 3, exact=False)
    found = _shortest(cast("_Search", search), chains, 5.0)
    assert found is not None and found.forecast.total_seconds == 5.0
    assert search.asked == [2, 3, 4, 5, 6, 7]
