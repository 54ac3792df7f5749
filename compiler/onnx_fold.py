"""Run one ONNX node on constants, with onnx's own reference implementation.

The same call serves two ends: nodes that no input reaches become constants, and nodes that only
move data tell where each element goes when they run on element numbers. Shape inference says how
large the result is before anything is computed, so that no model can exhaust the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hec.compiler.onnx_values import MAX_CONSTANT, Constant, NodeError, check_shape
from hec.compiler.tensor_ir import Shape

_FOLDABLE = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitShift
BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip
Compress Concat Constant ConstantOfShape Cos Cosh CumProd CumSum DFT DepthToSpace DequantizeLinear
Det Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather Gelu
Gemm GlobalMaxPool Greater GreaterOrEqual GroupNormalization HammingWindow HannWindow HardSigmoid
HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger Max Mean MelWeightMatrix Min Mish
Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape ReverseSequence RotaryEmbedding Round Selu Shape Shrink Sigmoid Sign
Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor
"""
FOLDABLE = frozenset(_FOLDABLE.split())
# Inference cannot know the size of their results: no more elements than went in, or that per axis.
_NEVER_GROWS = frozenset({"Compress", "GroupNormalization", "NonZero", "Unique"})
_SLOW = frozenset({"Erf", "Gelu", "TopK", "Unique"})  # they loop in Python, or sort
_SLOW_LIMIT = 2**20  # elements
_CUBIC = frozenset({"Gemm", "MatMul", "MatMulInteger"})
_SMALL = 4096  # elements; larger constants never hold a shape, so inference need not see them


def run_node(
    node: NodeProto,
    opset: int,
    inputs: Sequence[Constant | None],
    limit: int = MAX_CONSTANT,
) -> list[Constant]:
    """Return the outputs of `node` on `inputs` (None: left out).

    Raise `NodeError` if it fails, or if an output would have more than `limit` elements.
    """
    if node.op_type in _SLOW and any(a is not None and a.size > _SLOW_LIMIT for a in inputs):
        raise NodeError(f"{node.op_type} of more than {_SLOW_LIMIT:,} elements is not supported")
    model = _single_node_model(node, opset, inputs)
    _check_result_sizes(model, node, limit)
    feeds = {f"i{k}": array for k, array in enumerate(inputs) if array is not None}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except MemoryError:
        raise
    except Exception as error:  # the reference implementation raises whatever numpy does
        raise NodeError(f"{node.op_type} cannot be computed: {_first_line(error)}") from error
    return [np.asarray(result) for result in results]


def work(node: NodeProto, inputs: Sequence[Constant | None]) -> int:
    """Return about how many elements a node reads, or multiplies if it is a product."""
    arrays = [array for array in inputs if array is not None]
    if node.op_type in _CUBIC and len(arrays) > 1:
        return _multiplications(arrays[0].shape, arrays[1].shape)
    return sum(array.size for array in arrays)


def _multiplications(left: Shape, right: Shape) -> int:
    inner = max({*left[-2:]} & {*right[-2:]}, default=1)
    try:
        batches = prod(np.broadcast_shapes(left[:-2], right[:-2]))
    except ValueError:  # then the product is refused, too
        return 0
    return batches * prod(left[-2:]) * prod(right[-2:]) // max(inner, 1)


def _single_node_model(
    node: NodeProto, opset: int, inputs: Sequence[Constant | None]
) -> ModelProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend("" if array is None else f"i{k}" for k, array in enumerate(inputs))
    copy.output.extend(f"o{k}" for k in range(len(node.output)))
    values = [
        helper.make_tensor_value_info(f"i{k}", _element_type(array), array.shape)
        for k, array in enumerate(inputs)
        if array is not None
    ]
    small = [
        numpy_helper.from_array(array, f"i{k}")
        for k, array in enumerate(inputs)
        if array is not None and array.size <= _SMALL
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in copy.output]
    graph = helper.make_graph([copy], "node", values, outputs, initializer=small)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _element_type(array: Constant) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def _check_result_sizes(model: ModelProto, node: NodeProto, limit: int) -> None:
    """Raise `NodeError` if an output would have more elements than `limit`, or none knows."""
    if node.op_type in _NEVER_GROWS:
        return
    for output in _inferred(model, node).graph.output:
        dims = output.type.tensor_type.shape.dim
        known = output.type.tensor_type.HasField("shape")
        if not known or not all(dim.HasField("dim_value") for dim in dims):
            raise NodeError(f"the size of the result of {node.op_type} is not known in advance")
        check_shape((max(dim.dim_value, 1) for dim in dims), limit)


def _inferred(model: ModelProto, node: NodeProto) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise NodeError(f"{node.op_type} cannot be computed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.rpartition("Error] ")[2]  # onnx stacks its own labels before the reason
