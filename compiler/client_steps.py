"""What the client computes on plain numbers, beside softmax and arg-max: scaling, norms, labels.

After decryption a step costs nothing and is exact; before encryption, too. `Affine` and `Normalize`
may stand on both sides, the others only after decryption. A step is data, which plans carry as
JSON, and a function on arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]
Norm = Literal["max", "l1", "l2"]

MAX_PICKED = 2**20  # elements of the result of an `Affine`
MAX_TEXT = 1000  # characters of one label: every label in an array of texts takes as many


@dataclass(frozen=True)
class Classes:
    """What classes are called, in their order: whole numbers, or texts."""

    numbers: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers) + len(self.texts)

    def __str__(self) -> str:
        return ", ".join(map(str, self.names))

    @property
    def names(self) -> tuple[int, ...] | tuple[str, ...]:
        """Return the labels."""
        return self.texts or self.numbers

    def chosen(self, positions: AnyArray) -> AnyArray:
        """Return the labels at `positions`, an array of any shape: int64, or texts."""
        flat = [int(position) for position in positions.reshape(-1)]
        if self.texts:
            return np.array([self.texts[k] for k in flat], np.str_).reshape(positions.shape)
        return np.array([self.numbers[k] for k in flat], np.int64).reshape(positions.shape)

    def problem(self) -> str:
        """Return what is wrong with the labels, or nothing."""
        if not len(self):
            return "there are no class labels"
        if self.numbers and self.texts:
            return "class labels are both numbers and texts"
        if any(not -(2**63) <= number < 2**63 for number in self.numbers):
            return "a class label does not fit 64 bits"
        if any(len(text) > MAX_TEXT for text in self.texts):
            return f"a class label is longer than {MAX_TEXT:,} characters"
        if not all(map(_is_plain, self.texts)):
            return "a class label is no text that could be written"
        return ""


def _is_plain(text: str) -> bool:
    """Return whether numpy, files and terminals keep the text as it is."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


@dataclass(frozen=True)
class Affine:
    """Element i of the result is weights[i] * x[columns[i]] + bias[i], x counted row by row."""

    name: ClassVar[str] = "affine"
    columns: tuple[int, ...]
    weights: tuple[float, ...]
    bias: tuple[float, ...]
    shape: tuple[int, ...]

    def __call__(self, values: AnyArray) -> AnyArray:
        """Return the result in `shape`."""
        picked = np.asarray(values, np.float64).reshape(-1)[list(self.columns)]
        return np.asarray(picked * self.weights + self.bias).reshape(self.shape)


@dataclass(frozen=True)
class Normalize:
    """Divide by the largest element, the sum of magnitudes, or the length, along the last axis.

    Where that is 0, nothing changes. As ONNX has it, "max" is not the largest magnitude.
    """

    name: ClassVar[str] = "normalize"
    norm: Norm

    def __call__(self, values: AnyArray) -> AnyArray:
        """Return the quotients."""
        x = np.asarray(values, np.float64)
        norms = self._norms(x)
        return np.asarray(x / np.where(norms == 0.0, 1.0, norms))

    def _norms(self, x: Array) -> Array:
        match self.norm:
            case "max":
                return np.asarray(x.max(axis=-1, keepdims=True))
            case "l1":
                return np.asarray(np.abs(x).sum(axis=-1, keepdims=True))
            case "l2":
                largest = np.abs(x).max(axis=-1, keepdims=True)  # its square might overflow
                scaled = x / np.where(largest == 0.0, 1.0, largest)
                return np.asarray(largest * np.sqrt((scaled**2).sum(axis=-1, keepdims=True)))
            case _:
                assert_never(self.norm)


@dataclass(frozen=True)
class Label:
    """The positions of classes become their labels."""

    name: ClassVar[str] = "label"
    classes: Classes

    def __call__(self, values: AnyArray) -> AnyArray:
        """Return the labels in the shape of `values`."""
        return self.classes.chosen(values)


@dataclass(frozen=True)
class Columns:
    """Change nothing; tell which class each element of the last axis belongs to."""

    name: ClassVar[str] = "columns"
    classes: Classes

    def __call__(self, values: AnyArray) -> AnyArray:
        """Return `values`."""
        return values


PrologueStep: TypeAlias = Affine | Normalize


def prepared(samples: AnyArray, shape: Sequence[int], steps: Iterable[PrologueStep]) -> Array:
    """Return (samples, elements) values after the steps that the client takes before encryption.

    `shape` is that of one sample.
    """
    flat = np.asarray(samples, np.float64).reshape(len(samples), -1)
    for step in steps:
        flat = np.stack([step(row.reshape(shape)).reshape(-1) for row in flat]).astype(np.float64)
    return flat
