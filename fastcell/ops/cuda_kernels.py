"""Find and compile the CUDA sources of an installed package or of a checkout."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

from fastcell.errors import FastcellError

# Options of every kernel. Fast mathematics is off, because its rounding differs from the CPU's.
_OPTIONS = ("-std=c++17",)

_PACKAGE_DIR = Path(__file__).resolve().parents[1]


def _places() -> tuple[Path, Path]:
    """Return the possible folders of the sources: inside an installed wheel, and next to the package in a checkout."""
    return _PACKAGE_DIR / "_kernels", _PACKAGE_DIR.parent / "kernels"


def kernel_dir() -> Path:
    """Return the folder of the CUDA sources.

    Returns:
        ``fastcell/_kernels`` of an installation if it exists, else ``kernels`` of the checkout.

    Raises:
        FastcellError: neither folder exists; the message names both.
    """
    places = _places()
    for place in places:
        if place.is_dir():
            return place
    raise FastcellError(
        f"the CUDA sources must lie in {places[0]} (installed) or {places[1]} (checkout), got neither folder. "
        "Install fastcell again."
    )


def kernel_source(name: str) -> str:
    """Read one CUDA source.

    Args:
        name: file name, e.g. ``normalize.cu``.

    Returns:
        Content of the file.

    Raises:
        FastcellError: neither folder has such a file; the message names both.
    """
    places = _places()
    for place in places:
        path = place / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FastcellError(
        f"kernel source {name!r} must lie in {places[0]} (installed) or {places[1]} (checkout), got neither file. "
        "Install fastcell again."
    )


def import_cupy(operation: str, items: str) -> Any:
    """Import CuPy for an operation.

    Args:
        operation: name of the operation, for the error message.
        items: what the operation works on, for the error message.

    Returns:
        The module ``cupy``.

    Raises:
        FastcellError: CuPy is not installed.
    """
    try:
        import cupy
    except ImportError as error:
        raise FastcellError(
            f"{operation} needs CuPy for {items} on a GPU, got no such module. "
            "'fastcell doctor' gives the command that installs it."
        ) from error
    return cupy


# Modules and kernels are never unloaded: unloading one that a CUDA graph uses breaks the graph.
@functools.cache
def get_kernel(device: int, source: str, entry: str, macros: tuple[str, ...] = (), shared_bytes: int = 0) -> Any:
    """Compile a source for a device, once, and return one of its kernels.

    Args:
        device: index of the GPU.
        source: file name, e.g. ``normalize.cu``.
        entry: name of the kernel in the source.
        macros: preprocessor macros, each ``NAME=VALUE``.
        shared_bytes: dynamic shared memory that a block may use; 0 keeps CUDA's limit of 48 KiB.

    Returns:
        The kernel as a CuPy function.

    Raises:
        FastcellError: the source does not exist.
    """
    import cupy

    with cupy.cuda.Device(device):
        kernel = _compile(device, source, macros).get_function(entry)
        if shared_bytes:
            kernel.max_dynamic_shared_size_bytes = shared_bytes
        return kernel


@functools.cache
def _compile(device: int, source: str, macros: tuple[str, ...]) -> Any:
    """Return the CuPy module of a source, compiled for the current device, which must be `device`."""
    import cupy

    # CuPy keeps machine code by source and options. It does not read the headers, so their hash is an option.
    headers = f"CELL_HEADERS=0x{headers_hash()}"
    options = (*_OPTIONS, f"-I{kernel_dir()}", *(f"-D{macro}" for macro in (headers, *macros)))
    return cupy.RawModule(code=kernel_source(source), options=options)


def headers_hash() -> str:
    """Return a hash of all CUDA headers, names and contents, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(kernel_dir().glob("*.cuh")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def launch(
    kernel: Any,
    device: torch.device,
    blocks: int,
    threads: int,
    arguments: tuple[int | np.generic, ...],
    shared_bytes: int,
) -> None:
    """Launch a kernel on torch's current stream of a device.

    Args:
        kernel: result of `get_kernel` for this device.
        device: GPU, with its index.
        blocks: number of blocks.
        threads: threads of a block.
        arguments: arguments of the kernel, in its order; addresses as integers.
        shared_bytes: dynamic shared memory of a block [bytes].
    """
    import cupy
    import torch

    # CuPy takes the stream for one of its current device, so the device is chosen first.
    with cupy.cuda.Device(device.index), cupy.cuda.Stream.from_external(torch.cuda.current_stream(device)):
        kernel((blocks,), (threads,), arguments, shared_mem=shared_bytes)
