"""normalize on the CPU: values against float64, the operation's contract with torch, errors."""

import re

import numpy as np
import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.ops.constants import MODES, mode_number
from fastcell.ops.cuda_kernels import kernel_source
from fastcell.ops.normalize import _entry, _normalize, _normalize_into, normalize


def reference(images, mode):
    x = images.double().numpy()
    mean = x.mean((1, 2, 3), keepdims=True)
    if mode == "divide":
        return x / np.maximum(mean, 1e-6)
    if mode == "subtract":
        return x - mean
    return (x - mean) / np.maximum(x.std((1, 2, 3), keepdims=True), 1e-6)


def batch(count, height, width, dtype=torch.uint8, seed=0):
    images = torch.randint(0, 256, (count, 1, height, width), generator=torch.Generator().manual_seed(seed))
    return images.to(dtype) if dtype == torch.uint8 else images + torch.rand(images.shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (18, 18), (67, 101), (128, 128), (700, 300)])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_agrees_with_float64(count, size, dtype, mode):
    images = batch(count, *size, dtype)
    want = reference(images, mode)
    scale = np.abs(want).max((1, 2, 3), keepdims=True)
    error = np.abs(normalize(images, mode).numpy() - want)
    assert (error <= 1e-5 * scale + 1e-30).all(), (error / scale).max()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_results_are_rounded(dtype, mode):
    images = batch(4, 128, 128)
    assert torch.equal(normalize(images, mode, dtype), normalize(images, mode).to(dtype))


def test_uint8_and_float32_agree():
    images = batch(3, 50, 60)
    for mode in MODES:
        assert torch.equal(normalize(images, mode), normalize(images.float(), mode))


def test_constant_and_black_images():
    for value in (0.0, 0.1, 77.7, 255.0):
        images = torch.full((2, 1, 13, 17), value)
        assert (normalize(images, "standardize") == 0).all()
        assert (normalize(images, "subtract") == 0).all()
        torch.testing.assert_close(normalize(images, "divide"), torch.full_like(images, float(value > 0)))


def test_a_mean_below_eps_divides_by_eps():
    images = torch.full((1, 1, 4, 4), 1e-4)
    torch.testing.assert_close(normalize(images, "divide", eps=1e-2), torch.full_like(images, 1e-2))


def test_empty_batch():
    for dtype in (torch.float32, torch.bfloat16):
        result = normalize(torch.empty((0, 1, 128, 128), dtype=torch.uint8), dtype=dtype)
        assert result.shape == (0, 1, 128, 128)
        assert result.dtype == dtype


def test_out_is_written_and_returned():
    images = batch(5, 20, 30)
    for dtype in (torch.float32, torch.float16):
        out = torch.full(images.shape, float("nan"), dtype=dtype)
        assert normalize(images, "subtract", dtype, out=out) is out
        assert torch.equal(out, normalize(images, "subtract", dtype))


def test_in_place_and_overlap():
    images = batch(5, 20, 30, torch.float32)
    want = normalize(images, "standardize")
    copy = images.clone()
    assert normalize(copy, "standardize", out=copy) is copy
    assert torch.equal(copy, want)
    alias = images.clone()
    normalize(alias, "standardize", out=alias.view(5, 1, 20, 30))
    assert torch.equal(alias, want)
    memory = torch.zeros(6, 1, 20, 30)
    with pytest.raises(ArgumentError, match="overlap"):
        normalize(memory[:5], out=memory[1:])


def test_the_operation_keeps_torchs_contract():
    images = batch(2, 12, 12)
    torch.library.opcheck(_normalize, (images, 2, torch.float16, 1e-6))
    torch.library.opcheck(_normalize_into, (images, torch.empty(images.shape), 0, 1e-6))
    torch.library.opcheck(_normalize_into, (None, images.float(), 0, 1e-6))


def test_compiles_as_one_graph():
    images = batch(3, 16, 16)
    out = torch.empty(images.shape)

    def step(images, out):
        normalize(images, "divide", out=out)
        return normalize(images, "standardize", torch.bfloat16) * 2, out + 1

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    double, plus_one = compiled(images, out)
    assert torch.equal(double, normalize(images, "standardize", torch.bfloat16) * 2)
    assert torch.equal(out, normalize(images))
    assert torch.equal(plus_one, out + 1)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mode", {"mode": "multiply"}),
        ("images", {"images": torch.zeros(2, 1, 4, 4, dtype=torch.int16)}),
        ("images", {"images": torch.zeros(2, 1, 4, 4, dtype=torch.float64)}),
        ("images", {"images": torch.zeros(2, 3, 4, 4)}),
        ("images", {"images": torch.zeros(2, 4, 4)}),
        ("images", {"images": torch.zeros(2, 1, 0, 4)}),
        ("images", {"images": torch.zeros(2, 1, 4, 8)[..., ::2]}),
        ("images", {"images": np.zeros((2, 1, 4, 4), np.float32)}),
        ("images", {"images": torch.zeros(2, 1, 4, 4, device="meta")}),
        ("dtype", {"dtype": torch.float64}),
        ("out", {"out": torch.zeros(2, 1, 4, 5)}),
        ("out", {"out": torch.zeros(2, 1, 4, 4, dtype=torch.float16)}),
        ("out", {"out": torch.zeros(2, 1, 4, 4, device="meta")}),
        ("eps", {"eps": 0.0}),
    ],
)
def test_bad_arguments_are_named(name, arguments):
    good = {"images": torch.zeros(2, 1, 4, 4)}
    normalize(**good)
    with pytest.raises(ArgumentError, match=rf"^{name} must be .*, got .*\. "):
        normalize(**{**good, **arguments})


def test_the_entry_fits_size_and_alignment():
    source = kernel_source("normalize.cu")
    memory = torch.zeros(4 * 128 * 128 + 8, dtype=torch.uint8)
    start = -memory.data_ptr() % 4
    aligned = memory[start : start + 128 * 128].view(1, 1, 128, 128)
    shifted = memory[start + 1 : start + 1 + 128 * 128].view(1, 1, 128, 128)
    out = torch.zeros(1, 1, 128, 128, dtype=torch.float16)
    assert _entry(aligned, out, 128 * 128) == "normalize_u8_f16_tile"
    assert _entry(shifted, out, 128 * 128) == "normalize_u8_f16_any"
    assert _entry(aligned, out, 64) == "normalize_u8_f16_pack"
    assert _entry(aligned, out, 63) == "normalize_u8_f16_any"
    names = set(re.findall(r"^NORMALIZE\((\w+), ", source, re.M))
    assert names == {"u8_f32", "u8_f16", "u8_bf16", "f32_f32", "f32_f16", "f32_bf16"}


def test_the_kernel_numbers_the_modes_alike():
    source = kernel_source("normalize.cu")
    for mode in MODES:
        assert re.search(rf"^//\s+mode {mode_number(mode)} {mode}:", source, re.M)
