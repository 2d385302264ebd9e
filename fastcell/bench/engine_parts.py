"""Probe which parts of the engine this machine can use, with a hint for each unusable part.

Each part is tried in a child process. If a driver or library crashes or hangs, the report contains one line about it
and continues.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcell.system import library_settings, resources
from fastcell.system.environment_report import NO_DRIVER, installed_version
from fastcell.system.messages import print_line
from fastcell.system.optional_packages import extra_for_driver, extra_for_gpu, install_command, send_no_reports
from fastcell.system.worker_processes import end_with_parent

PROBE_TIMEOUT_S = 120.0


def _probe_torch() -> str:
    import torch

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _probe_torch_cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        raise RuntimeError(NO_DRIVER if resources.driver_cuda_version() is None else f"torch is built for CUDA {built}")
    torch.ones(8, device="cuda").sum().item()
    return f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"


def _run_dali(device_id: int | None) -> str:
    import numpy as np
    import nvidia.dali
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=2, num_threads=1, device_id=device_id, prefetch_queue_depth=1)
    def graph() -> Any:
        cells = fn.external_source(source=lambda: [np.full((3, 5, 1), 7, np.uint8)] * 2, layout="HWC")
        return fn.flip(cells.gpu() if device_id is not None else cells)

    with library_settings.quiet_dali():
        pipeline = graph()
        pipeline.build()
    (out,) = pipeline.run()
    if np.asarray(out.as_cpu()[0]).sum() != 7 * 15:
        raise RuntimeError("a flipped image came back with other pixels")
    return f"DALI {nvidia.dali.__version__}"


def _probe_dali_cpu() -> str:
    return _run_dali(None)


def _probe_dali_gpu() -> str:
    if resources.driver_cuda_version() is None:
        raise RuntimeError(NO_DRIVER)
    return _run_dali(0)


def _probe_kernels() -> str:
    source = importlib.import_module("fastcell.ops.cuda_kernels")
    directory: Path = source.kernel_dir()
    names = sorted(path.name for path in directory.glob("*.cu"))
    if not names:
        raise RuntimeError(f"no CUDA source in {directory}")
    return f"{', '.join(names)} in {directory}"


def _probe_cupy() -> str:
    import cupy

    if resources.driver_cuda_version() is None:
        raise RuntimeError(NO_DRIVER)
    import torch

    device = torch.device("cuda", torch.cuda.current_device())
    stream = torch.cuda.Stream(device)  # a stream of its own, as in the loaders
    with torch.cuda.stream(stream):
        images = images_of_all_kernels(device)
    stream.synchronize()
    for name, image, twin in zip(("normalize", "transform"), images, images_of_all_kernels(None), strict=True):
        difference = float((image.cpu() - twin).abs().max() / twin.abs().max())
        if not difference <= 1e-5:
            raise RuntimeError(f"the kernel {name} differs from its CPU twin by {difference:.1e} of the largest value")
    return f"CuPy {cupy.__version__}, both kernels agree with their CPU twins"


def images_of_all_kernels(device: Any) -> list[Any]:
    """Return what each kernel makes of the same three ragged cells: tensors (3, 1, 64, 64) float32 on a device."""
    import torch

    from fastcell.ops.augmentation import Augmentation
    from fastcell.ops.normalize import normalize
    from fastcell.ops.transform import CellPool, make_clock, transform

    heights, widths = torch.tensor([[31, 64, 90], [40, 64, 17]], dtype=torch.int32)
    sizes = heights.long() * widths
    pixels = torch.arange(int(sizes.sum())).mul(7).remainder(251).to(torch.uint8)
    columns = (pixels, sizes.cumsum(0) - sizes, heights, widths)
    pool = CellPool(*(column.to(device) for column in columns))
    which = (torch.arange(3, device=device), torch.arange(3, device=device), make_clock(1, 0).to(device))
    changes = Augmentation(rotation_deg=10, blur_sigma=1.0, noise_std=4.0)
    square = torch.arange(3 * 64 * 64).remainder(251).to(torch.uint8).reshape(3, 1, 64, 64).to(device)
    return [normalize(square), transform(pool, *which, image_size=64, augmentation=changes)]


def _probe_nvrtc() -> str:
    version = installed_version("nvidia-cuda-nvrtc")
    if version is None:
        raise RuntimeError("not installed")
    return f"NVRTC {version}: kernels compile for every architecture without a GPU"


def _probe_import(name: str) -> Callable[[], str]:
    def probe() -> str:
        send_no_reports()
        module = importlib.import_module(name)
        return f"{name} {getattr(module, '__version__', '')}".strip()

    return probe


_SERVES = "The CPU path does the same work"


# name -> (probe, hint; words in braces are keys of `_commands`)
PROBES: dict[str, tuple[Callable[[], str], str]] = {
    "torch": (_probe_torch, "Install it: {torch}"),
    "torch on CUDA": (
        _probe_torch_cuda,
        f"{_SERVES}. With an NVIDIA GPU: install its driver (CUDA 12 or 13), then a CUDA build of torch.",
    ),
    "DALI on the CPU": (_probe_dali_cpu, "Install it: {build}"),
    "DALI on the GPU": (_probe_dali_gpu, _SERVES + ". With an NVIDIA GPU: {gpu}"),
    "kernel sources": (_probe_kernels, "Reinstall fastcell: its wheel carries kernels/ as fastcell/_kernels/."),
    "CuPy kernels": (_probe_cupy, _SERVES + ". With an NVIDIA GPU: {gpu}"),
    "NVRTC wheel": (_probe_nvrtc, "Optional (tests of the kernels without a GPU): {nvrtc}"),
    "cuML": (_probe_import("cuml"), "Optional (kNN and SVM on the GPU): {cuml}"),
    "timm": (_probe_import("timm"), "Optional (networks by timm's names): {timm}"),
    "onnxruntime": (_probe_import("onnxruntime"), "Optional (faster inference on CPU): {onnx}"),
    "scikit-learn-intelex": (_probe_import("sklearnex"), "Optional (faster SVM on CPU): {intel}"),
}


def probe_parts(names: list[str], timeout_s: float = PROBE_TIMEOUT_S) -> list[dict[str, Any]]:
    """Try parts of the engine in a child process, which is restarted after each part that crashes it.

    Args:
        names: Keys of :data:`PROBES`.
        timeout_s: Time limit of one child process, for all its probes together [s].

    Returns:
        One dict per name, in order, with `name`, `usable`, `detail` (what was found, or why the part is unusable) and
        `way_out` (the hint).
    """
    found: dict[str, tuple[bool, str]] = {}
    while todo := [name for name in names if name not in found]:
        command = [sys.executable, "-m", "fastcell", "doctor", "--probe", ",".join(todo)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=_child_environment())
            output, end = done.stdout, f"the probe ended with status {done.returncode}"
        except subprocess.TimeoutExpired as error:
            raw = error.stdout or b""
            output = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            end = f"no answer within {timeout_s:g} s"
        except OSError as error:
            output, end = "", f"the probe could not start: {error}"
        before = len(found)
        for line in output.splitlines():
            if line.startswith(_MARK):
                name, usable, detail = json.loads(line.removeprefix(_MARK))
                found[name] = (usable, detail)
        if len(found) == before or len(found) < len(names):
            found.setdefault(next(name for name in names if name not in found), (False, end))
    commands = _commands()
    return [
        {"name": n, "usable": found[n][0], "detail": found[n][1], "way_out": PROBES[n][1].format_map(commands)}
        for n in names
    ]


def _commands() -> dict[str, str]:
    """Return the commands that the hints name."""
    gpu = extra_for_gpu()
    return {
        "torch": install_command("torch>=2.11"),
        "build": install_command(extra=extra_for_driver()),
        "gpu": install_command(extra=gpu),
        "nvrtc": install_command("nvidia-cuda-nvrtc>=13", "nvidia-cuda-runtime>=13"),
        "cuml": install_command(f"cuml-{gpu}"),
        "timm": install_command("timm"),
        "onnx": install_command(extra="onnx"),
        "intel": install_command("scikit-learn-intelex>=2025.11,!=2026.2.*"),
    }


_MARK = "fastcell-probe:"


def probe_here(names: list[str]) -> None:
    """Try parts of the engine in this process, and print one line per part in the form that `probe_parts` reads."""
    end_with_parent(os.getppid())
    library_settings.quiet()
    for name in names:
        try:
            usable, detail = True, PROBES[name][0]()
        except BaseException as error:  # noqa: BLE001 (a broken library may raise any exception; each is a result)
            usable, detail = False, " ".join(str(error).split())[:160] or type(error).__name__
        print_line(_MARK + json.dumps([name, usable, detail]))


def _child_environment() -> dict[str, str]:
    """Return an environment in which a child process imports this copy of the package, installed or not."""
    here = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
