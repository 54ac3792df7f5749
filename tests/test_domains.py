"""Functions that are not defined everywhere: branches, continuation, errors, and fits."""

from __future__ import annotations

import numpy as np
import pytest

import hec
from hec.compiler.calibration import Calibration
from hec.compiler.domains import KEPT, SEARCH, STEEPEST, extended, is_partial, requirement
from hec.compiler.errors import CompileError, HecWarning
from hec.compiler.functions import Applied, Function, Product, Sum, composed
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Input,
    TensorGraph,
)
from hec.passes.extend_functions import extend_functions
from hec.passes.intervals import homogeneity, outward, within_domain
from onnx_oracle import network, node
from random_graphs import meaning
from small_graphs import affine, graph

ABOVE, FROM = "needs inputs above 0", "needs inputs from 0 upwards"


SIDES = "needs inputs that are all above 0, or all below"


UNIT = "needs inputs from -1 to 1"


INVERSE_OF_SQUARE = composed(
    (Product(0, 0), Sum((1,), (1.0,), -1.0), Applied(2, Function("reciprocal")))
)


WIDEST = float(np.finfo(np.float64).max) ** 1e-3  # whose 1000th power is finite


# function, interval seen, the branch's ends as far as they matter, what it needs


PARTIAL: list[tuple[Function, tuple[float, float], tuple[float, float], str]] = [
    (Function("log"), (0.5, 3.0), (0.0, np.inf), ABOVE),
    (Function("sqrt"), (0.5, 3.0), (0.0, np.inf), FROM),
    (Function("sqrt"), (0.0, 3.0), (0.0, np.inf), FROM),
    (Function("reciprocal"), (0.25, 3.0), (0.0, np.inf), SIDES),
    (Function("reciprocal"), (-3.0, -0.25), (-np.inf, 0.0), SIDES),
    (Function("power", (-2.0,)), (0.5, 3.0), (0.0, np.inf), SIDES),
    (Function("power", (-0.5,)), (0.5, 3.0), (0.0, np.inf), ABOVE),
    (Function("power", (1.5,)), (0.0, 3.0), (0.0, np.inf), FROM),
    (
        Function("tan"),
        (-1.0, 1.2),
        (-np.pi / 2, np.pi / 2),
        "needs inputs between two of its poles, as from -1.5 to 1.5",
    ),
    (Function("tan"), (2.0, 4.0), (np.pi / 2, 3 * np.pi / 2), ""),
    (Function("asin"), (-0.5, 0.9), (-1.0, 1.0), UNIT),
    (Function("acos"), (-1.0, 1.0), (-1.0, 1.0), UNIT),
    (Function("acosh"), (1.5, 4.0), (1.0, np.inf), "needs inputs from 1 upwards"),
    (Function("atanh"), (-0.5, 0.9), (-1.0, 1.0), "needs inputs above -1 and below 1"),
    (Function("sinh"), (-1.0, 2.0), (-np.inf, np.inf), "needs inputs from -700 to 700"),
    (Function("cosh"), (-90.0, 100.0), (-700.0, 700.0), "needs inputs from -700 to 700"),
    (
        Function("power", (9.0,)),
        (-1.0, 1.0),
        (-np.inf, np.inf),
        "needs inputs whose power is finite",
    ),
    (Function("power", (1e3,)), (0.5, 1.0), (-WIDEST, WIDEST), ""),
    (INVERSE_OF_SQUARE, (-0.5, 0.75), (-1.0, 1.0), SIDES),
    (INVERSE_OF_SQUARE, (1.5, 2.0), (1.0, np.inf), SIDES),
]
every_partial = pytest.mark.parametrize(
    ("function", "seen", "branch", "needs"), PARTIAL, ids=[f"{f} {seen}" for f, seen, *_ in PARTIAL]
)


OUTSIDE = [
    (Function("log"), (0.0, 1.0)),
    (Function("log"), (-1.0, 1.0)),
    (Function("sqrt"), (-0.1, 1.0)),
    (Function("reciprocal"), (-1.0, 3.0)),
    (Function("reciprocal"), (0.0, 3.0)),
    (Function("power", (-2.0,)), (-1.0, 1.0)),
    (Function("power", (0.5,)), (-1.0, 1.0)),
    (Function("tan"), (-1.0, 2.0)),
    (Function("asin"), (-1.0, 1.1)),
    (Function("acos"), (-1.1, 1.0)),
    (Function("acosh"), (0.9, 2.0)),
    (Function("atanh"), (-1.0, 0.5)),
    (Function("exp"), (-1.0, 701.0)),
    (Function("cosh"), (-701.0, 1.0)),
    (Function("power", (1e3,)), (0.0, 3.0)),
    (INVERSE_OF_SQUARE, (0.5, 2.0)),
    (Function("log"), (1.0, np.inf)),
]


