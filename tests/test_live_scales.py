"""Counting the memory of ciphertexts, scales stay what typing says: a wrong one decays to zero."""

from __future__ import annotations

from math import isclose

import pytest

from hec.compiler import live_ciphertexts
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.typing_rules import infer_types
from sample_plans import deep_program


def test_a_matrix_keeps_the_scale_of_its_plaintexts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    class Noted(live_ciphertexts._Held):
        def __init__(self, pool: object, level: int, scale: float, polynomials: int = 2) -> None:
            seen.append((level, scale))
            super().__init__(pool, level, scale, polynomials)  # type: ignore[arg-type]

    monkeypatch.setattr(live_ciphertexts, "_Held", Noted)
    program = deep_program()
    assert live_bytes(program) > 0
    for kind in infer_types(program):
        found = [scale for level, scale in seen if level == kind.level]
        assert any(isclose(scale, kind.scale, rel_tol=1e-9) for scale in found)
    assert min(scale for _, scale in seen) > 2.0**20
