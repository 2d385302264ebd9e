"""kernels/transform.cu on the CPU: values against float64 and the CPU twin, and refusals."""

import contextlib
import dataclasses
import itertools
import mmap

import numpy as np
import pytest
import torch
from fixtures.transform_cells import (
    CHANGES,
    NONE,
    ORDERS,
    SHAPES,
    SIZES,
    TORCH_TYPES,
    UNEVEN,
    assert_close,
    borders,
    grey_reference,
    pool,
    result,
    run,
    twin,
)

from fastcell.ops.constants import FITS, MODES


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("changes", CHANGES)
def test_agrees_with_float64_reference(host_library, size, changes):
    config = CHANGES[changes]
    sizes_um = np.array([0.2, np.nan, 0.31, 1.0, 0.05] * 2, np.float32)
    for fit, border in itertools.product(FITS, (None, borders(len(SHAPES)))):
        cells = pool(border=border, um_per_px=sizes_um)
        options = {"fit": fit, "um": 0.4 if fit == "scale" else None}
        grey = grey_reference(cells, size, config, **options)
        for mode in MODES if fit == "stretch" else MODES[:1]:
            assert_close(result(host_library, size, cells, config, mode=mode, **options), grey, mode)


@pytest.mark.parametrize("size", UNEVEN)
def test_sides_that_16_does_not_divide_agree_too(host_library, size):
    for fit, changes in zip((*FITS, FITS[0]), ("off", "usual", "strong", "blur"), strict=True):
        cells, config = pool(border=borders(len(SHAPES))), CHANGES[changes]
        grey = grey_reference(cells, size, config, fit=fit)
        for mode in MODES:
            out = result(host_library, size, cells, config, fit=fit, mode=mode)
            assert_close(out, grey, mode)
            np.testing.assert_array_equal(
                out, result(host_library, size, cells, config, fit=fit, mode=mode, order=ORDERS["shuffled"])
            )


def test_an_uneven_constant_image_is_exact(host_library):
    cells = pool(border=np.full(len(SHAPES), 77.0, np.float32))
    cells.pixels[:] = 77
    still = dataclasses.replace(CHANGES["strong"], noise_std=0.0)
    for size, mode in itertools.product(UNEVEN, ("subtract", "standardize")):
        assert (result(host_library, size, cells, still, mode=mode) == 0).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("size", "kind"), [(24, "u8"), (64, "u16"), (120, "u8")])
def test_the_filter_agrees_with_the_cpu_twin(host_library, size, kind, fit):
    """Cells that are scaled down, along one axis alone, turned, mirrored, at their edge, and on a plane."""
    for border, changes in itertools.product((None, borders(len(SHAPES))), ("off", "flips", "scale", "strong")):
        cells, config = pool(kind=kind, border=border), CHANGES[changes]
        out = result(host_library, size, cells, config, fit=fit, mode="subtract", antialias=True)
        want = twin(size, cells, config, fit, antialias=True)
        assert np.abs(out - want).max() <= 1e-5 * 255
        if changes == "off" and fit == "stretch" and size < 100:  # it does something
            plain = twin(size, cells, config, fit)
            assert np.abs(plain - want).max() > 20


def test_the_filter_keeps_a_constant_and_leaves_enlarged_cells_alone(host_library):
    cells = pool(border=np.full(len(SHAPES), 77.0, np.float32))
    cells.pixels[:] = 77
    still = dataclasses.replace(CHANGES["strong"], noise_std=0.0)
    assert (result(host_library, 24, cells, still, mode="subtract", antialias=True) == 0).all()
    small = pool([(9, 20), (24, 24), (1, 1)])
    want = result(host_library, 24, small, CHANGES["flips"])
    np.testing.assert_array_equal(result(host_library, 24, small, CHANGES["flips"], antialias=True), want)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [96, 128])
