"""The network itself, run by onnxruntime: what encrypted predictions are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hec.compiler.errors import fail
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanOutput

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_ERRORS_ONLY = 3  # onnxruntime's log severity


class ClearModel:
    """An onnxruntime session; raise `CompileError` where onnxruntime refuses the model."""

    def __init__(self, model: Path | bytes, name: str) -> None:
        import onnxruntime

        self.name = name
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has exceptions of its own
            raise self._refused("load", error) from None

    @classmethod
    def of_plan(cls, plan: Plan) -> ClearModel:
        """Return the model that the plan was compiled from."""
        if not plan.server.onnx.size:
            raise fail(
                "the plan holds no copy of its network: the file would be over 2 GiB",
                plan.client.model,
                "give the network that was compiled with --model",
            )
        return cls(plan.server.onnx.tobytes(), plan.client.model)

    @classmethod
    def of_file(cls, path: Path) -> ClearModel:
        """Return the model in an .onnx file."""
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise fail(f"the model file {what}", str(path), "give the path of an .onnx file")
        return cls(path, path.name)

    def predict(
        self,
        plan: Plan,
        arrays: Mapping[str, Array],
        progress: Callable[[int], None] = lambda done: None,
    ) -> dict[str, AnyArray]:
        """Return the plan's outputs for (samples, elements) arrays, one sample at a time.

        The first axis of a result counts samples. One by one, because the batch axis of a network
        need not be free.
        """
        self._check(plan)
        names = [output.name for output in plan.client.outputs]
        shapes = {item.name: item.shape for item in plan.client.inputs}
        types = {item.name: _DTYPES[item.type] for item in self._session.get_inputs()}
        outputs = plan.client.outputs
        columns: dict[str, list[AnyArray]] = {name: [] for name in names}
        for number in range(len(next(iter(arrays.values())))):
            feed = {n: arrays[n][number].reshape(shapes[n]).astype(types[n]) for n in shapes}
            try:
                results = self._session.run(names, feed)
            except Exception as error:  # onnxruntime has exceptions of its own
                raise self._refused("run", error) from None
            for output, result in zip(outputs, results, strict=True):
                columns[output.name].append(self._array(result, output))
            progress(number + 1)
        return {name: np.stack(column) for name, column in columns.items()}

    def _array(self, result: object, output: PlanOutput) -> AnyArray:
        """Return a result as an array: texts, numbers, or a row for each map of a ZipMap."""
        if isinstance(result, list):
            names = () if output.classes is None else output.classes.names
            if not all(isinstance(row, dict) and row.keys() == set(names) for row in result):
                raise fail(
                    f"the output '{output.name}' has other classes than the plan",
                    self.name,
                    "give the network that was compiled with --model",
                )
            return np.array([[row[name] for name in names] for row in result])
        array = np.asarray(result)
        return array.astype(np.str_) if array.dtype.kind == "O" else array

    def _check(self, plan: Plan) -> None:
        """Raise `CompileError` unless the model has the inputs and outputs of the plan."""
        found = [{i.name for i in self._session.get_inputs()}]
        found.append({o.name for o in self._session.get_outputs()})
        expected = [{i.name for i in plan.client.inputs}, {o.name for o in plan.client.outputs}]
        known = all(item.type in _DTYPES for item in self._session.get_inputs())
        if found[0] != expected[0] or not expected[1] <= found[1] or not known:
            raise fail(
                f"the network is not the one that was compiled, {plan.client.model}",
                f"{self.name}: inputs {quoted(found[0])}, outputs {quoted(found[1])}",
                f"the plan has inputs {quoted(expected[0])}, outputs {quoted(expected[1])}",
            )

    def _refused(self, what: str, error: Exception) -> Exception:
        reason = str(error).strip().partition("\n")[0]
        hint = "give the .onnx file that was compiled, and check that onnxruntime runs it"
        return fail(f"onnxruntime cannot {what} the network: {reason}", self.name, hint)


def quoted(names: set[str]) -> str:
    """Return names in quotes, sorted."""
    return ", ".join(f"'{name}'" for name in sorted(names))
