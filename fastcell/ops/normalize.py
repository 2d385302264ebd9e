"""Normalisation of image batches by average intensity: ``kernels/normalize.cu`` on the GPU, its twin on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from fastcell.errors import ArgumentError, invalid
from fastcell.ops.constants import EPS, mode_number
from fastcell.ops.cpu.normalize import normalize_images
from fastcell.ops.cuda_kernels import get_kernel, import_cupy, launch

_THREADS = 512
_SHARED_BYTES = 4 * 2 * (_THREADS // 32)
_TILE_PIXELS = 128 * 128
_SHORT_NAMES = {
    torch.uint8: "u8",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}
_INPUTS = (torch.uint8, torch.float32)
_OUTPUTS = (torch.float32, torch.float16, torch.bfloat16)


def normalize(
    images: torch.Tensor,
    mode: str = "divide",
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | None = None,
    eps: float = EPS,
) -> torch.Tensor:
    """Normalise every image by its own mean m and population standard deviation s.

    ``divide``: x / max(m, eps); ``subtract``: x - m; ``standardize``: (x - m) / max(s, eps). The result differs from
    the float64 result by at most 1e-5 of the largest value of the image, and is then rounded to `dtype`.

    The function works inside ``torch.compile(fullgraph=True)``. On a GPU the kernel is launched on torch's current
    stream of the images' device and the function returns at once. The first call on a GPU compiles the kernel, so make
    one call before a graph capture.

    Args:
        images: (B, 1, H, W) uint8 or float32, contiguous, CPU or CUDA; B may be 0.
        mode: ``divide``, ``subtract`` or ``standardize``.
        dtype: dtype of the result: float32, float16 or bfloat16.
        out: (B, 1, H, W) of `dtype`, contiguous, on the same device; written and returned. It may be `images` itself
            if that is float32, and must not overlap it otherwise.
        eps: smallest divisor [grey levels], > 0.

    Returns:
        (B, 1, H, W) of `dtype` on the images' device; `out` if given.

    Raises:
        ArgumentError: a mode, dtype, shape, layout or device breaks its rule.
        FastcellError: the images are on a GPU and CuPy is not installed.
    """
    number = mode_number(mode)
    _check_tensor("images", images, _INPUTS)
    if dtype not in _OUTPUTS:
        raise invalid("dtype", "float32, float16 or bfloat16", dtype, "Convert the result after the call")
    if not eps > 0:
        raise invalid("eps", "positive", eps, f"Leave it out for {EPS}")
    if out is None:
        return torch.ops.fastcell.normalize(images, number, dtype, eps)
    _check_tensor("out", out, (dtype,))
    if out.shape != images.shape or out.device != images.device:
        got = f"{tuple(out.shape)} on {out.device}"
        raise invalid("out", f"of shape {tuple(images.shape)} on {images.device}", got, "Allocate it like the images")
    torch.ops.fastcell.normalize_into(None if out is images else images, out, number, eps)
    return out


def _check_tensor(name: str, value: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if not isinstance(value, torch.Tensor):
        raise invalid(name, "a tensor", type(value).__name__, "Wrap it with torch.from_numpy")
    if value.dtype not in dtypes:
        rule = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise invalid(name, rule, value.dtype, "Convert it before the call")
    if value.dim() != 4 or value.shape[1] != 1 or value.shape[2] < 1 or value.shape[3] < 1:
        raise invalid(name, "of shape (B, 1, H, W)", tuple(value.shape), "Cells have one channel")
    if not value.is_contiguous():
        raise invalid(name, "contiguous", tuple(value.stride()), "Call .contiguous() first")
    if value.device.type not in ("cpu", "cuda"):
        raise invalid(name, "on the CPU or a CUDA device", value.device, "Move it with .to()")


# The operations name the mode number `mode_index`: torch's functionalisation cannot pass an argument named `mode`.
@torch.library.custom_op("fastcell::normalize", mutates_args=())
def _normalize(images: torch.Tensor, mode_index: int, dtype: torch.dtype, eps: float) -> torch.Tensor:
    out = torch.empty_like(images, dtype=dtype, memory_format=torch.contiguous_format)
    _dispatch(images, out, mode_index, eps)
    return out


@_normalize.register_fake
def _(images: torch.Tensor, mode_index: int, dtype: torch.dtype, eps: float) -> torch.Tensor:
    return torch.empty_like(images, dtype=dtype, memory_format=torch.contiguous_format)


@torch.library.custom_op("fastcell::normalize_into", mutates_args=("out",))
def _normalize_into(images: torch.Tensor | None, out: torch.Tensor, mode_index: int, eps: float) -> None:
    """Write to `out`; images None means that `out` is also the input (an operator must not get one tensor twice)."""
    source = out if images is None else images
    if images is not None and _overlap(images, out):
        raise ArgumentError("out must be images itself or not overlap it, got overlapping memory. Allocate it anew.")
    _dispatch(source, out, mode_index, eps)


@_normalize_into.register_fake
def _(images: torch.Tensor | None, out: torch.Tensor, mode_index: int, eps: float) -> None:
    return None


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two contiguous tensors share bytes; identical float32 memory does not count as overlap."""
    if a.data_ptr() == b.data_ptr() and a.dtype == b.dtype:
        return False
    end_a, end_b = a.data_ptr() + a.numel() * a.element_size(), b.data_ptr() + b.numel() * b.element_size()
    return a.data_ptr() < end_b and b.data_ptr() < end_a


def _dispatch(images: torch.Tensor, out: torch.Tensor, mode: int, eps: float) -> None:
    if images.shape[0] == 0:
        return
    if images.is_cuda:
        _launch(images, out, mode, eps)
    else:
        _run_twin(images, out, mode, eps)


def _run_twin(images: torch.Tensor, out: torch.Tensor, mode: int, eps: float) -> None:
    rows = images.detach().numpy().reshape(images.shape[0], -1)
    exact = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
    normalize_images(rows, mode, eps, exact.detach().numpy().reshape(rows.shape))
    if exact is not out:
        out.copy_(exact)


def _launch(images: torch.Tensor, out: torch.Tensor, mode: int, eps: float) -> None:
    import_cupy("normalize", "images")
    pixels = images.shape[2] * images.shape[3]
    kernel = get_kernel(images.device.index, "normalize.cu", _entry(images, out, pixels))
    arguments = (images.data_ptr(), out.data_ptr(), np.int64(pixels), np.int32(mode), np.float32(eps))
    launch(kernel, images.device, images.shape[0], _THREADS, arguments, _SHARED_BYTES)


def _entry(images: torch.Tensor, out: torch.Tensor, pixels: int) -> str:
    """Return the name of the fastest kernel that the image size and the alignment allow."""
    aligned = all(tensor.data_ptr() % (4 * tensor.element_size()) == 0 for tensor in (images, out))
    path = "any" if pixels % 4 or not aligned else "tile" if pixels == _TILE_PIXELS else "pack"
    return f"normalize_{_SHORT_NAMES[images.dtype]}_{_SHORT_NAMES[out.dtype]}_{path}"
