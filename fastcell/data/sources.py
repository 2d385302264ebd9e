"""Sources: where cells come from before they are packed, one module for each format."""

from __future__ import annotations

import os
from pathlib import Path

from fastcell.data.image_folder import ImageFolder, Pattern
from fastcell.data.listing import Source
from fastcell.data.released_lists import ReleasedLists, has_lists
from fastcell.errors import ArgumentError


def open_source(path: str | os.PathLike[str], pattern: str | None = None) -> Source:
    """The reader for a path: released lists where they are there and no pattern is given, else a folder of images.

    Raises:
        ArgumentError: no such folder, or a pattern that cannot be read.
    """
    root = Path(path).absolute()  # a worker may have another working directory
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing there"
        raise ArgumentError(f"SRC must be a folder of images, got {str(root)!r} ({what}). Check the path.")
    if pattern is not None:
        return ImageFolder(root, Pattern(pattern).text)
    return ReleasedLists(root) if has_lists(root) else ImageFolder(root)
