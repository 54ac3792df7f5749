"""Counts of the benchmarks' networks: what is told of changes, and the networks of any size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from counts import changes, counts_in
from networks import Convolution, Dense, Layer, Shape, after, network, products

OLD = {"mlp:tenseal": {"key_switches": 47, "products": 2}}


def test_equal_counts_are_no_change() -> None:
    assert changes(OLD, OLD) == ([], False)


@pytest.mark.parametrize(("now", "slower"), [(46, False), (48, True)])
def test_a_larger_count_is_a_slower_plan(now: int, slower: bool) -> None:
    counts = {"mlp:tenseal": {"key_switches": now, "products": 2}}
    assert changes(OLD, counts) == ([f"mlp:tenseal: key switches 47 -> {now}"], slower)


def test_a_count_that_grew_is_not_made_good_by_others() -> None:
    lines, slower = changes(OLD, {"mlp:tenseal": {"key_switches": 10, "products": 3}})
    assert lines == ["mlp:tenseal: key switches 47 -> 10, products 2 -> 3"]
    assert slower


def test_larger_messages_are_told_but_make_no_plan_slower() -> None:
    before, now = ({"lola": {"input_ciphertexts": n}} for n in (1, 4))
    assert changes(before, now) == (["lola: input ciphertexts 1 -> 4"], False)


def test_a_refused_network_is_a_slower_plan_and_one_that_compiles_again_is_not() -> None:
    refused: dict[str, dict[str, int]] = {"mlp:tenseal": {}}
    assert changes(OLD, refused) == (["mlp:tenseal: is refused now"], True)
    assert changes(refused, OLD) == (["mlp:tenseal: compiles now"], False)


def test_a_network_that_was_not_counted_before_is_told() -> None:
    assert changes({}, OLD) == (["mlp:tenseal: new"], False)


def test_seconds_are_no_counts() -> None:
    row = {"model": "mlp:tenseal", "products": 2, "levels": 3, "forecast_seconds": 0.25}
    assert counts_in({**row}) == {"products": 2, "levels": 3}
    assert counts_in({"model": "mlp:tenseal", "refused": "too deep"}) == {}


NETWORKS: list[tuple[Shape, tuple[Layer, ...], int]] = [
    ((6,), (Dense(4), Dense(2)), 6 * 4 + 4 + 4 * 2),
    (
        (2, 8, 8),
        (Convolution(3, 3, padded=True), Convolution(4, 3, 2), Dense(5)),
        3 * 64 * (2 * 9 + 1) + 4 * 9 * (3 * 9 + 1) + 36 * 5,
    ),
]


@pytest.mark.parametrize("gentle", [False, True])
@pytest.mark.parametrize(("shape", "layers", "count"), NETWORKS)
def test_a_network_has_the_shapes_and_products_that_are_told(
    shape: Shape, layers: tuple[Layer, ...], count: int, gentle: bool
) -> None:
    model = network(shape, layers, gentle=gentle)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = np.random.default_rng(0).normal(size=(100, 1, *shape)).astype(np.float32)
    outputs = np.stack([session.run(None, {"x": x})[0] for x in inputs])
    made = shape
    for layer in layers:
        made = after(made, layer)
    assert outputs.shape == (100, 1, *made)
    assert 0.1 < outputs.std() < 3
    assert products(shape, layers) == count


def test_values_of_a_deep_gentle_network_stay_near_one() -> None:
    model = network((64,), [Dense(64)] * 20, gentle=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = np.random.default_rng(0).normal(size=(100, 1, 64)).astype(np.float32)
    outputs = np.stack([session.run(None, {"x": x})[0] for x in inputs])
    assert 0.1 < np.sqrt(np.square(outputs).mean()) < 3


def test_a_seed_gives_the_same_weights_again() -> None:
    one, same, other = (network((3,), [Dense(2)], seed) for seed in (0, 0, 1))
    assert one.SerializeToString() == same.SerializeToString() != other.SerializeToString()
