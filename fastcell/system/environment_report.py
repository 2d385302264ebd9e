"""Report on the environment: versions, processor, memory, GPUs, and packages that conflict.

`fastcell.bench.engine_parts` tests which parts of the engine work on this machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcell import __version__
from fastcell.system import resources
from fastcell.system.optional_packages import extra_for_driver, install_command

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
    "imagecodecs",
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
    "openvino",
    "nncf",
    "starlette",
    "uvicorn",
)

NO_DRIVER = "no NVIDIA driver on this machine"


def describe_environment() -> dict[str, Any]:
    """Describe the environment in plain types that JSON can represent.

    Imports no heavy library, takes well under a second, and never raises an error.
    """
    cuda = resources.driver_cuda_version()
    result: dict[str, Any] = {
        "fastcell": __version__,
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cpus": resources.num_cpus(),
        "memory_bytes": _memory_bytes(),
        "open_files": _open_files(),
        "gpus": _gpus() if cuda is not None else [],
        "driver_cuda": None if cuda is None else f"{cuda[0]}.{cuda[1]}",
        "cache_dir": _try(lambda: str(resources.cache_dir())),
        "packages": {name: version for name in PACKAGES if (version := installed_version(name)) is not None},
    }
    result["warnings"] = _conflicts(result["packages"], cuda)
    return result


def format_environment(result: dict[str, Any]) -> str:
    """Return the text that ``fastcell doctor`` prints.

    Args:
        result: result of `describe_environment`, optionally with a key ``parts`` from
            `fastcell.bench.engine_parts.probe_parts`.
    """
    memory = result["memory_bytes"]
    gpus = "; ".join(result["gpus"]) or ("none seen" if result["driver_cuda"] else f"none ({NO_DRIVER})")
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


# --- facts about the machine: each function returns a value, even if the fact is unavailable ---


def _try(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:  # noqa: BLE001 (an unavailable fact is None; the report continues)
        return None


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
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
    """Return warnings about packages that conflict with each other or with the driver."""
    warnings = []
    for kind, first, second in (
        ("DALI", "nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        ("CuPy", "cupy-cuda12x", "cupy-cuda13x"),
    ):
        if first in packages and second in packages:
            warnings.append(
                f"{first} and {second} are both installed and overwrite each other's files. "
                f"Uninstall both builds of {kind}, then install one: {install_command(extra=extra_for_driver())}"
            )
    if cuda is not None and cuda[0] < 12:
        warnings.append(
            f"the driver serves CUDA {cuda[0]}.{cuda[1]}; the GPU path needs 12 or later. Update the driver."
        )
    if cuda is not None and cuda[0] == 12:
        warnings.extend(
            f"{name} needs a driver for CUDA 13, this one serves {cuda[0]}.{cuda[1]}. "
            "Update the driver, or install a CUDA 12 build of torch, and then: " + install_command(extra="cu12")
            for name in ("nvidia-dali-cuda130", "cupy-cuda13x")
            if name in packages
        )
    return warnings
