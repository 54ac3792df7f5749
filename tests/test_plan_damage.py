"""Whatever is wrong with a plan file, reading it raises `CompileError` and nothing else.

Some files are damaged as bytes; others are well formed, with checksums that fit, and hostile.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hec.compiler import archive
from hec.compiler.archive import Part
from hec.compiler.errors import CompileError
from hec.compiler.plan import FORMAT, Plan
from hec.compiler.plan_parts import CalibrationResult, PlanFit
from hec.compiler.tensor_ir import Curve, Fit, Histogram
from sample_plans import deep_program, linear_program, plan_of

NPY = (
    b"\x93NUMPY\x01\x00\x3b\x00{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }\n"
    + bytes(12)
)
FIT = Fit(
    "relu",
    7,
    (-1.0, 1.0),
    (-0.5, 0.9),
    0.01,
    histogram=Histogram(-1.0, 1.0, (3, 0, 5)),
    curve=Curve((-1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.1, 0.1, 0.9)),
)
Parts = dict[str, Part]
DAMAGED = "  help: copy the file again from where it was made, or make it again"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "saved.hec"
    plan = plan_of(deep_program())
    server = replace(
        plan.server,
        fits=(PlanFit("relu", FIT),),
        approximation=(0.0,) * len(plan.server.labels),
        peaks=(1.0,) * len(plan.server.labels),
        coherence=(1.0,) * len(plan.server.labels),
        reaches=(1.0,) * len(plan.server.labels),
        calibrated=CalibrationResult(64, 0.99, 0.01),
    )
    Plan.of(plan.client, server).save(path)
    return path


@pytest.fixture(scope="module")
def parts(saved: Path) -> Parts:
    return archive.read(saved, FORMAT, ("client", "server"))[1]


def refused(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        Plan.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n  help: " in message
    return message


def loads_or_refuses(path: Path) -> None:
    try:
        Plan.load(path)
    except CompileError as error:
        assert str(path) in str(error)


def test_every_truncation_is_refused(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    for length in [*range(0, 64), *np.linspace(64, len(data) - 1, 150, dtype=int)]:
        path = tmp_path / "cut.hec"
        path.write_bytes(data[:length])
        refused(path)


def test_every_flipped_byte_is_refused_or_harmless(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    whole = Plan.load(saved).plan_id
    path = tmp_path / "flipped.hec"
    edges = [*range(0, 120), *range(len(data) - 400, len(data))]
    for position in [*edges, *np.linspace(120, len(data) - 400, 120, dtype=int)]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(position) % 8
        path.write_bytes(damaged)
        try:
            assert Plan.load(path).plan_id == whole  # such as the date of a member
        except CompileError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x00" * 1000, b"\x08\x07onnx"])
def test_a_foreign_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    path.write_bytes(data)
    refused(path)


def test_another_format_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    path.write_bytes(b"\x08\x07onnx")
    assert refused(path) == (
        f"This is not a hec plan\n  --> {path}\n  help: give a file made by hec as hec plan"
    )


def test_a_zip_of_something_else_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    assert refused(path) == (
        f"This is not a hec plan\n  --> {path}\n  help: give a file made by hec as hec plan"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.hec", "No such file or directory"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert refused(path) == (
        f"Cannot read the hec plan: {reason}\n  --> {path}\n  help: check the path"
    )


def rezip(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Copy the zip with its members changed."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    return target


def test_another_version_is_named(saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        header = json.loads(members["header.json"])
        members["header.json"] = json.dumps({**header, "version": 7}).encode()

    path = rezip(saved, tmp_path / "a.hec", change)
    assert refused(path) == (
        "The hec plan has format version 7; this hec reads 3\n"
        f"  --> {path}: header.json\n"
        "  help: make it again with this version of hec, or install the version that made it"
    )


def test_a_changed_member_does_not_match_its_checksum(saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["client/part.json"] += b" "

    path = rezip(saved, tmp_path / "a.hec", change)
    assert refused(path) == (
        "The file is damaged: its content does not match its checksum\n"
        f"  --> {path}: client/part.json\n{DAMAGED}"
    )


def test_the_parts_of_two_plans_do_not_mix(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hec"
    plan_of(deep_program(), model="other.onnx").save(other)

    def change(members: dict[str, bytes]) -> None:
        with zipfile.ZipFile(other) as archive:
            for name in archive.namelist():
                if name.startswith("client/"):
                    members[name] = archive.read(name)

    path = rezip(saved, tmp_path / "a.hec", change)
    assert "its content does not match its checksum" in refused(path)


@pytest.mark.parametrize("name", ["client/part.json", "server/0.npy", "server/members.json"])
def test_a_missing_member_is_refused(name: str, saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        del members[name]

    refused(rezip(saved, tmp_path / "a.hec", change))


def test_a_foreign_member_is_refused(saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["server/evil.py"] = b"import os"

    path = rezip(saved, tmp_path / "a.hec", change)
    assert refused(path) == (
        f"The file is damaged: members are missing or foreign\n  --> {path}: server\n{DAMAGED}"
    )


def test_a_member_that_occurs_twice_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    path.write_bytes(saved.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns that the name is there already
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("client/part.json", b"{}")
    assert refused(path) == f"The file is damaged: a member occurs twice\n  --> {path}\n{DAMAGED}"


def test_a_zip_bomb_is_refused_before_it_is_unpacked(saved: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["client/part.json"] = b" " * (2**26 + 1)

    path = rezip(saved, tmp_path / "a.hec", change)
    assert refused(path) == (
        "A member unpacks to 67108865 bytes; at most 67108864 are allowed\n"
        f"  --> {path}: client/part.json\n"
        "  help: check that the file comes from someone you trust"
    )


def test_a_part_over_its_cap_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMAT.caps, "server", 1000)
    message = refused(saved)
    assert message.startswith("The server part unpacks to ")
    assert "bytes; at most 1000 are allowed\n" in message


def edited(parts: Parts, path: Path, part: str, keys: tuple[Any, ...], value: object) -> Path:
    """Write the plan with one JSON value replaced, and checksums that fit."""
    document: Any = deepcopy(parts[part].document)
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    changed = {**parts, part: Part(document, parts[part].arrays)}
    archive.write(path, FORMAT, changed, ("client", "server"))
    return path


def step(kind: str, **fields: object) -> dict[str, object]:
    """Return a step of the client as plans hold it."""
    return {"is": kind, **fields}


def named(numbers: Any = (), texts: Any = ()) -> dict[str, object]:
    return step("Classes", numbers=list(numbers), texts=list(texts))


def affine(columns: Any, weights: Any = None) -> dict[str, object]:
    ones = [1.0] * len(columns) if weights is None else weights
    zeros = [0.0] * len(columns)
    return step("Affine", columns=columns, weights=ones, bias=zeros, shape=[1, len(columns)])


STEP = step("EpilogueStep", name="argmax", axis=0, keep_axis=True, shape=[], dtype="")
LABEL = step("Label", classes=named(range(6)))
CLIENT_EDITS: list[tuple[tuple[Any, ...], object, str]] = [
    (("parameters", "ring_degree"), 2**30, "the ring degree is 1073741824"),
    (("parameters", "ring_degree"), "8192", 'expected a whole number, found "8192"'),
    (("parameters", "ring_degree"), 8192.0, "expected a whole number, found 8192.0"),
    (("parameters", "primes"), [], "there are 1 primes"),
    (("parameters", "primes", 0), 2**61 + 1, f"{2**61 + 1} is not a prime for ring degree 8192"),
    (("parameters", "primes", 0), 1, "1 is not a prime for ring degree 8192"),
    (("parameters", "primes", 0), -5, "-5 is not a prime for ring degree 8192"),
    (("parameters", "primes", 0), 268189697, "a prime occurs twice"),
    (("parameters", "security"), 64, "do not reach 64 bits of security"),
    (("parameters", "security"), 256, "do not reach 256 bits of security"),
    (("keys", "rotations"), [3, 1], "the rotation steps are not sorted"),
    (("keys", "rotations"), [1, 4096], "a rotation step is outside [1, 4096)"),
    (("keys", "rotations"), [1], "its keys are not those that its program uses"),
    (("keys", "relinearization"), 1, "expected true or false, found 1"),
    (("inputs", 0, "scale"), "NaN", 'expected a finite number, found "NaN"'),
    (("inputs", 0, "scale"), 0.5, "a scale of 0.5 is impossible"),
    (("inputs", 0, "scale"), 2.0**29, "its parts describe different inputs or outputs"),
    (("inputs", 0, "level"), 5, "level 5 is outside [0, 4]"),
    (("inputs", 0, "divisor"), 0.0, "the divisor is not positive"),
    (("inputs", 0, "interval"), [1.0, -1.0], "the interval is upside down"),
    (("inputs", 0, "interval"), [1.0], "expected a list of 2, found [1.0]"),
    (("inputs", 0, "shape"), [2**20, 2**20], "a shape is absurd"),
    (("inputs", 0, "shape"), [-1], "a shape is absurd"),
    (("inputs", 0, "shape"), [2], "a layout holds foreign elements"),
    (("inputs", 0, "layout", "elements", "array"), 99, "expected the number of one of 4 arrays"),
    (("inputs", 0, "layout", "elements", "array"), True, "expected a whole number, found true"),
    (("inputs", 1, "name"), "left", "two tensors have one name"),
    (("inputs",), [], "there are no inputs or no outputs"),
    (("outputs", 0, "shape"), [1, 7], "does not hold all 7 elements of its tensor"),
    (("outputs", 0, "epilogue"), [{"is": "Shell"}], "expected one of Affine, Columns"),
    (("model",), None, "expected a text, found null"),
    (("outputs", 0, "epilogue"), [STEP, LABEL], "6 labels for 1 classes"),
    (("outputs", 0, "epilogue"), [LABEL], "labels without an arg-max before them"),
    (("outputs", 0, "epilogue"), [step("Label", classes=named([2**63]))], "does not fit 64 bits"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named())], "there are no class labels"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([1], ["a"]))], "both numbers and"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([], ["a\0"]))], "no text that"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([], ["\ud800"]))], "no text that"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([], ["a" * 1001]))], "longer than"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([1, 2]))], "2 labels for 6 column"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([1.5]))], "a whole number"),
    (("outputs", 0, "epilogue"), [step("Columns", classes=named([], [1]))], "expected a text"),
    (("outputs", 0, "epilogue"), [step("Normalize", norm="l3")], "expected one of max, l1, l2"),
    (("outputs", 0, "epilogue"), [affine([6])], "an affine step that reads foreign elements"),
    (("outputs", 0, "epilogue"), [affine([-1])], "an affine step that reads foreign elements"),
    (("outputs", 0, "epilogue"), [affine([])], "an affine step of the wrong size"),
    (("outputs", 0, "epilogue"), [affine([0], [])], "an affine step of the wrong size"),
    (("outputs", 0, "epilogue"), [affine([0], ["NaN"])], "expected a finite number"),
    (("outputs", 0, "epilogue"), [affine([0] * (2**20 + 1))], "an affine step of the wrong size"),
    (("inputs", 0, "prologue"), [affine([0])], "steps before encryption change the shape"),
    (("inputs", 0, "prologue"), [affine([9])], "an affine step that reads foreign elements"),
    (("inputs", 0, "prologue"), [LABEL], "expected one of Affine, Normalize"),
    (("inputs", 0, "prologue"), None, "expected a list, found null"),
    (("is",), "ServerPart", 'expected ClientPart, found "ServerPart"'),
    (("extra",), 1, "expected an object with backend, inputs, is, keys, model"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "message"), CLIENT_EDITS)
def test_a_hostile_client_part_is_refused(
    keys: tuple[Any, ...], value: object, message: str, parts: Parts, tmp_path: Path
) -> None:
    path = edited(parts, tmp_path / "a.hec", "client", keys, value)
    assert message in refused(path)


IN_PROGRAM = ("program", "instructions")
IN_FIT = ("fits", 0, "fit")
SERVER_EDITS: list[tuple[tuple[Any, ...], object, str]] = [
    (("labels",), [], "labels are missing"),
    (("program", "parameters", "security"), 192, "its parts have other parameters"),
    ((*IN_PROGRAM, 2, "operand"), 7, "reads value 7"),
    ((*IN_PROGRAM, 2, "operand"), -1, "reads value -1"),
    ((*IN_PROGRAM, 11, "operand"), 10, "an output is read again"),
    (
        (*IN_PROGRAM, 2, "is"),
        "Import",
        "expected one of Add, AddPlain, Bootstrap, Input, LinearTransform",
    ),
    ((*IN_PROGRAM, 2, "plain_scale"), 1e308, "a scale of 1e+308 is impossible"),
    ((*IN_PROGRAM, 2, "plain_scale"), -1.0, "a scale of -1 is impossible"),
    ((*IN_PROGRAM, 2, "baby_step"), 0, "the baby step is out of range"),
    ((*IN_PROGRAM, 2, "baby_start"), 2**40, "the first baby step is out of range"),
    ((*IN_PROGRAM, 2, "matrix", "slots"), 1, "the diagonals of a matrix do not fit their index"),
    ((*IN_PROGRAM, 2, "matrix", "out_blocks"), 3, "a ciphertext of a matrix has no diagonal"),
    ((*IN_PROGRAM, 2, "matrix", "in_blocks"), 2**40, "a matrix has no blocks"),
    ((*IN_PROGRAM, 2, "matrix", "values", "shape"), [9, 4096], "rows or columns out of range"),
    ((*IN_PROGRAM, 2, "matrix", "values", "shape"), [8, 4095], "rows or columns out of range"),
    ((*IN_PROGRAM, 2, "matrix", "values", "csr"), [0, 1], "three arrays and a shape of two"),
    ((*IN_PROGRAM, 4, "level"), 9, "cannot raise level 4"),
    ((*IN_PROGRAM, 4, "level"), -1, "level -1 is impossible"),
    ((*IN_PROGRAM, 8, "steps", 0), 4096, "a rotation step is out of range"),
    ((*IN_PROGRAM, 8, "steps", 0), 3, "its keys are not those that its program uses"),
    ((*IN_PROGRAM, 10, "factor"), 2.0, "its parts describe different inputs or outputs"),
    (("approximation",), [0.0], "errors of approximation are missing"),
    (("approximation", 3), -1.0, "an error of approximation is negative"),
    (("approximation", 3), "NaN", 'expected a finite number, found "NaN"'),
    (("peaks",), [1.0], "peaks are missing"),
    (("peaks", 3), -1.0, "a peak is negative"),
    (("coherence",), [1.0], "coherences are missing"),
    (("coherence", 3), -1.0, "a coherence is negative"),
    (("reaches",), [1.0], "reaches are missing"),
    (("reaches", 3), 0.5, "a reach is below 1"),
    (("calibrated", "samples"), 0, "it was calibrated on 0 samples"),
    (("calibrated", "agreement"), 1.5, "an agreement of 1.5 is no share"),
    (("calibrated", "agreement"), -0.1, "an agreement of -0.1 is no share"),
    (("calibrated", "error"), -0.1, "the error on the calibration samples is negative"),
    (("calibrated", "error"), None, "expected a finite number, found null"),
    ((*IN_FIT, "histogram", "low"), 1.0, "a histogram is absurd"),
    ((*IN_FIT, "histogram", "counts"), [], "a histogram is absurd"),
    ((*IN_FIT, "histogram", "counts"), [1] * 1001, "a histogram is absurd"),
    ((*IN_FIT, "histogram", "counts", 1), -1, "a histogram is absurd"),
    ((*IN_FIT, "histogram", "counts", 1), 0.5, "expected a whole number, found 0.5"),
    ((*IN_FIT, "curve", "x"), [-1.0, 0.0], "a curve is absurd"),
    ((*IN_FIT, "curve", "exact"), [0.0], "a curve is absurd"),
    ((*IN_FIT, "curve", "fitted"), [0.0] * 4, "a curve is absurd"),
    ((*IN_FIT, "curve", "x", 1), -1.0, "a curve is absurd"),
    ((*IN_FIT, "curve", "x", 1), "Infinity", "expected a finite number"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "message"), SERVER_EDITS)
def test_a_hostile_server_part_is_refused(
    keys: tuple[Any, ...], value: object, message: str, parts: Parts, tmp_path: Path
) -> None:
    assert message in refused(edited(parts, tmp_path / "a.hec", "server", keys, value))


def test_the_place_of_a_wrong_value_is_its_path(parts: Parts, tmp_path: Path) -> None:
    path = edited(parts, tmp_path / "a.hec", "client", ("inputs", 1, "divisor"), "one")
    assert refused(path) == (
        'The file is damaged: expected a finite number, found "one"\n'
        f"  --> {path}: client/part.json: inputs[1].divisor\n{DAMAGED}"
    )


def test_an_insecure_plan_is_refused(parts: Parts, tmp_path: Path) -> None:
    path = edited(parts, tmp_path / "a.hec", "client", ("parameters", "security"), 192)
    assert refused(path) == (
        "The encryption parameters do not reach 192 bits of security: "
        "a modulus of 210 bits with ring degree 8192\n"
        f"  --> {path}: client/part.json\n"
        "  help: do not use this file; compile the model again"
    )


@pytest.mark.parametrize("part", ["client", "server"])
@pytest.mark.parametrize(
    "text", [b'{"is": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff", b"1" * 5000, b"1e999"]
)
def test_json_that_is_none_is_refused(
    part: str, text: bytes, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = archive.dump
    marked = parts[part].document
    monkeypatch.setattr(archive, "dump", lambda value: text if value is marked else good(value))
    archive.write(tmp_path / "a.hec", FORMAT, parts, ("client", "server"))
    monkeypatch.undo()
    assert f"{part}/part.json" in refused(tmp_path / "a.hec")


def test_curves_have_a_limit_and_need_no_length_beyond_two(parts: Parts, tmp_path: Path) -> None:
    def of(points: int) -> Path:
        column = [float(i) for i in range(points)]
        curve = {"is": "Curve", "x": column, "exact": column, "fitted": column}
        return edited(parts, tmp_path / "a.hec", "server", (*IN_FIT, "curve"), curve)

    assert Plan.load(of(1000)).server.fits[0].fit.curve is not None
    for absurd in (0, 1, 1001):
        assert "a curve is absurd" in refused(of(absurd))


def with_array(parts: Parts, path: Path, part: str, position: int, array: Any) -> Path:
    arrays = list(parts[part].arrays)
    arrays[position] = array
    changed = {**parts, part: Part(parts[part].document, arrays)}
    archive.write(path, FORMAT, changed, ("client", "server"))
    return path


ARRAYS: list[Callable[[Any], Any]] = [
    lambda x: x.astype(np.float64) * np.nan,
    lambda x: x.astype(np.int64),
    lambda x: x[:0],
    lambda x: x.reshape(-1, 1),
    lambda x: x + np.asarray(10**9).astype(x.dtype),  # in a byte, wraps
    lambda x: -x - 7,
    lambda x: x[..., :-1],
    np.zeros_like,
]


@pytest.mark.parametrize("change", ARRAYS)
def test_hostile_arrays_are_refused_or_harmless(
    change: Callable[[Any], Any], parts: Parts, tmp_path: Path
) -> None:
    refusals = 0
    for part in ("client", "server"):
        for position, array in enumerate(parts[part].arrays):
            path = with_array(parts, tmp_path / "a.hec", part, position, change(array))
            try:
                Plan.load(path)
            except CompileError:
                refusals += 1
    assert refusals > 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        NPY[:8],
        NPY.replace(b"\x01\x00", b"\x02\x00", 1),
        NPY.replace(b"(3,)", b"(9999999999,)"),
        NPY.replace(b"<i4", b"|O"),
        NPY.replace(b"<i4", b">i4"),
        NPY.replace(b"False", b"True "),
        NPY.replace(b"(3,)", b"(3"),
        NPY.replace(b"(3,)", b"([].__class__,)"),
        NPY[:-1],
        NPY + b"0",
    ],
)
def test_bytes_that_are_no_array_are_refused(
    data: bytes, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, first = archive._npy, parts["client"].arrays[0]
    monkeypatch.setattr(archive, "_npy", lambda array: data if array is first else good(array))
    archive.write(tmp_path / "a.hec", FORMAT, parts, ("client", "server"))
    assert "client/0.npy" in refused(tmp_path / "a.hec")


def leaves(document: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(document, dict):
        return [path for k, v in document.items() for path in leaves(v, (*keys, k))]
    if isinstance(document, list):
        found = [path for i, v in enumerate(document) for path in leaves(v, (*keys, i))]
        return found or [keys]
    return [keys]


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 2, 3, 2**31, 2**63, 2**64]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(data=st.data(), value=anything, depth=st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_is_refused_or_harmless(
    data: st.DataObject, value: object, depth: int, parts: Parts, tmp_path_factory: Any
) -> None:
    part = data.draw(st.sampled_from(["client", "server"]))
    keys = data.draw(st.sampled_from(leaves(parts[part].document)))
    path = tmp_path_factory.getbasetemp() / "fuzzed.hec"
    loads_or_refuses(edited(parts, path, part, keys[: max(1, len(keys) - depth)], value))


@pytest.mark.parametrize("columns", [0, -1, 2**31, 2**63, 2**64])
def test_a_matrix_with_impossibly_many_columns_is_refused(
    parts: Parts, tmp_path: Path, columns: int
) -> None:
    keys = ("program", "instructions", 2, "matrix", "values", "shape", 1)
    assert keys in leaves(parts["server"].document)
    with pytest.raises(CompileError):
        Plan.load(edited(parts, tmp_path / "a.hec", "server", keys, columns))


def test_a_small_plan_refuses_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    plan_of(linear_program()).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path)
