"""transform of a pool: the custom op's contract, the values of its parts, and every error by name."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.cuda_kernels import kernel_source
from fastcell.ops.matrices import matrices
from fastcell.ops.transform import (
    CellPool,
    _kernel_arguments,
    _Settings,
    _settings,
    _transform,
    _transform_into,
    make_clock,
    transform,
)

STRONG = Augmentation(rotation_deg=180, translation=0.2, scale=0.3, blur_probability=0.5, noise_probability=0.5)
SIZES = [(7, 30), (41, 12), (1, 1), (64, 64), (20, 55)]


def pool_of(dtype=torch.uint8):
    rng = np.random.default_rng(0)
    heights, widths = (np.array(side, np.int32) for side in zip(*SIZES, strict=True))
    sizes = heights.astype(np.int64) * widths
    top = 256 if dtype == torch.uint8 else 65536
    pixels = rng.integers(0, top, int(sizes.sum())).astype(np.uint8 if dtype == torch.uint8 else np.uint16)
    return CellPool(
        torch.from_numpy(pixels),
        torch.from_numpy(np.cumsum(sizes) - sizes),
        torch.from_numpy(heights),
        torch.from_numpy(widths),
        torch.tensor([10.0, 200.0, 50.0, 0.0, 99.0]),
        torch.tensor([0.2, 0.25, 0.3, float("nan"), 0.1]),
    )


def batch():
    return torch.tensor([4, 0, 0, 2, 3, 1]), torch.tensor([0, 1, 2, 77, 2**40, 5]), make_clock(2**64 - 3, 9)


@pytest.mark.parametrize("fit", ["stretch", "contain", "scale"])
@pytest.mark.parametrize("augmentation", [None, STRONG], ids=["plain", "strong"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("filled", [False, True])
def test_is_draw_then_matrices_then_transform(fit, augmentation, dtype, filled):
    pool = pool_of(dtype)
    index, position, clock = batch()
    got = transform(
        pool if filled else pool._replace(border=None),
        index,
        position,
        clock,
        image_size=32,
        fit=fit,
        augmentation=augmentation,
        mode="subtract",
        scale_um_per_px=0.4,
    )
    rows = index.numpy()
    heights, widths = pool.height.numpy()[rows], pool.width.numpy()[rows]
    assert pool.border is not None
    assert pool.um_per_px is not None
    drawn = None if augmentation is None else draw(augmentation, 2**64 - 3, 9, position.numpy())
    maps = matrices(heights, widths, 32, fit, drawn, 0.4, pool.um_per_px.numpy()[rows])
    zeros = np.zeros(6, np.float32)
    want = transform_pool(
        pool.pixels.numpy(),
        pool.offset.numpy()[rows],
        heights,
        widths,
        maps,
        pool.border.numpy()[rows] if filled else np.full(6, np.nan, np.float32),
        zeros if drawn is None else drawn.blur_sigma,
        zeros if drawn is None else drawn.noise_std,
        np.zeros(6, np.uint64) if drawn is None else drawn.noise_seed,
        np.empty((6, 1, 32, 32), np.float32),
        "subtract",
    )
    np.testing.assert_array_equal(got.numpy(), want)


def test_16_bit_cells_that_hold_8_bits_give_the_same_images():
    pool = pool_of()
    deep = pool._replace(pixels=torch.from_numpy(pool.pixels.numpy().astype(np.uint16) * 257))
    images, deeper = (transform(cells, *batch(), image_size=64, augmentation=STRONG) for cells in (pool, deep))
    np.testing.assert_allclose(deeper.numpy(), images.numpy(), rtol=0, atol=2e-5 * float(images.max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_results_are_the_rounded_ones_and_out_is_written(dtype):
    pool, out = pool_of(), torch.empty(6, 1, 32, 32, dtype=dtype)
    exact = transform(pool, *batch(), image_size=32, augmentation=STRONG)
    assert transform(pool, *batch(), image_size=32, augmentation=STRONG, dtype=dtype, out=out) is out
    assert torch.equal(out, exact.to(dtype))


@pytest.mark.parametrize(("seed", "epoch", "name"), [(-1, 0, "seed"), (2**64, 0, "seed"), (0, 2**32, "epoch")])
def test_clock_out_of_range_is_refused(seed, epoch, name):
    with pytest.raises(ArgumentError, match=f"{name} must be from 0 to 2"):
        make_clock(seed, epoch)


def test_empty_batch():
    empty = torch.zeros(0, dtype=torch.int64)
    assert transform(pool_of(), empty, empty, make_clock(0, 0), image_size=64).shape == (0, 1, 64, 64)


def test_contract_of_the_custom_ops():
    settings = _settings("contain", STRONG, 0, None, 1e-6, False)
    torch.library.opcheck(_transform, (*pool_of(), *batch(), 32, torch.float16, settings, 1))
    torch.library.opcheck(_transform_into, (*pool_of(), *batch(), torch.empty(6, 1, 32, 32), settings, 2))


@pytest.mark.parametrize("augmentation", [None, STRONG], ids=["plain", "strong"])
def test_compiles_without_a_graph_break(augmentation):
    pool, (index, position, clock) = pool_of(), batch()

    def step(index, position):
        return transform(pool, index, position, clock, image_size=32, augmentation=augmentation) * 2 + 1

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(index, position), step(index, position))
    assert torch.equal(compiled(index.flip(0), position), step(index.flip(0), position))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": torch.tensor([0, 1, 2, 3, 4, 5])}, "index must be from 0 to 4, got '0 to 5'"),
        ({"index": torch.tensor([0, 1, 2, 3, 4, -1])}, "index must be from 0 to 4, got '-1 to 4'"),
        ({"index": torch.zeros(6, dtype=torch.int32)}, "index must be int64, contiguous, of shape"),
        ({"position": torch.zeros(5, dtype=torch.int64)}, "position must be int64, contiguous, of shape"),
        ({"position": torch.full((6,), -1)}, "positions must be a one-dimensional array of whole numbers >= 0"),
        ({"clock": torch.zeros(3, dtype=torch.int64)}, "clock must be int64, contiguous, of shape"),
        ({"fit": "squeeze"}, "fit must be one of stretch, contain, scale"),
        ({"mode": "half"}, "mode must be one of divide, subtract, standardize"),
        ({"dtype": torch.int32}, "dtype must be float32, float16 or bfloat16"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"scale_um_per_px": -1.0}, "scale_um_per_px must be positive"),
        ({"out": torch.empty(6, 1, 32, 33)}, "out must be float32, contiguous, of shape"),
        ({"out": torch.empty(6, 1, 32, 32).half()}, "out must be float32, contiguous, of shape"),
        ({"pool": pool_of()._replace(offset=torch.zeros(5))}, "offset must be int64"),
        ({"pool": pool_of()._replace(border=torch.zeros(4))}, "border must be float32, contiguous, of shape"),
        ({"pool": pool_of()._replace(pixels=torch.zeros(9))}, "pixels must be uint8 or uint16"),
        ({"pool": pool_of()._replace(offset=torch.full((5,), 10**6))}, "must be inside the pool of"),
        ({"pool": pool_of()._replace(height=torch.zeros(5, dtype=torch.int32))}, "at least 1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    index, position, clock = batch()
    arguments = {"pool": pool_of(), "index": index, "position": position, "clock": clock, "augmentation": STRONG}
    with pytest.raises(ArgumentError, match=message):
        transform(**{**arguments, "image_size": 32, **change})


def test_settings_take_an_augmentation_by_names():
    """Each value is another one, so that two fields in each other's place show."""
    want = Augmentation(True, False, 1.0, 0.2, 0.3, 4.0, 0.5, 6.0, 0.7)
    settings = _Settings(*_settings("scale", want, 2, 0.25, 1e-3, False))
    assert settings.augmentation == want
    assert (settings.fit, settings.scale_um_per_px, settings.mode, settings.eps) == (2.0, 0.25, 2.0, 1e-3)
    assert set(_Settings._fields) == {*want.to_dict(), "fit", "scale_um_per_px", "mode", "eps", "antialias"}


