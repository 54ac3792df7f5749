"""The networks of the benchmarks: file, input data, exact or fitted activations, where measured.

Files are sought under one folder (`--data`, else the environment's HEC_BENCH_DATA, else
bench/data); bench/README.md says what it holds and where that comes from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samples import INPUTS, Samples

DEFAULT_DATA = Path(__file__).parent / "data"
Bench = Literal["accuracy", "deep", "zoo"]


@dataclass(frozen=True)
class Model:
    """One network of the benchmarks."""

    name: str
    path: str  # under the folder of models
    inputs: str  # a key of `samples.INPUTS`
    activations: Literal["exact", "fitted"]  # exact: squares and polynomials of the network itself
    bench: Bench = "accuracy"  # which measures it unless told by name; zoo.py measures all
    maxpool: Literal["approximate", "average"] | None = None
    max_error: float | None = None  # where the default is too loose for 98.5 % of agreement
    classifies: bool = True  # its largest output says something

    def samples(self, folder: Path) -> Samples:
        """Return the inputs; `folder` holds the data sets."""
        return INPUTS[self.inputs](folder)


def data_folder(option: Path | None) -> Path:
    """Return the folder of models and data sets, or leave with a message that says what to do."""
    folder = option or Path(os.environ.get("HEC_BENCH_DATA", DEFAULT_DATA))
    if not (folder / "models").is_dir():
        raise SystemExit(
            f"no models under {folder}: pass --data, or set HEC_BENCH_DATA (see bench/README.md)"
        )
    return folder


MNIST, MNIST_NORMAL = "MNIST, x/255", "MNIST, (x/255 - .1307)/.3081"
MNIST_BILINEAR = "MNIST, bilinear to 32x32 (PIL), x/255"
CIFAR, CIFAR_IMAGENET = "CIFAR-10, x/255", "CIFAR-10, ImageNet's mean and deviation"
CIFAR_OWN = "CIFAR-10, its own mean and deviation"

MODELS: tuple[Model, ...] = (
    Model("mlp", "bench/mlp.onnx", MNIST_NORMAL, "exact"),
    Model("lola", "bench/lola.onnx", MNIST_NORMAL, "exact"),
    Model("lenet", "bench/lenet.onnx", MNIST_NORMAL, "exact"),
    Model("tenseal-convmnist", "tenseal-convmnist-square.folded.onnx", MNIST_NORMAL, "exact"),
    Model("dacapo-mlp", "dacapo-mnist-mlp-square.bn.onnx", MNIST_NORMAL, "exact"),
    Model(
        "heman-cryptonets",
        "third_party/mnist/heman-cryptonets-square.onnx",
        MNIST_BILINEAR,
        "exact",
    ),
    Model(
        "heir-mlp512",
        "heir-mnist-mlp512.folded.onnx",
        "MNIST, (x/255 - .1307)/.3081, flat",
        "fitted",
    ),
    Model("heman-small-relu", "third_party/mnist/heman-mnist-small-relu.onnx", MNIST, "fitted"),
    Model("heman-lenet5", "third_party/mnist/heman-lenet5.onnx", MNIST_BILINEAR, "fitted"),
    Model(
        "verivital-convnet", "third_party/mnist/vnn-verivital-convnet-avgpool.onnx", MNIST, "fitted"
    ),
    Model(
        "winml-iris",
        "third_party/tabular/winml-iris.onnx",
        "uniform in the ranges of the iris data set",
        "fitted",
    ),
    Model(
        "hls4ml-three-layer",
        "third_party/tabular/hls4ml-three_layer_keras.onnx",
        "16 standard normal features",
        "fitted",
    ),
    Model(
        "safenlp-medical",
        "third_party/text/vnn-safenlp-medical.onnx",
        "30 standard normal features",
        "fitted",
    ),
    Model(
        "ezkl-lenet5",
        "third_party/misc/ezkl-lenet_5.onnx",
        "MNIST, x/255, zero-padded to 32x32",
        "exact",
    ),
    Model("delphi-minionn", "delphi-minionn-7-approx.folded.onnx", CIFAR, "exact"),
    Model("resnet20", "akamaster-resnet20.folded.onnx", CIFAR_IMAGENET, "fitted", bench="deep"),
    Model("resnet20-bn", "akamaster-resnet20.bn.onnx", CIFAR_IMAGENET, "fitted", bench="deep"),
    Model(
        "resnet20-dynamo", "akamaster-resnet20.dynamo.onnx", CIFAR_IMAGENET, "fitted", bench="deep"
    ),
    Model(
        "ace-resnet20",
        "third_party/cifar10/ace-resnet20.onnx",
        CIFAR_IMAGENET,
        "fitted",
        bench="deep",
    ),
    Model(
        "resnet20-silu", "dacapo-resnet20-silu.folded.onnx", CIFAR_IMAGENET, "fitted", bench="deep"
    ),
    Model("resnet32", "akamaster-resnet32.folded.onnx", CIFAR_IMAGENET, "fitted", bench="deep"),
    Model("resnet56", "akamaster-resnet56.folded.onnx", CIFAR_IMAGENET, "fitted", bench="deep"),
    Model("resnet8", "mlcommons-resnet8.onnx", "CIFAR-10, 0..255, NHWC", "fitted", bench="deep"),
    Model("resnet-2b", "third_party/cifar10/vnn-resnet-2b.onnx", CIFAR_OWN, "fitted", bench="deep"),
    Model("minionn-relu", "delphi-minionn-relu.folded.onnx", CIFAR, "fitted", bench="deep"),
    Model(
        "heir-lenet5",
        "heir-lenet5-avgpool.folded.onnx",
        "MNIST, (x/255 - .1307)/.3081, zero-padded to 32x32",
        "fitted",
        bench="zoo",
    ),
    Model(
        "resnet20-silu-dynamo",
        "dacapo-resnet20-silu.dynamo.onnx",
        CIFAR_IMAGENET,
        "fitted",
        bench="zoo",
    ),
    Model(
        "mnistfc-256x2",
        "third_party/mnist/vnn-mnistfc-256x2.onnx",
        "MNIST, x/255, a column",
        "fitted",
        bench="zoo",
    ),
    Model(
        "cntk-op7",
        "third_party/mnist/cntk-mnist-op7.onnx",
        MNIST_NORMAL,
        "fitted",
        bench="zoo",
        maxpool="approximate",
    ),
    Model(
        "cntk-op8",
        "third_party/mnist/cntk-mnist-op8.onnx",
        MNIST_NORMAL,
        "fitted",
        bench="zoo",
        maxpool="approximate",
    ),
    Model(
        "cntk-op8-average",
        "third_party/mnist/cntk-mnist-op8.onnx",
        MNIST_NORMAL,
        "fitted",
        bench="zoo",
        maxpool="average",
    ),
    Model(
        "lenet5-tanh-untrained",
        "third_party/mnist/debjyoti-lenet5-tanh-untrained.onnx",
        "MNIST, x/255, zero-padded to 32x32, ten at once",
        "fitted",
        bench="zoo",
    ),
    Model(
        "marabou-small",
        "third_party/cifar10/vnn-marabou-small.onnx",
        "CIFAR-10, x/255, NHWC",
        "fitted",
        bench="zoo",
    ),
    Model(
        "oval21-base",
        "third_party/cifar10/vnn-oval21-base-kw.onnx",
        CIFAR_IMAGENET,
        "fitted",
        bench="zoo",
    ),
    Model(
        "vit-ibp",
        "third_party/cifar10/vnn-vit-ibp-3-3-8.onnx",
        CIFAR_OWN,
        "fitted",
        bench="zoo",
        max_error=0.004,
    ),
    Model(
        "ezkl-gelu",
        "third_party/attention-rnn/ezkl-1l_gelu_noappx.onnx",
        "3 standard normal features",
        "fitted",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "ezkl-gelu-tanh",
        "third_party/attention-rnn/ezkl-1l_gelu_tanh_appx.onnx",
        "3 standard normal features",
        "fitted",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "ezkl-layernorm",
        "third_party/attention-rnn/ezkl-layernorm.onnx",
        "standard normal, 10x10",
        "fitted",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "reach-gcas",
        "third_party/control/vnn-reach-gcas.onnx",
        "14 standard normal features",
        "fitted",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "rl-cartpole",
        "third_party/control/vnn-rl-cartpole.onnx",
        "4 standard normal features",
        "fitted",
        bench="zoo",
    ),
    Model(
        "ezkl-batch-norm",
        "third_party/misc/ezkl-1l_batch_norm.onnx",
        "standard normal, 3x2x2",
        "exact",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "ezkl-conv-transpose",
        "third_party/misc/ezkl-1l_conv_transpose.onnx",
        "standard normal, 3x5x5",
        "exact",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "ezkl-upsample",
        "third_party/misc/ezkl-1l_upsample.onnx",
        "standard normal, 3x5x5",
        "exact",
        bench="zoo",
        classifies=False,
    ),
    Model(
        "ezkl-relu-conv", "third_party/misc/ezkl-4l_relu_conv_fc.onnx", MNIST, "fitted", bench="zoo"
    ),
    Model(
        "nn4sys-lindex",
        "third_party/regression/vnn-nn4sys-lindex.onnx",
        "uniform in [0, 1]",
        "fitted",
        bench="zoo",
        classifies=False,
    ),
)


def select(names: list[str], bench: Bench | None = None) -> list[Model]:
    """Return the models of these names; without names those that `bench` measures, or all.

    Leave with a message if there is no such model.
    """
    known = {model.name: model for model in MODELS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [model for model in MODELS if bench in (None, model.bench)]
