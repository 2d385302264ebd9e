"""transform_cells against a float64 reference on SciPy, OpenCV, torch and DALI; bounds, errors, threads, cache."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates

from fastcell.errors import ArgumentError
from fastcell.ops.cpu.normalize import normalize_images
from fastcell.ops.cpu.transform import find_bad_cell, transform_cells, transform_pool, transform_range
from fastcell.ops.philox import philox

NAN = float("nan")


def noise(seed, size):
    quarter = -(-size // 4)
    words = philox((np.arange(size * quarter), 0, 0, 0), np.uint64(seed))
    uniforms = [((word >> np.uint64(9)).astype(np.float64) + 0.5) / 2**23 for word in words]
    radii = [np.sqrt(-2 * np.log(uniforms[0])), np.sqrt(-2 * np.log(uniforms[2]))]
    angles = [2 * np.pi * uniforms[1], 2 * np.pi * uniforms[3]]
    normals = [radii[0] * np.cos(angles[0]), radii[0] * np.sin(angles[0])]
    normals += [radii[1] * np.cos(angles[1]), radii[1] * np.sin(angles[1])]
    return np.concatenate([normal.reshape(size, quarter) for normal in normals], 1)[:, :size]


def normalized(x, mode):
    if mode == "divide":
        return x / max(x.mean(), 1e-6)
    if mode == "subtract":
        return x - x.mean()
    return (x - x.mean()) / max(x.std(), 1e-6)


def grey_reference(cell, matrix, size, fill=NAN, sigma=0.0, std=0.0, seed=0):
    centres = np.arange(size) + 0.5
    x, y = np.meshgrid(centres, centres)
    at = [matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] - 0.5 for i in (1, 0)]
    mode = {"mode": "nearest"} if np.isnan(fill) else {"mode": "grid-constant", "cval": fill}
    grey = map_coordinates(cell.astype(np.float64), at, order=1, prefilter=False, **mode)
    if sigma > 0:
        for axis in (1, 0):
            grey = gaussian_filter1d(grey, sigma, axis=axis, mode="mirror", radius=int(np.ceil(3 * sigma)))
    return grey + std * noise(seed, size) if std > 0 else grey


def reference(cell, matrix, size, mode, **changes):
    return normalized(grey_reference(cell, matrix, size, **changes), mode)


def stretch(height, width, size):
    return np.array([[width / size, 0, 0], [0, height / size, 0]])


def turned(height, width, size, degrees, factor=1.0, shift=(0.0, 0.0)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * factor
    linear = np.diag([width / size, height / size]) @ turn
    offset = np.array([width / 2, height / 2]) - linear @ (np.array([size / 2, size / 2]) + shift)
    return np.column_stack([linear, offset])


def transform(
    cells, matrices, size=128, mode="divide", fill=NAN, sigma=0.0, std=0.0, seed=0, threads=1, antialias=False
):
    count = len(cells)
    out = np.full((count, 1, size, size), np.nan, np.float32)

    def column(value, dtype):
        return np.broadcast_to(np.asarray(value, dtype), (count,))

    returned = transform_cells(
        np.array([cell.ctypes.data for cell in cells], np.int64),
        np.array([cell.shape[0] for cell in cells], np.int32),
        np.array([cell.shape[1] for cell in cells], np.int32),
        np.array(matrices, np.float64).reshape(count, 2, 3),
        column(fill, np.float32),
        column(sigma, np.float32),
        column(std, np.float32),
        column(seed, np.uint64),
        out,
        mode,
        threads,
        antialias,
        dtype=cells[0].dtype if count else np.uint8,
    )
    assert returned is out
    return out[:, 0]


def random_cell(height, width, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width), dtype=dtype, endpoint=True)


SHAPES = [(1, 1), (1, 7), (5, 1), (2, 2), (18, 18), (21, 102), (68, 440), (37, 131), (128, 128), (300, 41)]


def grey_levels(cell):
    return cell / (257.0 if cell.dtype == np.uint16 else 1.0)


def check_against_reference(cell, maps, mode, fill, size=128):
    out = transform([cell] * len(maps), maps, size=size, mode=mode, fill=fill)
    for image, matrix in zip(out, maps, strict=True):
        grey = grey_reference(grey_levels(cell), matrix, size, fill=fill)
        rounding = 255e-5 if mode == "subtract" else 1e-5 * max(1.0, grey.max() / max(grey.mean(), 1e-6))
        if mode == "standardize":  # divides the rounding of the grey levels by their deviation
            rounding = 255e-5 / max(grey.std(), 255e-5)
        assert np.abs(image - normalized(grey, mode)).max() <= rounding


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mode", ["divide", "subtract", "standardize"])
@pytest.mark.parametrize("fill", [NAN, 97.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_sampling_agrees_with_scipy(shape, fill, mode, dtype):
    maps = [
        stretch(*shape, 128),
        turned(*shape, 128, 0, 1.3, (9.3, -4.1)),
        turned(*shape, 128, 0, -0.7, (40.0, 3.0)),
        turned(*shape, 128, 33.0),
        turned(*shape, 128, -170.0, 0.4, (-30, 25)),
        turned(*shape, 128, 90.0, 2.5),
    ]
    check_against_reference(random_cell(*shape, dtype=dtype), maps, mode, fill)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("fill", [NAN, 97.0])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((100, 120), 16),  # many more pixels than are sampled
        ((3, 3000), 128),  # wider than 32-bit coordinates reach
        ((2500, 3), 128),
        ((3, 2040), 128),  # as wide as they reach
        ((62, 32), 16),  # 64 rows of 32 pixels, ring included, and 2 are just too many for the table of pairs ...
        ((61, 32), 16),  # ... and these are not
    ],
)
def test_large_cells_agree_with_scipy(shape, size, fill, dtype):
    """Some are sampled in place, others are rearranged first; a rotation that points far away leaves the 32 bits."""
    maps = [turned(*shape, size, 20.0), turned(*shape, size, 20.0, 0.9, (3.0, -2.0)), turned(*shape, size, -3.0, 2.0)]
    maps.append(np.array([[0.5, 0.01, 2030.0], [-0.01, 0.5, -2030.0]]))
    maps.append(np.array([[500.0, 0.01, -900.0], [-0.01, 500.0, 1e8]]))
    check_against_reference(random_cell(*shape, dtype=dtype), maps, "subtract", fill, size)


@pytest.mark.parametrize("mode", ["divide", "subtract", "standardize"])
@pytest.mark.parametrize("fill", [NAN, 61.5])
@pytest.mark.parametrize("antialias", [False, True])
def test_sixteen_bits_of_the_same_greys_give_the_same_images(antialias, fill, mode):
    cells = [random_cell(*shape, seed=5) for shape in ((21, 102), (128, 128), (150, 140), (9, 300), (1, 1), (40, 1))]
    cells += [np.full((30, 40), value, np.uint8) for value in (0, 255)]
    wide = [cell.astype(np.uint16) * 257 for cell in cells]
    for degrees in (0.0, 25.0):
        maps = [turned(*cell.shape, 64, degrees) for cell in cells]
        maps[1][:, :] = np.eye(3)[:2] if degrees == 0.0 else maps[1]  # the identity
        changes = {"size": 64, "mode": mode, "fill": fill, "antialias": antialias}
        for more in ({}, {"sigma": 0.7, "std": 3.0, "seed": 4}):
            narrow, got = transform(cells, maps, **changes, **more), transform(wide, maps, **changes, **more)
            assert np.isfinite(got).all()
            for a, b, cell in zip(narrow, got, cells, strict=True):
                constant = mode == "standardize" and not more and cell.min() == cell.max()
                if not constant:  # there a deviation of rounding alone is divided by itself
                    np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("size", [8, 32, 33, 64, 100, 128, 130, 256])
def test_every_output_size(size):
    cell = random_cell(45, 231)
    maps = [stretch(45, 231, size), turned(45, 231, size, 20.0)]
    out = transform([cell, cell], maps, size=size, fill=30.0, sigma=0.8, std=7.0, seed=11)
    for image, matrix in zip(out, maps, strict=True):
        want = reference(cell, matrix, size, "divide", fill=30.0, sigma=float(np.float32(0.8)), std=7.0, seed=11)
        np.testing.assert_allclose(image, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 2.6, 16.0])
@pytest.mark.parametrize("size", [8, 128])
def test_blur_is_a_mirrored_gaussian(size, sigma):
    cell = random_cell(40, 50)
    matrix = turned(40, 50, size, 15.0)
    out = transform([cell], [matrix], size=size, mode="subtract", sigma=sigma)[0]
    want = reference(cell, matrix, size, "subtract", sigma=float(np.float32(sigma)))
    assert np.abs(out - want).max() < 2e-3  # 1e-5 of 255 grey levels


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 12345, 2**64 - 1])
@pytest.mark.parametrize("size", [9, 128])
def test_noise_is_philox_box_muller(size, seed):
    cell = np.full((5, 5), 100, np.uint8)
    out = transform([cell], [stretch(5, 5, size)], size=size, mode="subtract", std=10.0, seed=seed)[0]
    want = 10.0 * noise(seed, size)
    np.testing.assert_allclose(out, want - want.mean(), atol=1e-4)


def test_noise_is_normal_and_differs_by_seed():
    cell = np.zeros((4, 4), np.uint8)
    out = transform([cell] * 64, [stretch(4, 4, 128)] * 64, mode="subtract", std=1.0, seed=np.arange(64))
    assert abs(out.std() - 1.0) < 0.003
    assert abs((out**4).mean() - 3.0) < 0.03
    flat = out.reshape(64, -1)
    correlation = np.corrcoef(flat)[np.triu_indices(64, 1)]
    assert np.abs(correlation).max() < 0.05


def test_plain_stretch_is_the_resize_of_opencv_and_torch():
    import cv2

    cells = [random_cell(height, width, height) for height, width in [(21, 102), (68, 440), (128, 128), (31, 64)]]
    out = transform(cells, [stretch(*cell.shape, 128) for cell in cells], mode="subtract")
    for image, cell in zip(out, cells, strict=True):
        by_torch = torch.nn.functional.interpolate(
            torch.from_numpy(cell).double()[None, None], (128, 128), mode="bilinear", align_corners=False
        )[0, 0].numpy()
        np.testing.assert_allclose(image, by_torch - by_torch.mean(), atol=2e-3)
        by_opencv = cv2.resize(cell.astype(np.float32), (128, 128), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(image, by_opencv - by_opencv.mean(), atol=5e-3)


@pytest.mark.parametrize("shape", [(300, 440), (128, 129), (60, 700), (500, 20)])
def test_antialiased_stretch_is_torch_interpolate(shape):
    cell = random_cell(*shape)
    out = transform([cell], [stretch(*shape, 128)], mode="subtract", antialias=True)[0]
    want = torch.nn.functional.interpolate(
        torch.from_numpy(cell).double()[None, None], (128, 128), mode="bilinear", antialias=True
    )[0, 0].numpy()
    np.testing.assert_allclose(out, want - want.mean(), atol=2e-3)


def test_antialiasing_fills_outside_the_cell():
    """A constant cell on a plane of its own grey level stays constant; on another it fades at the edge only."""
    cell = np.full((200, 300), 80, np.uint8)
    matrix = turned(200, 300, 64, 0, 2.0)
    same = transform([cell], [matrix], size=64, mode="subtract", fill=80.0, antialias=True)[0]
    assert np.abs(same).max() < 1e-3
    out = transform([cell], [matrix], size=64, mode="divide", fill=20.0, antialias=True)[0]
    values = out / out[32, 32] * 80
    assert values[0, 0] == pytest.approx(20, abs=1e-3)
    assert values[32, 20:44] == pytest.approx(80, abs=1e-3)
    # The cell covers output columns 16..48; the triangle of half-width 1 at their edges gives 1/8 and 7/8 of the step.
    assert values[32, 15] == pytest.approx(20 + 60 / 8, abs=0.1)
    assert values[32, 16] == pytest.approx(80 - 60 / 8, abs=0.1)


@pytest.mark.parametrize("fill", [NAN, 50.0])
def test_antialiased_rotation_suppresses_what_the_output_cannot_hold(fill):
    checkers = ((np.indices((400, 400)).sum(0) % 2) * 200).astype(np.uint8)
    matrix = turned(400, 400, 100, 20.0, 0.7)
    sharp = transform([checkers], [matrix], size=100, mode="subtract", fill=fill)[0]
    smooth = transform([checkers], [matrix], size=100, mode="subtract", fill=fill, antialias=True)[0]
    assert sharp.std() > 20
    assert smooth.std() < 3
    slope = np.add.outer(np.arange(400), np.arange(400)) * 0.3
    ramp = slope.astype(np.uint8)
    want = reference(ramp, matrix, 100, "subtract", fill=fill)
    got = transform([ramp], [matrix], size=100, mode="subtract", fill=fill, antialias=True)[0]
    assert np.abs(got - want)[5:-5, 5:-5].max() < 1.0


def test_antialias_changes_nothing_when_the_cell_is_magnified():
    cell = random_cell(40, 100)
    maps = [stretch(40, 100, 128), turned(40, 100, 128, 30.0)]
    np.testing.assert_array_equal(transform([cell] * 2, maps), transform([cell] * 2, maps, antialias=True))


def test_fill_rule():
    """Half a pixel beyond the rectangle all is fill, inside by half a pixel all is cell, between they are mixed."""
    cell = np.full((4, 4), 200, np.uint8)
    matrix = np.array([[0.25, 0, -1.0], [0, 0.25, -1.0]])
    out = transform([cell], [matrix], size=24, fill=40.0, mode="divide")[0]
    values = out[12] / out[12, 12] * 200
    points = 0.25 * (np.arange(24) + 0.5) - 1.0
    want = np.interp(points, [-0.5, 0.5, 3.5, 4.5], [40, 200, 200, 40])
    np.testing.assert_allclose(values, want, atol=1e-3)


def test_mirrored_maps_mirror_the_image():
    cell = random_cell(45, 130)
    plain = transform([cell], [stretch(45, 130, 128)])[0]
    maps = [
        [[-130 / 128, 0, 130], [0, 45 / 128, 0]],
        [[130 / 128, 0, 0], [0, -45 / 128, 45]],
    ]
    horizontal, vertical = transform([cell] * 2, maps)
    np.testing.assert_allclose(horizontal, plain[:, ::-1], rtol=0, atol=1e-6 * plain.max())
    np.testing.assert_allclose(vertical, plain[::-1], rtol=0, atol=1e-6 * plain.max())


def test_identity_copies_the_pixels():
    cell = random_cell(128, 128)
    for fill in (NAN, 3.0):
        out = transform([cell], [stretch(128, 128, 128)], mode="subtract", fill=fill)[0]
        np.testing.assert_allclose(out, cell - cell.mean(), atol=2e-5)
    corner = transform([cell], [[[1, 0, 0], [0, 1, 0]]], size=50, mode="divide")[0]
    np.testing.assert_allclose(corner, cell[:50, :50] / cell[:50, :50].mean(), rtol=1e-6)


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("mode", ["divide", "subtract", "standardize"])
def test_constant_cells_stay_finite(mode, value):
    cell = np.full((19, 33), value, np.uint8)
    out = transform([cell] * 2, [stretch(19, 33, 128), turned(19, 33, 128, 31)], mode=mode)
    want = 1.0 if mode == "divide" and value else 0.0
    np.testing.assert_allclose(out, want, atol=1e-4 if mode == "subtract" else 1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_result_does_not_depend_on_threads_or_batch(count):
    cells = [random_cell(20 + i, 30 + 7 * i, i) for i in range(count)]
    maps = [turned(*cell.shape, 128, 10 * i) for i, cell in enumerate(cells)]
    changes = {"sigma": 0.7, "std": 4.0, "seed": np.arange(count), "fill": 12.0}
    whole = transform(cells, maps, **changes)
    np.testing.assert_array_equal(transform(cells, maps, threads=3, **changes), whole)
    last = transform(cells[-1:], maps[-1:], **{**changes, "seed": count - 1})
    np.testing.assert_array_equal(last[0], whole[-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["divide", "subtract", "standardize"])
def test_a_cell_has_the_same_bits_beside_other_kinds(mode, antialias, dtype):
    """Cells with and without rotation, blur, noise and a grey level outside have compiled code of their own."""
    for size in (24, 64, 65):
        for fill in (NAN, 30.0):
            cells = [random_cell(*shape, seed=n, dtype=dtype) for n, shape in enumerate(SHAPES)] * 2
            maps = [stretch(*cell.shape, size) for cell in cells[: len(SHAPES)]]
            maps += [np.array([[1, 0, 0.25 * (n % 3)], [0, 1, 0]]) for n in range(len(SHAPES))]
            alone = transform(cells, maps, size, mode, fill, antialias=antialias)
            others = [turned(9, 9, size, 30), turned(*cells[-1].shape, size, 5)]
            sigma, std = np.zeros(len(cells) + 2), np.zeros(len(cells) + 2)
            sigma[-2], std[-2] = 1.5, 3.0
            fills = [fill] * (len(cells) + 1) + [30.0 if np.isnan(fill) else NAN]
            beside = transform(
                [*cells, random_cell(9, 9, dtype=dtype), cells[-1]], [*maps, *others], size, mode, fills, sigma, std,
                antialias=antialias,
            )  # fmt: skip
            assert np.array_equal(alone, beside[:-2])


def test_code_of_a_cell_depends_on_the_cell_alone(monkeypatch):
    """Each cell is written by the code of its kind, never by that of its batch."""
    written = []

    def recorded(*arguments):
        before = np.isnan(arguments[8][:, 0, 0])
        transform_range(*arguments)
        rows = np.flatnonzero(before & ~np.isnan(arguments[8][:, 0, 0]))
        written.append((rows.tolist(), [value is not None for value in arguments[13:15]], arguments[16] is not None))

    monkeypatch.setattr("fastcell.ops.cpu.transform.transform_range", recorded)
    cells, axis_aligned, rotated = [random_cell(9, 9)] * 6, stretch(9, 9, 24), turned(9, 9, 24, 30)
    maps = [axis_aligned, rotated, axis_aligned, rotated, axis_aligned, axis_aligned]
    transform(cells, maps, 24, fill=[NAN, NAN, 30, 30, NAN, NAN], sigma=[0, 0, 0, 0, 1, 0], std=[0, 0, 0, 0, 0, 2])
    plain, filled, varied = ([False, False], False), ([True, False], False), ([False, True], True)
    assert written == [([0], *plain), ([2], *filled), ([1, 4, 5], *varied), ([3], [True, True], True)]


def test_empty_batch():
    assert transform([], np.zeros((0, 2, 3))).shape == (0, 128, 128)


def test_pool_gives_what_addresses_give_and_checks_extents():
    cells = [random_cell(20, 30, 1), random_cell(31, 17, 2), random_cell(1, 1, 3)]
    pool = np.concatenate([cell.ravel() for cell in cells])
    heights, widths = np.array([20, 31, 1], np.int32), np.array([30, 17, 1], np.int32)
    offsets = np.array([0, 600, 600 + 31 * 17], np.int64)
    maps = np.array([stretch(h, w, 128) for h, w in zip(heights, widths, strict=True)])
    zeros = np.zeros(3, np.float32)
    rest = (heights, widths, maps, np.full(3, np.nan, np.float32), zeros, zeros, np.zeros(3, np.uint64))
    out = np.empty((3, 1, 128, 128), np.float32)
    transform_pool(pool, offsets, *rest, out)
    np.testing.assert_array_equal(out[:, 0], transform(cells, maps))
    far = np.iinfo(np.int64).max
    for bad in ([-1, 600, 0], [0, 601 + 31 * 17, 0], [0, 600, len(pool)], [far, 0, 0], [far - 599, 0, 0]):
        with pytest.raises(ArgumentError, match=r"offsets\[\d\] must be inside the pool"):
            transform_pool(pool, np.array(bad), *rest, out)


def test_pool_of_sixteen_bits():
    cells = [random_cell(20, 30, 1, np.uint16), random_cell(31, 17, 2, np.uint16)]
    pool = np.concatenate([cell.ravel() for cell in cells])
    maps = np.array([stretch(20, 30, 64), turned(31, 17, 64, 40.0)])
    zeros = np.zeros(2, np.float32)
    sizes = np.array([20, 31], np.int32), np.array([30, 17], np.int32)
    rest = (*sizes, maps, np.full(2, np.nan, np.float32), zeros, zeros, np.zeros(2, np.uint64))
    out = np.empty((2, 1, 64, 64), np.float32)
    transform_pool(pool, np.array([0, 600]), *rest, out)
    for image, cell, matrix in zip(out[:, 0], cells, maps, strict=True):
        np.testing.assert_allclose(image, reference(cell, matrix, 64, "divide"), atol=5e-5)
    with pytest.raises(ArgumentError, match=r"offsets\[1\] must be inside the pool"):
        transform_pool(pool, np.array([0, 601]), *rest, out)
    for bad in (pool.astype(np.float32), pool.astype(np.int16), pool.astype(">u2"), pool.reshape(1, -1), pool.tolist()):
        with pytest.raises(ArgumentError, match="pixels must be a uint8 or uint16 array of one dimension"):
            transform_pool(bad, np.array([0, 600]), *rest, out)
    with pytest.raises(ArgumentError, match="pixels must be contiguous"):
        transform_pool(np.repeat(pool, 2)[::2], np.array([0, 600]), *rest, out)


GUARDED = """
import ctypes, itertools, mmap
import numpy as np
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.matrices import matrices
from fastcell.ops.cpu.transform import transform_cells
page = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
rng = np.random.default_rng(0)
shapes = [(1, 1), (1, 50), (50, 1), (2, 2), (18, 18), (33, 77)]  # the last is rearranged for size 32, not for 8
def place(height, width, at_end, dtype):
    memory = mmap.mmap(-1, 4 * page)
    view = np.frombuffer(memory, np.uint8)
    start, size = view.ctypes.data, height * width * np.dtype(dtype).itemsize
    address = start + 3 * page - size if at_end else start + page
    view[address - start : address - start + size] = 7
    for guard in (start, start + 3 * page):
        assert libc.mprotect(ctypes.c_void_p(guard), page, 0) == 0
    return memory, view, address
