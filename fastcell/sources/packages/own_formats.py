"""Formats of other packages: readers that an installed package registers as entry points.

In the ``pyproject.toml`` of the package, with the ending of the files as name::

    [project.entry-points."fastcell.sources"]
    cellz = "my_package:open_cellz"

``open_cellz(path: pathlib.Path)`` gets a file of that ending, or a folder that holds some, and returns a
`fastcell.sources.base.Source`. The package is imported only for such a path.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from fastcell.errors import DataError
from fastcell.sources.base import Source
from fastcell.system.text import storable

GROUP = "fastcell.sources"
_PARTS = ("name", "describe", "scan", "load", "stamp")


def own_readers() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by ending, in lower case with its dot; nothing is imported."""
    return {f".{entry.name.lower().lstrip('.')}": entry for entry in entry_points(group=GROUP)}


def open_own(entry: EntryPoint, path: Path) -> Source:
    """Open a file or folder with the reader of a package.

    Raises:
        DataError: the reader cannot be imported, or returns something else than a source.
    """
    try:
        source = entry.load()(path)
    except (ImportError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{storable(str(path))} is read by {entry.value} of an installed package, which cannot be imported "
            f"({reason}). Install the package again, or remove it."
        ) from error
    missing = [part for part in _PARTS if not hasattr(source, part)]
    if missing:
        raise DataError(
            f"{entry.value} must return a source with {', '.join(_PARTS)}, got {type(source).__name__} without "
            f"{', '.join(missing)}. Correct the package."
        )
    return source  # type: ignore[no-any-return]
