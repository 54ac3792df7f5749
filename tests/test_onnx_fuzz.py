"""Whatever arrives, the import returns a graph or a `CompileError`, soon and in little memory.

HEC_FUZZ_EXAMPLES=5000 tries more; `make fuzz` runs for as long as you like (see fuzz_onnx.py).
"""

from __future__ import annotations

import os
import time
import tracemalloc
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from onnx_fuzzing import lowered_limits, outcome
from onnx_mutations import RAW, STRUCTURAL, corpus, mutated

EXAMPLES = int(os.environ.get("HEC_FUZZ_EXAMPLES", "400"))
SECONDS = 10.0  # of computation for one model
BYTES = 500_000_000  # that one model may take, with the limits lowered
SEEDS = corpus()


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the time is measured below, without what else the machine does
@given(st.integers(0, len(SEEDS) - 1), st.randoms(use_true_random=False))
def test_a_damaged_model_is_imported_or_refused(seed: int, source: Random) -> None:
    data = mutated(SEEDS[seed], SEEDS, source)
    begin = time.process_time()
    tracemalloc.start()
    try:
        with lowered_limits():
            outcome(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < SECONDS
    assert peak < BYTES


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_a_model_of_the_corpus_is_imported_or_refused(number: int) -> None:
    with lowered_limits():
        outcome(SEEDS[number])


def test_the_corpus_is_small() -> None:
    assert sum(len(seed) for seed in SEEDS if len(seed) > 3_000) < 200_000  # real networks
    assert sum(map(len, SEEDS)) < 500_000


@pytest.mark.parametrize("mutation", STRUCTURAL, ids=lambda mutation: mutation.__name__)
def test_every_structural_mutation_changes_models(mutation: object) -> None:
    assert callable(mutation)
    changed = 0
    for number, seed in enumerate(SEEDS):
        model = ModelProto.FromString(seed)
        mutation(model, Random(number))
        changed += bytes(model.SerializeToString()) != seed
    assert changed >= 5


@pytest.mark.parametrize("damage", RAW, ids=lambda damage: damage.__name__)
def test_every_damage_of_bytes_changes_models(damage: object) -> None:
    assert callable(damage)
    changed = [damage(seed, SEEDS[0], Random(1)) != seed for seed in SEEDS]
    assert sum(changed) > len(SEEDS) / 2


def test_the_same_seed_makes_the_same_model() -> None:
    assert mutated(SEEDS[0], SEEDS, Random(7)) == mutated(SEEDS[0], SEEDS, Random(7))