strong = Augmentation(rotation_deg=180.0, translation=0.5, scale=1.0)
for (height, width), at_end, dtype in itertools.product(shapes, (False, True), (np.uint8, np.uint16)):
    keep = place(height, width, at_end, dtype)
    for fit, size in itertools.product(("stretch", "contain", "scale"), (8, 32)):
        count = 200
        maps = matrices([height] * count, [width] * count, size, fit, draw(strong, 1, 0, np.arange(count)))
        maps[::3, 0, 1] = maps[::3, 1, 0] = 0
        maps[1::7] *= 1e4
        for fill, antialias in itertools.product((float("nan"), 5.0), (False, True)):
            out = np.full((count, 1, size, size), np.nan, np.float32)
            f = lambda v: np.full(count, v, np.float32)
            sizes = np.full(count, height, np.int32), np.full(count, width, np.int32)
            transform_cells(np.full(count, keep[2]), *sizes, maps, f(fill), f(0), f(0),
                np.zeros(count, np.uint64), out, "divide", 1, antialias, dtype=dtype)
            assert np.isfinite(out).all()
print("no access outside")
"""


def test_no_access_outside_the_cell():
    """The cells lie against pages that may not be touched, so a read beyond one would kill the process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GUARDED)], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.stdout.strip() == "no access outside", (done.returncode, done.stderr[-2000:])


