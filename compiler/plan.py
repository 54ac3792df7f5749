"""Plan: what a compilation leaves behind, in one file with two parts.

The client part is all that the data owner needs: parameters, where each input goes, which keys to
make, how to read the result; it holds no weight. The server part is the Program with its matrices.
Both carry one id, derived from all of the content, so that keys and messages can name their plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final, TypeAlias

from hec.compiler import archive
from hec.compiler.archive import Format, Part
from hec.compiler.checked_json import Node
from hec.compiler.plan_parts import ClientPart, ServerPart
from hec.compiler.plan_rules import check_client, check_server
from hec.compiler.record import AnyArray, Record, decode, encode

FORMAT: Final = Format("hec plan", 3, {"client": 2**30, "server": 2**34})  # caps: 1 and 16 GiB
AnyPath: TypeAlias = "str | PathLike[str]"


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled network; make it with `Plan.of`, so that its parts agree on the id."""

    client: ClientPart
    server: ServerPart

    @classmethod
    def of(cls, client: ClientPart, server: ServerPart) -> Plan:
        """Return the plan of two parts, with the id that follows from their content.

        Raise `CompileError` if the parts do not fit together.
        """
        check_client(client, "the new plan")
        check_server(server, client, "the new plan")
        plan_id = archive.content_id(_parts(client, server))
        return cls(replace(client, plan_id=plan_id), server)

    @property
    def plan_id(self) -> str:
        """Hash of the content, 64 hexadecimal digits."""
        return self.client.plan_id

    def save(self, path: AnyPath) -> None:
        """Write both parts to `path`, whole or not at all: the file for the server."""
        archive.write(Path(path), FORMAT, _parts(self.client, self.server), ("client", "server"))

    def save_client(self, path: AnyPath) -> None:
        """Write only the client part to `path`: the file for the data owner."""
        archive.write(Path(path), FORMAT, _parts(self.client, self.server), ("client",))

    @classmethod
    def load(cls, path: AnyPath) -> Plan:
        """Read both parts; raise `CompileError` for any file that `save` did not write."""
        plan_id, parts = archive.read(Path(path), FORMAT, ("client", "server"))
        client = _client(path, plan_id, parts["client"])
        place = f"{path}: server/part.json"
        server = _decode(ServerPart, parts["server"], place)
        check_server(server, client, place)
        return cls(client, server)

    @classmethod
    def load_client(cls, path: AnyPath) -> ClientPart:
        """Read the client part of either file, and no weight."""
        plan_id, parts = archive.read(Path(path), FORMAT, ("client",))
        return _client(path, plan_id, parts["client"])


def _client(path: AnyPath, plan_id: str, part: Part) -> ClientPart:
    place = f"{path}: client/part.json"
    client = replace(_decode(ClientPart, part, place), plan_id=plan_id)
    check_client(client, place)
    return client


def _parts(client: ClientPart, server: ServerPart) -> dict[str, Part]:
    return {"client": _encode(client), "server": _encode(server)}


def _encode(record: ClientPart | ServerPart) -> Part:
    arrays: list[AnyArray] = []
    return Part(encode(record, arrays), arrays)


def _decode(kind: type[Record], part: Part, place: str) -> Record:
    return decode(kind, Node(part.document, f"{place}: "), part.arrays)
