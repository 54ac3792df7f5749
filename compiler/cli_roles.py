"""`hec keygen`, `encrypt`, `decrypt` for the data owner, and `hec run` for the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hec.compiler.cli_files import check_output
from hec.compiler.cli_terminal import progress, size
from hec.compiler.cli_trace import check_trace, show_trace, traced

if TYPE_CHECKING:
    from hec.compiler.plan_parts import ClientPart

PlanFile = Annotated[Path, typer.Argument(help="the plan, or the client's part of it")]
KeyFolder = Annotated[Path, typer.Option(help="the folder that hec keygen made")]
SLACK_BYTES: Final = 2**20  # of a message's header


def keygen(
    plan: PlanFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="a new folder for the keys")],
) -> None:
    """Make a secret key, and evaluation keys for the server.

    \b
    Example:
      hec keygen model.hec -o keys/
    """
    from hec.compiler.plan import Plan
    from hec.runtime import keys
    from hec.runtime.client import Client

    part = Plan.load_client(plan)
    keys.make_folder(output)
    with progress() as show:
        show("keys", 0, 0)
        Client(part).save(output)
    typer.echo(f"{output / keys.SECRET_FILE}: stays here; whoever has it reads everything")
    evaluation = output / keys.EVALUATION_FILE
    typer.echo(f"{evaluation}: for the server, {size(evaluation.stat().st_size)}")


def encrypt(
    plan: PlanFile,
    data: Annotated[Path, typer.Argument(help="one sample, .npy, or .npz by input name")],
    keys: KeyFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="the message to write")],
) -> None:
    """Encrypt one sample.

    \b
    Example:
      hec encrypt model.hec --keys keys/ x.npy -o x.enc
    """
    from hec.compiler.cli_arrays import load_arrays
    from hec.compiler.plan import Plan
    from hec.runtime.client import Client

    check_output(output, [plan, data])
    part = Plan.load_client(plan)
    client = Client.load(part, keys)
    values = load_arrays(data)
    if not isinstance(values, dict) and len(part.inputs) == 1:
        values = {part.inputs[0].name: values}
    _write(output, client.encrypt(values))


def run(
    plan: Annotated[Path, typer.Argument(help="the plan, with its weights")],
    message: Annotated[Path, typer.Argument(help="what hec encrypt wrote")],
    keys: Annotated[Path, typer.Option(help="the client's evaluation.key")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the message to write")],
    max_ram: Annotated[
        str | None, typer.Option(help="memory that the server may take, such as 16G [12.5G]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="cores at most, for SEAL [all, where that pays]")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="write where time went, a .json for ui.perfetto.dev")
    ] = None,
) -> None:
    """Predict on an encrypted sample; needs no secret.

    \b
    Example:
      hec run model.hec --keys keys/evaluation.key x.enc -o y.enc --trace trace.json
    """
    from hec.compiler.atomic_file import read_bounded
    from hec.compiler.cli_options import memory_limit
    from hec.compiler.memory import DEFAULT_MAX_RAM
    from hec.compiler.plan import Plan
    from hec.compiler.report import report
    from hec.runtime.server import Server

    check_output(output, [plan, message, keys])
    if trace is not None:
        check_trace(trace, output, [plan, message, keys])
    memory = memory_limit(max_ram) or DEFAULT_MAX_RAM
    with progress(moves=False) as show:
        show("load", 0, 0)
        loaded = Plan.load(plan)
        limit = 4 * sum(item.bytes for item in report(loaded.client).inputs) + SLACK_BYTES
        request = read_bounded(message, limit, "encrypted input")
        show("encode weights", 0, 0)
        with Server(loaded, keys, max_ram=memory, workers=workers) as server:
            show("predict", 0, 0)
            recorded = None if trace is None else traced(loaded, server.workers)
            reply = server.run(request, str(message), recorded)
    _write(output, reply)
    if trace is not None and recorded is not None:
        show_trace(recorded, trace)


def decrypt(
    plan: PlanFile,
    message: Annotated[Path, typer.Argument(help="what hec run wrote")],
    keys: KeyFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help=".npy, or .npz by output name")],
) -> None:
    """Decrypt a prediction.

    \b
    Example:
      hec decrypt model.hec --keys keys/ y.enc -o y.npy
    """
    from hec.compiler.atomic_file import read_bounded
    from hec.compiler.cli_arrays import save_arrays
    from hec.compiler.plan import Plan
    from hec.compiler.report import report
    from hec.runtime.client import Client

    check_output(output, [plan, message])
    part = Plan.load_client(plan)
    client = Client.load(part, keys)
    _check_suffix(output, part)
    limit = 2 * sum(item.bytes for item in report(part).outputs) + SLACK_BYTES
    values = client.decrypt(read_bounded(message, limit, "encrypted output"), str(message))
    save_arrays(output, values)


def _check_suffix(output: Path, part: ClientPart) -> None:
    from hec.compiler.errors import fail

    allowed = (".npz",) if len(part.outputs) > 1 else (".npy", ".npz")
    if output.suffix not in allowed:
        raise fail(
            f"{len(part.outputs)} output arrays cannot be written to '{output.suffix}'",
            str(output),
            f"give a path that ends in {' or '.join(allowed)}",
        )


def _write(path: Path, data: bytes) -> None:
    from hec.compiler.atomic_file import atomic_file

    with atomic_file(path) as file:
        file.write(data)
    typer.echo(f"{path}: {size(len(data))}")
