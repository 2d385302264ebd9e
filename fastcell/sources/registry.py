"""Formats that can be packed: how each one is detected, which source opens it, and which options it accepts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcell.dataset.open_files import look_again
from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.sources import arrays, ifcb, path_table, rtdc, tiff_stacks
from fastcell.sources.base import ENCODING_OF_ENDING, Channel, Source
from fastcell.sources.image_folder import ImageFolder, Pattern, walk_files
from fastcell.sources.paper_lists import ReleasedLists, has_lists
from fastcell.sources.webdataset import Tars
from fastcell.storage.places import local_path
from fastcell.system.text import storable

_IMAGESTREAM = (".cif", ".daf", ".rif")
_LOOKED_AT = 64  # files checked for extensions that may hold one cell or many


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a source, from the arguments of `fastcell pack`.

    Attributes:
        pattern: position of class, group and collection in the paths, see `Pattern`.
        format: one of `FORMATS`; None to detect it.
        tile: height and width of the tiles of a montage, in pixels.
        channel: number, from 0, or name of the channel of TIFF files with several channels.
        table: CSV or Parquet file of paths and labels.
        labels: file with one label for each cell of an array.
        subtract_background: subtract the background image of each event (`.rtdc` only).
    """

    pattern: str | None = None
    format: str | None = None
    tile: tuple[int, int] | None = None
    channel: Channel = None
    table: str | os.PathLike[str] | None = None
    labels: str | os.PathLike[str] | None = None
    subtract_background: bool = False


class Format(NamedTuple):
    """One input format.

    Attributes:
        help: text that describes the format to the user.
        open: function that opens a path with the given options.
        options: names of the options that the format accepts.
    """

    help: str
    open: Callable[[Path, ReadOptions], Source]
    options: tuple[str, ...] = ()


def _open_images(root: Path, options: ReadOptions) -> Source:
    if options.table is not None and options.pattern is None:
        return ImageFolder(root, "**/{name}", options.channel)
    return ImageFolder(root, None if options.pattern is None else Pattern(options.pattern).text, options.channel)


def _open_arrays(root: Path, options: ReadOptions) -> Source:
    labels = None if options.labels is None else Path(options.labels).absolute()
    endings: tuple[str, ...] = arrays.ARRAY_ENDINGS
    if root.is_dir():
        found = {Path(name).suffix.lower() for name, _ in walk_files(root)}
        endings = next((kind for kind in (_HDF5, (".npz",), (".mat",), (".npy",)) if found & set(kind)), endings)
    return arrays.Arrays(root, options.pattern, labels, endings)


_HDF5 = (".h5", ".hdf5")

#: In the order in which formats are detected.
FORMATS: dict[str, Format] = {
    "rtdc": Format(
        ".rtdc (RT-DC): events/image, features and pixel size; a file is a group",
        lambda root, options: rtdc.Rtdc(root, options.pattern, options.subtract_background),
        ("subtract_background",),
    ),
    "ifcb": Format(
        "IFCB bins: .adc + .roi, old and new style; a bin is a group",
        lambda root, options: ifcb.Ifcb(root, options.pattern),
    ),
    "tars": Format(
        "WebDataset tars: image + .cls or .json",
        lambda root, options: Tars(root, options.pattern, options.channel),
        ("channel",),
    ),
    "lists": Format(
        "the layout of the paper's data: Train.txt, Valid.txt, Test.txt, labels.txt",
        lambda root, options: ReleasedLists(root, options.channel),
        ("channel",),
    ),
    "tiff": Format(
        "multi-page TIFF, OME-TIFF, ImageJ stacks: a page is a cell; montages with --tile",
        lambda root, options: tiff_stacks.TiffStacks(root, options.pattern, options.tile, options.channel),
        ("tile", "channel"),
    ),
    "images": Format(
        "a folder of jpg, png, tif or npy images; class folders, or --pattern",
        _open_images,
        ("channel",),
    ),
    "arrays": Format(
        ".npy, .npz, .h5 (N, H, W), .mat (H x W x N): images, labels, groups, classes, features",
        _open_arrays,
        ("labels",),
    ),
}