TOTAL = [
    *(Function(name) for name in ("abs", "sign", "sin", "cos", "atan", "asinh")),
    Function("shrink", (0.5, 0.25)),
    Function("relu"),
]


@every_partial
def test_a_function_is_itself_half_way_to_the_end_of_its_branch(
    function: Function, seen: tuple[float, float], branch: tuple[float, float], needs: str
) -> None:
    whole = extended(function, *seen)
    assert whole is not None and whole.extension is not None and is_partial(function)
    extension, width = whole.extension, seen[1] - seen[0]
    ends = [
        start + KEPT * (min(max(end, start - SEARCH * width), start + SEARCH * width) - start)
        for start, end in zip(seen, branch, strict=True)
    ]
    np.testing.assert_allclose((extension.low, extension.high), ends, rtol=0, atol=1e-9)
    x = np.linspace(extension.low, extension.high, 501)
    np.testing.assert_array_equal(whole(x), function(x))
    assert (whole.name, str(whole)) == (function.name, str(function))


@every_partial
def test_beyond_it_is_a_straight_line_that_is_not_too_steep(
    function: Function, seen: tuple[float, float], branch: tuple[float, float], needs: str
) -> None:
    whole = extended(function, *seen)
    assert whole is not None and whole.extension is not None
    width = seen[1] - seen[0]
    mean = np.ptp(function(np.linspace(*seen, 10_000))) / width
    for end, sign in ((whole.extension.low, -1.0), (whole.extension.high, 1.0)):
        values = whole(end + sign * width * np.array([0.0, 1e-9, 1.0, 2.0, 1000.0]))
        assert np.isfinite(values).all()
        assert abs(values[1] - values[0]) < 1e-7 * (1 + mean)  # it is continuous
        slope = (values[2] - values[0]) / width
        np.testing.assert_allclose(
            values[4] - values[0], 1000 * width * slope, rtol=1e-6, atol=1e-9
        )
        assert abs(slope) <= STEEPEST * mean * (1 + 1e-6)
        inside = float(np.diff(whole(end - sign * width * np.array([1e-3, 0.0])))[0])
        assert inside * slope >= 0  # it goes on in the same direction


@every_partial
def test_what_a_function_needs(
    function: Function, seen: tuple[float, float], branch: tuple[float, float], needs: str
) -> None:
    name = "reciprocal" if function is INVERSE_OF_SQUARE else str(function)
    assert requirement(function) == f"{name} {needs}" or not needs


@pytest.mark.parametrize(("function", "seen"), OUTSIDE)
def test_no_branch_holds_what_lies_outside(function: Function, seen: tuple[float, float]) -> None:
    assert extended(function, *seen) is None


@pytest.mark.parametrize("function", TOTAL, ids=str)
def test_a_function_that_is_defined_everywhere_stays_as_it_is(function: Function) -> None:
    assert not is_partial(function)
    assert extended(function, -3.0, 4.0) is function


def test_a_constant_input_has_a_branch() -> None:
    for value in (0.0, 2.0):
        whole = extended(Function("sqrt"), value, value)
        assert whole is not None and whole(np.array([value]))[0] == np.sqrt(value)


def test_a_composition_with_a_name_is_taken_by_its_name() -> None:
    exponential = Applied(0, Function("exp"))
    logarithm = composed((exponential, Sum((1,), (1.0,), 1.0), Applied(2, Function("log"))))
    assert str(logarithm) == "softplus" and is_partial(logarithm)
    assert np.isinf(logarithm(np.array([800.0])))
    whole = extended(logarithm, -1.0, 1e4)
    assert whole == Function("softplus") and not is_partial(whole)
    np.testing.assert_allclose(whole(np.array([-1e4, 1e4])), [0.0, 1e4])


def test_the_sign_may_be_scaled_and_a_continued_function_not() -> None:
    assert homogeneity(Function("sign")) == 0
    assert homogeneity(Function("abs")) == 1
    for name in ("sqrt", "reciprocal"):
        whole = extended(Function(name), 0.5, 2.0)
        assert whole is not None and homogeneity(whole) is None


def test_an_input_is_not_expected_beyond_the_end_of_the_domain() -> None:
    whole = extended(Function("log"), 0.5, 2.0)
    assert whole is not None and whole.extension is not None
    t = np.array([[-0.9, 0.4, 0.7]])
    cut, free = np.array([whole.extension.low]), np.array([0.4])
    np.testing.assert_array_equal(outward(t, whole, cut, np.array([3.0])), [[0.0, 0.4, 0.7]])
    np.testing.assert_array_equal(outward(t, whole, free, np.array([3.0])), np.abs(t))
    np.testing.assert_array_equal(outward(t, Function("relu"), cut, free), np.abs(t))


