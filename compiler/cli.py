"""The command line: one verb for each thing that a person wants to do."""

from __future__ import annotations

from typing import Annotated

import typer

from hec.compiler.cli_calibrate import calibrate_host
from hec.compiler.cli_check import check
from hec.compiler.cli_compile import compile
from hec.compiler.cli_demo import demo
from hec.compiler.cli_errors import ReportingGroup
from hec.compiler.cli_explain import explain
from hec.compiler.cli_lint import lint
from hec.compiler.cli_report import report
from hec.compiler.cli_roles import decrypt, encrypt, keygen, run

app = typer.Typer(
    cls=ReportingGroup,
    name="hec",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help is fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (compile, lint, report, explain, check, keygen, encrypt, run, decrypt, demo):
    app.command()(command)
app.command("calibrate-host")(calibrate_host)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hec {version('hec')}")
        raise typer.Exit


@app.callback()
def hec(
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Predict on encrypted data: compile ONNX networks to CKKS programs, and run them.

    \b
    hec compile model.onnx -o model.hec --calibration samples.npz
    hec check model.hec --data samples.npz --labels y.npy --encrypted 3
    hec demo
    """


def main() -> None:
    """Run the command line."""
    app(prog_name="hec")


if __name__ == "__main__":
    main()
