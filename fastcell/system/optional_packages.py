"""Packages that only some commands need: imported where they are used, with a way out where they are not there."""

from __future__ import annotations

import importlib
from typing import Any

from fastcell.errors import FastcellError


def require(module: str, extra: str) -> Any:
    """Import `module`, which the optional dependencies `extra` of fastcell install.

    Raises:
        FastcellError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise FastcellError(
            f'the package {module} is not installed. Install it: pip install "fastcell[{extra}]".'
        ) from None
