"""The cases that onnx ships for its operators: the first input encrypted, all others constants."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from hec.compiler.errors import CompileError
from onnx_oracle import import_graph, results

TOLERANCE = 1e-4  # absolute and relative: some of the cases hold rounded numbers
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
OPERATORS = {  # and the module of onnx.backend.test.case.node that has their cases
    "BatchNormalization": "batch_normalization",
    "CenterCropPad": "center_crop_pad",
    "Col2Im": "col2im",
    "Compress": "compress",
    "Concat": "concat",
    "Conv": "conv",
    "ConvTranspose": "convtranspose",
    "CumSum": "cumsum",
    "DFT": "dft",
    "DepthToSpace": "depthtospace",
    "Einsum": "einsum",
    "Expand": "expand",
    "Flatten": "flatten",
    "Gather": "gather",
    "GatherElements": "gatherelements",
    "GatherND": "gathernd",
    "GridSample": "gridsample",
    "LpPool": "lppool",
    "Mean": "mean",
    "Pad": "pad",
    "ReduceL1": "reducel1",
    "ReduceL2": "reducel2",
    "ReduceLogSum": "reduce_log_sum",
    "ReduceLogSumExp": "reduce_log_sum_exp",
    "ReduceMean": "reducemean",
    "ReduceSum": "reducesum",
    "ReduceSumSquare": "reducesumsquare",
    "Reshape": "reshape",
    "Resize": "resize",
    "ReverseSequence": "reversesequence",
    "Scatter": "scatter",
    "ScatterElements": "scatterelements",
    "ScatterND": "scatternd",
    "Slice": "slice",
    "SpaceToDepth": "spacetodepth",
    "Split": "split",
    "Squeeze": "squeeze",
    "Sum": "sum",
    "Tile": "tile",
    "Transpose": "transpose",
    "Unsqueeze": "unsqueeze",
    "Upsample": "upsample",
}
REFUSED = (  # why a case may be refused, the start of what is said
    "BatchNormalization in training mode is not supported",
    "Resize with align_corners of 2 by 0.6: runtimes disagree",
    "Resize with align_corners of 4 by 0.8: runtimes disagree",
    "ScatterElements on an encrypted tensor with reduction 'max'",
    "ScatterElements on an encrypted tensor with reduction 'min'",
    "ScatterND on an encrypted tensor with reduction 'max'",
    "ScatterND on an encrypted tensor with reduction 'min'",
    "the input of shape (0",
    "the input of shape (2, 0, 4) has no elements",
    "the result of shape (20, 0, 5) has no elements",
)


def _cases(operator: str, module: str) -> list[Any]:
    node_cases = import_module("onnx.backend.test.case.node")
    with np.errstate(all="ignore"):
        import_module(f"onnx.backend.test.case.node.{module}")
    return [
        case
        for case in node_cases._NodeTestCases
        if [node.op_type for node in case.model.graph.node] == [operator]
        and case.model.graph.input[0].type.tensor_type.elem_type in FLOATS
    ]


def _bound(model: ModelProto, arrays: list[Any]) -> ModelProto:
    """Return the model with all inputs but the first as constants."""
    bound = ModelProto()
    bound.CopyFrom(model)
    names = [value.name for value in model.graph.input]
    del bound.graph.input[:]
    bound.graph.input.append(
        helper.make_tensor_value_info(names[0], TensorProto.FLOAT, np.shape(arrays[0]))
    )
    for name, array in zip(names[1:], arrays[1:], strict=True):
        bound.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return bound


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_cases_of_onnx(operator: str) -> None:
    passed = 0
    for case in _cases(operator, OPERATORS[operator]):
        for arrays, expected in case.data_sets:
            try:
                graph = import_graph(_bound(case.model, arrays))
            except CompileError as error:
                assert str(error).startswith(REFUSED), f"{case.name}: {error}"
                continue
            sample = {case.model.graph.input[0].name: np.asarray(arrays[0])}
            for found, wanted in zip(results(graph, sample), expected, strict=True):
                assert found.shape == np.shape(wanted), case.name
                np.testing.assert_allclose(
                    found, wanted, rtol=TOLERANCE, atol=TOLERANCE, err_msg=case.name
                )
            passed += 1
    assert passed