def test_compiled_loops_hold_no_interpreter_lock():
    for entry in (transform_range, find_bad_cell, normalize_images):
        assert entry.targetoptions["nogil"]


ANOTHER_PROCESS = """
import numpy as np
from fastcell.ops.cpu.transform import find_bad_cell, transform_pool, transform_range
def column(value, dtype):
    value = np.full(3, value, dtype)
    value.flags.writeable = {writeable}
    return value
matrices = np.broadcast_to(np.eye(3)[:2], (3, 2, 3))
for dtype in (np.uint8, np.uint16):
    transform_pool(np.ones(99, dtype), column(0, np.int64), column(9, np.int32), column(9, np.int32), matrices,
        column(np.nan, np.float32), column(0, np.float32), column(0, np.float32), column(0, np.uint64),
        np.empty((3, 1, 8, 8), np.float32))
for entry in (transform_range, find_bad_cell):
    hits, misses = (sum(count.values()) for count in (entry.stats.cache_hits, entry.stats.cache_misses))
    print(entry.__name__, "hits", hits, "misses", misses)
"""


@pytest.mark.parametrize("writeable", [True, False])
def test_another_process_does_not_compile_again(writeable):
    """Nor for read-only columns, which are another type to the compiler."""
    for dtype in (np.uint8, np.uint16):  # compiles, if nobody has
        transform([random_cell(9, 9, dtype=dtype)], [stretch(9, 9, 8)], size=8)
    code = ANOTHER_PROCESS.format(writeable=writeable)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250)
    want = ["transform_range hits 2 misses 0", "find_bad_cell hits 1 misses 0"]
    assert done.stdout.splitlines() == want, done.stderr[-2000:]


