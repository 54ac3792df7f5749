"""The stages of a bootstrap, its rotation keys, and the rotations composed of them."""

from __future__ import annotations

import pytest

from hec.compiler.bootstrap_keys import (
    FIXED_KEYS,
    coeffs_to_slots,
    key_count,
    partial_sums,
    rotation_steps,
    slots_to_coeffs,
)
from hec.compiler.ckks_ir import Bootstrapping
from hec.compiler.errors import InvalidProgram
from hec.compiler.rotation_routes import route

RING_DEGREE = 2**15
FAVOURITE = Bootstrapping((3, 2), (0, 16), 2**14)
CONFIGURATIONS = [
    Bootstrapping(levels, baby_steps, 2**log_slots)
    for log_slots in (11, 10, 9, 6)
    for levels in ((2, 2), (3, 2), (3, 3), (4, 3))
    for baby_steps in ((0, 0), (0, 16), (4, 4))
]


def test_the_steps_of_the_favourite_are_those_that_openfhe_made() -> None:
    fine = {*range(1, 17), *range(16, 257, 16), *range(128, 2049, 128)}
    assert rotation_steps(RING_DEGREE, FAVOURITE) == fine | set(range(512, 8193, 512))
    assert key_count(RING_DEGREE, FAVOURITE) == 57 + FIXED_KEYS


@pytest.mark.parametrize("how", CONFIGURATIONS, ids=str)
def test_the_stages_share_out_all_layers_of_the_transform(how: Bootstrapping) -> None:
    for stages, budget in (
        (coeffs_to_slots(how), how.levels[0]),
        (slots_to_coeffs(how), how.levels[1]),
    ):
        assert len(stages) == budget
        covered = 1
        for stage in sorted(stages, key=lambda stage: stage.stride):
            assert stage.stride == covered
            assert stage.babies * stage.giants == stage.diagonals + 1
            covered <<= stage.layers
        assert covered == how.slots


def test_coeffs_to_slots_starts_with_the_largest_stride_and_slots_to_coeffs_with_the_smallest() -> (
    None
):
    assert [stage.stride for stage in coeffs_to_slots(FAVOURITE)] == [512, 16, 1]
    assert [stage.stride for stage in slots_to_coeffs(FAVOURITE)] == [1, 128]


@pytest.mark.parametrize(
    ("log_slots", "expected"),
    [(11, ()), (10, (1024,)), (9, (512, 1024, 1536)), (8, (256, 512, 768, 1024))],
)
def test_sparse_slots_are_summed_four_copies_at_a_time(
    log_slots: int, expected: tuple[int, ...]
) -> None:
    assert partial_sums(4096, Bootstrapping((3, 2), (0, 0), 2**log_slots)) == expected


@pytest.mark.parametrize("step", [1, 17, 100, 5000, 9999, 16383])
def test_a_route_adds_up_to_its_step_with_at_most_five_keys(step: int) -> None:
    available = rotation_steps(RING_DEGREE, FAVOURITE)
    found = route(step, available, 2**14)
    assert sum(found) % 2**14 == step
    assert available.issuperset(found)
    assert len(found) <= 5
    assert step not in available or found == (step,)


def test_no_rotation_needs_no_key_and_an_impossible_one_is_a_bug() -> None:
    assert route(16, {4}, 16) == ()
    with pytest.raises(InvalidProgram, match="no available rotations compose to 3"):
        route(3, {4}, 16)


@pytest.mark.encrypted
@pytest.mark.parametrize("how", CONFIGURATIONS, ids=str)
def test_openfhe_makes_exactly_these_keys(how: Bootstrapping) -> None:
    fhe = pytest.importorskip("openfhe", reason="no OpenFHE here", exc_type=ImportError)
    parameters = fhe.CCParamsCKKSRNS()
    parameters.SetSecretKeyDist(fhe.SecretKeyDist.SPARSE_ENCAPSULATED)
    parameters.SetSecurityLevel(fhe.SecurityLevel.HEStd_NotSet)  # a small ring, to be fast
    parameters.SetRingDim(4096)
    parameters.SetScalingModSize(33)
    parameters.SetFirstModSize(34)
    parameters.SetScalingTechnique(fhe.ScalingTechnique.FLEXIBLEAUTO)
    parameters.SetKeySwitchTechnique(fhe.KeySwitchTechnique.HYBRID)
    parameters.SetNumLargeDigits(3)
    parameters.SetMultiplicativeDepth(20)
    context = fhe.GenCryptoContext(parameters)
    for feature in (fhe.PKE, fhe.KEYSWITCH, fhe.LEVELEDSHE, fhe.ADVANCEDSHE, fhe.FHE):
        context.Enable(feature)
    context.EvalFEFuncBootstrapSetup(list(how.levels), list(how.baby_steps), how.slots)
    keys = context.KeyGen()
    context.EvalBootstrapKeyGen(keys.secretKey, how.slots)
    tag = keys.secretKey.GetKeyTag()
    made = set(fhe.CryptoContext.GetExistingEvalAutomorphismKeyIndices(tag))
    fhe.CryptoContext.ClearEvalAutomorphismKeys()
    expected = {pow(5, step, 8192) for step in rotation_steps(4096, how)}
    assert made == expected | {8191, 8190, 8188}
    assert len(made) == key_count(4096, how)
