"""The noise model against the simulator, and against ciphertexts decrypted after every step."""

from __future__ import annotations

import pytest

from noise_networks import NETWORKS, compiled, samples
from value_errors import assert_as_predicted, compared, decrypted, in_the_clear, simulated

SIMULATED, ENCRYPTED = 60, 10  # samples


@pytest.mark.parametrize("name", NETWORKS)
def test_values_err_in_the_simulator_as_predicted(name: str) -> None:
    model, plan = compiled(name)
    given = samples(model, SIMULATED, 1)
    exact = in_the_clear(plan, given)
    assert_as_predicted(compared(plan, exact, simulated(plan, given)))


@pytest.mark.encrypted
@pytest.mark.parametrize("name", NETWORKS)
def test_values_err_on_ciphertexts_as_predicted(name: str) -> None:
    model, plan = compiled(name)
    given = samples(model, ENCRYPTED, 1)
    exact = in_the_clear(plan, given)
    assert_as_predicted(compared(plan, exact, decrypted(plan, given)))
