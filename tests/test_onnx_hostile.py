"""Models made to crash, to hang, to exhaust the memory, or to deceive who reads a message."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper

from hec.compiler import onnx_import, onnx_values, onnx_wire
from hec.compiler.errors import MOST_TOLD, CompileError, Problem, fail
from hec.compiler.onnx_import import import_onnx
from hec.compiler.onnx_wire import has_too_many_messages
from hec.compiler.target import Target
from hostile_cases import LARGE, SHAPES, refusal, text
from onnx_oracle import import_graph, network, node


def _length(count: int) -> bytes:
    found = b""
    while count > 127:
        found += bytes([count & 127 | 128])
        count >>= 7
    return found + bytes([count])


def test_a_small_file_with_a_million_nodes_is_refused_before_it_is_parsed() -> None:
    graph = b"\x0a\x00" * (onnx_wire.MAX_MESSAGES + 1)  # empty nodes
    bomb = network([node("Relu", "x")], SHAPES).SerializeToString()
    bomb += b"\x3a" + _length(len(graph)) + graph
    assert refusal(bomb) == text("the model holds more than 1,000,000 parts", "model", LARGE)


def test_messages_are_counted_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    model = network([helper.make_node("Constant", [], ["y"], value=value)], SHAPES)
    # operator set, graph, node, attribute, tensor; input: value, type, tensor type, shape, two
    # axes; output: value, and nothing else
    monkeypatch.setattr(onnx_wire, "MAX_MESSAGES", 12)
    assert not has_too_many_messages(model.SerializeToString())
    monkeypatch.setattr(onnx_wire, "MAX_MESSAGES", 11)
    assert has_too_many_messages(model.SerializeToString())


@pytest.mark.parametrize("data", [b"\x80", b"\x80" * 20, b"\x0b\x0c", b"\x3a\xff", b"\x3a\x05\x0d"])
def test_counting_messages_survives_what_is_no_protobuf(data: bytes) -> None:
    assert not has_too_many_messages(data)


def test_a_number_without_end_is_given_up_soon() -> None:
    begin = time.process_time()
    assert not has_too_many_messages(b"\xff" * 300_000)
    assert time.process_time() - begin < 1.0


def _nested(depth: int) -> ModelProto:
    model = network([node("Relu", "x")], SHAPES)
    graph: GraphProto = model.graph
    for _ in range(depth):
        attribute = graph.node.add(op_type="If").attribute.add(name="then_branch", type=5)
        graph = attribute.g
        graph.name = "g"
    return model


def test_graphs_nested_in_graphs_are_refused() -> None:
    assert refusal(_nested(2000)) == text(
        "graphs are nested more than 25 deep in each other",
        "net",
        "a program on encrypted data has no branches; export with fixed shapes, loops unrolled",
    )
    import_onnx(_nested(24), Target())
    assert refusal(_nested(25)).startswith("graphs are nested more than 25 deep in each other\n")


def _doubling(depth: int) -> ModelProto:
    """Functions that call the one before four times, in the branches of an If."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = network([helper.make_node(f"F{depth}", ["x"], ["y"], domain="own")], SHAPES)
    model.opset_import.append(opsets[1])
    body = [node("Relu", "a", "b")]
    for level in range(depth + 1):
        name = f"F{level}"
        model.functions.append(helper.make_function("own", name, ["a"], ["b"], body, opsets))
        calls = [helper.make_node(name, ["a"], [each], domain="own") for each in "pq"]
        result = [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)]
        branch = helper.make_graph(calls, "g", [], result)
        body = [helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)]
    return model


def test_functions_that_grow_in_branches_are_refused_before_they_are_written_out() -> None:
    assert refusal(_doubling(30)) == text(
        "the functions of the model expand to more than 100,000 nodes, "
        "or are nested more than 50 deep",
        "net",
        "export the model without functions",
    )


def test_products_of_constants_that_take_minutes_are_refused() -> None:
    nodes = [node("Expand", "one,s", "a"), node("MatMul", "a,a", "b"), node("ReduceSum", "b", "r"),
             node("Cast", "r", "f", to=TensorProto.FLOAT), node("Add", "x,f")]  # fmt: skip
    model = network(nodes, SHAPES, {"one": np.array([[1]]), "s": [3000, 3000]})
    assert refusal(model).startswith(
        text(
            "the constants up to here take 27,000,000,003 operations; the limit is 8,589,934,592",
            "net: node 'MatMul_b' -> tensor 'b' of shape (3000, 3000)",
            LARGE,
        )
    )


