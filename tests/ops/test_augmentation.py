"""Augmentation: what is drawn, and for whom."""

import dataclasses

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation, draw

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


def columns(drawn):
    return {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}


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
    assert not any(Augmentation.none().to_dict().values())
    assert not Augmentation().is_none
    assert not dataclasses.replace(Augmentation.none(), flip_vertical=True).is_none
    assert dataclasses.replace(Augmentation.none(), blur_sigma=1.0).is_none  # with probability 0
    nothing = draw(Augmentation.none(), 1, 2, np.arange(2))
    assert not nothing.blur_sigma.any()
    assert not nothing.noise_std.any()


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


def test_bad_draws_are_named():
    with pytest.raises(ArgumentError, match="seed"):
        draw(STRONG, -1, 0, np.arange(2))
    with pytest.raises(ArgumentError, match="epoch"):
        draw(STRONG, 0, 2**32, np.arange(2))
    for positions in (np.array([-1]), np.array([0.5]), np.zeros((2, 2), int)):
        with pytest.raises(ArgumentError, match="positions"):
            draw(STRONG, 0, 0, positions)
    assert len(draw(STRONG, 0, 0, np.empty(0, np.int64))) == 0


def test_configuration_survives_plain_types():
    assert Augmentation(**STRONG.to_dict()) == STRONG
    assert {type(value) for value in STRONG.to_dict().values()} == {bool, float}


def test_configuration_survives_numbers():
    assert Augmentation.from_numbers({name: float(value) for name, value in STRONG.to_dict().items()}) == STRONG
    with pytest.raises(TypeError):
        Augmentation.from_numbers({"shear": 1.0})
