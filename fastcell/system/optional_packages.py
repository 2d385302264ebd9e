"""Packages that may be missing: the command that installs them into this very environment, and import on use."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from fastcell.errors import FastcellError
from fastcell.system import resources

_EXTRAS = {
    "hdf5plugin": "formats",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "starlette": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "fsspec": "remote",
    "s3fs": "remote",
    "aiohttp": "remote",
    "distributed": "dask",
}
"""Optional dependency group of fastcell by module."""
_NAMES = {
    "cv2": "opencv-python-headless",
    "markdown_it": "markdown-it-py",
    "sklearn": "scikit-learn",
    "sklearnex": "scikit-learn-intelex>=2025.11,!=2026.2.*",
    "yaml": "pyyaml",
    "PIL": "pillow",
}
"""Name of the package by module, where it is not the same."""
_SAME_NAMES = [
    "docstring_parser",
    "filelock",
    "h5py",
    "imagecodecs",
    "jinja2",
    "joblib",
    "jsonargparse",
    "llvmlite",
    "markupsafe",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "pytorch_lightning",
    "safetensors",
    "scipy",
    "tifffile",
    "timm",
    "torch",
    "torchmetrics",
    "tqdm",
    "webdataset",
]
"""Modules that fastcell imports from packages of the same name."""
_SET_UP = ".fastcell-setup"
"""What `./run` leaves in the environment that it has made: the checkout, and the extras with commas between."""


def require(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: name of the module.
        extra: optional dependency group of fastcell that installs it.

    Returns:
        The module.

    Raises:
        FastcellError: the package is not installed; the message gives the command to install it.
    """
    send_no_reports()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise FastcellError(f"the package {module} is not installed. {install_hint(extra=extra)}") from None


def send_no_reports() -> None:
    """Keep ONNX Runtime and NNCF from reporting their use to their makers, unless the environment says otherwise.

    Both look at the environment when they are imported. By default, the import of ONNX Runtime alone writes an
    identifier of the machine to the cache folder of the user, for its reports.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NNCF_CI", "1")  # of its test machines, which report nothing; it has no other effect


def install_hint(*packages: str, extra: str = "") -> str:
    """Return the last sentence of a message about a missing package; arguments as for `install_command`."""
    return f"Install it: {install_command(*packages, extra=extra)}"


def install_hint_of(module: str) -> str | None:
    """Return how to get the package of a module that fastcell imports; None for other modules."""
    name = module.partition(".")[0]
    if name in ("nvidia", "cupy"):
        return install_hint(extra=extra_for_driver() if name == "nvidia" else extra_for_gpu())
    if name == "cuml":
        return install_hint(f"cuml-{extra_for_gpu()}")
    if name in _EXTRAS:
        return install_hint(extra=_EXTRAS[name])
    if name in _SAME_NAMES:
        return install_hint(name.replace("_", "-"))
    return install_hint(_NAMES[name]) if name in _NAMES else None


def install_command(*packages: str, extra: str = "") -> str:
    """Return the command that installs packages into the environment of this process.

    Args:
        packages: names of packages, with a range of versions or without.
        extra: optional dependency group of fastcell to install with them, or instead of them.

    Returns:
        A line for the shell: of `./run` in an environment that it has made, which then keeps the extra; else of pip or
        uv, with the packages of the extra by name, so that it does not matter where fastcell came from.
    """
    script = _script_of_environment(extra) if extra and not packages else None
    if script is not None:
        return f"FASTCELL_EXTRA={extra} {script} doctor"
    words = [*packages, *(_packages_of(extra) if extra else [])]
    return " ".join([_installer(), *map(shlex.quote, words)])


def extra_for_driver() -> str:
    """Return the optional dependency group of fastcell that fits the machine's driver: cpu, cu12 or cu13."""
    cuda = resources.driver_cuda_version()
    return "cpu" if cuda is None or cuda[0] < 12 else ("cu12" if cuda[0] == 12 else "cu13")


def extra_for_gpu() -> str:
    """Return cu12 or cu13: as `extra_for_driver`, and cu13 where there is no driver yet."""
    return extra_for_driver().replace("cpu", "cu13")


def _script_of_environment(extra: str) -> str | None:
    """Return `./run` as the shell finds it, if it made this environment and has not installed the extra yet."""
    prefix = Path(sys.prefix)
    try:
        had = (prefix / _SET_UP).read_text(encoding="utf-8").splitlines()[1].split(",")
    except (OSError, IndexError):
        return None
    script = prefix.parent / "run"
    if extra in had or not script.is_file():
        return None
    here = Path(os.path.relpath(script)) if Path(os.curdir).exists() else script
    return "./run" if str(here) == "run" else shlex.quote(str(script))


def _packages_of(extra: str) -> list[str]:
    """Return the packages of an extra with their versions, as the installed fastcell states them."""
    try:
        lines = importlib.metadata.requires("fastcell") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    halves = [line.partition(";") for line in lines]
    found = [needed.strip() for needed, _, marker in halves if f"extra == '{extra}'" in marker.replace('"', "'")]
    return found or [f"fastcell[{extra}]"]


def _installer() -> str:
    """Return the beginning of a command that installs into this environment."""
    python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip install"
    if shutil.which("uv") is not None:
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    return f"{python} -m ensurepip && {python} -m pip install"
