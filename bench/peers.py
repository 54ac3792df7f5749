"""hec beside its peers, in one sitting: the same networks, weights and images, in turns.

python bench/peers.py --networks mlp,lola --data FOLDER --runs 9

Orion (`pip install orion-fhe`) and TenSEAL's vector API run in environments of their own, which are
made under .venv-peers; hec runs on TenSEAL, and on OpenFHE if this interpreter can import
it. All contenders of a network are ready before the first predicts; then each predicts the first
image, each the second, and so on. LeNet takes 10 GB on Orion.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

import peer_layers
import rows
import session
from hec.compiler.security import MAX_MODULUS_BITS
from models import Model, data_folder, select
from peer_environments import ORION, TENSEAL, Environment, NotInstalled, python_of
from peer_process import Array, Failed, Racer, summary
from samples import Samples

HERE = Path(__file__).parent
NETWORKS = "mlp,lola,lenet,tenseal-convmnist"
HEC_TENSEAL, HEC_OPENFHE = "hec, TenSEAL", "hec, OpenFHE"
PEER_ORION, PEER_TENSEAL = "Orion", "TenSEAL's API"
CONTENDERS = (HEC_TENSEAL, HEC_OPENFHE, PEER_ORION, PEER_TENSEAL)
OUTPUT_LIMITS = {  # magnitudes that the peers' parameters hold at the end
    "orion": 2.0,  # 29 bits of modulus, 26 of scale
    "tenseal": 2.0**30,  # two primes are left
}
CALIBRATION = 128  # samples that tell how large outputs are
SECURITY = 128
COLUMNS = [
    rows.Column("network", "model"),
    rows.Column("contender", "contender"),
    rows.Column("s (median)", "run_seconds"),
    rows.Column("of hec's best", "ratio", lambda number: f"{number:.2f}"),
    rows.Column("fastest", "run_fastest"),
    rows.Column("slowest", "run_slowest"),
    rows.Column("cpu s", "cpu_seconds"),
    rows.Column("prepare s", "prepare_seconds", rows.tenths),
    rows.Column("peak MB", "peak_bytes", rows.megabytes),
    rows.Column("ring", "ring_degree", rows.whole),
    rows.Column("modulus bits", "modulus_bits", rows.whole),
    rows.Column("security", "security"),
    rows.Column("error bits", "error_bits", rows.tenths),
    rows.Column("agree", "agreement"),
]


def measure(name: str, folder: Path, environments: Path, runs: int) -> list[rows.Row]:
    """Return a row for every contender on the network `name`; why, for one that did not run."""
    (model,) = select([name])
    samples = model.samples(folder)
    clear = session.clear_outputs(folder / "models" / model.path, samples.test[: runs + 1])
    with tempfile.TemporaryDirectory(prefix="hec-bench-") as scratch:
        _write(folder / "models" / model.path, samples, runs + 1, Path(scratch))
        places = folder, environments, Path(scratch)
        commands = {
            title: functools.partial(_command, title, model, places) for title in CONTENDERS
        }
        found = race(commands, clear)
    table: list[rows.Row] = []
    for title, row in found.items():
        reason = {"error": f"{title}: {row['error']}"} if "error" in row else {}
        table.append({"model": name, "contender": title, **row, **reason})
    return with_ratios(table)


def race(commands: dict[str, Callable[[], list[str]]], clear: Array) -> dict[str, rows.Row]:
    """Start all contenders, let them predict in turns, and sum up what each did.

    One that cannot be installed, does not get ready or stops has the reason as its "error".
    """
    racers, failures = dict[str, Racer](), dict[str, str]()
    try:
        for title, command in commands.items():
            print(f"  {title} gets ready", file=sys.stderr, flush=True)
            try:
                racers[title] = Racer.start(command())
            except (NotInstalled, Failed) as reason:
                failures[title] = str(reason)
        for sample in range(len(clear)):
            failures |= _turn({x: y for x, y in racers.items() if x not in failures}, sample)
    finally:
        for racer in racers.values():
            racer.stop()
    return {
        title: {"error": failures[title]}
        if title in failures
        else {**summary(racers[title].about, racers[title].answers, clear)}
        for title in commands
    }


def _turn(racers: dict[str, Racer], sample: int) -> dict[str, str]:
    """Let each predict one sample; return the last words of those that stopped."""
    failures = dict[str, str]()
    for title, racer in racers.items():
        try:
            racer.predict(sample)
        except Failed as reason:
            failures[title] = str(reason)
    return failures


def with_ratios(table: Sequence[rows.Row]) -> list[rows.Row]:
    """Add to the rows of one network the ratio to hec's fastest, and what the parameters are worth.

    Security is that of the homomorphic-encryption standard's table: the largest modulus for 128
    bits on that ring, which in the conjugate invariant ring is that of the same degree.
    """
    seconds = [
        float(row["run_seconds"] or 0)
        for row in table
        if "run_seconds" in row and str(row["contender"]).startswith("hec")
    ]
    return [_completed(row, min(seconds, default=None)) for row in table]


def _completed(row: rows.Row, best: float | None) -> rows.Row:
    if "run_seconds" not in row:
        return {**row}
    degree, bits = int(row["ring_degree"] or 0), float(row["modulus_bits"] or 0)
    limit = MAX_MODULUS_BITS[SECURITY].get(degree, 0)
    ratio = None if best is None else float(row["run_seconds"] or 0) / best
    secure = f"{SECURITY}" if bits <= limit + 0.5 else f"under {SECURITY}"
    return {**row, "ratio": ratio, "security": secure}


def _command(title: str, model: Model, places: tuple[Path, Path, Path]) -> list[str]:
    """Return how the contender is started; raise `NotInstalled` where it cannot be."""
    if title in {HEC_TENSEAL, HEC_OPENFHE}:
        backend, folder = ("tenseal" if title == HEC_TENSEAL else "openfhe"), places[0]
        if importlib.util.find_spec(backend) is None:
            raise NotInstalled(f"{backend} is not installed for {Path(sys.executable).name}")
        return _python(sys.executable, "peer_hec.py", model.name, str(folder), backend)
    if title == PEER_ORION:
        if model.name not in {"mlp", "lola", "lenet"}:
            raise NotInstalled("it ships no such network")
        return _peer(ORION, places, model.name)
    if model.name == "lenet":
        raise NotInstalled("it evaluates one convolution, over windows that the client makes")
    return _peer(TENSEAL, places)


def _peer(environment: Environment, places: tuple[Path, Path, Path], *more: str) -> list[str]:
    _, environments, scratch = places
    python, name = python_of(environment, environments), environment.name
    return _python(str(python), f"peer_{name}.py", str(scratch / f"{name}.npz"), *more)


def _python(interpreter: str, script: str, *arguments: str) -> list[str]:
    return [interpreter, str(HERE / script), *arguments]


def _write(path: Path, samples: Samples, count: int, folder: Path) -> None:
    layers = peer_layers.layers_of(path)
    seen = peer_layers.evaluated(layers, samples.calibration[:CALIBRATION])
    for name, limit in OUTPUT_LIMITS.items():
        factor = peer_layers.output_factor(seen, limit)
        peer_layers.save(layers, samples.test[:count], factor, folder / f"{name}.npz")


def main(
    networks: Annotated[str, typer.Option(help="names, between commas")] = NETWORKS,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    runs: Annotated[int, typer.Option(min=1, help="predictions after the first")] = 9,
    environments: Annotated[Path, typer.Option(help="where peers are installed")] = (
        HERE.parent / ".venv-peers"
    ),
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
) -> None:
    """Race hec and its peers."""
    folder = data_folder(data)
    names = [model.name for model in select(networks.split(","))]
    table = list[rows.Row]()
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        table += measure(name, folder, environments.absolute(), runs)
    out.mkdir(parents=True, exist_ok=True)
    rows.show({"One encrypted prediction, hec and its peers": COLUMNS}, table, out / "peers.md")
    for row in table:
        if "error" in row:
            print(f"{row['model']}: {row['error']}")


if __name__ == "__main__":
    typer.run(main)
