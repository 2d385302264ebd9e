"""Images without a cell, made from images of cells. They should always be found unlike training cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]

_RIM = 8  # the rim is this fraction of the side
_PIECES = 4  # pieces along each side


def images_without_cells(images: Images, seed: int = 0) -> dict[str, Images]:
    """Return images that keep brightness and noise of network images but hold no cell, by name.

    ``empty frames``: the upper rim, mirrored downwards until it fills the image. ``mixed pixels``: all pixels in random
    order. ``mixed pieces``: 4 x 4 tiles of the image in random order; rows and columns that do not fill a tile stay in
    place.

    Args:
        images: (B, 1, S, S) float32, S >= 8.
        seed: seed of the random orders.

    Returns:
        Arrays of the same shape.
    """
    random = np.random.default_rng(seed)
    batch, side = len(images), images.shape[-1]
    rim = max(side // _RIM, 1)
    rows = np.arange(side) % (2 * rim)
    empty = images[:, :, np.where(rows < rim, rows, 2 * rim - 1 - rows)]
    pixels = random.permuted(images.reshape(batch, -1), axis=1).reshape(images.shape)
    pieces, piece = images.copy(), side // _PIECES
    places = [(slice(y, y + piece), slice(x, x + piece)) for y in _starts(piece) for x in _starts(piece)]
    for image, mixed in zip(images[:, 0], pieces[:, 0], strict=True):
        for to, source in zip(places, random.permutation(len(places)).tolist(), strict=True):
            mixed[to] = image[places[source]]
    made = {"empty frames": empty, "mixed pixels": pixels, "mixed pieces": pieces}
    return {name: np.ascontiguousarray(values) for name, values in made.items()}


def _starts(piece: int) -> list[int]:
    return [piece * number for number in range(_PIECES)]
