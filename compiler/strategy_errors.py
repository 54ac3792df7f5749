"""Why no way to run a network will do, in the user's words."""

from __future__ import annotations

from hec.compiler.ckks_ir import LinearTransform, Program
from hec.compiler.errors import CompileError, Problem, fail
from hec.compiler.memory import server_memory


def no_batch(problem: CompileError) -> CompileError:
    """Return the error of a network that has no leveled program, and so no batches."""
    first = problem.problems[0]
    return fail(
        f"images cannot share ciphertexts, for that takes a leveled program: {first.message}",
        first.place,
        "leave out --batch: bootstraps refresh the ciphertexts of one image",
    )


def too_much_memory(way: str, least: float, most: float) -> CompileError:
    """Return the error of a server that needs more than `--max-ram`."""
    return fail(
        f"{way} takes {least / 1e9:.1f} GB on the server,"
        f" {(least - most) / 1e9:.1f} GB more than it may hold",
        f"--max-ram {most / 1e9:g}G",
        f"allow {least / 1e9:.1f} GB, or use fewer or lower-degree activations",
    )


def too_many_levels(
    fewest: tuple[int, int], limit: int, layers: int, security: int
) -> CompileError:
    """Return the error of a leveled program of so many levels, and bits, that no modulus holds."""
    levels, bits = fewest
    return fail(
        f"a leveled program would need {levels} levels or more, {bits} bits"
        f" each; at {security}-bit security a modulus has {limit} bits",
        f"{layers} layers",
        "use --backend openfhe, which refreshes ciphertexts, or fewer activations",
    )


def not_installed(
    way: str, seconds: float, program: Program, problem: CompileError
) -> CompileError:
    """Return the error of a network that only OpenFHE can run, where it is not."""
    memory, why = server_memory(program).least, problem.problems[0]
    matrices = sum(isinstance(x, LinearTransform) for x in program.instructions)
    message = (
        f"this network needs {way} on OpenFHE, which cannot be imported here; a prediction"
        f" would take {seconds:.0f} s and {memory / 1e9:.1f} GB"
    )
    return CompileError(Problem(message, f"{matrices} matrices; {why.place}", why.help))
