"""Cells that `unlike.py` tries networks on: cells of other sets, noise, empty frames, and cells with changes."""

import cv2
import numpy as np

from fastcell.sources.load_cells import load_cells

MOST_OF_SET = 400
Cells = list[np.ndarray]


def as_bytes(values):
    """Return grey levels as uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def warped(cell, matrix):
    """Return a cell under an affine map, with its edge repeated outside."""
    height, width = cell.shape
    return cv2.warpAffine(cell, np.array(matrix, np.float32), (width, height), borderMode=cv2.BORDER_REPLICATE)


def zoomed(cell, factor):
    """Return a cell magnified about its middle."""
    y, x = ((1 - factor) * (side - 1) / 2 for side in cell.shape)
    return warped(cell, [[factor, 0, x], [0, factor, y]])


def zoomed_with_its_noise(cell, factor):
    """Return a magnified cell with the noise of the original: interpolation smooths, another lens does not."""
    smooth = cv2.medianBlur(cell, 3)
    noise = np.roll(cell.astype(np.float32) - smooth, (7, 5), (0, 1))
    return as_bytes(zoomed(smooth, factor) + noise)


def around_median(cell, factor):
    """Return a cell with the distance of each pixel from the median multiplied."""
    middle = np.median(cell)
    return as_bytes((cell - middle) * factor + middle)


def without_quarter(cell):
    """Return a cell with one quarter black."""
    cut = cell.copy()
    cut[: cell.shape[0] // 2, : cell.shape[1] // 2] = 0
    return cut


def changes():
    """Changes by name."""
    rng = np.random.default_rng(0)
    return {
        "frame twice the size": lambda cell: cv2.resize(cell, None, fx=2, fy=2),
        "brightness x 0.8": lambda cell: as_bytes(cell * 0.8),
        "brightness + 40": lambda cell: as_bytes(cell.astype(float) + 40),
        "JPEG quality 20": lambda cell: cv2.imdecode(cv2.imencode(".jpg", cell, [1, 20])[1], 0),
        "stripes": lambda cell: as_bytes(cell + 8.0 * (np.arange(cell.shape[0]) % 2)[:, None]),
        "blur 1 px": lambda cell: cv2.GaussianBlur(cell, (0, 0), 1.0),
        "blur 2 px": lambda cell: cv2.GaussianBlur(cell, (0, 0), 2.0),
        "sharpened": lambda cell: as_bytes(2.0 * cell - cv2.GaussianBlur(cell.astype(np.float32), (0, 0), 1.0)),
        "noise 8": lambda cell: as_bytes(cell + rng.normal(0, 8, cell.shape)),
        "noise 20": lambda cell: as_bytes(cell + rng.normal(0, 20, cell.shape)),
        "contrast x 0.5": lambda cell: around_median(cell, 0.5),
        "contrast x 1.5": lambda cell: around_median(cell, 1.5),
        "gamma 0.6": lambda cell: as_bytes(255 * (cell / 255.0) ** 0.6),
        "inverted": lambda cell: 255 - cell,
        "zoom 0.8": lambda cell: zoomed(cell, 0.8),
        "zoom 1.25": lambda cell: zoomed(cell, 1.25),
        "zoom 1.25, noise kept": lambda cell: zoomed_with_its_noise(cell, 1.25),
        "zoom 1.5": lambda cell: zoomed(cell, 1.5),
        "stretched 1.5": lambda cell: warped(cell, [[1.5, 0, -0.25 * cell.shape[1]], [0, 1, 0]]),
        "cropped to 3/4": lambda cell: cell[
            cell.shape[0] // 8 : -(cell.shape[0] // 8), cell.shape[1] // 8 : -(cell.shape[1] // 8)
        ],
        "padded by 1/8": lambda cell: cv2.copyMakeBorder(cell, *[max(1, cell.shape[0] // 8)] * 4, cv2.BORDER_REPLICATE),
        "shifted by 15 %": lambda cell: warped(cell, [[1, 0, 0.15 * cell.shape[1]], [0, 1, 0.15 * cell.shape[0]]]),
        "light from the side": lambda cell: as_bytes(cell + np.linspace(-30, 30, cell.shape[1])[None]),
        "a quarter black": without_quarter,
    }


def other_cells(name, sets, data):
    """Return cells of other sets than `name`, by name."""
    rng = np.random.default_rng(1)
    kinds = {
        "jurkat": "Jurkat cells",
        "tcell": "T cells",
        "synth": "simulated cells",
        "ifcb": "plankton",
        "rtdc": "RT-DC",
    }
    found = {title: load_cells(sets[other]).images[:MOST_OF_SET] for other, title in kinds.items() if other != name}
    found["ATOM"] = load_cells(data / "atom-samples").images
    found["noise"] = [rng.integers(0, 256, (40, 40)).astype(np.uint8) for _ in range(100)]
    found["empty frames"] = [as_bytes(rng.normal(128, 2, (40, 40))) for _ in range(100)]
    found["black frames"] = [np.zeros((40, 40), np.uint8)] * 20
    return found