def open_source(path: str | os.PathLike[str], pattern: str | None = None, options: ReadOptions | None = None) -> Source:
    """Open a file or folder as a source, with the format detected from the files in it.

    Released lists are used if they are there and no pattern is given.

    Args:
        path: path of a file or folder; the path of a table opens the folder that contains it.
        pattern: position of class, group and collection in the paths.
        options: options for reading; `pattern` overrides `options.pattern`.

    Returns:
        The source.

    Raises:
        ArgumentError: If the path does not exist or holds nothing that can be read, or an option does not fit the
            format.
        DataError: If the files have a format that must be exported first.
    """
    look_again()
    root = local_path("SRC", path).absolute()  # a worker may have another working directory
    options = options or ReadOptions()
    if pattern is not None:
        options = replace(options, pattern=pattern)
    if not root.exists():
        raise ArgumentError(
            f"SRC must be a file or folder of images, got {str(root)!r} (nothing there). Check the path."
        )
    if root.is_file() and root.suffix.lower() in path_table.TABLE_ENDINGS:
        if options.table is not None:
            raise invalid("--table", "given with a folder or file of images", str(root), "SRC is a table itself")
        options = replace(options, table=root)
        root = root.parent
    if options.format is not None and options.format not in FORMATS:
        raise invalid("--format", f"one of {', '.join(FORMATS)}", options.format, "Leave it out to have it found")
    name = options.format or (_kind_of_file(root) if root.is_file() else _kind_of_folder(root, options))
    _check_options(name, options)
    if name == "ifcb" and root.is_file():
        root = root.with_suffix(".ADC" if root.suffix.isupper() else ".adc")
    source = FORMATS[name].open(root, options)
    return source if options.table is None else path_table.PathTable(source, Path(options.table).absolute())


def _check_options(name: str, options: ReadOptions) -> None:
    """Reject options that the format would ignore."""
    for option in ("tile", "channel", "labels", "subtract_background"):
        given = getattr(options, option)
        if given is not None and given is not False and option not in FORMATS[name].options:
            flag = "--" + option.replace("_", "-")
            kinds = ", ".join(kind for kind, what in FORMATS.items() if option in what.options)
            raise invalid(flag, f"given for {kinds}", given, f"SRC is read as {name}: leave it out")


def _kind_of_file(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _IMAGESTREAM:
        raise _imagestream(path.name)
    for name, endings in {
        "rtdc": rtdc.RTDC_ENDINGS,
        "ifcb": ifcb.IFCB_ENDINGS,
        "tars": (".tar",),
        "tiff": tiff_stacks.TIFF_ENDINGS,
        "arrays": arrays.ARRAY_ENDINGS,
    }.items():
        if ending in endings:
            return name
    kinds = " ".join(
        (
            *rtdc.RTDC_ENDINGS,
            ".adc",
            ".tar",
            *tiff_stacks.TIFF_ENDINGS,
            *arrays.ARRAY_ENDINGS,
            *path_table.TABLE_ENDINGS,
        )
    )
    raise ArgumentError(
        f"SRC must be a folder of images, or a file of many cells ({kinds}), got {storable(str(path))!r} (a file). "
        "Check the path."
    )


def _kind_of_folder(root: Path, options: ReadOptions) -> str:
    """Detect the format of a folder.

    Files that only instruments or programs write take precedence over images, and images over arrays.
    """
    found: Counter[str] = Counter()
    shown: dict[str, list[str]] = {".tif": [], ".npy": []}
    for name, key in walk_files(root):
        if name.startswith("."):
            continue
        ending = "." + name.rpartition(".")[2].lower() if "." in name else ""
        ending = ".tif" if ending == ".tiff" else ending
        found[ending] += 1
        if ending in shown:
            shown[ending].append(key)
    if found[".rtdc"]:
        return "rtdc"
    if found[".adc"]:
        return "ifcb"
    if has_lists(root) and options.pattern is None and options.table is None:
        return "lists"
    images = sum(found["." + kind] for kind in ENCODING_OF_ENDING)
    if options.tile is not None or _any(root, shown[".tif"], tiff_stacks.has_many_pages):
        return "tiff"
    if found[".tar"] and not images:
        return "tars"
    if images > found[".npy"] or (found[".npy"] and not _any(root, shown[".npy"], arrays.is_array_stack)):
        return "images"
    if any(found[ending] for ending in arrays.ARRAY_ENDINGS):
        return "arrays"
    first = next((ending for ending in _IMAGESTREAM if found[ending]), None)
    if first is not None:
        raise _imagestream(f"{found[first]} files {first}")
    return "images"


def _any(root: Path, keys: Sequence[str], holds: Callable[[str], bool]) -> bool:
    """Return True if `holds` is true for one of the files; at most 64 evenly spaced files are checked."""
    keys = sorted(keys)
    places = np.unique(np.linspace(0, len(keys) - 1, _LOOKED_AT).astype(np.int64)).tolist() if keys else []
    return any(holds(f"{root}/{keys[place]}") for place in places)


def _imagestream(what: str) -> DataError:
    return DataError(
        f"SRC must be in an open format, got {storable(what)} of ImageStream. Export the images from IDEAS: Tools, "
        "Export .TIF Images, one channel (bright field is Ch1 or Ch9), 16-bit raw; then pack that folder with --window."
    )
