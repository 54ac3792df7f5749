"""TenSEAL's vector API as a contender: `python peer_tenseal.py ARRAYS`, in its own environment.

As TenSEAL's tutorial on MNIST does it: one convolution over an image that the client lays out as
windows (`im2col`), then squares and products of vector and matrix; the tutorial's parameters. It
uses as many threads as it likes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tenseal as ts

from peer_worker import Contender, work

RING_DEGREE, SCALE_BITS = 8192, 26
MODULUS_BITS = [31, 26, 26, 26, 26, 26, 26, 31]  # the last one is the special prime


def prepare(file: str) -> Contender:
    """Make keys."""
    arrays = dict(np.load(file))
    kind = ts.SCHEME_TYPE.CKKS
    context = ts.context(kind, RING_DEGREE, coeff_mod_bit_sizes=MODULUS_BITS)
    context.global_scale = 2**SCALE_BITS
    context.generate_galois_keys()
    factor, count = float(arrays["factor"]), int(arrays["layers"])
    weights = [arrays[f"weight{number}"] for number in range(count)]
    biases = [arrays[f"bias{number}"].tolist() for number in range(count)]
    squared = [bool(arrays[f"geometry{number}"][2]) for number in range(count)]
    is_convolution = weights[0].ndim == 4
    kernels = [kernel[0].tolist() for kernel in weights[0]] if is_convolution else []
    matrices = [weight.T.tolist() if weight.ndim == 2 else [] for weight in weights]
    side, stride = weights[0].shape[-1], int(arrays["geometry0"][0])

    def encrypt(number: int) -> tuple[Any, int]:
        image = arrays["samples"][number].astype(np.float64)
        if not is_convolution:
            return ts.ckks_vector(context, image.ravel().tolist()), 0
        return ts.im2col_encoding(context, image[0].tolist(), side, side, stride)

    def predict(request: tuple[Any, int]) -> Any:
        value, windows = request
        for number in range(count):
            if number == 0 and is_convolution:
                channels = [
                    value.conv2d_im2col(kernel, windows) + bias
                    for kernel, bias in zip(kernels, biases[0], strict=True)
                ]
                value = ts.CKKSVector.pack_vectors(channels)
            else:
                value = value.mm(matrices[number]) + biases[number]
            if squared[number]:
                value.square_()
        return value

    about = {
        "ring_degree": RING_DEGREE,
        "levels": len(MODULUS_BITS) - 2,
        "modulus_bits": sum(MODULUS_BITS),
        "version": ts.__version__,
    }
    return Contender(encrypt, predict, lambda reply: [factor * x for x in reply.decrypt()], about)


if __name__ == "__main__":
    work(lambda: prepare(sys.argv[1]))
