"""How the images of a batch share a ciphertext: their slots alternate.

Slot s of image j is slot s * batch + j of the ring. Whatever all images have in common repeats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def for_all_images(values: Array, batch: int) -> Array:
    """Return (slots * batch,) values from (slots,), the same for every image.

    What is one number in every slot becomes one number, of no axis: it is encoded much faster.
    """
    if values.ndim == 0 or batch == 1:
        return values
    return values.reshape(()) if values.size == 1 else np.repeat(values, batch)


def interleaved(values: Array, batch: int) -> Array:
    """Return (blocks, slots * batch) ring slots of (images, blocks, slots); 1 to `batch` images.

    The last image fills the places that are left: any other filling might leave the intervals of
    activations, and a value that overflows ruins its whole ciphertext.
    """
    last = np.repeat(values[-1:], batch - len(values), axis=0)
    full = np.concatenate([values, last])
    return np.ascontiguousarray(np.moveaxis(full, 0, -1)).reshape(full.shape[1], -1)


def separated(values: Array, batch: int, images: int) -> Array:
    """Return the first `images` of (blocks, slots * batch) ring slots: (images, blocks, slots)."""
    split = values.reshape(len(values), -1, batch)[:, :, :images]
    return np.ascontiguousarray(np.moveaxis(split, -1, 0))
