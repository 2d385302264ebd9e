"""Find objects in an untrusted HDF5 file by their path; soft links inside the file are followed.

External links, datasets stored in other files and virtual datasets are rejected, because they would read files that the
user did not name.
"""

from __future__ import annotations

from typing import Any

from fastcell.errors import DataError
from fastcell.system.text import storable

_MOST_LINKS = 16  # followed one after another


def find(file: Any, name: str) -> Any:
    """Return a dataset or group of the file by its path; None if it does not exist.

    Raises:
        DataError: If the path leads into another file or in a circle, or the bytes of the dataset are in other files.
    """
    import h5py

    place = _walk(file, file, name, name, 0)
    if isinstance(place, h5py.Dataset) and (place.is_virtual or place.external):
        what = "a virtual dataset" if place.is_virtual else "external storage"
        raise _elsewhere(file, name, f"{what} whose data may lie in other files, which are not read")
    return place


def children(group: Any) -> list[str]:
    """Return the names of the members of a group, without links that lead out of the file or nowhere."""
    import h5py

    names = []
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            try:
                if _step(group.file, group, name, name, 0) is not None:
                    names.append(name)
            except DataError:
                continue
        elif isinstance(link, h5py.HardLink):
            names.append(name)
    return sorted(names)


def _walk(file: Any, place: Any, path: str, name: str, depth: int) -> Any:
    import h5py

    for part in path.split("/"):
        if part in ("", "."):
            continue
        if not isinstance(place, h5py.Group):
            return None
        place = _step(file, place, part, name, depth)
    return place


def _step(file: Any, group: Any, part: str, name: str, depth: int) -> Any:
    """Return a member of a group. `name` is the requested path, `depth` the number of links followed."""
    import h5py

    link = group.get(part, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.HardLink):
        return group[part]
    if not isinstance(link, h5py.SoftLink):
        target = getattr(link, "filename", "another file")
        raise _elsewhere(file, name, f"a link to {storable(str(target))!r}, and other files are not read")
    if depth >= _MOST_LINKS:
        raise _elsewhere(file, name, f"a chain of more than {_MOST_LINKS} links")
    found = _walk(file, file if link.path.startswith("/") else group, link.path, name, depth + 1)
    if found is None:
        raise _elsewhere(file, name, f"a link to {storable(link.path)!r}, which is not in the file")
    return found


def _elsewhere(file: Any, name: str, what: str) -> DataError:
    return DataError(f"{storable(str(file.filename))}: {storable(name)} is {what}. Save the file with its own data.")
