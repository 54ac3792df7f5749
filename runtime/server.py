"""The service owner: computes on ciphertexts with weights and evaluation keys, never a secret."""

from __future__ import annotations

from tenseal import sealapi as seal

from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput
from hec.runtime import container, executor, keys
from hec.runtime.input_checks import check_names
from hec.runtime.tenseal_backend import TensealBackend
from hec.runtime.tenseal_context import TensealContext, to_bytes


class Server:
    """A plan with one client's evaluation keys, and its plaintexts encoded; not for two threads.

    Raise `CompileError`, naming `place`, for a secret key, or for keys of another plan.
    """

    def __init__(self, plan: Plan, evaluation_keys: bytes, place: str = "") -> None:
        self.plan = plan
        self._context = TensealContext(plan.client.parameters)
        backend = _backend(plan, self._context, evaluation_keys, place or "evaluation keys")
        self._prepared = executor.prepare(plan.server.program, backend)

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

    def _load(self, item: PlanInput, blobs: tuple[bytes, ...], place: str) -> list[seal.Ciphertext]:
        place = f"{place}: tensor '{item.name}'"
        load = self._context.load_ciphertext
        return [load(blob, item.level, item.scale, place) for blob in blobs]

    def _save(self, x: seal.Ciphertext, level: int) -> bytes:
        return to_bytes(x, self._context.ciphertext_bytes(level))


def _backend(plan: Plan, context: TensealContext, data: bytes, place: str) -> TensealBackend:
    manifest = plan.client.keys
    relin_bytes, galois_bytes = keys.unpack_evaluation_keys(plan.client, data, place)
    relin = galois = None
    if manifest.relinearization:
        relin = context.load(seal.RelinKeys(), relin_bytes, "relinearization key", place)
    if manifest.rotations:
        galois = context.load(seal.GaloisKeys(), galois_bytes, "rotation keys", place)
    backend = TensealBackend(context, relin, galois)
    if not backend.has_exactly(manifest):
        raise keys.wrong_keys(place)
    return backend
