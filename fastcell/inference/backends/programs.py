"""Programs that run a network, their precisions and their versions. Importing this module loads none of them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Literal, get_args

from fastcell.errors import FastcellError, invalid
from fastcell.system.optional_packages import install_hint, install_hint_of

ProgramName = Literal["torch", "onnxruntime", "openvino"]
BackendChoice = Literal["auto", "torch", "onnxruntime", "openvino"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "int8"]

PROGRAMS: tuple[ProgramName, ...] = get_args(ProgramName)

OFFERED: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""Precisions of each program on a CPU; the most accurate one comes first.

torch lacks int8, because its int8 kernels require networks that are rewritten by hand. ONNX Runtime lacks bf16, because
it has bf16 kernels for ARM processors only.
"""

_PACKAGES = {"torch": ("torch",), "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
_TO_PREPARE = {"openvino": ("openvino", "onnx", "onnxscript"), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
_TO_QUANTISE = {"openvino": ("nncf",), "onnxruntime": ()}


def check_combination(program: str, precision: str) -> None:
    """Check that a program offers a precision.

    Raises:
        ArgumentError: the program does not offer it.
    """
    if precision not in OFFERED[program]:
        rule = f"{' or '.join(OFFERED[program])} with --backend {program}"
        other = next(name for name in reversed(PROGRAMS) if precision in OFFERED[name])
        raise invalid("--precision", rule, precision, f"Take --backend {other} for {precision}")


def can_run(program: str, precision: str, prepared: bool) -> bool:
    """Return whether the packages that a backend needs are installed.

    Args:
        program: one of `PROGRAMS`.
        precision: one of those that it offers.
        prepared: whether the network file exists already, so that the packages that write it are not needed.
    """
    return not missing_packages(program, precision, prepared)


def missing_packages(program: str, precision: str, prepared: bool) -> list[str]:
    """Return the packages that a backend needs and that are not installed; arguments as for `can_run`."""
    needed = list(_PACKAGES[program])
    if not prepared:
        needed += _TO_PREPARE.get(program, ())
        if precision == "int8":
            needed += _TO_QUANTISE[program]
    return [name for name in dict.fromkeys(needed) if importlib.util.find_spec(name) is None]


def check_installed(program: str, precision: str, prepared: bool) -> None:
    """Check that the packages of a backend are installed; arguments as for `can_run`.

    Raises:
        FastcellError: a package is missing. The message gives the command that installs it.
    """
    missing = missing_packages(program, precision, prepared)
    if missing:
        raise FastcellError(
            f"the backend {program} {precision} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}. "
            + (install_hint_of(missing[0]) or install_hint(*missing))
        )


def versions() -> dict[str, str]:
    """Return the versions of the installed programs and of the quantiser, by package name."""
    found = {}
    for name in ("torch", "onnxruntime", "openvino", "nncf"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
