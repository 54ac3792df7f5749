"""A saved plan comes back as it was, in either part, and nothing half-written is left behind."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from hec.compiler import atomic_file
from hec.compiler.ckks_ir import Program
from hec.compiler.client_steps import Affine, Classes, Columns, Label, Normalize
from hec.compiler.errors import CompileError
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import CalibrationResult, ClientPart, PlanFit, ServerPart
from hec.compiler.record import AnyArray, encode
from hec.compiler.tensor_ir import Curve, EpilogueStep, Fit, Histogram, Twin
from sample_plans import client_part, deep_program, linear_program, plan_of


def same(left: ClientPart | ServerPart, right: ClientPart | ServerPart) -> bool:
    """Tell whether two parts have equal content, arrays included."""
    mine: list[AnyArray] = []
    yours: list[AnyArray] = []
    documents = encode(left, mine) == encode(right, yours)
    return documents and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(mine, yours, strict=True)
    )


@pytest.mark.parametrize("program", [linear_program(), deep_program()])
def test_a_plan_comes_back_as_it_was(program: Program, tmp_path: Path) -> None:
    plan = plan_of(program)
    plan.save(tmp_path / "a.hec")
    loaded = Plan.load(tmp_path / "a.hec")
    assert same(plan.client, loaded.client)
    assert same(plan.server, loaded.server)
    assert plan.plan_id == loaded.plan_id and len(plan.plan_id) == 64


def test_what_reports_need_comes_back_as_it_was(tmp_path: Path) -> None:
    curve = Curve((-1.0, 1.0), (0.0, 1.0), (0.1, 0.9))
    twin = Twin(np.zeros((2, 3)), np.ones((2, 3)))
    fit = Fit("relu", 7, (-1.0, 1.0), (0.0, 1.0), 0.1, twin=twin)
    fit = replace(fit, histogram=Histogram(-1.0, 1.0, (1, 0, 7)), curve=curve)
    plan = plan_of(linear_program())
    known = CalibrationResult(9, None, 0.25)
    errors = (0.0, 0.5, 0.5, 0.5, 0.5)
    server = replace(plan.server, fits=(PlanFit("a", fit),), approximation=errors, calibrated=known)
    Plan.of(plan.client, server).save(tmp_path / "a.hec")
    loaded = Plan.load(tmp_path / "a.hec").server
    assert loaded.fits[0].fit == fit and loaded.fits[0].fit.twin is None
    assert (loaded.approximation, loaded.calibrated) == (errors, known)


def test_epilogues_come_back_as_they_were(tmp_path: Path) -> None:
    steps = (
        EpilogueStep("softmax", 1),
        EpilogueStep("argmax", -1, False),
        EpilogueStep("cast", dtype="int64"),
    )
    output = client_part(linear_program()).outputs[0]
    plan = plan_of(linear_program(), outputs=(replace(output, epilogue=steps),))
    plan.save(tmp_path / "a.hec")
    assert Plan.load_client(tmp_path / "a.hec").outputs[0].epilogue == steps


def test_steps_of_the_client_come_back_as_they_were(tmp_path: Path) -> None:
    columns = (5, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11)
    scaled = Affine(columns, (0.1,) * 12, (1e-300,) * 12, (1, 12))
    prologue = (scaled, Normalize("l2"))
    classes = Classes(texts=("no", "", "naïve", "零", *map(str, range(6))))
    label = (EpilogueStep("argmax", -1, False), Label(classes))
    part = client_part(linear_program())
    plan = plan_of(
        linear_program(),
        inputs=(replace(part.inputs[0], prologue=prologue),),
        outputs=(replace(part.outputs[0], epilogue=label),),
    )
    plan.save(tmp_path / "a.hec")
    loaded = Plan.load(tmp_path / "a.hec")
    assert loaded.plan_id == plan.plan_id
    assert loaded.client.inputs[0].prologue == prologue
    assert loaded.client.outputs[0].epilogue == label
    assert loaded.client.outputs[0].classes == classes
    numbers = Columns(Classes(numbers=(-(2**63), 2**63 - 1, *range(8))))
    plan = plan_of(linear_program(), outputs=(replace(part.outputs[0], epilogue=(numbers,)),))
    plan.save(tmp_path / "a.hec")
    assert Plan.load_client(tmp_path / "a.hec").outputs[0].classes == numbers.classes


def test_both_files_give_the_same_client_part(tmp_path: Path) -> None:
    plan = plan_of(linear_program())
    plan.save(tmp_path / "server.hec")
    plan.save_client(tmp_path / "client.hec")
    whole = Plan.load_client(tmp_path / "server.hec")
    alone = Plan.load_client(tmp_path / "client.hec")
    assert same(whole, alone)
    assert whole.plan_id == alone.plan_id == plan.plan_id


def test_the_client_file_holds_no_member_of_the_server_part(tmp_path: Path) -> None:
    plan_of(linear_program()).save_client(tmp_path / "client.hec")
    with zipfile.ZipFile(tmp_path / "client.hec") as archive:
        assert not [name for name in archive.namelist() if name.startswith("server")]
    size = (tmp_path / "client.hec").stat().st_size
    assert size < 20_000  # the matrix alone takes 100 kB


def test_the_client_part_is_read_without_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    plan_of(linear_program()).save(path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + 200] ^= 255
    path.write_bytes(data)
    assert Plan.load_client(path).model == "sample.onnx"
    with pytest.raises(CompileError):
        Plan.load(path)


def test_the_client_file_is_no_whole_plan(tmp_path: Path) -> None:
    path = tmp_path / "client.hec"
    plan_of(linear_program()).save_client(path)
    with pytest.raises(CompileError) as caught:
        Plan.load(path)
    assert str(caught.value) == (
        "The file holds no server part\n"
        f"  --> {path}\n"
        "  help: give the whole plan, not the part made for the other side"
    )


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    plan_of(linear_program()).save(tmp_path / "a.hec")
    Plan.load(tmp_path / "a.hec").save(tmp_path / "b.hec")
    assert (tmp_path / "a.hec").read_bytes() == (tmp_path / "b.hec").read_bytes()


def test_the_id_follows_from_the_content() -> None:
    plan = plan_of(linear_program())
    assert plan.plan_id == plan_of(linear_program()).plan_id
    assert plan.plan_id != plan_of(linear_program(), model="other.onnx").plan_id
    assert plan.plan_id != plan_of(deep_program()).plan_id


def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.hec"
    path.write_bytes(b"old")

    def full_disk(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(CompileError) as caught:
        plan_of(linear_program()).save(path)
    assert str(caught.value) == (
        "Cannot write the file: No space left on device\n"
        f"  --> {path}\n"
        "  help: check the folder, its permissions, and the disk"
    )
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.hec"]


def interrupted_write(file: IO[bytes]) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file.atomic_file(tmp_path / "a") as file:
        interrupted_write(file)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.hec"
    with pytest.raises(CompileError) as caught:
        plan_of(linear_program()).save(path)
    assert str(caught.value) == (
        "Cannot write the file: No such file or directory\n"
        f"  --> {path}\n"
        "  help: check the folder, its permissions, and the disk"
    )
