"""Drawing of one cell: levels by hand, geometry, and the background under it."""

import numpy as np
import pytest

from fastcell.simulator.parameter_columns import F
from fastcell.simulator.render import MAX_RADIUS, NUM_ANGLES, NUM_RADII, compose, draw_body, draw_debris

TEXTURE = np.zeros((64, 64), np.float32)


def row(**values):
    """A round body in the middle, sharp, without rim, halo, shadow, nucleus and texture."""
    made = np.zeros(len(F))
    settings = {
        "half_width": 0.15, "half_height": 0.15, "center_x": 0.5, "center_y": 0.5, "rim_width": 0.2,
        "nucleus_ratio": 0.5, "focus": 0.005, "amplitude": 1.0, "grain": 10.0, "texture_x": 1024.0,
        "texture_y": 1024.0, "density": 0.4, "background": 100.0,
    }  # fmt: skip
    for name, value in {**settings, **values}.items():
        made[F[name]] = value
    return made


def body(shape=(101, 101), texture=TEXTURE, **values):
    layer = np.zeros(shape, np.float32)
    weights = np.empty((NUM_ANGLES + 1, 5), np.float32)
    profiles = np.empty((NUM_RADII + 1, 5), np.float32)
    draw_body(row(**values), layer, texture, weights, profiles)
    return layer


def radius(shape=(101, 101), x=0.5, y=0.5, a=0.15, b=0.15):
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    return np.hypot((columns[None] / shape[1] - x) / a, (rows[:, None] / shape[0] - y) / b)


def test_bright_field_bodies_are_dark_discs():
    layer = body()
    far = radius()
    np.testing.assert_allclose(layer[far < 0.8], -(18 + 55 * 0.4), atol=0.1)
    assert np.abs(layer[far > 1.3]).max() < 0.1
    np.testing.assert_allclose(layer, layer[::-1], atol=1e-3)
    np.testing.assert_allclose(layer, layer.T, atol=0.5)
    np.testing.assert_allclose(body(amplitude=2.0)[far < 0.8], 2 * layer[far < 0.8], rtol=1e-5)


def test_reliefs_fall_off_from_left_to_right():
    layer = body(relief=1.0)
    across = (np.arange(101) + 0.5) / 101
    u = (across - 0.5) / 0.15
    inside = np.abs(u) < 0.6
    np.testing.assert_allclose(layer[50, inside], 40 * (1 - 0.35 * u[inside]), rtol=0.02)


def test_place_shape_and_tilt():
    moved = body(center_x=0.3, center_y=0.6)
    far = radius(x=0.3, y=0.6)
    np.testing.assert_allclose(moved[far < 0.8], -40, atol=0.1)
    assert np.abs(moved[far > 1.3]).max() < 0.1
    wide = body((61, 201), half_width=0.2, half_height=0.1)
    far = radius((61, 201), a=0.2, b=0.1)
    np.testing.assert_allclose(wide[far < 0.8], -40, atol=0.1)
    assert np.abs(wide[far > 1.3]).max() < 0.1
    turned = body(half_width=0.2, half_height=0.1, tilt=np.pi / 2)
    np.testing.assert_allclose(turned, body(half_width=0.1, half_height=0.2), atol=0.2)


def test_bodies_are_added_and_end_at_the_largest_radius():
    twice = np.zeros((101, 101), np.float32)
    scratch = np.empty((NUM_ANGLES + 1, 5), np.float32), np.empty((NUM_RADII + 1, 5), np.float32)
    for _ in range(2):
        draw_body(row(), twice, TEXTURE, *scratch)
    np.testing.assert_allclose(twice, 2 * body(), rtol=1e-5)
    assert (body(relief=1.0, halo=30.0, focus=0.05)[radius() > MAX_RADIUS] == 0).all()


def test_the_rim_is_darker_and_the_bleb_is_where_it_is_said():
    ring = (radius() > 0.75) & (radius() < 0.9)
    assert (body(rim=30.0)[ring] < body()[ring] - 5).all()
    below = body(bleb_size=0.3, bleb_angle=np.pi / 2) - body()
    assert below[50 + int(1.15 * 15), 50] == pytest.approx(-40, abs=1)
    assert abs(below[50 - int(1.15 * 15), 50]) < 1


def test_nucleus_and_texture_are_inside_only():
    nucleus = body(nucleus_contrast=30.0) - body()
    across = radius()[50]
    inside = across < 0.8
    np.testing.assert_allclose(nucleus[50, inside], 30 / (1 + (across[inside] / 0.5) ** 6), rtol=0.01)
    texture = np.ones((64, 64), np.float32)
    grain = body(texture=texture, granularity=8.0) - body()
    np.testing.assert_allclose(grain[radius() < 0.8], 8, rtol=0.01)
    assert np.abs(grain[radius() > 1.3]).max() == 0


def test_debris_is_a_speck_beside_the_cell():
    layer = np.zeros((101, 101), np.float32)
    draw_debris(row(debris_x=0.2, debris_y=0.8), layer)
    assert not layer.any()
    draw_debris(row(debris=50.0, debris_x=0.2, debris_y=0.8), layer)
    low = np.unravel_index(layer.argmin(), layer.shape)
    assert np.abs(np.array(low) - (80, 20)).max() <= 1
    assert layer.min() == pytest.approx(-50, abs=3)
    assert not layer[:, 40:].any()


def composed(layer, noise_field=None, stripe_line=None, **values):
    out = np.empty(layer.shape, np.uint8)
    none = np.zeros((layer.shape[0] + 9, layer.shape[1] + 9), np.float32)
    noise_field = none if noise_field is None else noise_field
    compose(row(**values), layer, noise_field, none[0] if stripe_line is None else stripe_line, out)
    return out


def test_levels_are_rounded_and_cut():
    layer = np.array([[0, 0.6, -0.4, 300, -300]], np.float32)
    assert composed(layer).tolist() == [[100, 101, 100, 255, 0]]
    assert composed(layer, background=99.5).tolist() == [[100, 100, 99, 255, 0]]


def test_noise_and_stripes_begin_where_it_is_said():
    layer = np.zeros((4, 6), np.float32)
    noise = np.arange(13 * 15, dtype=np.float32).reshape(13, 15)
    found = composed(layer, noise, noise_x=3, noise_y=2, noise=0.5, background=10)
    assert found.tolist() == np.floor(10.5 + 0.5 * noise[2:6, 3:9]).astype(int).tolist()
    stripes = np.arange(15, dtype=np.float32)
    found = composed(layer, None, stripes, stripe_at=4, stripes=2.0)
    assert found.tolist() == [(100 + 2 * np.arange(4, 10)).tolist()] * 4


def test_drift_and_band():
    layer = np.zeros((100, 50), np.float32)
    drift = composed(layer, drift=40.0, drift_phase=0.0)[0].astype(int)
    place = (np.arange(50) + 0.5) / 50
    np.testing.assert_allclose(drift, 100 + 20 * np.sin(2 * np.pi * 0.8 * place), atol=0.51)
    band = composed(layer, band=20.0, band_top=0.3, band_bottom=0.7)[:, 0].astype(int)
    assert (band[50], band[5], band[95]) == (110, 90, 90)