def test_dali_warp_affine_and_gaussian_blur_agree():
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, types

    cells = [random_cell(20 + 5 * i, 30 + 40 * i, i) for i in range(6)]
    maps = [turned(*cell.shape, 64, 0, 1.0 + 0.1 * i, (0.3 * i, 0)) for i, cell in enumerate(cells)]
    maps[-1] = turned(*cells[-1].shape, 64, 25.0, 1.2)

    @pipeline_def(batch_size=len(cells), num_threads=1, device_id=None)
    def pipeline(sigma, border):
        images = fn.external_source(source=[[cell[..., None] for cell in cells]], cycle=True, layout="HWC")
        affine = fn.external_source(source=[[m.astype(np.float32) for m in maps]], cycle=True)
        grey = fn.warp_affine(images, matrix=affine, size=(64, 64), dtype=types.FLOAT, inverse_map=True, **border)
        return fn.gaussian_blur(grey, sigma=sigma) if sigma else grey

    for border in ({}, {"fill_value": 90.0}):
        for sigma in (0.0, 1.3):
            pipe = pipeline(sigma, border)
            pipe.build()
            want = np.stack([np.asarray(image)[..., 0] for image in pipe.run()[0]])
            want -= want.mean((1, 2), keepdims=True)
            got = transform(cells, maps, size=64, mode="subtract", fill=border.get("fill_value", NAN), sigma=sigma)
            assert np.abs(got[:-1] - want[:-1]).max() < 2e-3
            # DALI computes coordinates in float32: on white noise that shows in a rotation.
            assert np.abs(got[-1] - want[-1]).max() < 0.2


