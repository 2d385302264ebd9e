"""What this machine has, which parts of the engine it can use, and the way out where one is not.

Every probe runs in a process of its own, so that a driver or library that crashes or hangs is a line of the report and
not the end of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcell import __version__
from fastcell.system import library_settings, resources

PROBE_TIMEOUT_S = 120.0

PACKAGES = (
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "nvidia-cuda-nvrtc",
    "numpy",
    "numba",
    "pyarrow",
    "opencv-python-headless",
    "pillow",
    "tifffile",
    "webdataset",
    "scikit-learn",
    "scikit-learn-intelex",
    "joblib",
    "jsonargparse",
    "matplotlib",
    "cuml-cu12",
    "cuml-cu13",
    "timm",
    "onnxruntime",
    "onnxruntime-gpu",
)

_NO_GPU = "no NVIDIA driver on this machine"


def report(probe: bool = True) -> dict[str, Any]:
    """Describe the environment in plain types, fit for JSON. Never raises.

    Args:
        probe: also try each part of the engine (key ``parts``), each in a process of its own; takes some seconds.
            Without it the answer takes well under a second and loads nothing: a run folder takes that.
    """
    cuda = resources.driver_cuda_version()
    result: dict[str, Any] = {
        "fastcell": __version__,
        "commit": _commit(Path(__file__).resolve().parent.parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cpus": resources.num_cpus(),
        "memory_bytes": _memory_bytes(),
        "open_files": _open_files(),
        "gpus": _gpus() if cuda is not None else [],
        "driver_cuda": None if cuda is None else f"{cuda[0]}.{cuda[1]}",
        "cache_dir": _try(lambda: str(resources.cache_dir())),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }
    result["warnings"] = _conflicts(result["packages"], cuda)
    if probe:
        result["parts"] = probe_parts(list(PROBES))
    return result


def render(result: dict[str, Any]) -> str:
    """Turn :func:`report`'s answer into the text that ``fastcell doctor`` prints."""
    memory = result["memory_bytes"]
    gpus = "; ".join(result["gpus"]) or ("none seen" if result["driver_cuda"] else f"none ({_NO_GPU})")
    rows = [
        ("fastcell", result["fastcell"] + (f" (commit {result['commit'][:12]})" if result["commit"] else "")),
        ("Python", f"{result['python']} on {result['platform']}"),
        ("CPU", f"{result['cpu']}, {result['num_cpus']} cores usable"),
        ("memory", "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"),
        ("open files", "unknown" if result["open_files"] is None else f"at most {result['open_files']}"),
        ("GPU", gpus),
        ("driver", f"serves CUDA {result['driver_cuda']}" if result["driver_cuda"] else "none"),
        ("cache folder", result["cache_dir"]),
    ]
    lines = [f"{name:<14}{value}" for name, value in rows]
    lines += ["", "packages", *(f"  {name:<24}{version}" for name, version in result["packages"].items())]
    if "parts" in result:
        lines += ["", "parts of the engine"]
        for part in result["parts"]:
            lines.append(f"  {_mark(part):<5}{part['name']:<22}{part['detail']}")
            if not part["usable"]:
                lines.append(f"  {'':<5}{'':<22}-> {part['way_out']}")
    lines += [f"\nwarning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines)


def _mark(part: dict[str, Any]) -> str:
    return "yes" if part["usable"] else ("-" if part["way_out"].startswith("Optional") else "no")


# --- probes: each returns what it found, or raises; then its way out is shown ---


def _probe_torch() -> str:
    import torch

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _probe_torch_cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        raise RuntimeError(_NO_GPU if resources.driver_cuda_version() is None else f"torch is built for CUDA {built}")
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
        raise RuntimeError(_NO_GPU)
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
        raise RuntimeError(_NO_GPU)
    code = 'extern "C" __global__ void one(int* out) { *out = 41 + 1; }'
    out = cupy.zeros(1, cupy.int32)
    cupy.RawKernel(code, "one")((1,), (1,), (out,))
    if int(out[0]) != 42:
        raise RuntimeError("a test kernel gave a wrong value")
    return f"CuPy {cupy.__version__}, compiled and ran a kernel"


def _probe_nvrtc() -> str:
    version = _version("nvidia-cuda-nvrtc")
    if version is None:
        raise RuntimeError("not installed")
    return f"NVRTC {version}: kernels compile for every architecture without a GPU"


def _probe_import(name: str) -> Callable[[], str]:
    def probe() -> str:
        module = importlib.import_module(name)
        return f"{name} {getattr(module, '__version__', '')}".strip()

    return probe


def _extra() -> str:
    cuda = resources.driver_cuda_version()
    return "cpu" if cuda is None or cuda[0] < 12 else ("cu12" if cuda[0] == 12 else "cu13")


_SERVES = "The CPU path does the same work"
_INSTALL = "pip install 'fastcell[{extra}]', or ./run doctor in a checkout, which installs what this machine needs."
_INSTALL_GPU = "pip install 'fastcell[cu13]' for a CUDA 13 driver, 'fastcell[cu12]' for 12, or ./run doctor."

# name -> (probe, way out)
PROBES: dict[str, tuple[Callable[[], str], str]] = {
    "torch": (_probe_torch, _INSTALL),
    "torch on CUDA": (
        _probe_torch_cuda,
        f"{_SERVES}. With an NVIDIA GPU: install its driver (CUDA 12 or 13), then a CUDA build of torch.",
    ),
    "DALI on the CPU": (_probe_dali_cpu, _INSTALL),
    "DALI on the GPU": (_probe_dali_gpu, f"{_SERVES}. With an NVIDIA GPU: {_INSTALL_GPU}"),
    "kernel sources": (_probe_kernels, "Reinstall fastcell: its wheel carries kernels/ as fastcell/_kernels/."),
    "CuPy kernels": (_probe_cupy, f"{_SERVES}. With an NVIDIA GPU: {_INSTALL_GPU}"),
    "NVRTC wheel": (_probe_nvrtc, "Optional (tests of the kernels without a GPU): pip install 'fastcell[dev]'."),
    "cuML": (_probe_import("cuml"), "Optional (kNN and SVM on the GPU): pip install cuml-cu12 or cuml-cu13."),
    "timm": (_probe_import("timm"), "Optional (networks by timm's names): pip install timm."),
    "onnxruntime": (_probe_import("onnxruntime"), "Optional (faster inference on CPU): pip install onnxruntime."),
    "scikit-learn-intelex": (
        _probe_import("sklearnex"),
        "Optional (faster SVM on CPU): pip install 'fastcell[bench]'.",
    ),
}


def probe_parts(names: list[str], timeout_s: float = PROBE_TIMEOUT_S) -> list[dict[str, Any]]:
    """Try parts of the engine in another process, which is started anew after each one that brings it down.

    Args:
        names: keys of :data:`PROBES`.
        timeout_s: for all probes of one process together.

    Returns:
        One dict per name, in order: name, usable, detail (what was found, or why not), way_out.
    """
    found: dict[str, tuple[bool, str]] = {}
    while todo := [name for name in names if name not in found]:
        command = [sys.executable, "-m", "fastcell", "doctor", "--probe", *todo]
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
    extra = _extra()
    return [
        {"name": n, "usable": found[n][0], "detail": found[n][1], "way_out": PROBES[n][1].format(extra=extra)}
        for n in names
    ]


_MARK = "fastcell-probe:"


def probe_here(names: list[str]) -> None:
    """Try parts of the engine in this process and print what came out, a line each, for `probe_parts` to read."""
    library_settings.quiet()
    for name in names:
        try:
            usable, detail = True, PROBES[name][0]()
        except BaseException as error:  # noqa: BLE001 (whatever a broken library throws is an answer here)
            usable, detail = False, " ".join(str(error).split())[:160] or type(error).__name__
        print(_MARK + json.dumps([name, usable, detail]), flush=True)


def _child_environment() -> dict[str, str]:
    """Return the environment in which a child process finds this very package, installed or not."""
    here = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


# --- facts about the machine: each returns something, whatever is missing ---


def _try(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:  # noqa: BLE001 (a fact that cannot be had is None; the report goes on)
        return None


def _version(package: str) -> str | None:
    return _try(lambda: importlib.metadata.version(package))


def _output(command: list[str], cwd: Path | None = None) -> str | None:
    def run() -> str:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    return _try(run)


def _commit(root: Path) -> str | None:
    return _output(["git", "rev-parse", "HEAD"], root) if (root / ".git").exists() else None


def _cpu_name() -> str:
    def read() -> str:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))

    return _try(read) or platform.processor() or platform.machine() or "unknown"


