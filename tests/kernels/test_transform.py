"""kernels/transform.cu on the CPU: values against float64 and the CPU twin, refusals, races, registers and spills."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import mmap

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates

from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.constants import EPS, FITS, GPU_IMAGE_SIZES, MODES
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.cuda_kernels import kernel_dir
from fastcell.ops.matrices import matrices
from fastcell.ops.philox import philox

SIZES = (32, 64, 96, 128)
UNEVEN = (16, 24, 120)  # rows that do not divide among the threads, and images smaller than the widest blur
ORDERS = {"forward": 0, "reverse": 1, "shuffled": 7}
SHAPES = [(1, 1), (1, 37), (23, 1), (2, 2), (18, 18), (21, 102), (68, 440), (128, 128), (300, 700), (41, 9)]
TORCH_TYPES = {"f16": torch.float16, "bf16": torch.bfloat16}
NONE = Augmentation.none()
CHANGES = {
    "off": NONE,
    "flips": dataclasses.replace(NONE, flip_horizontal=True, flip_vertical=True),
    "rotation": dataclasses.replace(NONE, rotation_deg=180.0),
    "translation": dataclasses.replace(NONE, translation=0.5),
    "scale": dataclasses.replace(NONE, scale=1.0),
    "blur": dataclasses.replace(NONE, blur_sigma=3.0, blur_probability=1.0),
    "noise": dataclasses.replace(NONE, noise_std=40.0, noise_probability=1.0),
    "usual": Augmentation(blur_probability=0.5, noise_probability=0.5),
    "strong": Augmentation(True, True, 180.0, 0.5, 1.0, 6.0, 0.7, 255.0, 0.7),
}


@dataclasses.dataclass
class Cells:
    """A pool and what is asked of it: cell index[b] at place position[b] of an epoch."""

    pixels: np.ndarray
    offset: np.ndarray
    height: np.ndarray
    width: np.ndarray
    border: np.ndarray | None = None
    um_per_px: np.ndarray | None = None
    index: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    position: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    clock: tuple[int, int] = (5, 3)  # seed and epoch

    def cell(self, n):
        begin, height, width = int(self.offset[n]), int(self.height[n]), int(self.width[n])
        return self.pixels[begin : begin + height * width].reshape(height, width)


def pool(shapes=SHAPES, kind="u8", seed=0, gap=3, **changes):
    """Random cells, in another order in the pool than in the table, with pixels between them that belong to none."""
    rng = np.random.default_rng(seed)
    height, width = (np.array(axis, np.int32) for axis in zip(*shapes, strict=True))
    offset, at = np.zeros(len(shapes), np.int64), gap
    for n in rng.permutation(len(shapes)):
        offset[n] = at
        at += int(height[n]) * int(width[n]) + gap
    pixels = rng.integers(0, 256 if kind == "u8" else 65536, at, dtype=np.uint8 if kind == "u8" else np.uint16)
    order = rng.permutation(len(shapes)).astype(np.int64)
    defaults = {"index": order, "position": np.arange(100, 100 + len(order))}
    return Cells(pixels, offset, height, width, **{**defaults, **changes})


def borders(count):
    border = np.linspace(0.0, 255.0, count, dtype=np.float32)
    border[1::4] = np.nan
    return border


def shared_bytes(size, blur):
    return 4 * size * size if blur else 112 + size


def run(
    library,
    size,
    cells,
    config,
    out,
    fit="stretch",
    um=None,
    mode="divide",
    order=0,
    blur=None,
    short="f32",
    lack=0,
    antialias=False,
):
    """Launch one variant over the cells into `out` and return the launch's status."""
    blur = antialias or (config.blur_sigma > 0 if blur is None else blur)
    kind = {"uint8": "u8", "uint16": "u16"}[cells.pixels.dtype.name]
    variant = "filter" if antialias else "blur" if blur else "plain"
    address = ctypes.c_void_p.in_dll(library, f"host_transform_{size}_{kind}_{short}_{variant}")
    integer, long, double, pointer = ctypes.c_int, ctypes.c_longlong, ctypes.c_double, ctypes.c_void_p
    types = [pointer, long, *[pointer] * 5, long, *[pointer] * 4, integer, double, integer, integer, *[double] * 7]
    launch = ctypes.CFUNCTYPE(integer, *[integer] * 3, ctypes.c_uint, *types, integer, ctypes.c_float)(address.value)
    clock = np.array(cells.clock, np.uint64)
    for column, dtype in (("offset", "int64"), ("height", "int32"), ("index", "int64"), ("position", "int64")):
        assert getattr(cells, column).dtype == dtype
    return launch(
        len(cells.index),
        4 * size,
        shared_bytes(size, blur) - lack,
        order,
        cells.pixels.ctypes.data,
        cells.pixels.size,
        cells.offset.ctypes.data,
        cells.height.ctypes.data,
        cells.width.ctypes.data,
        None if cells.border is None else cells.border.ctypes.data,
        None if cells.um_per_px is None else cells.um_per_px.ctypes.data,
        len(cells.offset),
        cells.index.ctypes.data,
        cells.position.ctypes.data,
        clock.ctypes.data,
        out.ctypes.data,
        FITS.index(fit),
        0.0 if um is None else um,
        config.flip_horizontal,
        config.flip_vertical,
        np.deg2rad(config.rotation_deg),
        config.translation,
        config.scale,
        config.blur_sigma,
        config.blur_probability,
        config.noise_std,
        config.noise_probability,
        MODES.index(mode),
        EPS,
    )


