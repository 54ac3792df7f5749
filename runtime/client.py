"""The data owner: makes keys, encrypts inputs, decrypts and finishes outputs.

Works from the client part of a plan alone. The secret key stays in this process, and in the folder
that `save` writes; everything else that leaves is bytes for the server.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from math import inf
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hec.compiler.client_steps import prepared
from hec.compiler.errors import fail
from hec.compiler.memory import client_memory, require_memory
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, PlanInput, PlanOutput
from hec.runtime import container, epilogue, keys, sides
from hec.runtime.images import Array, interleaved, separated
from hec.runtime.input_checks import check_names, check_range, checked_samples, same_count

AnyArray = NDArray[np.generic]
Result: TypeAlias = "AnyArray | dict[str, AnyArray]"


class Client:
    """A secret key for one plan; new keys are made unless a `secret` is given."""

    def __init__(self, plan: Plan | ClientPart, secret: sides.Secret | None = None) -> None:
        self.part = _client_part(plan)
        for output in self.part.outputs:
            epilogue.check(output.shape, output.epilogue, f"tensor '{output.name}'")
        self._secret = secret or sides.secret(self.part)

    @classmethod
    def load(cls, plan: Plan | ClientPart, folder: str | PathLike[str]) -> Client:
        """Return the client whose secret key `save` wrote to `folder`, for the same plan."""
        part, folder = _client_part(plan), Path(folder)
        data = keys.read_secret(folder, part)
        place = str(folder / keys.SECRET_FILE)
        return cls(part, sides.secret(part, data, place))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write `secret.key`, for the owner only, and `evaluation.key`, for the server.

        Raise `CompileError` rather than replace a secret key.
        """
        folder = Path(folder)
        keys.make_folder(folder)
        self.save_evaluation_keys(folder / keys.EVALUATION_FILE)
        keys.write_secret(folder, self.part, self._secret.to_bytes())

    def save_evaluation_keys(self, path: str | PathLike[str]) -> None:
        """Write what the server needs to compute, and cannot decrypt with.

        Raise `CompileError` before anything is made if they take more memory than there is.
        """
        memory = client_memory(self.part.parameters, self.part.keys)
        require_memory(memory, inf, f"keys for the plan of {self.part.model}", "who makes them")
        self._secret.write_evaluation_keys(self.part, Path(path))

    def evaluation_keys(self) -> bytes:
        """Return what `save_evaluation_keys` writes; on OpenFHE that may be gigabytes."""
        with tempfile.TemporaryDirectory(prefix="hec-") as folder:  # mode 0700
            path = Path(folder) / keys.EVALUATION_FILE
            self.save_evaluation_keys(path)
            return path.read_bytes()

    def encrypt(self, x: ArrayLike | Mapping[str, ArrayLike]) -> bytes:
        """Return the message that carries one sample: an array, or one array per input name.

        A leading batch axis of 1 may be left out or added. A plan for batches takes that many
        samples or fewer, on the first axis. Values outside the interval that the plan was made for
        give a `HecWarning`; NaN and infinities raise `CompileError`.
        """
        arrays, batch = _by_name(x, self.part.inputs), self.part.parameters.batch
        checked = {i.name: checked_samples(arrays[i.name], i, batch) for i in self.part.inputs}
        images = same_count(checked)
        blobs = {item.name: self._encrypt(item, checked[item.name]) for item in self.part.inputs}
        return container.pack("encrypted input", self.part, blobs, images)

    def decrypt(self, data: bytes, place: str = "") -> Result:
        """Return the output, or all outputs by name where there are several.

        A plan for batches gives every output an axis that counts the samples of the input, first.
        Raise `CompileError`, naming `place`, unless `data` is the server's answer for this plan.
        """
        blobs, images = container.unpack_message(data, "encrypted output", self.part, place)
        counts = {output.name: output.layout.blocks for output in self.part.outputs}
        check_names({name: len(b) for name, b in blobs.items()}, counts, place)
        results = {
            o.name: self._decrypt(o, blobs[o.name], images, place) for o in self.part.outputs
        }
        return results if len(results) > 1 else next(iter(results.values()))

    def _encrypt(self, item: PlanInput, given: Array) -> tuple[bytes, ...]:
        place = f"input '{item.name}'"
        values = prepared(given, item.shape, item.prologue)
        check_range(values, item.interval, place)
        batch, encrypt = self.part.parameters.batch, self._secret.encrypt
        packed = interleaved(item.layout.pack(values / item.divisor), batch)
        return tuple(encrypt(block, item.level, item.scale, place) for block in packed)

    def _decrypt(
        self, item: PlanOutput, blobs: tuple[container.Blob, ...], images: int, place: str
    ) -> AnyArray:
        place = f"{place or 'encrypted output'}: tensor '{item.name}'"
        batch, decrypt = self.part.parameters.batch, self._secret.decrypt
        ring = np.stack([decrypt(blob, item.level, item.scale, place) for blob in blobs])
        values = item.layout.unpack(separated(ring, batch, images)) * item.factor
        if batch == 1:
            return epilogue.apply(values.reshape(item.shape), item.epilogue)
        return epilogue.apply_each(values, item.shape, item.epilogue)


def _client_part(plan: Plan | ClientPart) -> ClientPart:
    return plan.client if isinstance(plan, Plan) else plan


def _by_name(
    x: ArrayLike | Mapping[str, ArrayLike], inputs: tuple[PlanInput, ...]
) -> Mapping[str, ArrayLike]:
    names = [item.name for item in inputs]
    if not isinstance(x, Mapping):
        x = {names[0]: x} if len(names) == 1 else {}
    if set(x) != set(names):
        given = _quoted(sorted(map(str, x))) or "one unnamed array"
        raise fail(
            f"Expected a value for {_quoted(names)}; got {given}",
            "inputs of the model",
            "give a dictionary from input name to array",
        )
    return x


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
