"""Errors of bootstraps' results, as errors of their arguments would have to be."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest

import bootstrap_plans
from hec.compiler import noise
from hec.compiler.bootstrap_errors import results_share, usual_slope
from hec.compiler.ckks_ir import Bootstrap
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.plan_parts import ServerPart
from test_simulator import refreshing_plan


def a_server() -> ServerPart:
    server = refreshing_plan().server
    return replace(server, magnitudes=(0.2,) * len(server.program.instructions))


def test_the_slope_of_relu_is_that_of_its_upper_half() -> None:
    relu = Bootstrap(0, bootstrap_plans.RELU, "")
    assert usual_slope(relu, 0.2) == pytest.approx(0.5, rel=0.1)


def test_a_result_error_counts_as_an_argument_error_over_the_slope() -> None:
    server = a_server()
    program, magnitudes = server.program, server.magnitudes
    both = [x for x in program.instructions if isinstance(x, Bootstrap)]
    made = noise.bootstrapping(program.parameters)
    shares = [
        noise.bootstrap_result(program.parameters, x.coefficients.shape[1] - 1) ** 2
        / usual_slope(x, magnitudes[x.operand])
        / made**2
        for x in both
    ]
    expected = sqrt(1 + sum(shares) / len(both))
    assert results_share(program, magnitudes) == pytest.approx(expected, rel=1e-12)


def test_measured_errors_grow_by_that_and_the_rules_leave_them_out() -> None:
    server = a_server()
    end = len(server.program.instructions) - 1
    few = forecast_of(replace(server, deviations=(1e-9,) * (end + 1))).deviations[end]
    many = forecast_of(replace(server, deviations=(1.0,) * (end + 1))).deviations[end]
    share = results_share(server.program, server.magnitudes)
    assert share > 1
    assert many == pytest.approx(share, rel=1e-3)
    assert few < 1e-2 * many