def result(library, size, cells, config, short="f32", **options):
    shape = (len(cells.index), size, size)
    out = np.full(shape, np.inf, np.float32) if short == "f32" else np.zeros(shape, np.uint16)
    assert run(library, size, cells, config, out, short=short, **options) == 0
    return out


def noise(seed, size):
    quarter = -(-size // 4)
    words = philox((np.arange(size * quarter), 0, 0, 0), np.uint64(seed))
    u = [((word >> np.uint64(9)).astype(np.float64) + 0.5) / 2**23 for word in words]
    pairs = [np.sqrt(-2 * np.log(u[i])) * np.exp(2j * np.pi * u[i + 1]) for i in (0, 2)]
    normals = [part.reshape(size, quarter) for pair in pairs for part in (pair.real, pair.imag)]
    return np.concatenate(normals, 1)[:, :size]


def parameters(cells, size, config, fit="stretch", um=None):
    drawn = draw(config, *cells.clock, cells.position)
    known = None if cells.um_per_px is None else cells.um_per_px[cells.index].astype(np.float64)
    maps = matrices(cells.height[cells.index], cells.width[cells.index], size, fit, drawn, um, known)
    return drawn, maps


def grey_reference(cells, size, config, **options):
    """Float64 images before the normalisation."""
    drawn, maps = parameters(cells, size, config, **options)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    grey = np.empty((len(maps), size, size))
    for b, (n, a) in enumerate(zip(cells.index, maps, strict=True)):
        cell = cells.cell(n) / (1.0 if cells.pixels.dtype == np.uint8 else 257.0)
        at = [a[i, 0] * x + a[i, 1] * y + a[i, 2] - 0.5 for i in (1, 0)]
        clamp = cells.border is None or np.isnan(cells.border[n])
        outside = {"mode": "nearest"} if clamp else {"mode": "grid-constant", "cval": cells.border[n]}
        grey[b] = map_coordinates(cell, at, order=1, prefilter=False, **outside)
        sigma = float(drawn.blur_sigma[b])
        if sigma > 0:
            for axis in (1, 0):
                radius = int(np.ceil(3 * sigma))
                grey[b] = gaussian_filter1d(grey[b], sigma, axis=axis, mode="mirror", radius=radius)
        if drawn.noise_std[b] > 0:
            grey[b] += float(drawn.noise_std[b]) * noise(drawn.noise_seed[b], size)
    return grey


def twin(size, cells, config, fit, antialias=False):
    drawn, maps = parameters(cells, size, config, fit=fit)
    out, n = np.empty((len(maps), 1, size, size), np.float32), cells.index
    border = np.full(len(n), np.nan, np.float32) if cells.border is None else cells.border[n]
    changes = border, drawn.blur_sigma, drawn.noise_std, drawn.noise_seed
    columns = cells.pixels, cells.offset[n], cells.height[n], cells.width[n]
    transform_pool(*columns, maps, *changes, out, mode="subtract", antialias=antialias)
    return out[:, 0]


def assert_close(out, grey, mode):
    """At most 1e-5 of the image's largest grey level, after the normalisation's gain."""
    mean, deviation = grey.mean((1, 2), keepdims=True), grey.std((1, 2), keepdims=True)
    largest = np.maximum(np.abs(grey).max((1, 2), keepdims=True), 1.0)
    gain = np.ones_like(mean)
    if mode == "divide":
        gain = 1.0 / np.maximum(mean, EPS)
    elif mode == "standardize":
        gain = 1.0 / np.maximum(deviation, EPS)
    want = (grey - (0.0 if mode == "divide" else mean)) * gain
    sound = (1.0 / gain > 1e-5 * largest).ravel()  # elsewhere there is nothing to divide by but rounding
    error = (np.abs(out - want) / (largest * gain)).max((1, 2))
    assert error[sound].max(initial=0.0) <= 1e-5, error
    assert np.isfinite(out).all()


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


BARRIERS = [
    "one has written the parameters",
    "all have read the parameters",
    "all have written the image",
    "all have read the rows",
    "all have written the rows",
    "all have read the columns",
]


@pytest.mark.parametrize("barrier", BARRIERS[3:5])  # all six are left to ThreadSanitizer
def test_a_dropped_barrier_gives_wrong_values(build_library, mutant, barrier):
    kernels = mutant("transform.cu", f"__syncthreads();  // {barrier}\n", "")
    library = build_library(kernels, "transform", "-DFEW_ENTRIES")
    # a row of 96 pixels is more than one warp's
    cells, config = pool(SHAPES[:5]), CHANGES["blur"]
    want = grey_reference(cells, 96, config)
    want /= want.mean((1, 2), keepdims=True)
    right = [
        np.allclose(result(library, 96, cells, config, order=order), want, rtol=0, atol=1e-4)
        for order in ORDERS.values()
    ]
    assert not all(right)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_sanitizers_find_nothing(sanitized, sanitizer):
    done = sanitized(kernel_dir(), "transform", sanitizer)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_planted_race_is_reported(sanitized, mutant, barrier):
    done = sanitized(mutant("transform.cu", f"__syncthreads();  // {barrier}\n", ""), "transform", "thread")
    assert done.returncode == 66, done.stderr
    assert "data race" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("> pool.num_pixels - offset) return;", "> pool.num_pixels) return;"),
        ("cell >= pool.num_cells", "cell > pool.num_cells"),
        ("const int first = (int)(at >> 32), last = length - 1;", "const int first = (int)(at >> 32), last = length;"),
        ("scratch + kParamsFloats;", "scratch + kParamsFloats + 1;"),
    ],
)
def test_a_planted_overrun_is_reported(sanitized, mutant, old, new):
    done = sanitized(mutant("transform.cu", old, new), "transform", "address")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr, done.stderr


ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
INS, OUTS = ("u8", "u16"), ("float", "f16", "bf16")


