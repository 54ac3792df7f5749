"""Orion as a contender: `python peer_orion.py ARRAYS NETWORK`, in its own environment.

Orion's own models with the weights of hec's networks, Orion's own parameters: the conjugate
invariant ring, of as many slots as its degree; one thread of Lattigo. It imports torchvision for
data sets alone, so that empty modules stand for it.
"""

from __future__ import annotations

import importlib.metadata
import sys
import types
from typing import Any

import numpy as np
import torch

from peer_worker import Contender, work

MODELS = {"mlp": "MLP", "lola": "LoLA", "lenet": "LeNet"}
SPECIAL_BITS, FIRST_BITS, SCALE_BITS, WEIGHT = [29, 29], 29, 26, 8192
OPTIONS = {
    "margin": 2,
    "embedding_method": "hybrid",
    "backend": "lattigo",
    "fuse_modules": True,
    "debug": False,
    "diags_path": "",
    "keys_path": "",
    "io_mode": "none",
}


def prepare(file: str, network: str) -> Contender:
    """Compile, make keys, encode weights."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms"):
        sys.modules[name] = types.ModuleType(name)
    parent: Any = sys.modules["torchvision"]
    parent.datasets = sys.modules["torchvision.datasets"]
    parent.transforms = sys.modules["torchvision.transforms"]
    import orion
    import orion.models

    levels, log_degree = (7, 14) if network == "lenet" else (5, 13)
    primes = [FIRST_BITS, *[SCALE_BITS] * levels]
    scheme = {
        "LogN": log_degree,
        "LogQ": primes,
        "LogP": SPECIAL_BITS,
        "LogScale": SCALE_BITS,
        "H": WEIGHT,
        "RingType": "ConjugateInvariant",
    }
    torch.set_num_threads(1)
    orion.init_scheme({"ckks_params": scheme, "orion": OPTIONS})
    arrays = dict(np.load(file))
    net = getattr(orion.models, MODELS[network])()
    load_weights(net, arrays)
    net.eval()
    images = torch.from_numpy(arrays["samples"])
    orion.fit(net, images)
    level = orion.compile(net)
    net.he()
    factor = float(arrays["factor"])
    outputs = len(arrays[f"bias{int(arrays['layers']) - 1}"])

    def decrypt(reply: Any) -> list[float]:
        return [factor * float(x) for x in reply.decrypt().decode().flatten()[:outputs]]

    about = {
        "ring_degree": 2**log_degree,
        "levels": levels,
        "modulus_bits": sum(primes) + sum(SPECIAL_BITS),
        "version": importlib.metadata.version("orion-fhe"),
    }
    return Contender(
        lambda number: orion.encrypt(orion.encode(images[number : number + 1], level)),
        net,
        decrypt,
        about,
    )


def load_weights(net: Any, arrays: dict[str, Any]) -> None:
    """Give the layers of `net`, in order, those weights; batch normalizations then do nothing."""
    number = 0
    for module in net.modules():
        if hasattr(module, "running_var"):
            with torch.no_grad():
                module.running_mean.zero_()
                module.running_var.fill_(1.0 - module.eps)
                module.weight.fill_(1.0)
                module.bias.zero_()
        elif getattr(module, "weight", None) is not None:
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(arrays[f"weight{number}"]))
                module.bias.copy_(torch.from_numpy(arrays[f"bias{number}"]))
            number += 1
    if number != int(arrays["layers"]):
        raise SystemExit(f"Orion's network has {number} layers, hec's {int(arrays['layers'])}")


if __name__ == "__main__":
    work(lambda: prepare(sys.argv[1], sys.argv[2]))
