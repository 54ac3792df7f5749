"""`hec demo`: the whole way, with a network and images that come with hec."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hec.compiler.cli_terminal import Progress, duration, progress, show_facts, show_table, size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hec.compiler.plan import Plan

MEAN, DEVIATION = 0.1307, 0.3081  # of the pixels of MNIST's training images, in [0, 1]
MOST: Final = 64  # images that come with hec


@dataclass(frozen=True)
class Prediction:
    """One image's way through client and server."""

    label: int
    clear: int
    encrypted: int
    error: float  # largest, of the outputs
    encrypt_seconds: float
    run_seconds: float
    decrypt_seconds: float
    request: bytes
    reply_bytes: int


def demo(
    images: Annotated[int, typer.Option(help=f"how many images to predict, 1 to {MOST}")] = 3,
) -> None:
    """Encrypt handwritten digits, predict, decrypt, compare.

    \b
    Example:
      hec demo --images 5
    """
    from hec.compiler.errors import fail

    if not 1 <= images <= MOST:
        place = f"--images {images}"
        raise fail(f"hec has {MOST} images, not {images}", place, f"give a number from 1 to {MOST}")
    with progress() as show:
        show("compile", 0, 0)
        start = time.perf_counter()
        calibration, test, labels = _load()
        plan = _plan(calibration)
        compile_seconds = time.perf_counter() - start
        show("keys", 0, 0)
        predictions, key_bytes = _predict(plan, test[:images], labels[:images], show)
    _tell(plan, predictions, key_bytes, compile_seconds)


def _load() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    import numpy as np

    with as_file(files("hec") / "demo" / "mnist.npz") as path, np.load(path) as arrays:
        pixels = [arrays["calibration_images"], arrays["test_images"]]
        labels = arrays["test_labels"]
    calibration, test = (((p / 255 - MEAN) / DEVIATION).astype(np.float32)[:, None] for p in pixels)
    return calibration, test, labels


def _plan(calibration: NDArray[np.float32]) -> Plan:
    from hec.compiler import pipeline

    with as_file(files("hec") / "demo" / "lola.onnx") as path:
        return pipeline.compile(path, calibration)


def _predict(
    plan: Plan, images: NDArray[np.float32], labels: NDArray[np.uint8], show: Progress
) -> tuple[list[Prediction], int]:
    import numpy as np

    from hec.compiler.clear_model import ClearModel
    from hec.runtime.client import Client
    from hec.runtime.server import Server
    from hec.runtime.simulate import by_name

    clear = ClearModel.of_plan(plan).predict(plan, by_name(plan, images))[
        plan.client.outputs[0].name
    ]
    client = Client(plan.client)
    keys = client.evaluation_keys()
    server = Server(plan, keys, workers=1)  # the secret key is here: it is not copied
    predictions = []
    for number, image in enumerate(images):
        show("predict", number, len(images))
        times = [time.perf_counter()]
        request = client.encrypt(image)
        times.append(time.perf_counter())
        reply = server.run(request)
        times.append(time.perf_counter())
        logits = np.asarray(client.decrypt(reply))
        times.append(time.perf_counter())
        error = float(np.abs(logits - clear[number]).max())
        encrypt, run, decrypt = np.diff(times).tolist()
        predictions.append(
            Prediction(
                label=int(labels[number]),
                clear=int(clear[number].argmax()),
                encrypted=int(logits.argmax()),
                error=error,
                encrypt_seconds=encrypt,
                run_seconds=run,
                decrypt_seconds=decrypt,
                request=request,
                reply_bytes=len(reply),
            )
        )
    return predictions, len(keys)


def _tell(
    plan: Plan, predictions: list[Prediction], key_bytes: int, compile_seconds: float
) -> None:
    parameters, first = plan.client.parameters, predictions[0]
    show_facts(
        [
            ("network", f"{plan.client.model}: convolution, square, dense, square, dense; MNIST"),
            (
                "plan",
                f"ring degree {parameters.ring_degree}, {parameters.security}-bit security, "
                f"compiled in {duration(compile_seconds)}",
            ),
            ("keys", f"secret key: stays with the client; evaluation keys: {size(key_bytes)}"),
            (
                "the server sees",
                f"{size(len(first.request))} of ciphertext, such as "
                f"{first.request[-72:-32].hex()[:48]}...",
            ),
            ("it answers", f"{size(first.reply_bytes)} of ciphertext"),
        ]
    )
    columns = ("image", "label", "onnxruntime", "encrypted", "error", "encrypt", "run", "decrypt")
    rows = [
        (
            str(number),
            str(p.label),
            str(p.clear),
            str(p.encrypted),
            f"{p.error:.2g}",
            duration(p.encrypt_seconds),
            duration(p.run_seconds),
            duration(p.decrypt_seconds),
        )
        for number, p in enumerate(predictions)
    ]
    show_table("", columns, rows)
    agree = sum(p.clear == p.encrypted for p in predictions)
    typer.echo(f"{agree} of {len(predictions)} encrypted predictions agree with onnxruntime")
