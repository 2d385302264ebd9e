"""Augmentation: what is drawn, for whom, and the maps it makes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation, Draw, draw, matrices

STRONG = Augmentation(
    rotation_deg=30.0,
    translation=0.2,
    scale=0.5,
    blur_sigma=2.0,
    blur_probability=0.4,
    noise_std=10.0,
    noise_probability=0.7,
)
POSITIONS = np.arange(20_000)


def columns(drawn: Draw):
    return {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}


def apply(matrix, x, y):
    return matrix @ np.array([x, y, 1.0])


def test_a_cell_is_drawn_alike_in_every_batch():
    whole = columns(draw(STRONG, 7, 3, POSITIONS[:1000]))
    shuffled = np.random.default_rng(0).permutation(1000)
    for part in (shuffled[:1], shuffled[:77], shuffled, np.array([5, 5, 5])):
        for name, values in columns(draw(STRONG, 7, 3, part)).items():
            np.testing.assert_array_equal(values, whole[name][part])


def test_seed_epoch_and_position_all_matter():
    first = draw(STRONG, 1, 0, POSITIONS).rotation_rad
    others = [
        draw(STRONG, 2, 0, POSITIONS),
        draw(STRONG, 1, 1, POSITIONS),
        draw(STRONG, 1, 0, POSITIONS + 2**32),
        draw(STRONG, 1 + 2**32, 0, POSITIONS),
    ]
    for other in others:
        assert abs(np.corrcoef(first, other.rotation_rad)[0, 1]) < 0.03
    seeds = draw(STRONG, 1, 0, POSITIONS).noise_seed
    assert len(np.unique(seeds)) == len(seeds)


def test_switching_one_change_leaves_the_others():
    without = dataclasses.replace(STRONG, flip_horizontal=False, blur_sigma=0.0)
    a, b = columns(draw(STRONG, 1, 2, POSITIONS[:100])), columns(draw(without, 1, 2, POSITIONS[:100]))
    for name in set(a) - {"flip_horizontal", "blur_sigma"}:
        np.testing.assert_array_equal(a[name], b[name])
    assert not b["flip_horizontal"].any()
    assert not b["blur_sigma"].any()


def test_values_are_uniform_in_their_ranges():
    got = draw(STRONG, 5, 9, POSITIONS)

    def assert_uniform(values, low, high):
        assert low <= values.min()
        assert values.max() <= high
        ranks = np.sort((values.astype(np.float64) - low) / (high - low))
        # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed by chance once in a thousand.
        assert np.abs(ranks - (np.arange(len(ranks)) + 0.5) / len(ranks)).max() < 1.95 / np.sqrt(len(ranks))

    assert_uniform(got.rotation_rad, -np.pi / 6, np.pi / 6)
    assert_uniform(got.shift_x, -0.2, 0.2)
    assert_uniform(got.shift_y, -0.2, 0.2)
    assert_uniform(got.scale, 1 / 1.5, 1.5)
    assert_uniform(got.blur_sigma[got.blur_sigma > 0], 0.0, 2.0)
    assert_uniform(got.noise_std[got.noise_std > 0], 0.0, 10.0)
    for share, values in (
        (0.5, got.flip_horizontal),
        (0.5, got.flip_vertical),
        (0.4, got.blur_sigma > 0),
        (0.7, got.noise_std > 0),
    ):
        assert abs(values.mean() - share) < 0.015
    independent = np.stack(
        [got.flip_horizontal, got.flip_vertical, got.rotation_rad, got.shift_x, got.shift_y, got.scale, got.noise_std]
    )
    correlation = np.corrcoef(independent.astype(np.float64))[np.triu_indices(7, 1)]
    assert np.abs(correlation).max() < 0.03


def test_none_changes_nothing():
    assert Augmentation.none().is_none
    assert not Augmentation().is_none
    assert not dataclasses.replace(Augmentation.none(), flip_vertical=True).is_none
    assert dataclasses.replace(Augmentation.none(), blur_sigma=1.0).is_none  # with probability 0
    heights, widths = np.array([20, 68]), np.array([101, 440])
    nothing = draw(Augmentation.none(), 1, 2, np.arange(2))
    assert not nothing.blur_sigma.any()
    assert not nothing.noise_std.any()
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation_deg", -1.0),
        ("rotation_deg", 181),
        ("translation", 0.6),
        ("scale", 1.5),
        ("blur_sigma", float("nan")),
        ("blur_probability", 1.1),
        ("noise_std", "3"),
        ("noise_probability", True),
        ("flip_horizontal", 1),
    ],
)
def test_bad_strengths_are_named(name, value):
    with pytest.raises(ArgumentError, match=rf"^{name} must be .*, got .*\. "):
        Augmentation(**{name: value})


def test_bad_draws_and_maps_are_named():
    with pytest.raises(ArgumentError, match="seed"):
        draw(STRONG, -1, 0, np.arange(2))
    with pytest.raises(ArgumentError, match="epoch"):
        draw(STRONG, 0, 2**32, np.arange(2))
    for positions in (np.array([-1]), np.array([0.5]), np.zeros((2, 2), int)):
        with pytest.raises(ArgumentError, match="positions"):
            draw(STRONG, 0, 0, positions)
    assert len(draw(STRONG, 0, 0, np.empty(0, np.int64))) == 0
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


def test_configuration_survives_plain_types():
    assert Augmentation(**STRONG.to_dict()) == STRONG
    assert {type(value) for value in STRONG.to_dict().values()} == {bool, float}