def test_intervals_end_with_the_domain_unless_inputs_lie_beyond() -> None:
    whole = extended(Function("log"), 0.5, 2.0)
    assert whole is not None and whole.extension is not None
    end = whole.extension.low
    low, high = np.array([-1.0, 0.4, -1.0]), np.array([3.0, 3.0, 1e3])
    x = np.array([[0.5, 2.0], [0.5, 2.0], [-0.25, 500.0]])
    cut = within_domain(whole, x, low, high)
    np.testing.assert_array_equal(cut[0], [end, 0.4, -0.25])
    np.testing.assert_array_equal(cut[1], [3.0, 3.0, 500.0])
    np.testing.assert_array_equal(within_domain(Function("relu"), x, low, high), (low, high))


# extend_functions


X = Input("x", (1, 2))


SAMPLES = {"x": np.array([[0.5, -1.0], [2.0, 3.0]])}


def refused(before: TensorGraph, calibration: Calibration) -> str:
    with pytest.raises(CompileError) as caught:
        extend_functions(before, Target(), calibration)
    return str(caught.value)


def test_samples_outside_of_the_domain_are_refused() -> None:
    log = Activation(0, Function("log"), (1, 2), ("logarithm",))
    seen = Calibration({"x": np.array([[0.5, 1.0], [-0.25, 2.0]])})
    assert refused(graph(X, log), seen) == (
        "log has no finite value somewhere in [-0.25, 2], where its inputs lie on the samples\n"
        "  --> node 'logarithm'\n"
        "  help: log needs inputs above 0; calibrate on samples for which the network itself gives "
        "numbers, or put Clip or Add of a constant before it"
    )


def test_a_worst_case_outside_of_the_domain_is_refused() -> None:
    before = graph(X, Activation(0, Function("reciprocal"), (1, 2), ("inverse", "inverse2")))
    assert refused(before, Calibration(None, (-1.0, 3.0))) == (
        "reciprocal has no finite value somewhere in [-1, 3], where its inputs may lie, as far as "
        "interval arithmetic tells\n"
        "  --> node 'inverse', node 'inverse2'\n"
        "  help: reciprocal needs inputs that are all above 0, or all below; pass --calibration, "
        "which shows where its inputs really lie, or narrow --input-range"
    )


def test_every_function_that_fails_is_told_but_none_that_it_feeds() -> None:
    before = graph(
        X,
        Activation(0, Function("log"), (1, 2), ("first",)),
        affine(1, np.eye(2)),
        Activation(2, Function("sqrt"), (1, 2), ("fed",)),
        Activation(0, Function("sqrt"), (1, 2), ("second",)),
        Activation(0, Function("tan"), (1, 2), ("fine",)),
        outputs=(3, 4, 5),
    )
    for calibration in (Calibration({"x": -np.ones((4, 2))}), Calibration(None, (-1.0, 0.5))):
        lines = refused(before, calibration).splitlines()
        assert [line for line in lines if "-->" in line] == [
            "  --> node 'first'",
            "  --> node 'second'",
        ]


def test_only_functions_that_need_it_are_continued_and_once() -> None:
    before = graph(
        X,
        Activation(0, Function("relu"), (1, 2)),
        affine(1, np.eye(2), np.ones(2)),
        Activation(2, Function("log"), (1, 2)),
    )
    seen = Calibration(SAMPLES)
    after = extend_functions(before, Target(), seen)
    functions = [op.function for op in after.operations if isinstance(op, Activation)]
    assert functions[0] == Function("relu") and functions[1].extension is not None
    assert functions[1].extension.low == pytest.approx(0.5)
    (old,), (new,) = meaning(before, SAMPLES), meaning(after, SAMPLES)
    np.testing.assert_array_equal(old, new)
    assert extend_functions(after, Target(), seen) is after


def test_a_worst_case_that_overflows_is_refused_and_does_no_harm() -> None:
    model = network([node("Mul", "x,w", "h"), node("Exp", "h")], {"x": (1, 3)}, {"w": 1e3})
    with pytest.warns(HecWarning), pytest.raises(CompileError) as caught:
        hec.compile(model)
    assert str(caught.value) == (
        "exp has no finite value somewhere in [-1000, 1000], where its inputs may lie, as far as "
        "interval arithmetic tells\n"
        "  --> node 'Exp_y'\n"
        "  help: exp needs inputs up to 700; pass --calibration, which shows where its inputs "
        "really lie, or narrow --input-range"
    )
