"""The map from the square to the cell: fits, and what an augmentation does to them."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation, Draw, draw
from fastcell.ops.matrices import matrices


def apply(matrix, x, y):
    return matrix @ np.array([x, y, 1.0])


def test_no_augmentation_gives_the_map_of_the_fit():
    heights, widths = np.array([20, 68]), np.array([101, 440])
    nothing = draw(Augmentation.none(), 1, 2, np.arange(2))
    for fit in ("stretch", "contain", "scale"):
        np.testing.assert_array_equal(matrices(heights, widths, 128, fit, nothing), matrices(heights, widths, 128, fit))


def test_stretch_takes_corners_to_corners():
    maps = matrices([20, 68], [101, 440], 64, "stretch")
    for matrix, (height, width) in zip(maps, [(20, 101), (68, 440)], strict=True):
        np.testing.assert_allclose(apply(matrix, 0, 0), [0, 0], atol=1e-12)
        np.testing.assert_allclose(apply(matrix, 64, 64), [width, height], rtol=1e-12)


def test_contain_keeps_the_aspect_and_centres():
    matrix = matrices([20], [100], 50, "contain")[0]
    np.testing.assert_allclose(apply(matrix, 0, 25), [0, 10], atol=1e-12)
    np.testing.assert_allclose(apply(matrix, 50, 25), [100, 10], atol=1e-12)
    np.testing.assert_allclose(apply(matrix, 25, 20), [50, 0], atol=1e-12)
    tall = matrices([100], [20], 50, "contain")[0]
    np.testing.assert_allclose(apply(tall, 25, 0), [10, 0], atol=1e-12)


def test_scale_keeps_sizes_in_micrometres():
    maps = matrices([40, 40, 40], [60, 60, 60], 128, "scale", None, 0.5, np.array([0.25, 1.0, np.nan]))
    for matrix, source_px in zip(maps, [2.0, 0.5, 1.0], strict=True):
        np.testing.assert_allclose(apply(matrix, 64, 64), [30, 20], atol=1e-12)
        np.testing.assert_allclose(apply(matrix, 65, 64) - apply(matrix, 64, 64), [source_px, 0], atol=1e-12)
        np.testing.assert_allclose(apply(matrix, 64, 65) - apply(matrix, 64, 64), [0, source_px], atol=1e-12)
    np.testing.assert_array_equal(
        matrices([40], [60], 128, "scale"), matrices([40], [60], 128, "scale", None, None, [0.25])
    )


def a_draw(**values):
    default = {
        "flip_horizontal": False,
        "flip_vertical": False,
        "rotation_rad": 0.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "scale": 1.0,
        "blur_sigma": 0.0,
        "noise_std": 0.0,
        "noise_seed": 0,
    }
    return Draw(**{name: np.array([value]) for name, value in {**default, **values}.items()})


@pytest.mark.parametrize("fit", ["stretch", "contain", "scale"])
def test_flips_are_exact(fit):
    plain = matrices([45], [131], 128, fit)[0]
    horizontal = matrices([45], [131], 128, fit, a_draw(flip_horizontal=True))[0]
    vertical = matrices([45], [131], 128, fit, a_draw(flip_vertical=True))[0]
    for x, y in [(0.5, 0.5), (100.5, 3.5), (127.5, 64.5)]:
        np.testing.assert_array_equal(apply(horizontal, x, y), apply(plain, 128 - x, y))
        np.testing.assert_array_equal(apply(vertical, x, y), apply(plain, x, 128 - y))
    assert horizontal[0, 1] == horizontal[1, 0] == 0


def test_directions_of_the_changes():
    """Where the cell's points go: the inverse of the map."""

    def target(matrix, point):
        return np.linalg.solve(matrix[:, :2], np.asarray(point) - matrix[:, 2])

    size, height, width = 100, 50, 200
    moved = matrices([height], [width], size, "stretch", a_draw(shift_x=0.1, shift_y=-0.2))[0]
    np.testing.assert_allclose(target(moved, [100, 25]), [60, 30], atol=1e-9)
    bigger = matrices([height], [width], size, "stretch", a_draw(scale=1.5))[0]
    np.testing.assert_allclose(target(bigger, [200, 25]), [125, 50], atol=1e-9)
    quarter = a_draw(rotation_rad=np.pi / 2)
    # Counter-clockwise on the screen (y points down): what was to the right of the centre is above it.
    stretched = matrices([height], [width], size, "stretch", quarter)[0]
    np.testing.assert_allclose(target(stretched, [200, 25]), [50, 0], atol=1e-9)
    contained = matrices([height], [width], size, "contain", quarter)[0]
    np.testing.assert_allclose(target(contained, [200, 25]), [50, 0], atol=1e-9)
    np.testing.assert_allclose(target(contained, [100, 0]), [37.5, 50], atol=1e-9)
    both = matrices([height], [width], size, "stretch", a_draw(rotation_rad=np.pi / 2, flip_horizontal=True))[0]
    np.testing.assert_allclose(target(both, [200, 25]), [50, 100], atol=1e-9)


def test_rotation_keeps_lengths_of_the_square_under_stretch():
    matrix = matrices([50], [200], 100, "stretch", a_draw(rotation_rad=0.3))[0]
    unstretched = np.diag([100 / 200, 100 / 50]) @ matrix[:, :2]
    np.testing.assert_allclose(unstretched @ unstretched.T, np.eye(2), atol=1e-12)


def test_bad_maps_are_named():
    assert matrices([], [], 128).shape == (0, 2, 3)
    with pytest.raises(ArgumentError, match="fit"):
        matrices([1], [1], 128, "crop")
    with pytest.raises(ArgumentError, match="at least 1"):
        matrices([0], [1], 128)
    with pytest.raises(ArgumentError, match="one length"):
        matrices([1, 2], [1], 128)
    with pytest.raises(ArgumentError, match="draw"):
        matrices([1, 2], [1, 2], 128, "stretch", a_draw())
    with pytest.raises(ArgumentError, match="scale_um_per_px"):
        matrices([1], [1], 128, "scale", None, 0.0)
    with pytest.raises(ArgumentError, match="um_per_px"):
        matrices([1], [1], 128, "scale", None, 1.0, [-1.0])
