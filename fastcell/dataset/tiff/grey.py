"""Turn the stored samples of a TIFF image into one grey image: one channel, or 0.299 R + 0.587 G + 0.114 B."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcell.dataset.grey_window import colours_to_grey
from fastcell.dataset.tiff.supported import PALETTE, WHITE_IS_ZERO, num_colours, photometric_of
from fastcell.errors import BadCell

_ORIENTATION = 274


def to_grey(samples: np.ndarray, page: Any, sample: int | None) -> np.ndarray:
    """Return one grey image in the orientation that the file states.

    Args:
        samples: (H, W, S) uint8 or uint16.
        page: the `tifffile.TiffPage` that describes them.
        sample: the sample to take, from 0; None for the grey level or the colours as grey. Alpha is dropped.

    Returns:
        (H, W) of the type of `samples`, contiguous.

    Raises:
        BadCell: `sample` is None and the page has several channels, or the orientation is none of 1 to 8.
    """
    if sample is not None and samples.shape[2] > 1:
        grey = samples[:, :, sample]
    elif photometric_of(page) == PALETTE:
        grey = colours_to_grey(_palette(page)[samples[:, :, 0]])
    else:
        colours = num_colours(page)
        if not colours:
            raise BadCell(f"tif with {samples.shape[2]} channels in each pixel, and no channel is chosen")
        grey = colours_to_grey(samples[:, :, :3]) if colours == 3 else samples[:, :, 0]
    if photometric_of(page) == WHITE_IS_ZERO:
        grey = np.iinfo(grey.dtype).max - grey
    orientation = page.tags.valueof(_ORIENTATION, 1)
    if orientation != 1:
        grey = _turned(grey, orientation)
    return np.ascontiguousarray(grey)


def _palette(page: Any) -> np.ndarray:
    """Return the colours of a palette, (256, 3) uint8."""
    table = np.asarray(page.colormap).T
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def _turned(grey: np.ndarray, orientation: Any) -> np.ndarray:
    """Return an image upright; the orientation is that of TIFF 6.0 and EXIF."""
    if orientation not in range(1, 9):
        raise BadCell("damaged tif header")
    swapped, number = divmod(int(orientation) - 1, 4)
    if swapped:  # rows of the file are columns of the image
        grey = grey.T
    return (grey, grey[:, ::-1], grey[::-1, ::-1], grey[::-1])[number]
