"""Packages that only some commands need: imported on use, with an installation hint if missing."""

from __future__ import annotations

import importlib
from typing import Any

from fastcell.errors import FastcellError


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
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise FastcellError(
            f'the package {module} is not installed. Install it: pip install "fastcell[{extra}]".'
        ) from None