def test_settings_do_not_depend_on_the_order_of_an_augmentation(monkeypatch):
    fields = [(field.name, field.type, field.default) for field in reversed(dataclasses.fields(Augmentation))]
    turned = dataclasses.make_dataclass("Turned", fields, bases=(Augmentation,), frozen=True, kw_only=True)
    monkeypatch.setattr("fastcell.ops.transform.Augmentation", turned)
    values = {"flip_vertical": False, "rotation_deg": 1.0, "scale": 0.3, "blur_sigma": 4.0, "noise_std": 6.0}
    settings = _Settings(*_settings("stretch", turned(**values), 0, None, 1e-6, False))
    assert settings.rotation_deg == 1.0
    assert settings.noise_std == 6.0
    assert settings.augmentation == turned(**values)


def test_a_change_that_the_settings_lack_is_an_error(monkeypatch):
    more = dataclasses.make_dataclass("More", [("shear", float, 0.0)], bases=(Augmentation,), frozen=True)
    with pytest.raises(TypeError, match="shear"):
        _settings("stretch", more(), 0, None, 1e-6, False)
    monkeypatch.setattr("fastcell.ops.transform.Augmentation", more)
    with pytest.raises(AttributeError, match="shear"):
        _ = _Settings(*_settings("stretch", STRONG, 0, None, 1e-6, False)).augmentation


def test_the_kernel_gets_its_arguments_in_its_own_order():
    source = kernel_source("transform.cu")
    parameters = re.search(r'extern "C" __global__ void .*? NAME\((.*?)\) \{', source, re.DOTALL)
    assert parameters is not None
    names = [part.split()[-1] for part in parameters[1].replace("\\", " ").split(",")]
    types = [" ".join(part.split()[:-1]) for part in parameters[1].replace("\\", " ").split(",")]
    settings = _Settings(*_settings("contain", STRONG, 1, 0.5, 1e-6, False))
    arguments = _kernel_arguments(pool_of(), *batch(), torch.empty(6, 1, 32, 32), settings)
    assert list(arguments) == names
    kinds = {"int": np.int32, "i64": np.int64, "double": np.float64, "float": np.float32}
    for value, kind in zip(arguments.values(), types, strict=True):
        assert type(value) is (np.uintp if kind.endswith("*") else kinds[kind])
    assert arguments["rotation_rad"] == np.pi
    assert arguments["noise_probability"] == 0.5
    assert arguments["num_pixels"] == len(pool_of().pixels)
    assert _kernel_arguments(pool_of()._replace(border=None), *batch(), torch.empty(1), settings)["border"] == 0
