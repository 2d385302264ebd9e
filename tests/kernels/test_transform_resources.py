"""kernels/transform.cu: barriers, races, overruns, registers and spills."""

import itertools

import numpy as np
import pytest
from fixtures.transform_cells import CHANGES, ORDERS, SHAPES, SIZES, grey_reference, pool, result, shared_bytes

from fastcell.ops.constants import GPU_IMAGE_SIZES
from fastcell.ops.cuda_kernels import kernel_dir

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
