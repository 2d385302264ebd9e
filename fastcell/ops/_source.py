"""Finds the CUDA sources: inside an installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from fastcell.errors import FastcellError

_PACKAGE_DIR = Path(__file__).resolve().parents[1]


def _places() -> tuple[Path, Path]:
    """Where the sources may lie: as the wheel installs them, and in a checkout beside the package."""
    return _PACKAGE_DIR / "_kernels", _PACKAGE_DIR.parent / "kernels"


def kernel_dir() -> Path:
    """Return the folder of the CUDA sources.

    Returns:
        ``fastcell/_kernels`` of an installation if it is there, else ``kernels`` of the checkout.

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
        The text of the file.

    Raises:
        FastcellError: no such file in either place; the message names both.
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
