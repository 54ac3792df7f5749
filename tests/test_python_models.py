"""Torch modules as models: what the exporter is asked for, and what comes of it.

Torch itself is too large for the tests; a stand-in records the call, and writes a network.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import hec
from hec.compiler.errors import CompileError
from hec.compiler.python_models import export
from onnx_oracle import network, node, random

DENSE = network([node("Gemm", "image,w,b")], {"image": (1, 3)}, {"w": random(3, 2), "b": random(2)})
ADDED = network([node("Sub", "left,right")], {"left": (1, 3), "right": (1, 3)})


class Tensor(np.ndarray[Any, Any]):
    """An array that must be detached before numpy may read it."""

    def detach(self) -> Any:
        array = self.view(np.ndarray)
        return SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: array))

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("detach this tensor first")


class Module:
    """Stands for torch.nn.Module; its forward has two arguments."""

    def __init__(self, *parts: Module, training: bool = True) -> None:
        self.parts, self.training = parts, training

    def modules(self) -> list[Module]:
        return [self, *(below for part in self.parts for below in part.modules())]

    def eval(self) -> None:
        for part in self.modules():
            part.training = False

    def parameters(self) -> Any:
        return iter([SimpleNamespace(dtype="float16", device="gpu")])

    def forward(self, left: object, right: object = None) -> None: ...


class Image(Module):
    def forward(self, image: object) -> None: ...


class FakeTorch(ModuleType):
    """Records what it is asked to export, and writes `network`, or raises `error`."""

    float32 = "float32"

    def __init__(self, network: onnx.ModelProto, error: Exception | None = None) -> None:
        super().__init__("torch")
        self.nn = SimpleNamespace(Module=Module)
        self.onnx = SimpleNamespace(export=self._export)
        self.network, self.error = network, error
        self.calls: list[Mapping[str, Any]] = []

    @staticmethod
    def as_tensor(array: Any, dtype: object, device: object) -> Any:
        return SimpleNamespace(array=array, dtype=dtype, device=device)

    def _export(self, module: Module, inputs: Any, path: str, **options: Any) -> None:
        modes = [part.training for part in module.modules()]
        self.calls.append({"inputs": inputs, "modes": modes, **options})
        if self.error is not None:
            raise self.error
        copy = onnx.ModelProto()
        copy.CopyFrom(self.network)  # saving moves the weights out of it
        onnx.save(copy, path, save_as_external_data=True, size_threshold=0)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch(DENSE)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def refused(model: object, example: Any = None) -> str:
    with pytest.raises(CompileError) as caught:
        hec.compile(model, example)
    return str(caught.value)


def test_a_module_gives_the_plan_of_its_onnx_file(torch: FakeTorch, tmp_path: Path) -> None:
    samples = random(50, 3)
    found = hec.compile(Image(), samples)
    onnx.save(DENSE, tmp_path / "dense.onnx")
    expected = hec.compile(tmp_path / "dense.onnx", calibration=samples)
    assert found.client.parameters == expected.client.parameters
    assert found.client.inputs[0].interval == expected.client.inputs[0].interval
    np.testing.assert_array_equal(
        hec.simulate(found, samples[:5]), hec.simulate(expected, samples[:5])
    )
    assert found.client.model == "Image"


def test_the_first_sample_of_the_example_is_exported(torch: FakeTorch) -> None:
    batch = random(4, 3).astype(np.float64)
    exported = export(Image(), batch)
    (call,) = torch.calls
    (given,) = call["inputs"]
    np.testing.assert_array_equal(given.array, batch[:1])
    assert (given.dtype, given.device) == ("float16", "gpu")  # those of the module
    assert call["input_names"] == ["image"] and call["verbose"] is False
    np.testing.assert_array_equal(exported.samples["image"], batch)  # type: ignore[index,call-overload]


def test_a_module_is_exported_for_inference_and_stays_as_it_was(torch: FakeTorch) -> None:
    module = Image(Module(training=False), Module(training=True))
    export(module, random(2, 3))
    assert torch.calls[0]["modes"] == [False] * 3
    assert [part.training for part in module.modules()] == [True, False, True]
    torch.error = RuntimeError("no")
    with pytest.raises(CompileError):
        export(module, random(2, 3))
    assert [part.training for part in module.modules()] == [True, False, True]


def test_one_sample_does_not_calibrate(torch: FakeTorch) -> None:
    assert export(Image(), random(1, 3)).samples is None
    with pytest.warns(match="no calibration data"):
        hec.compile(Image(), random(1, 3))


def test_calibration_may_be_given_beside_the_example(torch: FakeTorch) -> None:
    samples = 10 * random(20, 3)
    plan = hec.compile(Image(), random(1, 3), calibration=samples)
    low, high = plan.client.inputs[0].interval
    assert low < samples.min() and samples.max() < high


@pytest.mark.parametrize(
    "example",
    [
        (random(2, 3), random(2, 3, seed=1)),
        {"right": random(2, 3, seed=1), "left": random(2, 3)},
        (random(2, 3).view(Tensor), random(2, 3, seed=1).tolist()),
    ],
)
def test_inputs_are_named_by_the_arguments_of_forward(torch: FakeTorch, example: Any) -> None:
    torch.network = ADDED
    samples = export(Module(), example).samples
    assert isinstance(samples, dict) and list(samples) == ["left", "right"]
    np.testing.assert_allclose(samples["left"], random(2, 3))
    np.testing.assert_allclose(samples["right"], random(2, 3, seed=1))
    assert torch.calls[0]["input_names"] == ["left", "right"]


def test_more_inputs_than_arguments_are_numbered(torch: FakeTorch) -> None:
    example = (random(2, 3), random(2, 3), random(2, 3))
    assert list(export(Module(), example).samples) == ["left", "right", "input_2"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("example", "message", "help"),
    [
        (
            None,
            "an example is needed to export a torch module",
            "give a batch of real inputs: hec.compile(module, example)",
        ),
        (
            np.float32(3),
            "the example holds no samples",
            "give arrays whose first axis is a batch",
        ),
        ((), "the example holds no samples", "give arrays whose first axis is a batch"),
        (
            random(0, 3),
            "the example holds no samples",
            "give arrays whose first axis is a batch",
        ),
        (
            {"image": random(2, 3), "top": random(2, 3)},
            "forward has no argument 'top'",
            "its arguments: 'image'",
        ),
    ],
)
def test_a_useless_example_is_named(
    torch: FakeTorch, example: Any, message: str, help: str
) -> None:
    expected = f"{message}\n  --> torch module Image\n  help: {help}"
    assert refused(Image(), example) == expected
    assert torch.calls == []


def test_what_the_exporter_lacks_is_named(torch: FakeTorch) -> None:
    torch.error = ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")
    assert refused(Image(), random(2, 3)) == (
        "torch.onnx.export needs a package that is not installed: onnxscript\n"
        "  --> torch module Image\n"
        "  help: pip install onnxscript"
    )


def test_what_the_exporter_refuses_is_told_by_its_first_cause(torch: FakeTorch) -> None:
    torch.error = RuntimeError("step 1/3 failed")
    torch.error.__cause__ = ValueError("\x1b[96mdata-dependent\x1b[0m branch\nlong story")
    assert refused(Image(), random(2, 3)) == (
        "torch.onnx.export refuses the model: data-dependent branch\n"
        "  --> torch module Image\n"
        "  help: export it by hand, and compile the .onnx file"
    )


@pytest.mark.parametrize("model", [Image(), 42, None])
def test_other_objects_are_refused(model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert refused(model, random(2, 3)) == (
        f"a model of type {type(model).__name__} is not supported\n"
        "  --> hec.compile\n"
        "  help: give an ONNX file, its bytes, a ModelProto, a torch module, or a scikit-learn "
        "estimator"
    )


def test_lists_calibrate_an_onnx_network_too() -> None:
    samples = random(20, 3)
    expected = hec.compile(DENSE, samples)
    assert hec.compile(DENSE, samples.tolist()).client.inputs[0].interval == pytest.approx(
        expected.client.inputs[0].interval
    )
    assert hec.compile(DENSE, {"image": samples.tolist()}).client.inputs[0].shape == (1, 3)
