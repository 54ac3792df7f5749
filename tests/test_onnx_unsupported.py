"""What the import says about operators that hec does not have."""

from __future__ import annotations

import onnx
import pytest
from onnx import NodeProto

from hec.compiler.onnx_import import _CONVERTERS
from hec.compiler.onnx_unsupported import _REWRITES, unsupported

OPERATORS = [(operator, hint) for hint, operators in _REWRITES for operator in operators.split()]


@pytest.mark.parametrize(("operator", "hint"), OPERATORS)
def test_a_hint_is_for_an_operator_of_onnx_that_hec_does_not_have(operator: str, hint: str) -> None:
    assert operator not in _CONVERTERS
    error = unsupported(NodeProto(op_type=operator))
    assert (error.message, error.help) == (f"{operator} is not supported", hint)
    names = {schema.name for schema in onnx.defs.get_all_schemas()}
    newest = {"Attention", "BitwiseAnd", "CumProd", "RegexFullMatch", "StringConcat"}
    assert operator in names | newest | {"RMSNormalization", "StringSplit"}


def test_an_operator_with_two_hints_would_lose_one() -> None:
    assert len(OPERATORS) == len(dict(OPERATORS))


@pytest.mark.parametrize(
    ("domain", "operator", "message", "help"),
    [
        (
            "",
            "Frobnicate",
            "Frobnicate is not supported",
            "rewrite the network without this operator",
        ),
        (
            "com.microsoft",
            "FusedConv",
            "com.microsoft.FusedConv is not supported",
            "export with operators of the standard ONNX set only",
        ),
    ],
)
def test_an_operator_without_a_hint(domain: str, operator: str, message: str, help: str) -> None:
    error = unsupported(NodeProto(op_type=operator, domain=domain))
    assert (error.message, error.help) == (message, help)
