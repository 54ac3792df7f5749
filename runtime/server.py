"""The service owner: computes on ciphertexts with weights and evaluation keys, never a secret."""

from __future__ import annotations

from typing import Final

from tenseal import sealapi as seal

from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput
from hec.runtime import container, executor, keys
from hec.runtime.input_checks import check_names
from hec.runtime.tenseal_backend import TensealBackend
from hec.runtime.tenseal_context import TensealContext, to_bytes

DEFAULT_CAP: Final = 8 * 2**30  # bytes: what a laptop of 16 GB can spare next to keys and plan


class Server:
    """A plan with one client's evaluation keys, and its plaintexts encoded; not for two threads.

    Up to `cap` bytes of encoded diagonals are kept; the others are encoded anew for every
    prediction. Raise `CompileError`, naming `place`, for a secret key, or for keys of another plan.
    """

    def __init__(
        self,
        plan: Plan,
        evaluation_keys: bytes,
        place: str = "",
        cap: float = DEFAULT_CAP,
    ) -> None:
        self.plan = plan
        self._context = TensealContext(plan.client.parameters)
        backend = _backend(plan, self._context, evaluation_keys, place or "evaluation keys")
        self._prepared = executor.prepare(plan.server.program, backend, cap)

    def run(self, data: bytes, place: str = "") -> bytes:
        """Return the encrypted output of an encrypted input.

        Raise `CompileError`, naming `place`, unless `data` was encrypted for this plan.
        """
        part = self.plan.client
        place = place or "encrypted input"
        blobs = container.unpack(data, "encrypted input", part, place)
        counts = {item.name: item.layout.blocks for item in part.inputs}
        check_names({name: len(b) for name, b in blobs.items()}, counts, place)
        inputs = {item.name: self._load(item, blobs[item.name], place) for item in part.inputs}
        results = executor.run(self._prepared, inputs)
        answers = {
            item.name: tuple(self._save(block, item.level) for block in results[item.name])
            for item in part.outputs
        }
        return container.pack("encrypted output", part, answers)

    def _load(
        self, item: PlanInput, blobs: tuple[container.Blob, ...], place: str
    ) -> list[seal.Ciphertext]:
        place = f"{place}: tensor '{item.name}'"
        load = self._context.load_ciphertext
        return [load(blob, item.level, item.scale, place) for blob in blobs]

    def _save(self, x: seal.Ciphertext, level: int) -> bytes:
        return to_bytes(x, self._context.ciphertext_bytes(level))


def _backend(plan: Plan, context: TensealContext, data: bytes, place: str) -> TensealBackend:
    manifest = plan.client.keys
    relin_bytes, galois_bytes = keys.unpack_evaluation_keys(plan.client, data, place)
    relin = None
    if manifest.relinearization:
        relin = context.load(seal.RelinKeys(), relin_bytes, "relinearization key", place)
    galois = tuple(
        context.load(seal.GaloisKeys(), group, "rotation keys", place) for group in galois_bytes
    )
    backend = TensealBackend(context, relin, galois)
    if not backend.has_exactly(manifest):
        raise keys.wrong_keys(place)
    return backend