def test_reading_a_large_constant_again_and_again_is_refused() -> None:
    nodes = [node("ConstantOfShape", "s", "z")]
    nodes += [node("ReduceSum", "z", f"t{i}", keepdims=0) for i in range(3)]
    nodes += [node("Sum", "x,t0,t1,t2")]
    model = network(nodes, SHAPES, {"s": [1000, 1000]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_import, "_MAX_WORK", 2_500_000)
        message = refusal(model)
    assert message == text(
        "the constants up to here take 3,000,002 operations; the limit is 2,500,000",
        "net: node 'ReduceSum_t2' -> tensor 't2' of shape ()",
        LARGE,
    )
    import_graph(model)


def test_batches_of_products_count_once_each() -> None:
    left, right = np.ones((3, 5, 7, 4), np.float32), np.ones((5, 4, 2), np.float32)
    product = node("MatMul", "a,b", "c")
    assert onnx_import.work(product, [left, right]) == 3 * 5 * 7 * 4 * 2
    gemm = node("Gemm", "a,b", "c", transB=1)
    assert onnx_import.work(gemm, [np.ones((7, 4)), np.ones((2, 4))]) == 7 * 4 * 2
    assert onnx_import.work(product, [np.ones(4), np.ones((4, 0))]) == 0
    assert onnx_import.work(node("Add", "a,b", "c"), [np.ones(4), None]) == 4


def test_a_chain_of_moves_that_change_nothing_is_work_too() -> None:
    moves = [node("Transpose", f"t{i}", f"t{i + 1}", perm=[0, 1]) for i in range(4)]
    model = network([node("Identity", "x", "t0"), *moves], {"x": (2, 50)}, outputs=["t4"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_values, "MAX_TOTAL_NONZEROS", 350)
        message = refusal(model)
    assert message == text(
        "the matrices up to here hold 400 weights; the limit is 350",
        "net: node 'Transpose_t4' -> tensor 't4' of shape (2, 50)",
        LARGE,
    )


@pytest.mark.parametrize("operator", ["Sum", "Concat"])
def test_many_operands_of_a_large_result_are_refused(operator: str) -> None:
    attributes = {"axis": 0} if operator == "Concat" else {}
    model = network([node(operator, ",".join(["x"] * 10), **attributes)], {"x": (2, 50)})
    weights = 10 * 100 if operator == "Sum" else 10 * 10 * 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_values, "MAX_NONZEROS", weights - 1)
        message = refusal(model)
    assert message.startswith(
        f"its matrix would hold {weights:,} weights; the limit is {weights - 1:,}\n"
    )
    import_graph(model)


def test_importing_a_long_chain_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        nodes = [node("Relu", f"t{i}", f"t{i + 1}") for i in range(count)]
        model = network([node("Identity", "x", "t0"), *nodes], SHAPES, outputs=[f"t{count}"])
        begin = time.process_time()
        assert len(import_graph(model).operations) == count + 1
        return time.process_time() - begin

    short = seconds(2_000)
    assert seconds(20_000) < 30 * short + 1.0


def test_names_cannot_forge_lines_or_steer_a_terminal() -> None:
    name = "a\x1b[2J\n  --> forged\r\u202e"
    model = network([helper.make_node("Frob\x07", ["x"], ["y"], name=name)], SHAPES)
    assert refusal(model) == text(
        "Frob\N{REPLACEMENT CHARACTER} is not supported",
        "net: node 'a\N{REPLACEMENT CHARACTER}[2J   --> forged \N{REPLACEMENT CHARACTER}' "
        "-> tensor 'y'",
        "rewrite the network without this operator",
    )


def test_names_of_megabytes_do_not_fill_the_screen() -> None:
    model = network([helper.make_node("Frob", ["x"], ["y"], name="n" * 10**7)], SHAPES)
    message = refusal(model)
    assert len(message) < 2200
    assert " … " in message
    assert message.endswith("n' -> tensor 'y'\n  help: rewrite the network without this operator")


def test_a_hundred_thousand_problems_are_counted_not_listed() -> None:
    error = CompileError(*[Problem(f"problem {i}") for i in range(MOST_TOLD + 1234)])
    assert str(error).splitlines() == [
        *[f"problem {i}" for i in range(MOST_TOLD)],
        "and 1,234 more problems",
    ]
    assert str(fail("one")) == "one"


AXES = (1,) * 33


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            network([node("Relu", "x")], {"x": AXES}),
            "the input has 33 axes; the limit is 32\n"
            "  --> net: input 'x', read by node 'Relu_y' (Relu)",
        ),
        (
            network([node("Add", "x,w")], SHAPES, {"w": np.ones(AXES)}),
            "the weights have 33 axes; the limit is 32\n  --> net: tensor 'w'",
        ),
        (
            network([node("Reshape", "x,s")], SHAPES, {"s": [1] * 32 + [6]}),
            "the result has 33 axes; the limit is 32\n  --> net: node 'Reshape_y' -> tensor 'y' of "
            f"shape {(*AXES[1:], 6)}",
        ),
    ],
    ids=["input", "weights", "result"],
)
def test_more_axes_than_numpy_broadcasts_are_refused(model: ModelProto, message: str) -> None:
    assert refusal(model) == f"{message}\n  help: {LARGE}"


