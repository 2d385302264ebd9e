"""Compiled loop over cells: three Mahalanobis distances, and the image features outside their usual range."""

from __future__ import annotations

import math

import numpy as np

from fastcell.inference.unlike.reasons import BY_NETWORK, NO_FEATURE
from fastcell.ops.cpu.compiled_loops import FAST, WITHOUT_ARRAYS, entry

FAR = 1e6  # largest score; also that of cells with features that are not finite


@entry(**WITHOUT_ARRAYS, **FAST)
def measure_distances(  # type: ignore[no-untyped-def]
    image, center, scale, low, high, image_whitening, num_shape, network, network_whitening, means, limits, scratch,
    scores, off,
):  # fmt: skip
    """Write the score of each cell and the two image features that are farthest outside their usual range.

    Args:
        image: (n, F) float32 image features.
        center, scale: (F,) float64, location and spread by which image features are scaled.
        low, high: (F,) float64, scaled values between which the image features of most training cells are.
        image_whitening: (F, F) float64, lower triangular; whitens the first `num_shape` scaled image features among
            themselves, and the others among themselves.
        num_shape: number of image features of shape, which come first; the others measure noise.
        network: (n, D) float32, penultimate activations; D may be 0.
        network_whitening: (D, D) float64, lower triangular.
        means: (K, D) float64, whitened class means.
        limits: (3,) float64, largest usual distances by shape, by noise and by activations.
        scratch: (F + D,) float64, overwritten.
        scores: (n,) float32, written: the largest of the three distances, each over its limit.
        off: (n, 2) int16, written: 2 * feature + 1 if it is above `high`, 2 * feature if it is below `low`; the
            farthest first, `NO_FEATURE` without. `BY_NETWORK` comes first if the activations alone pass their limit.
    """
    num, width, units = image.shape[0], center.shape[0], network_whitening.shape[0]
    scaled, white = scratch[:width], scratch[width:]
    for b in range(num):
        finite = True
        first, second, first_by, second_by = NO_FEATURE, NO_FEATURE, 1.0, 1.0
        for i in range(width):
            value = (np.float64(image[b, i]) - center[i]) / scale[i]
            finite &= math.isfinite(value)
            scaled[i] = value
            above = value > 0
            by = value / high[i] if above else value / low[i]
            code = 2 * i + above
            if by > first_by:
                first, second, first_by, second_by = code, first, by, first_by
            elif by > second_by:
                second, second_by = code, by
        shape, noise = 0.0, 0.0
        for i in range(width):
            total = 0.0
            for j in range(0 if i < num_shape else num_shape, i + 1):
                total += image_whitening[i, j] * scaled[j]
            if i < num_shape:
                shape += total * total
            else:
                noise += total * total
        score = max(math.sqrt(shape) / limits[0], math.sqrt(noise) / limits[1])
        by_network = False
        if units:
            for i in range(units):
                total = 0.0
                for j in range(i + 1):
                    total += network_whitening[i, j] * np.float64(network[b, j])
                white[i] = total
            nearest = math.inf
            for k in range(means.shape[0]):
                square = 0.0
                for i in range(units):
                    away = white[i] - means[k, i]
                    square += away * away
                nearest = min(nearest, square)
            finite &= math.isfinite(nearest)
            by_network = score <= 1.0 < math.sqrt(nearest) / limits[2]
            score = max(score, math.sqrt(nearest) / limits[2])
        scores[b] = min(score, FAR) if finite else FAR
        off[b, 0], off[b, 1] = (BY_NETWORK, first) if by_network else (first, second)
