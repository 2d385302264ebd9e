"""Features of the images that a network receives.

The features are measured after the preprocessing, so changes that the preprocessing removes, such as brightness or the
size of the frame, do not affect them. They need only the input of the network, which every backend has.
"""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.inference.unlike import image_loop
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES


def network_image_features(images: npt.NDArray[np.float32], threads: int = 1) -> npt.NDArray[np.float32]:
    """Measure the features of network images. The features of an image do not depend on other images or on `threads`.

    Args:
        images: (B, 1, S, S) float32, S >= 8, as the network receives them.
        threads: number of threads that share the batch, >= 1.

    Returns:
        (B, F) float32, columns as in `fastcell.inference.unlike.feature_names.IMAGE_FEATURES`; not finite if a pixel
        is not.

    Raises:
        ArgumentError: `images` have another dtype or shape.
    """
    good = isinstance(images, np.ndarray) and images.dtype == np.float32 and images.ndim == 4
    if not good or images.shape[1] != 1 or images.shape[2] != images.shape[3] or images.shape[2] < 8:
        got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise invalid("images", "float32 of shape (B, 1, S, S) with S >= 8", got, "Give the input of the network")
    planes = np.ascontiguousarray(images[:, 0])
    out = np.empty((len(planes), len(IMAGE_FEATURES)), np.float32)
    edges = np.linspace(0, len(planes), min(threads, max(len(planes) // 16, 1)) + 1).astype(int)
    parts = [slice(*pair) for pair in itertools.pairwise(edges.tolist())]
    if len(parts) == 1:
        image_loop.measure_images(planes, out)
    else:
        list(_pool(threads).map(lambda part: image_loop.measure_images(planes[part], out[part]), parts))
    return out


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="fastcell-unlike")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has the pools without their threads
