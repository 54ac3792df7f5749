"""Array files from anyone: sound ones are read, hostile ones are refused, no pickle is loaded."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from hec.compiler import cli_arrays
from hec.compiler.cli_arrays import load_arrays, save_arrays
from hec.compiler.errors import CompileError

FORMS = "  help: give a .npy or .npz file, as numpy.save and numpy.savez write them"
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def complaint(path: Path) -> str:
    with pytest.raises(CompileError) as error:
        load_arrays(path)
    return str(error.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_one_array_comes_back_without_a_name(name: str, tmp_path: Path) -> None:
    save_arrays(tmp_path / name, VALUES)
    assert np.array_equal(np.load(tmp_path / name)["output"] if "z" in name else VALUES, VALUES)
    assert np.array_equal(load_arrays(tmp_path / name), VALUES)


def test_several_arrays_keep_names_that_numpy_could_not_write(tmp_path: Path) -> None:
    values = {"file": VALUES, "layer/0:y": VALUES + 1}
    save_arrays(tmp_path / "y.npz", values)
    found = load_arrays(tmp_path / "y.npz")
    assert isinstance(found, dict)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in values.items()
    }


def test_fortran_order_and_compressed_files_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.asfortranarray(VALUES))
    assert np.array_equal(load_arrays(tmp_path / "x.npz"), VALUES)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    expected = f"the file holds Python objects, which are never read\n  --> x.npy\n{FORMS}"
    assert complaint(tmp_path / "x.npy") == expected
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    assert complaint(tmp_path / "x.npz") == expected.replace("x.npy", "x.npz: a")


def test_a_header_that_promises_too_much_costs_no_memory(tmp_path: Path) -> None:
    lie = npy(VALUES).replace(b"(3, 4), }      ", b"(3, 4000000), }")
    (tmp_path / "x.npy").write_bytes(lie)
    message = "the file is damaged: it promises an array of shape (3, 4000000), and ends before"
    assert complaint(tmp_path / "x.npy") == f"{message}\n  --> x.npy\n{FORMS}"


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(10**6))
    monkeypatch.setattr(cli_arrays, "MAX_UNPACKED", 10**6)
    assert complaint(tmp_path / "x.npz") == (
        "the arrays unpack to 8000128 bytes; at most 1000000 are read\n"
        "  --> x.npz\n  help: give fewer samples"
    )


def test_any_damage_is_a_compile_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=VALUES, b=VALUES)
    random = np.random.default_rng(0)
    for data in (npy(VALUES), (tmp_path / "x.npz").read_bytes()):
        for _ in range(300):
            broken = bytearray(data)
            for position in random.integers(0, len(data), 3):
                broken[position] = random.integers(0, 256)
            (tmp_path / "broken").write_bytes(broken[: random.integers(0, len(data) + 1)])
            with suppress(CompileError):
                load_arrays(tmp_path / "broken")


def test_an_archive_of_other_things_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "hello, this is no array")
    assert complaint(tmp_path / "x.npz").startswith("the file is damaged: the magic string")