def arguments(count=2, size=16):
    cell = random_cell(10, 12)
    zeros = np.zeros(count, np.float32)
    return cell, {
        "addresses": np.full(count, cell.ctypes.data, np.int64),
        "heights": np.full(count, 10, np.int32),
        "widths": np.full(count, 12, np.int32),
        "matrices": np.stack([stretch(10, 12, size)] * count),
        "fill": np.full(count, np.nan, np.float32),
        "blur_sigma": zeros.copy(),
        "noise_std": zeros.copy(),
        "noise_seed": np.zeros(count, np.uint64),
        "out": np.empty((count, 1, size, size), np.float32),
    }


def test_odd_addresses_hold_no_sixteen_bits():
    _cell, good = arguments()
    good["addresses"][1] += 1
    transform_cells(**good)
    with pytest.raises(ArgumentError, match=r"addresses\[1\] must be the address of a cell, aligned to its pixels"):
        transform_cells(**good, dtype=np.uint16)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("addresses", np.zeros(2, np.int64)),
        ("addresses", np.zeros(3, np.int64)),
        ("dtype", np.float32),
        ("dtype", "grey"),
        ("heights", np.array([1, 0], np.int32)),
        ("heights", np.ones(2, np.int64)),
        ("widths", np.array([-1, 1], np.int32)),
        ("matrices", np.zeros((2, 3, 3))),
        ("matrices", np.full((2, 2, 3), np.nan)),
        ("matrices", np.full((2, 2, 3), 1e9)),
        ("fill", np.full(2, np.inf, np.float32)),
        ("fill", [1.0, 2.0]),
        ("blur_sigma", np.full(2, -0.1, np.float32)),
        ("blur_sigma", np.full(2, 16.5, np.float32)),
        ("noise_std", np.full(2, np.nan, np.float32)),
        ("noise_seed", np.zeros(2, np.int64)),
        ("out", np.empty((2, 1, 16, 17), np.float32)),
        ("out", np.empty((2, 16, 16), np.float32)),
        ("out", np.empty((2, 1, 16, 16), np.float64)),
        ("out", np.empty((2, 1, 16, 32), np.float32)[..., ::2]),
        ("mode", "multiply"),
        ("threads", 0),
        ("eps", 0.0),
    ],
)
def test_bad_arguments_are_named(name, value):
    _cell, good = arguments()
    transform_cells(**good)
    with pytest.raises(ArgumentError, match=rf"^{name}(\[\d\])? must be .*, got .*\. "):
        transform_cells(**{**good, name: value})