def test_16_bit_pixels_agree_with_float64_reference(host_library, size, fit):
    for border, (name, config) in itertools.product((None, borders(len(SHAPES))), CHANGES.items()):
        if name in ("off", "usual", "strong"):
            cells = pool(kind="u16", border=border)
            out = result(host_library, size, cells, config, fit=fit)
            assert_close(out, grey_reference(cells, size, config, fit=fit), "divide")


@pytest.mark.parametrize("changes", ["off", "usual", "strong"])
@pytest.mark.parametrize("size", [96, 128])
def test_65535_is_grey_level_255(host_library, size, changes):
    config = CHANGES[changes]
    cells = pool(border=borders(len(SHAPES)))
    wide = dataclasses.replace(cells, pixels=cells.pixels.astype(np.uint16) * np.uint16(257))
    out, want = (result(host_library, size, each, config, mode="subtract") for each in (wide, cells))
    assert np.abs(out - want).max() <= 1e-6 * np.abs(want).max()


@pytest.mark.parametrize("size", SIZES)
def test_fit_scale_without_a_scale_takes_raw_pixels(host_library, size):
    cells = pool(um_per_px=np.full(len(SHAPES), 0.5, np.float32))
    bare = dataclasses.replace(cells, um_per_px=None)
    want = result(host_library, size, bare, NONE, fit="scale", um=0.3)
    np.testing.assert_array_equal(result(host_library, size, cells, NONE, fit="scale"), want)
    assert_close(want, grey_reference(cells, size, NONE, fit="scale"), "divide")


