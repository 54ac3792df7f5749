"""Every pass keeps the meaning of seeded random graphs; the generator covers every operation."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hec.compiler.calibration import Calibration
from hec.compiler.errors import HecWarning
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Input, Linear, Multiply, Polynomial, check
from hec.passes import (
    REFRESHING_PASSES,
    TENSOR_PASSES,
    TensorPass,
    check_normal_form,
    run_tensor_passes,
)
from random_graphs import meaning, random_graph

INEXACT = ("approximate_activations", "refresh_activations")
ALL = dict.fromkeys((*TENSOR_PASSES, *REFRESHING_PASSES))
EXACT = [one for one in ALL if one.__name__ not in INEXACT]
TOLERANCE = 1e-9  # absolute; values reach a few units
SEEDS = st.integers(0, 2**32 - 1)


def test_generator_makes_every_kind_of_operation() -> None:
    graphs = [random_graph(seed)[0] for seed in range(60)]
    counts = Counter(type(op) for graph in graphs for op in graph.operations)
    assert set(counts) == {Input, Linear, Multiply, Activation, Polynomial}
    assert min(counts.values()) > 20


@pytest.mark.parametrize("tensor_pass", EXACT, ids=lambda one: one.__name__)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_pass_keeps_meaning(tensor_pass: TensorPass, seed: int) -> None:
    graph, samples = random_graph(seed)
    after = tensor_pass(graph, Target(), Calibration(samples, margin=1.1))
    check(after, made_by=tensor_pass.__name__)
    for old, new in zip(meaning(graph, samples), meaning(after, samples), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=TOLERANCE)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_all_passes_keep_meaning_and_reach_normal_form(seed: int) -> None:
    graph, samples = random_graph(seed, activations=False)
    calibration = Calibration(samples, margin=1.1)
    after = run_tensor_passes(graph, Target(), calibration)
    check_normal_form(after, calibration)
    for old, new in zip(meaning(graph, samples), meaning(after, samples), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-8)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_all_passes_keep_meaning_on_sound_ranges(seed: int) -> None:
    graph, samples = random_graph(seed, activations=False)
    calibration = Calibration(None, (-1.0, 1.0))
    after = run_tensor_passes(graph, Target(), calibration)
    check_normal_form(after)
    for old, new in zip(meaning(graph, samples), meaning(after, samples), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_all_passes_approximate_activations(seed: int) -> None:
    graph, samples = random_graph(seed)
    calibration = Calibration(samples, margin=1.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HecWarning)  # a random graph may miss the error target
        after = run_tensor_passes(graph, Target(degree=15), calibration)
    check_normal_form(after)
    for old, new in zip(meaning(graph, samples), meaning(after, samples), strict=True):
        assert np.sqrt(np.mean((new - old) ** 2)) < 0.5


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_sound_ranges_hold_all_samples(seed: int) -> None:
    graph, samples = random_graph(seed)
    sound = Calibration(None, (-1.0, 1.0)).ranges(graph)
    for wide, seen in zip(sound, Calibration(samples).ranges(graph), strict=True):
        assert (wide.low <= seen.low + TOLERANCE).all()
        assert (seen.high <= wide.high + TOLERANCE).all()