def check_resources(nvrtc, architecture, size, kind, out, blur, filtering=0):
    """A multiprocessor has 65,536 registers for 256 // size blocks; 65,536 bytes is what sm_75 can give a block."""
    macros = {"CELL_SIZE": size, "CELL_IN": kind, "CELL_OUT": out, "CELL_BLUR": blur, "CELL_FILTER": filtering}
    found = nvrtc("transform.cu", architecture, **macros)
    assert list(found) == ["transform"]
    registers, spilled_bytes, static_bytes = found["transform"]
    assert spilled_bytes <= (48 if size % 16 else 0)
    blocks = 256 // size if not filtering else max(128 // size, 1)
    assert registers <= 128
    assert registers * 4 * size * blocks <= 65536
    assert static_bytes == 0
    assert shared_bytes(size, blur) <= 65536


@pytest.mark.parametrize("blur", [0, 1])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_spills(nvrtc, architecture, blur):
    check_resources(nvrtc, architecture, 128, "u8", "float", blur)


@pytest.mark.parametrize(("size", "filtering"), [(16, 0), (24, 0), (48, 0), (120, 0), (24, 1), (64, 1), (128, 1)])
def test_registers_of_other_sides_and_of_the_filter(nvrtc, size, filtering):
    check_resources(nvrtc, "sm_90", size, "u8", "float", 1, filtering)


@pytest.mark.slow
@pytest.mark.parametrize("size", GPU_IMAGE_SIZES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_spills_of_every_variant(nvrtc, architecture, size):
    for kind, out, blur in itertools.product(INS, OUTS if size in SIZES else OUTS[:1], (0, 1)):
        check_resources(nvrtc, architecture, size, kind, out, blur)
    check_resources(nvrtc, architecture, size, "u8", "float", 1, filtering=1)


def test_the_source_alone_has_no_entry(nvrtc):
    assert nvrtc("transform.cu", "sm_90") == {}