def test_a_size_of_thousands_of_digits_is_never_written_out() -> None:
    nodes = [node("ConstantOfShape", "s", "z"), node("Add", "x,z")]
    message = refusal(network(nodes, SHAPES, {"s": [2**62] * 300}))
    assert message.startswith("the result has 300 axes; the limit is 32\n  --> net: node 'Constant")


@pytest.mark.parametrize(
    ("operator", "attribute", "value"),
    [("Elu", "alpha", "nan"), ("LeakyRelu", "alpha", "inf"), ("Selu", "gamma", "-inf")],
)
def test_parameters_of_functions_must_be_finite(operator: str, attribute: str, value: str) -> None:
    model = network([node(operator, "x", **{attribute: float(value)})], SHAPES)
    assert refusal(model) == text(
        f"the attribute '{attribute}' is {value}",
        f"net: node '{operator}_y' -> tensor 'y' of shape (2, 3)",
        "check that training did not diverge, and export again",
    )


def test_constants_that_overflow_are_refused_without_a_warning() -> None:
    large = np.full((3, 3), 3e38, np.float32)
    gemm = node("Gemm", "w,v,x", alpha=3e38)
    scaled = network([gemm], {"x": (3, 3)}, {"w": large, "v": -large})
    import_graph(scaled)  # 3e38 cubed is a float64
    double = [np.full((3, 3), sign * 1e200) for sign in (1, -1)]
    model = network([gemm], {"x": (3, 3)})
    for name, values in zip("wv", double, strict=True):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.DOUBLE, [3, 3], values))
    assert refusal(model) == text(
        "its weights divide by zero or overflow",
        "net: node 'Gemm_y' -> tensor 'y' of shape (3, 3)",
        "check that training did not diverge, and export again",
    )


def test_a_network_whose_name_is_not_utf8_is_called_model() -> None:
    data = network([node("Relu", "x")], SHAPES).SerializeToString().replace(b"net", b"\xffet")
    assert import_onnx(data, Target()).name == "model"
    assert import_onnx(ModelProto.FromString(data), Target()).name == "model"


@pytest.mark.parametrize("version", [0, -(2**63)])
def test_operator_sets_that_never_were(version: int) -> None:
    model = network([node("Relu", "x")], SHAPES)
    model.opset_import[0].version = version
    help_ = "export again with a newer opset_version, or convert with onnx.version_converter"
    message = f"the model uses ONNX operator set {version}; the oldest supported is 7"
    assert refusal(model) == text(message, "net: operator Relu", help_)


HUGE = 2**62


RESULTS: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "several unknown sizes": (
        lambda: network([node("Reshape", "x,s")], SHAPES, {"s": [-1, -1]}),
        "Reshape cannot be computed: Target shape may not have multiple -1 dimensions.",
    ),
    "tile": (
        lambda: network([node("Tile", "x,s")], SHAPES, {"s": [1, 2**40]}),
        "the result of shape (2, 3298534883328) has 6,597,069,766,656 elements; the limit is "
        "16,777,216",
    ),
    "range": (
        lambda: network(
            [node("Range", "a,b,c", "r"), node("Add", "x,r")],
            SHAPES,
            {"a": np.int64(0), "b": np.int64(2**40), "c": np.int64(1)},
        ),
        "the result of shape (1099511627776,) has 1,099,511,627,776 elements; the limit is "
        "67,108,864",
    ),
    "endless range": (
        lambda: network(
            [node("Range", "a,b,c", "r"), node("Add", "x,r")],
            SHAPES,
            {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1)},
        ),
        "Range cannot be computed: Maximum allowed size exceeded",
    ),
    "range without step": (
        lambda: network(
            [node("Range", "a,b,c", "r"), node("Add", "x,r")],
            SHAPES,
            {"a": np.int64(0), "b": np.int64(5), "c": np.int64(0)},
        ),
        "Range cannot be computed: division by zero",
    ),
    "block size": (
        lambda: network([node("DepthToSpace", "x", blocksize=0)], {"x": (1, 4, 2, 2)}),
        "DepthToSpace cannot be computed: Blocksize must be positive",
    ),
    "pool": (
        lambda: network(
            [node("AveragePool", "x", kernel_shape=[HUGE, HUGE], pads=[HUGE] * 4)],
            {"x": (1, 1, 4, 4)},
        ),
        "its matrix would hold ",
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_impossible_sizes_are_refused(name: str) -> None:
    make, message = RESULTS[name]
    assert refusal(make()).startswith(message)


def test_strides_and_dilations_beyond_any_image_are_computed() -> None:
    big = [HUGE, HUGE]
    conv = node("Conv", "x,w", dilations=big, strides=big, pads=[HUGE] * 4)
    graph = import_graph(network([conv], {"x": (1, 1, 8, 8)}, {"w": np.ones((1, 1, 3, 3))}))
    assert graph.operations[-1].shape[:2] == (1, 1)
