"""Models that live in Python: torch modules and scikit-learn estimators, as ONNX networks.

Each goes through the exporter of its own world, so hec knows one kind of model only. Neither
library is imported to find out what an object is: whoever has such an object has imported it.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol, TypeAlias

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from hec.compiler.errors import CompileError, fail

AnyArray = NDArray[np.generic]
Samples: TypeAlias = "AnyArray | Mapping[str, AnyArray]"
Example: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class TorchModule(Protocol):
    """What hec uses of `torch.nn.Module`."""

    training: bool

    def modules(self) -> Iterable[TorchModule]:
        """Return the module and all below it."""

    def eval(self) -> object:
        """Switch to inference."""


class Estimator(Protocol):
    """What tells a fitted `sklearn.base.BaseEstimator`."""

    def get_params(self, deep: bool = ...) -> Mapping[str, object]:
        """Return the parameters."""


PythonModel: TypeAlias = TorchModule | Estimator


@dataclass(frozen=True, eq=False)
class Exported:
    """A network, and the samples of its inputs that came with the model."""

    network: onnx.ModelProto
    samples: Samples | None


def as_samples(given: Example | None) -> Samples | None:
    """Return numpy arrays."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    return np.asarray(given)


def export(model: object, example: Example | None) -> Exported:
    """Return the network that the exporter of `model` writes.

    Of a torch module, `example` is a batch for `forward`, a tuple of them, or one by argument; the
    first sample gives the shapes. Of a scikit-learn estimator, it is the training data. Raise
    `CompileError` for other objects, and where an exporter is missing or refuses.
    """
    torch, sklearn = sys.modules.get("torch"), sys.modules.get("sklearn.base")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _from_torch(torch, model, example)
    if sklearn is not None and isinstance(model, sklearn.BaseEstimator):
        return _from_sklearn(model, example)
    raise fail(
        f"a model of type {_kind(model)} is not supported",
        "hec.compile",
        "give an ONNX file, its bytes, a ModelProto, a torch module, or a scikit-learn estimator",
    )


def _kind(model: object) -> str:
    return type(model).__name__


def _from_torch(torch: ModuleType, module: TorchModule, example: Example | None) -> Exported:
    place = f"torch module {_kind(module)}"
    if example is None:
        raise fail(
            "an example is needed to export a torch module",
            place,
            "give a batch of real inputs: hec.compile(module, example)",
        )
    batches = _batches(module, example, place)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        network = _torch_network(torch, module, batches, place)
    finally:
        for part, training in modes:
            part.training = training
    calibrates = min(len(batch) for batch in batches.values()) > 1
    return Exported(network, batches if calibrates else None)


def _batches(module: TorchModule, example: Example, place: str) -> dict[str, AnyArray]:
    """Return the inputs by the name of their argument."""
    names = list(inspect.signature(getattr(module, "forward", module.eval)).parameters)
    if isinstance(example, Mapping):
        given = [(name, example[name]) for name in names if name in example]
        unknown = sorted(set(map(str, example)) - set(names))
        if unknown:
            raise fail(
                f"forward has no argument '{unknown[0]}'", place, f"its arguments: {_quoted(names)}"
            )
    else:
        values = example if isinstance(example, tuple) else (example,)
        more = [f"input_{k}" for k in range(len(names), len(values))]
        given = list(zip([*names, *more], values, strict=False))
    batches = {name: _plain(value) for name, value in given}
    if not batches or any(batch.ndim == 0 or len(batch) == 0 for batch in batches.values()):
        raise fail("the example holds no samples", place, "give arrays whose first axis is a batch")
    return batches


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _plain(value: ArrayLike) -> AnyArray:
    """Return a numpy array; a tensor may need gradients, or lie on another device."""
    detach = getattr(value, "detach", None)
    return np.asarray(value if detach is None else detach().cpu().numpy())


def _torch_network(
    torch: ModuleType, module: TorchModule, batches: Mapping[str, AnyArray], place: str
) -> onnx.ModelProto:
    like = next(iter(getattr(module, "parameters", tuple)()), None)
    dtype, device = getattr(like, "dtype", torch.float32), getattr(like, "device", None)
    first = tuple(
        torch.as_tensor(batch[:1], dtype=dtype, device=device) for batch in batches.values()
    )
    with tempfile.TemporaryDirectory(prefix="hec-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(module, first, str(path), input_names=list(batches), verbose=False)
        except ImportError as error:
            raise fail(
                f"torch.onnx.export needs a package that is not installed: {error.name}",
                place,
                f"pip install {error.name}",
            ) from error
        except Exception as error:  # torch has exceptions of its own
            raise _refused("torch.onnx.export", error, place) from error
        network = onnx.load(path)
    network.graph.name = _kind(module)
    return network


def _from_sklearn(estimator: object, data: Example | None) -> Exported:
    place = f"estimator {_kind(estimator)}"
    if data is None:
        raise fail(
            "the training data is needed to export an estimator",
            place,
            "give it: hec.compile(estimator, X)",
        )
    try:
        from skl2onnx import to_onnx
    except ImportError as error:
        raise fail(
            "scikit-learn estimators are read through skl2onnx, which is not installed",
            place,
            'pip install "hec[sklearn]"',
        ) from error
    table, columns = _table(data, place)
    try:
        network = _sklearn_network(to_onnx, estimator, table[:1])
    except Exception as error:  # skl2onnx and scikit-learn have exceptions of their own
        raise _refused("skl2onnx", error, place) from error
    if columns is None:
        return Exported(network, np.asarray(table))
    names = [info.name for info in network.graph.input]
    return Exported(network, dict(zip(names, columns, strict=True)))


def _sklearn_network(
    to_onnx: Callable[..., onnx.ModelProto], estimator: object, sample: object
) -> onnx.ModelProto:
    try:
        return to_onnx(estimator, sample)
    except NameError:  # skl2onnx 1.20 has no ZipMap for a LinearSVC that ends a pipeline
        return to_onnx(estimator, sample, options={"nocl": True})


def _table(data: Example, place: str) -> tuple[AnyArray, list[AnyArray] | None]:
    """Return float32 features, and of a data frame the columns, which are inputs of their own."""
    try:
        if hasattr(data, "columns") and hasattr(data, "astype"):
            frame = data.astype(np.float32)
            return frame, [np.asarray(frame[name])[:, None] for name in frame.columns]
        table = np.asarray(data, np.float32)
    except (ValueError, TypeError) as error:
        raise fail(
            f"the training data holds more than numbers: {_first_line(error)}",
            place,
            "encode categories and fill in missing values before, and encrypt numbers only",
        ) from None
    if table.ndim != 2 or not table.size:
        raise fail(
            f"the training data has shape {table.shape}",
            place,
            "give an array of shape (samples, features)",
        )
    return table, None


def _refused(exporter: str, error: Exception, place: str) -> CompileError:
    return fail(
        f"{exporter} refuses the model: {_first_line(error)}",
        place,
        "export it by hand, and compile the .onnx file",
    )


def _first_line(error: BaseException) -> str:
    """Return the first line of what went wrong first, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    plain = _COLOUR.sub("", str(error)).strip()
    return (plain or type(error).__name__).splitlines()[0]