def _memory_bytes() -> int | None:
    return _try(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _open_files() -> int | None:
    def read() -> int:
        import resource

        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    return _try(read)


def _gpus() -> list[str]:
    query = "--query-gpu=name,memory.total,driver_version,compute_cap"
    text = _output(["nvidia-smi", query, "--format=csv,noheader"])
    gpus = []
    for line in (text or "").splitlines():
        fields = [field.strip() for field in line.split(",")]
        known = len(fields) == 4
        gpus.append(
            f"{fields[0]} ({fields[1]}, driver {fields[2]}, sm_{fields[3].replace('.', '')})" if known else line
        )
    return gpus


def _conflicts(packages: dict[str, str], cuda: tuple[int, int] | None) -> list[str]:
    """Name combinations of packages that cannot work together, or not with this driver."""
    warnings = []
    for kind, first, second in (
        ("DALI", "nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        ("CuPy", "cupy-cuda12x", "cupy-cuda13x"),
    ):
        if first in packages and second in packages:
            warnings.append(
                f"{first} and {second} are both installed and overwrite each other's files. "
                f"Uninstall both builds of {kind}, then install one: pip install 'fastcell[{_extra()}]'."
            )
    if cuda is not None and cuda[0] < 12:
        warnings.append(
            f"the driver serves CUDA {cuda[0]}.{cuda[1]}; the GPU path needs 12 or later. Update the driver."
        )
    if cuda is not None and cuda[0] == 12:
        warnings.extend(
            f"{name} needs a driver for CUDA 13, this one serves {cuda[0]}.{cuda[1]}. "
            "Update the driver, or install 'fastcell[cu12]' with a CUDA 12 build of torch in place of it."
            for name in ("nvidia-dali-cuda130", "cupy-cuda13x")
            if name in packages
        )
    return warnings
