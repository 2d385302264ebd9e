"""Features say what is in the image: cuts, cells, blur, ghosts, levels; and nothing breaks them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError
from fastcell.packing.pack import pack
from fastcell.quality.features import FEATURES, background_mask, cell_features, measure_cells
from fastcell.quality.loops import columns
from fastcell.quality.simulated_model import features_of
from fastcell.simulator.synth import synthesize


def picture(*discs, shape=(96, 128), level=60, noise=2.0):
    """(H, W) uint8: discs (x, y, radius) of level + 100 on noise."""
    image = np.full(shape, level, np.float64)
    for x, y, radius in discs:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        image[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = level + 100
    image += np.random.default_rng(0).normal(0, noise, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def of(image):
    return dict(zip(FEATURES, features_of([image])[0].tolist(), strict=True))


@pytest.fixture(scope="module")
def disc():
    return of(picture((64, 48, 18)))


def test_names_and_places_agree():
    assert [getattr(columns, name.upper()) for name in FEATURES] == list(range(len(FEATURES)))
    assert sum(name.isupper() for name in vars(columns)) == len(FEATURES)


def test_a_disc_is_one_whole_object(disc):
    assert (disc["objects"], disc["second_object"], disc["neck"], disc["border_contact"]) == (1, 0, 0, 0)
    # On the grid a line is 1.5 pixels high and 2 wide, and smoothing adds one around.
    assert disc["foreground"] == pytest.approx(np.pi * 10.5 * 13.5 / 4096, rel=0.12)
    assert disc["contrast"] == pytest.approx(100, abs=5)
    assert disc["elongation"] == pytest.approx((18 / 1.5) / (18 / 2), rel=0.1)
    assert disc["solidity"] > 0.93
    assert disc["flat_side"] < 0.5


def test_levels_and_sizes_are_of_the_own_pixels():
    image = np.full((20, 30), 100, np.uint8)
    image[0, :15], image[5, 5], image[10, 10:13] = 0, 255, 255
    found = of(image)
    assert (found["height"], found["width"], found["background"]) == (20, 30, 100)
    assert found["saturated_low"] == pytest.approx(15 / 600)
    assert found["saturated_high"] == pytest.approx(4 / 600)
    assert found["mean_intensity"] == pytest.approx(image.mean())
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    assert found["background"] == np.median(border)


def test_the_spread_of_the_background_is_robust():
    image = np.random.default_rng(1).normal(120, 6, (80, 80)).round().astype(np.uint8)
    image[0, :20] = 255
    assert of(image)["background_spread"] == pytest.approx(6, rel=0.2)


def test_focus_is_the_variance_of_opencvs_laplacian():
    image = picture((64, 48, 18))
    expected = np.log10(cv2.Laplacian(image, cv2.CV_64F)[1:-1, 1:-1].var() + 0.1)
    assert of(image)["focus"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0, 48), (127, 48), (64, 0), (64, 95)])
def test_a_cell_cut_by_the_frame_touches_it_with_a_flat_side(disc, x, y):
    cut = of(picture((x, y, 18)))
    assert cut["border_contact"] > 0.25
    assert cut["flat_side"] > 0.9
    assert cut["objects"] == 1


def test_a_cut_inside_of_a_padded_frame_shows_as_a_flat_side():
    image = picture((64, 48, 18))
    image[52:] = 60
    found = of(image)
    assert found["flat_side"] > 0.75
    assert found["border_contact"] == 0


def test_two_cells_are_counted_and_touching_ones_have_a_neck(disc):
    apart = of(picture((30, 48, 15), (95, 48, 12)))
    assert apart["objects"] == 2
    assert apart["second_object"] == pytest.approx(12**2 / 15**2, abs=0.1)
    close = of(picture((45, 48, 15), (81, 48, 15)))
    assert close["objects"] == 1, "so little lies between them that the smoothing bridges it"
    assert close["neck"] >= 0.4
    touching = of(picture((45, 48, 15), (76, 48, 15)))
    assert touching["objects"] == 1
    assert close["solidity"] < touching["solidity"] < disc["solidity"] - 0.03
    assert of(picture((64, 48, 18), (110, 20, 5)))["objects"] == 1, "a speck is no second cell"


def test_blur_lowers_every_measure_of_focus(disc):
    image = picture((64, 48, 18), noise=0.5)
    sharp, blurred = of(image), of(cv2.GaussianBlur(image, (0, 0), 6))
    for name in ("focus", "sharpness", "spectral_slope"):
        assert blurred[name] < sharp[name]
    assert blurred["sharpness"] < 0.5 * sharp["sharpness"]


def test_a_displaced_copy_raises_the_ghost_score():
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (96, 128)), (0, 0), 1.5)
    image = np.full((96, 128), 100.0)
    image[30:66, 40:70] += texture[30:66, 40:70]
    ghost = image.copy()
    ghost[30:66, 64:94] += 0.7 * texture[30:66, 40:70]
    single, double = (of(np.clip(cells, 0, 255).astype(np.uint8))["ghost"] for cells in (image, ghost))
    assert double > 0.3
    assert double > 1.5 * single


def test_nothing_there_is_no_object():
    empty = of(picture())
    assert (empty["objects"], empty["foreground"], empty["border_contact"]) == (0, 0, 0)
    assert empty["snr"] < 0.7


def test_bands_stripes_and_walls_are_background():
    image = picture((64, 48, 16)).astype(np.float64)
    image += 25 * (np.arange(96) % 40 < 12)[:, None] + 12 * (np.arange(128) % 16 < 5)[None]
    image[:8] -= 50
    found = of(np.clip(image, 0, 255).astype(np.uint8))
    assert found["objects"] == 1
    assert found["foreground"] == pytest.approx(of(picture((64, 48, 16)))["foreground"], rel=0.25)


@settings(max_examples=60)
@given(data=st.data(), height=st.integers(1, 90), width=st.integers(1, 300))
def test_finite_for_any_pixels(data, height, width):
    kind = data.draw(st.sampled_from(["noise", "constant", "stripes", "rare"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    image = {
        "noise": lambda: rng.integers(0, 256, (height, width)),
        "constant": lambda: np.full((height, width), rng.integers(0, 256)),
        "stripes": lambda: np.tile([0, 255], (height, width))[:height, :width],
        "rare": lambda: 255 * (rng.random((height, width)) < 0.01),
    }[kind]().astype(np.uint8)
    found = features_of([image])
    assert np.isfinite(found).all()
    shares = [
        FEATURES.index(name) for name in ("foreground", "border_contact", "flat_side", "second_object", "solidity")
    ]
    assert (found[:, shares] >= 0).all()
    assert (found[:, shares] <= 1.001).all()
    mask = background_mask(image)
    assert mask.shape == image.shape
    assert mask.dtype == bool


@pytest.mark.parametrize("shape", [(1, 1 << 20), (1 << 20, 1)])
def test_one_large_image_of_one_line(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.isfinite(features_of([image])).all()


def test_a_cell_means_the_same_alone_and_among_others():
    cells = [picture((64, 48, 18)), picture(shape=(18, 11)), picture((30, 30, 9), shape=(60, 300))]
    together = features_of(cells)
    for cell, row in zip(cells, together, strict=True):
        assert np.array_equal(features_of([cell])[0], row)


def test_cells_outside_of_the_pool_are_refused():
    pool = np.zeros(100, np.uint8)
    with pytest.raises(ArgumentError, match="offsets"):
        cell_features(pool, np.array([50]), np.array([10], np.int32), np.array([6], np.int32))
    with pytest.raises(ArgumentError, match="heights and widths"):
        cell_features(pool, np.array([0]), np.array([0], np.int32), np.array([6], np.int32))
    assert cell_features(pool, np.zeros(0, np.int64), *[np.zeros(0, np.int32)] * 2).shape == (0, len(FEATURES))


@pytest.mark.parametrize("bright", [True, False])
def test_the_background_has_nothing_of_the_cell(bright):
    image = picture((64, 48, 18), level=40)
    image = image if bright else 255 - image
    mask = background_mask(image)
    rows, columns = np.ogrid[:96, :128]
    distance = np.hypot(rows - 48, columns - 64)
    assert not mask[distance <= 20].any()
    assert mask[distance > 36].mean() > 0.99


def test_real_cells_are_masked_whole(real_data):
    image = cv2.imread(str(real_data / "atom-samples" / "MCF7_01.jpg"), cv2.IMREAD_GRAYSCALE)
    mask = background_mask(image)
    assert 0.7 < mask.mean() < 0.95
    left = image[mask].astype(int)
    assert np.abs(left - np.median(left)).max() < 45, "the dark rim and the bright halo are gone"


def test_a_data_set_is_measured_in_both_layouts(synthetic, tmp_path):
    block = synthesize(tmp_path / "block", 60, 11, layout="block", jobs=1)
    for manifest in (synthetic, block):
        found = measure_cells(manifest, jobs=2)
        assert found.shape == (len(manifest), len(FEATURES))
        assert np.isfinite(found).all()
        assert np.array_equal(found[:, 0], manifest.column("height"))
        np.testing.assert_allclose(found[:, 2], manifest.column("mean_intensity"), atol=0.01)
        chosen = [7, 3, 3, 41]
        assert np.array_equal(measure_cells(manifest, chosen, jobs=1), found[chosen])
        assert np.array_equal(features_of(list(read_cells(manifest, chosen))), found[chosen])


def test_16_bit_cells_are_measured_through_the_window(tmp_path):
    source = tmp_path / "src" / "a"
    source.mkdir(parents=True)
    image = picture((64, 48, 18))
    for number in range(3):
        cv2.imwrite(str(source / f"{number}.png"), image.astype(np.uint16) * 4 + 400)
    pack(tmp_path / "src", tmp_path / "out", window=(400, 400 + 4 * 255), jobs=1)
    assert np.array_equal(measure_cells(Manifest.open(tmp_path / "out"))[0], features_of([image])[0])


def test_a_cell_that_cannot_be_read_is_told(fresh):
    shard = fresh.shard_path(0)
    row = int(np.flatnonzero(fresh.shard_index == 0)[2])
    data = bytearray(shard.read_bytes())
    start = int(fresh.column("offset")[row])
    data[start : start + 50] = b"x" * 50
    shard.write_bytes(data)
    problems = {}
    found = measure_cells(fresh, problems=problems)
    assert problems == {row: "not an image"}
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [row]
    with pytest.warns(UserWarning, match=f"1 of 80 cells cannot be read, the first is cell_id {row}: not an image"):
        measure_cells(fresh)
    shard.unlink()
    found = measure_cells(fresh, problems=problems)
    gone = fresh.shard_index == 0
    assert np.isnan(found[gone]).all()
    assert np.isfinite(found[~gone]).all()
    assert problems[row] == "the shard is missing"


def test_arguments_of_measure(fresh):
    with pytest.raises(ArgumentError, match="--jobs must be from 1 to 10,000, or -1 for all CPUs, got 0"):
        measure_cells(fresh, jobs=0)
    with pytest.raises(ArgumentError, match="rows must be cell_ids from 0 to 79, got 80"):
        measure_cells(fresh, [0, 80])
    assert measure_cells(fresh, []).shape == (0, len(FEATURES))
