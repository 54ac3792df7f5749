"""What a plan costs and how exact it will be, as data: one content for every face of the report.

Nothing is encrypted: types, counts and the forecast follow from the Program. Seconds are those of a
cost table's machine: of one thread for SEAL, of two for OpenFHE. `report_schema` makes JSON of it,
`report_html` a page, `cli_report_tables` tables for the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hec.compiler.alternative import Alternative
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.errors import InvalidProgram
from hec.compiler.instance_report import (
    KeysReport,
    ParametersReport,
    TensorReport,
    key_bytes,
    keys_report,
    parameters_report,
    tensor_report,
)
from hec.compiler.memory import count_keys
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart
from hec.compiler.quantities import duration
from hec.compiler.server_report import ServerReport, server_report


@dataclass(frozen=True)
class Report:
    """A plan in numbers."""

    model: Annotated[str, "name of the ONNX file"]
    plan_id: Annotated[str, "hash of the plan's content, 64 hexadecimal digits"]
    backend: Annotated[str, "that the plan is made for"]
    parameters: Annotated[ParametersReport, "the CKKS instance"]
    depth: Annotated[int, "levels from fresh inputs to outputs; 0 where bootstraps raise them"]
    precision_bits: Annotated[float, "promised for the outputs: -log2 of their absolute error"]
    inputs: Annotated[tuple[TensorReport, ...], "what the client encrypts and sends"]
    outputs: Annotated[tuple[TensorReport, ...], "what it receives and decrypts"]
    request_bytes: Annotated[int, "of all inputs, for each prediction"]
    reply_bytes: Annotated[int, "of all outputs, for each prediction"]
    keys: Annotated[int, "number of evaluation keys"]
    key_bytes: Annotated[int, "of the file of evaluation keys, about; sent once"]
    key_kinds: Annotated[KeysReport, "the same keys, by what they are for"]
    server: Annotated[ServerReport | None, "null: the file holds only the client's part"]
    advice: Annotated[
        tuple[Alternative, ...] | None,
        "changes that make it cheaper or more exact, the best first; null: none was compiled",
    ] = None

    def __repr__(self) -> str:
        seconds = "" if self.server is None else f", {duration(self.server.seconds)}"
        return f"<Report of {self.model}, plan {self.plan_id[:12]}{seconds}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the page of the report, in a frame."""
        from hec.compiler.report_html import frame

        return frame(self)

    @property
    def threads(self) -> str:
        """How many threads the forecast is for, in words."""
        return "two threads" if self.backend == "openfhe" else "one thread"


def server_of(told: Report) -> ServerReport:
    """Return what only the server's part of a whole plan tells."""
    if told.server is None:
        raise InvalidProgram("a whole plan has a server part")
    return told.server


def report(plan: Plan | ClientPart, table: CostTable = REFERENCE) -> Report:
    """Return the report of a plan, or of the client's part alone, in seconds of `table`."""
    client = plan.client if isinstance(plan, Plan) else plan
    parameters = client.parameters
    top = max(item.level for item in client.inputs)
    inputs = tuple(tensor_report(item, parameters) for item in client.inputs)
    outputs = tuple(tensor_report(item, parameters) for item in client.outputs)
    return Report(
        model=client.model,
        plan_id=client.plan_id,
        backend=client.backend,
        parameters=parameters_report(parameters),
        depth=max(0, top - min(item.level for item in client.outputs)),
        precision_bits=client.precision,
        inputs=inputs,
        outputs=outputs,
        request_bytes=sum(item.bytes for item in inputs),
        reply_bytes=sum(item.bytes for item in outputs),
        keys=count_keys(parameters, client.keys),
        key_bytes=key_bytes(client),
        key_kinds=keys_report(client),
        server=server_report(plan.server, table) if isinstance(plan, Plan) else None,
        advice=plan.server.advice if isinstance(plan, Plan) else None,
    )
