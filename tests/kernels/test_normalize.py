"""kernels/normalize.cu on the CPU: values against float64, order of execution, races, registers and spills."""

import ctypes

import numpy as np
import pytest
import torch

from fastcell.ops.cuda_kernels import kernel_dir

THREADS, SHARED_BYTES = 512, 128
ORDERS = {"forward": 0, "reverse": 1, "shuffled": 7}
OUT_TYPES = {"f32": np.float32, "f16": np.uint16, "bf16": np.uint16}
TORCH_TYPES = {"f16": torch.float16, "bf16": torch.bfloat16}
MODES = ("divide", "subtract", "standardize")


def reference(images, mode):
    x = images.astype(np.float64)
    mean = x.mean((1, 2), keepdims=True)
    if mode == "divide":
        return x / np.maximum(mean, 1e-6)
    deviation = x - mean
    if mode == "subtract":
        return deviation
    return deviation / np.maximum(np.sqrt((deviation**2).mean((1, 2), keepdims=True)), 1e-6)


def run(library, entry, images, mode, out, order=0):
    address = ctypes.c_void_p.in_dll(library, f"host_normalize_{entry}").value
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    launch = ctypes.CFUNCTYPE(
        integer, integer, integer, integer, ctypes.c_uint, pointer, pointer, ctypes.c_longlong, integer, ctypes.c_float
    )(address)
    pixels = images.shape[1] * images.shape[2]
    arguments = (images.ctypes.data, out.ctypes.data, pixels, MODES.index(mode), 1e-6)
    return launch(len(images), THREADS, SHARED_BYTES, order, *arguments)


def result(library, entry, images, mode, order=0):
    out = (
        np.full(images.shape, np.nan, np.float32) if entry.split("_")[1] == "f32" else np.zeros(images.shape, np.uint16)
    )
    assert run(library, entry, images, mode, out, order) == 0
    return out


def cells(height, width, kind, batch=3):
    rng = np.random.default_rng(height * 1000 + width)
    images = rng.integers(0, 256, (batch, height, width), dtype=np.uint8)
    images[:, 0, 0] = 255  # the pixel that sums are relative to, far from the mean
    return images if kind == "u8" else images.astype(np.float32) + rng.random(images.shape, dtype=np.float32)


def assert_close(out, want):
    scale = np.abs(want).max((1, 2), keepdims=True)
    assert (np.abs(out - want) <= 1e-5 * scale + 1e-30).all(), np.abs((out - want) / scale).max()


SIZES = [
    (128, 128, "tile"),
    (128, 128, "pack"),
    (128, 128, "any"),
    (1, 4, "pack"),
    (64, 64, "pack"),
    (68, 440, "pack"),
    (1, 1, "any"),
    (1, 3, "any"),
    (18, 18, "any"),
    (67, 101, "any"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["u8", "f32"])
@pytest.mark.parametrize(("height", "width", "path"), SIZES)
def test_float32_agrees_with_float64_reference(host_library, height, width, path, kind, mode, order):
    images = cells(height, width, kind)
    out = result(host_library, f"{kind}_f32_{path}", images, mode, ORDERS[order])
    assert_close(out, reference(images, mode))


@pytest.mark.parametrize("path", ["tile", "pack", "any"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("short", ["f16", "bf16"])
@pytest.mark.parametrize("kind", ["u8", "f32"])
def test_16_bit_result_is_the_rounded_float32_result(host_library, kind, short, mode, path):
    images = cells(128, 128, kind)
    exact = torch.from_numpy(result(host_library, f"{kind}_f32_{path}", images, mode))
    rounded = exact.to(TORCH_TYPES[short]).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(result(host_library, f"{kind}_{short}_{path}", images, mode), rounded)


@pytest.mark.parametrize("mode", MODES)
def test_error_does_not_grow_with_the_number_of_pixels(host_library, mode):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (1, 1024, 2048)).astype(np.float32)
    images[0, 0, 0] = 0.0
    assert_close(result(host_library, "f32_f32_pack", images, mode), reference(images, mode))


@pytest.mark.parametrize("value", [0.1, 200.3])
@pytest.mark.parametrize(("height", "width", "path"), [(128, 128, "tile"), (5, 3, "any")])
def test_constant_images_are_exact(host_library, height, width, path, value):
    images = np.full((1, height, width), value, np.float32)
    assert (result(host_library, f"f32_f32_{path}", images, "standardize") == 0).all()
    assert (result(host_library, f"f32_f32_{path}", images, "subtract") == 0).all()
    np.testing.assert_allclose(result(host_library, f"f32_f32_{path}", images, "divide"), 1.0, rtol=2e-7)


def test_black_images_stay_finite(host_library):
    images = np.zeros((2, 128, 128), np.uint8)
    for mode in MODES:
        assert (result(host_library, "u8_f32_tile", images, mode) == 0).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("height", "width", "path"), SIZES)
def test_in_place(host_library, height, width, path, order):
    images = cells(height, width, "f32")
    want = reference(images, "standardize")
    assert run(host_library, f"f32_f32_{path}", images, "standardize", images, ORDERS[order]) == 0
    assert_close(images, want)


def test_a_dropped_barrier_gives_wrong_values(build_library, mutant):
    library = build_library(mutant("cell.cuh", "__syncthreads();", ""), "normalize")
    images = cells(128, 128, "u8")
    for order in ORDERS.values():
        out = result(library, "u8_f32_tile", images, "divide", order)
        assert not np.allclose(out, reference(images, "divide"), rtol=1e-5)


def test_shared_memory_beyond_the_launch_is_seen(build_library, mutant, capfd):
    library = build_library(mutant("normalize.cu", "scratch + NT / kWarp", "scratch + NT"), "normalize")
    images = cells(128, 128, "u8")
    assert run(library, "u8_f32_tile", images, "standardize", np.empty(images.shape, np.float32)) == 1
    assert "shared memory written past the launch's size" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_sanitizers_find_nothing(sanitized, sanitizer):
    done = sanitized(kernel_dir(), "normalize", sanitizer)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_planted_race_is_reported(sanitized, mutant):
    """Two sums in one place: right values in every order that is tried, and a race all the same."""
    done = sanitized(mutant("normalize.cu", "scratch + NT / kWarp", "scratch"), "normalize", "thread")
    assert done.returncode == 66, done.stderr
    assert "data race" in done.stderr


@pytest.mark.slow
def test_a_planted_overrun_is_reported(sanitized, mutant):
    kernels = mutant("normalize.cu", "i < n; i += step) {  // a", "i <= n; i += step) {  // a")
    done = sanitized(kernels, "normalize", "address")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr, done.stderr


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def test_registers_and_spills(nvrtc, architecture):
    """At most 64 registers: two blocks of 512 threads share the 65,536 of a multiprocessor."""
    resources = nvrtc("normalize.cu", architecture)
    assert len(resources) == 18
    for entry, (registers, spilled_bytes, shared_bytes) in resources.items():
        assert spilled_bytes == 0, entry
        assert registers <= 64, entry
        assert shared_bytes == 0, entry