def test_a_cell_of_the_images_size_comes_through_unchanged(host_library):
    for size in SIZES:
        cells = pool([(size, size)] * 2)
        for fit in FITS:
            out = result(host_library, size, cells, NONE, fit=fit, mode="subtract")
            want = np.stack([cells.cell(n).astype(np.float32) for n in cells.index])
            mean = want.mean((1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
            np.testing.assert_allclose(out, want - mean, atol=1e-5)


@pytest.mark.parametrize("order", ["reverse", "shuffled"])
@pytest.mark.parametrize("size", SIZES)
def test_the_order_of_threads_changes_no_bit(host_library, size, order):
    cells = pool(SHAPES[:8], border=borders(8))
    for config, mode in zip((NONE, CHANGES["usual"], CHANGES["strong"]), MODES, strict=True):
        want = result(host_library, size, cells, config, mode=mode)
        out = result(host_library, size, cells, config, mode=mode, order=ORDERS[order])
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("short", TORCH_TYPES)
@pytest.mark.parametrize(("size", "kind"), [(32, "u8"), (96, "u16"), (128, "u8")])
def test_16_bit_result_is_the_rounded_float32_result(host_library, size, kind, short):
    cells = pool(kind=kind)
    for config, mode in zip((NONE, CHANGES["usual"], CHANGES["strong"]), MODES, strict=True):
        exact = torch.from_numpy(result(host_library, size, cells, config, mode=mode))
        rounded = exact.to(TORCH_TYPES[short]).view(torch.int16).numpy().view(np.uint16)
        np.testing.assert_array_equal(result(host_library, size, cells, config, mode=mode, short=short), rounded)


CLOCKS = [(0, 0), (2**63 + 12345, 2**31), (2**64 - 1, 2**32 - 1)]


@pytest.mark.parametrize(("seed", "epoch"), CLOCKS)
@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_cpu_twin(host_library, size, seed, epoch):
    """The same draw, the same noise: all places, seeds and epochs that the twin takes."""
    places = np.array([0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**40 + 17, 2**62, 2**63 - 1], np.int64)
    border = borders(len(SHAPES))
    for config, fit in zip((NONE, CHANGES["usual"], CHANGES["strong"]), FITS, strict=True):
        cells = pool(border=border, position=places, clock=(seed, epoch))
        out = result(host_library, size, cells, config, fit=fit, mode="subtract")
        assert np.abs(out - twin(size, cells, config, fit)).max() <= 1e-5 * np.abs(out).max()


@pytest.mark.parametrize("sigma", [1e-30, 0.3, 16.0])
@pytest.mark.parametrize("size", SIZES)
def test_blur_from_nothing_to_its_bound(host_library, size, sigma):
    config = dataclasses.replace(NONE, blur_sigma=sigma, blur_probability=1.0)
    cells = pool([(40, 50)] * 6)
    assert_close(result(host_library, size, cells, config), grey_reference(cells, size, config), "divide")


def test_a_variant_without_blur_does_all_the_rest(host_library):
    config = dataclasses.replace(CHANGES["strong"], blur_sigma=0.0)
    for size in SIZES:
        cells = pool()
        with_blur = result(host_library, size, cells, config, blur=True)
        np.testing.assert_array_equal(result(host_library, size, cells, config, blur=False), with_blur)


def test_a_draw_that_changes_nothing_gives_the_plain_image(host_library):
    """What is drawn with no strength, or for no cell, is exactly what is not drawn at all."""
    idle = dataclasses.replace(NONE, blur_sigma=1.0, noise_std=1.0)
    drawn = dataclasses.replace(NONE, noise_std=1.0, noise_probability=1e-12)
    for size, fit in itertools.product(SIZES, FITS):
        cells = pool(border=borders(len(SHAPES)))
        want = result(host_library, size, cells, NONE, fit=fit)
        for config in (idle, drawn):
            np.testing.assert_array_equal(result(host_library, size, cells, config, fit=fit), want)


@pytest.mark.parametrize("size", SIZES)
def test_constant_images_are_exact(host_library, size):
    still = dataclasses.replace(CHANGES["strong"], noise_std=0.0)
    cells = pool(border=np.full(len(SHAPES), 77.0, np.float32))
    cells.pixels[:] = 77
    edge = dataclasses.replace(cells, border=None)
    for mode in ("subtract", "standardize"):
        for some, config in itertools.product((cells, edge), (NONE, still)):
            assert (result(host_library, size, some, config, mode=mode) == 0).all()
    np.testing.assert_allclose(result(host_library, size, cells, still), 1.0, rtol=2e-7)


def test_black_images_stay_finite(host_library):
    cells = pool()
    cells.pixels[:] = 0
    for size, mode in itertools.product(SIZES, MODES):
        assert (result(host_library, size, cells, NONE, mode=mode) == 0).all()


def test_an_image_does_not_depend_on_its_batch(host_library):
    cells = pool(index=np.array([4, 4, 7, 4, 0, 4], np.int64), position=np.array([9, 9, 1, 10, 2, 9], np.int64))
    config = CHANGES["usual"]
    together = result(host_library, 64, cells, config)
    for b in range(len(cells.index)):
        alone = dataclasses.replace(cells, index=cells.index[b : b + 1], position=cells.position[b : b + 1])
        np.testing.assert_array_equal(result(host_library, 64, alone, config)[0], together[b])
    np.testing.assert_array_equal(together[0], together[1])  # the same cell at the same place
    np.testing.assert_array_equal(together[0], together[5])
    assert not np.array_equal(together[0], together[3])  # another place
    none = np.empty(0, np.int64)
    assert result(host_library, 64, dataclasses.replace(cells, index=none, position=none), config).size == 0


def test_refused_cells_give_nan_and_no_other_cell_does(host_library):
    good = pool([(20, 30), (7, 5)], index=np.arange(2, dtype=np.int64), position=np.arange(2))
    end, most = good.pixels.size, 2**31 - 1
    bad = [
        (-1, 4, 4),
        (end, 1, 1),
        (end + 1, 1, 1),
        (end - 15, 4, 4),
        (0, end + 1, 1),
        (0, most, most),
        (2**63 - 1, most, most),
        (-(2**63), 1, 1),
        (0, 0, 4),
        (0, 4, 0),
        (0, -4, -4),
        (0, -(2**31), 1),
    ]
    offset, height, width = (np.array(column) for column in zip(*bad, strict=True))
    count = len(bad) + 2
    index = np.concatenate([np.arange(count), [-1, count, 2**62, -(2**63)], [0, 1]])
    cells = dataclasses.replace(
        good,
        offset=np.concatenate([good.offset, offset.astype(np.int64)]),
        height=np.concatenate([good.height, height.astype(np.int32)]),
        width=np.concatenate([good.width, width.astype(np.int32)]),
        border=np.full(count, 3.0, np.float32),
        index=index,
        position=np.arange(len(index)),
    )
    for size, config in itertools.product((32, 128), (NONE, CHANGES["strong"])):
        out = result(host_library, size, cells, config)
        assert np.isnan(out[2:-2]).all()
        assert np.isfinite(out[:2]).all()
        assert np.isfinite(out[-2:]).all()
    for short in TORCH_TYPES:
        out = torch.from_numpy(result(host_library, 128, cells, NONE, short=short).view(np.int16))
        assert out.view(TORCH_TYPES[short])[2:-2].isnan().all()


def test_a_cell_at_the_end_of_the_pool_is_whole(host_library):
    cells = pool([(20, 30)], gap=0)
    cells.index, cells.position = np.zeros(1, np.int64), np.zeros(1, np.int64)
    assert cells.pixels.size == 600
    assert np.isfinite(result(host_library, 32, cells, NONE)).all()


def test_sizes_and_maps_that_mean_nothing_give_nan(host_library):
    um = np.array([0.0, -1.0, np.inf, 1e-30, 1.0, np.nan], np.float32)
    cells = pool([(20, 30)] * 6, um_per_px=um, index=np.arange(6), position=np.arange(6))
    for config in (NONE, CHANGES["strong"]):
        out = result(host_library, 64, cells, config, fit="scale", um=1.0)
        assert np.isnan(out[[0, 1, 3]]).all()
        assert np.isfinite(out[[2, 4, 5]]).all()
    assert np.isfinite(result(host_library, 64, cells, NONE, fit="contain", um=1.0)).all()


@contextlib.contextmanager
def untouched(count, dtype):
    """An array of zeros of which only pages that are written take memory."""
    no_reserve = 0x4000  # MAP_NORESERVE, which mmap does not name
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    yield np.frombuffer(mmap.mmap(-1, count * np.dtype(dtype).itemsize, flags=flags), dtype)


@pytest.mark.parametrize("kind", ["u8", "u16"])
def test_cells_beyond_the_first_4_gi_of_the_pool(host_library, kind):
    near, shift = pool(kind=kind), 2**32 + 12345
    with untouched(shift + near.pixels.size, near.pixels.dtype) as pixels:
        pixels[shift:] = near.pixels
        far = dataclasses.replace(near, pixels=pixels, offset=near.offset + shift)
        want = result(host_library, 128, near, CHANGES["usual"])
        np.testing.assert_array_equal(result(host_library, 128, far, CHANGES["usual"]), want)


def test_a_cell_of_more_than_4_gi_pixels(host_library):
    height, width = 9, 2**29
    with untouched(height * width, np.uint8) as pixels:
        cells = pool([(1, 1)], index=np.zeros(1, np.int64), position=np.zeros(1, np.int64))
        cells = dataclasses.replace(cells, pixels=pixels, offset=np.zeros(1, np.int64))
        cells.height[:], cells.width[:] = height, width
        below = ((np.arange(32) + 0.5) * (width // 32)).astype(np.int64)  # in the last row, beyond 2**32
        cells.cell(0)[8, below] = np.arange(100, 132)
        out = result(host_library, 32, cells, NONE, mode="subtract")
        want = twin(32, cells, NONE, "stretch")
        assert np.ptp(want) > 50
        np.testing.assert_allclose(out, want, atol=1e-3)


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_shared_memory_is_as_large_as_said_and_no_larger(host_library, size, blur, capfd):
    config = CHANGES["strong"]
    cells = pool(SHAPES[:4])
    out = np.empty((4, size, size), np.float32)
    assert run(host_library, size, cells, config, out, mode="standardize", blur=blur) == 0
    assert run(host_library, size, cells, config, out, mode="standardize", blur=blur, lack=4) == 1
    assert "shared memory written past the launch's size" in capfd.readouterr().err
