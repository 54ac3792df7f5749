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
        "encrypted numbers cannot be compared; do this on the client after decryption",
        "And ArgMin BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Equal Floor Greater "
        "GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual NonMaxSuppression NonZero Not OneHot "
        "Or Round TopK Unique Xor",
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
    ("do this on the client after decryption", "Det Mod"),
    ("export attention as MatMul, Softmax and MatMul", "Attention"),
    ("multiply the parts with Mul", "CumProd ReduceProd"),
    ("use DFT, or a Conv with the window's sines and cosines as weights", "STFT"),
    (
        "encrypted numbers cannot say where to read; use GridSample with a constant grid, or "
        "Resize with tf_crop_and_resize",
        "AffineGrid MaxRoiPool RoiAlign",
    ),
    ("encrypted numbers cannot say where to read; use Conv", "DeformConv"),
    ("use Resize with mode nearest, or ConvTranspose", "MaxUnpool"),
    (
        "a program on encrypted data has no sequences; use Split and Concat",
        "ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
        "SequenceInsert SequenceLength SequenceMap SplitToSequence",
    ),
    (
        "prepare text before it is encrypted",
        "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    ),
    ("export the network without its loss", "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"),
)
_HINTS = {operator: hint for hint, operators in _REWRITES for operator in operators.split()}
_ML_REWRITES = (
    (
        "trees compare, and encrypted numbers cannot be compared; use a linear model or an MLP",
        "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor",
    ),
    (
        "with a linear kernel use LinearSVC, LinearSVR or SGDClassifier, which export as one "
        "matrix; other kernels have no polynomial form here",
        "SVMClassifier SVMRegressor",
    ),
    (
        "look up and encode categories before encryption, and export with a float input",
        "CategoryMapper DictVectorizer LabelEncoder OneHotEncoder",
    ),
    ("fill in missing values before encryption", "Imputer"),
    ("encrypted numbers cannot be compared; do this on the client", "Binarizer"),
    ("use Cast to a float", "CastMap"),
)
_ML_HINTS = {operator: hint for hint, operators in _ML_REWRITES for operator in operators.split()}
_FOREIGN = "export with operators of the standard ONNX set only"


def unsupported(proto: NodeProto) -> NodeError:
    """Return the problem with an operator that hec does not have, and a rewrite if one is known."""
    if proto.domain == "ai.onnx.ml":
        hint = _ML_HINTS.get(proto.op_type, _FOREIGN)
        return NodeError(f"{proto.op_type} is not supported", hint)
    if proto.domain not in ("", "ai.onnx"):
        return NodeError(f"{proto.domain}.{proto.op_type} is not supported", _FOREIGN)
    hint = _HINTS.get(proto.op_type, "rewrite the network without this operator")
    return NodeError(f"{proto.op_type} is not supported", hint)
