"""What to do about operators that hec does not have."""

from __future__ import annotations

from onnx import NodeProto

from hec.compiler.onnx_values import NodeError

_NORMALIZATIONS = (
    "GroupNormalization InstanceNormalization LayerNormalization LpNormalization LRN "
    "MeanVarianceNormalization RMSNormalization"
)
KEEP_SHAPE = frozenset(_NORMALIZATIONS.split())
_REWRITES = (
    (
        "use AveragePool, or a Conv with stride; both are one matrix for hec",
        "LpPool GlobalLpPool MaxRoiPool MaxUnpool",
    ),
    (
        "encrypted numbers cannot be compared; do this on the client after decryption",
        "ArgMin Ceil Equal Floor Greater GreaterOrEqual Hardmax Less LessOrEqual "
        "NonMaxSuppression NonZero Round TopK",
    ),
    (
        "a program on encrypted data has no branches; export with fixed shapes, loops unrolled",
        "If Loop Scan",
    ),
    ("unroll the steps into MatMul, Add, Mul, Sigmoid and Tanh", "GRU LSTM RNN"),
    (
        "export the float model; hec chooses its own precision",
        "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv "
        "QLinearMatMul QuantizeLinear",
    ),
    (
        "export the network in inference mode, model.eval() in PyTorch",
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    ),
    ("divide by a constant, or do this on the client after decryption", "Mod ReduceL2"),
    ("use Tile, Expand or a Conv with fixed weights instead", "Resize Upsample"),
    ("export attention as MatMul, Softmax and MatMul", "Attention"),
    ("use Tile or DepthToSpace followed by Conv", "ConvTranspose"),
    ("write it with MatMul and Transpose", "Einsum"),
)
_HINTS = {operator: hint for hint, operators in _REWRITES for operator in operators.split()}
_FOREIGN = "export with operators of the standard ONNX set only"


def unsupported(proto: NodeProto) -> NodeError:
    """Return the problem with an operator that hec does not have, and a rewrite if one is known."""
    if proto.domain not in ("", "ai.onnx"):
        return NodeError(f"{proto.domain}.{proto.op_type} is not supported", _FOREIGN)
    hint = _HINTS.get(proto.op_type, "rewrite the network without this operator")
    return NodeError(f"{proto.op_type} is not supported", hint)
