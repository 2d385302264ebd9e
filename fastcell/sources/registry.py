"""Formats that can be packed: how each one is detected, which source opens it, and which options it accepts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcell.dataset.open_files import look_again
from fastcell.errors import ArgumentError, DataError, did_you_mean, invalid
from fastcell.sources import arrays, ifcb, path_table, rtdc, tiff_stacks
from fastcell.sources.base import Channel, Source, encoding_of
from fastcell.sources.image_folder import ImageFolder, Pattern, check_fields_used, walk_files
from fastcell.sources.packages.own_formats import open_own, own_readers
from fastcell.sources.paper_lists import ReleasedLists, has_lists
from fastcell.sources.tiff_pages import Pages
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
        format: one of `FORMATS`, or the ending of the files of a reader of another package; None to detect it.
        tile: height and width of the tiles of a montage, in pixels.
        channel: number, from 0, or name of the channel of TIFF files with several channels.
        table: CSV or Parquet file of paths and labels.
        labels: file with one label for each cell of an array.
        subtract_background: subtract the background image of each event (`.rtdc` only).
        pages: meaning of the pages of TIFF files that do not state it: `cells`, or the `channels` of one cell.
    """

    pattern: str | None = None
    format: str | None = None
    tile: tuple[int, int] | None = None
    channel: Channel = None
    table: str | os.PathLike[str] | None = None
    labels: str | os.PathLike[str] | None = None
    subtract_background: bool = False
    pages: Pages | None = None


class Format(NamedTuple):
    """One input format.

    Attributes:
        help: text that describes the format to the user.
        read: what of the files is read.
        unread: what is not read, or is refused.
        open: function that opens a path with the given options.
        options: options of `ReadOptions` that act on the format; other options are refused.
    """

    help: str
    read: str
    unread: str
    open: Callable[[Path, ReadOptions], Source]
    options: tuple[str, ...]


def _open_images(root: Path, options: ReadOptions) -> Source:
    pattern = None if options.pattern is None else Pattern(options.pattern).text
    if options.table is not None and pattern is None:
        pattern = "**/{name}"
    mixed = any(encoding_of(name) not in ("", "tif") for name, _ in walk_files(root) if not name.startswith("."))
    return ImageFolder(root, pattern, options.channel, mixed)


def _open_arrays(root: Path, options: ReadOptions) -> Source:
    labels = None if options.labels is None else Path(options.labels).absolute()
    endings: tuple[str, ...] = arrays.ARRAY_ENDINGS
    if root.is_dir():
        found = {ending_of(name) for name, _ in walk_files(root) if not name.startswith(".")}
        if found & set(arrays.NAMED_ENDINGS) and not _any(root, _keys(root, ".npy"), arrays.is_array_stack):
            endings = arrays.NAMED_ENDINGS  # .npy files beside them are no images
    return arrays.Arrays(root, options.pattern, labels, endings)


#: In the order in which formats are detected.
FORMATS: dict[str, Format] = {
    "rtdc": Format(
        ".rtdc (RT-DC): events/image, features and pixel size; a file is a group",
        "events/image of 8 or 16 bits, features of one number per event, imaging:pixel size, image_bg with "
        "--subtract-background; soft links and basins inside the file; of a recording that was cut off, the written "
        "chunks",
        "masks, contours and traces; basins in other files, external links, virtual datasets; .tdms",
        lambda root, options: rtdc.Rtdc(root, options.pattern, options.subtract_background),
        ("pattern", "table", "subtract_background"),
    ),
    "ifcb": Format(
        "IFCB bins: .adc + .roi, old and new style; a bin is a group",
        "images of each region, stitched where an old instrument split one, and the columns of .adc as features",
        ".hdr; blobs, features and class scores beside the bins; zipped bins",
        lambda root, options: ifcb.Ifcb(root, options.pattern),
        ("pattern", "table"),
    ),
    "tars": Format(
        "WebDataset tars: image + .cls or .json",
        "jpg, png, tif and npy members; class, group, collection and um_per_px of .cls or .json; classes.txt; classes "
        "and groups of a packed set",
        "compressed tars, links inside a tar; splits, features and verdicts of a packed set",
        lambda root, options: Tars(root, options.pattern, options.channel),
        ("pattern", "table", "channel"),
    ),
    "lists": Format(
        "the layout of the paper's data: Train.txt, Valid.txt, Test.txt, labels.txt",
        "lines 'path label' and 'name number'; the lists are the split paper",
        "images that no list names",
        lambda root, options: ReleasedLists(root, options.channel),
        ("table", "channel"),
    ),
    "tiff": Format(
        "multi-page TIFF, OME-TIFF, ImageJ stacks: a page is a cell; montages with --tile",
        "8 and 16 bit grey, palette and colour as grey; one channel by --channel, by number or OME name; pages as the "
        "channels of one cell; um_per_px of OME and ImageJ; orientation; smaller copies are passed over",
        "several channels at once; 1 to 7, 12, 32 bit and floating point; OME sets of several files; compressions "
        "other than LZW, deflate, PackBits, zstd, LZMA and JPEG, e.g. JPEG 2000",
        lambda root, options: tiff_stacks.TiffStacks(
            root, options.pattern, options.tile, options.channel, options.pages
        ),
        ("pattern", "table", "tile", "channel", "pages"),
    ),
    "images": Format(
        "a folder of jpg, png, tif or npy images; class folders, or --pattern",
        "JPEG 8 bit; PNG, TIFF and NPY (H, W) 8 and 16 bit; colour as grey, alpha dropped",
        "gif, bmp, webp, svg, raw formats of cameras and whole slides; NPY that is not uint8 or uint16",
        _open_images,
        ("pattern", "table", "channel"),
    ),
    "arrays": Format(
        ".npy, .npz, .h5 (N, H, W), .mat (H x W x N): images, labels, groups, classes, features",
        "one array of uint8 or uint16 images a file; labels, classes, groups, collections and numbers by name; "
        "labels beside .npy; soft links inside HDF5; of an acquisition that was cut off, the written chunks",
        "pickled objects, floating point images, external links and virtual datasets, MATLAB structures and cells",
        _open_arrays,
        ("pattern", "table", "labels"),
    ),
}


def open_source(path: str | os.PathLike[str], pattern: str | None = None, options: ReadOptions | None = None) -> Source:
    """Open a file or folder as a source, with the format detected from the files in it.

    Released lists are used if they exist and no pattern is given.

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
    options = options or ReadOptions()
    readers = {ending.lstrip("."): reader for ending, reader in own_readers().items() if ending[1:] not in FORMATS}
    known = [*FORMATS, *readers]
    if options.format is not None and options.format not in known:
        hint = did_you_mean(options.format, known) or "Leave it out to detect the format."
        raise ArgumentError(f"--format must be one of {', '.join(known)}, got {options.format!r}. {hint}")
    root = local_path("SRC", path).absolute()  # a worker may have another working directory
    if pattern is not None:
        options = replace(options, pattern=pattern)
    if not root.exists():
        raise ArgumentError(
            f"SRC must be a file or folder of images, got {str(root)!r} (nothing there). Check the path."
        )
    if root.is_file() and root.suffix.lower() in path_table.TABLE_ENDINGS:
        if options.table is not None:
            raise invalid("--table", "given with a folder or file of images", str(root), "SRC is itself a table")
        options = replace(options, table=root)
        root = root.parent
    own = _own_reader(root) if options.format is None else readers.get(options.format)
    if own is not None:
        _check_no_options(own.value, options)
        source = open_own(own, root)
        return source if options.table is None else path_table.PathTable(source, Path(options.table).absolute())
    name = options.format or (_kind_of_file(root) if root.is_file() else _kind_of_folder(root, options))
    _check_options(name, options)
    if name == "ifcb" and root.is_file():
        root = root.with_suffix(".ADC" if root.suffix.isupper() else ".adc")
    source = FORMATS[name].open(root, options)
    return source if options.table is None else path_table.PathTable(source, Path(options.table).absolute())


def _check_options(name: str, options: ReadOptions) -> None:
    """Reject options that the format would ignore."""
    for option in (field.name for field in fields(ReadOptions) if field.name != "format"):
        given = getattr(options, option)
        if given is not None and given is not False and option not in FORMATS[name].options:
            flag = "--" + option.replace("_", "-")
            kinds = ", ".join(kind for kind, what in FORMATS.items() if option in what.options)
            raise invalid(flag, f"given for {kinds}", given, f"SRC is read as {name}: leave the option out")
    if options.pattern is not None and options.table is not None:
        told = path_table.fields_of_table(Path(options.table).absolute())
        check_fields_used(Pattern(options.pattern, needs_name=False), told, "the table")


def _own_reader(root: Path) -> EntryPoint | None:
    """Return the reader of another package for a file or folder; None if fastcell reads it, or no package does."""
    readers = own_readers()
    if not readers:
        return None
    if root.is_file():
        return readers.get(root.suffix.lower())
    names = [name for name, _ in walk_files(root) if not name.startswith(".")]
    endings = {ending_of(name) for name in names} & readers.keys()
    if len(endings) > 1:
        raise invalid("SRC", "a folder of files of one format", storable(", ".join(sorted(endings))), "Pack each alone")
    return readers[endings.pop()] if endings else None


def _check_no_options(reader: str, options: ReadOptions) -> None:
    """Raise ArgumentError for options that do not apply to a reader of another package."""
    for entry in fields(ReadOptions):
        given = getattr(options, entry.name)
        if entry.name not in ("table", "format") and given is not None and given is not False:
            flag = "--" + entry.name.replace("_", "-")
            raise invalid(flag, "left out", given, f"{reader} of an installed package reads SRC")


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

    Raises:
        DataError: If the folder holds files of several formats.
    """
    if has_lists(root) and options.pattern is None and options.table is None:
        return "lists"
    kinds = _kinds_of_files(root, options.tile is not None)
    found = {name: keys for name, keys in kinds.items() if keys and name in FORMATS}
    if len(found) > 1:
        raise _mixed(root, found)
    if found:
        return next(iter(found))
    if kinds["imagestream"]:
        ending = ending_of(kinds["imagestream"][0])
        raise _imagestream(f"{len(kinds['imagestream'])} {ending} file{'s' * (len(kinds['imagestream']) > 1)}")
    return "images"


def _kinds_of_files(root: Path, montages: bool) -> dict[str, list[str]]:
    """Return the files of each format.

    TIFF and NumPy files count as one format each, depending on the content of some of them.
    """
    endings: dict[str, list[str]] = {}
    for name, key in walk_files(root):
        if not name.startswith("."):
            endings.setdefault(ending_of(name), []).append(key)

    def keys(*wanted: str) -> list[str]:
        return [key for ending in wanted for key in endings.get(ending, ())]

    tiffs, npys = keys(*tiff_stacks.TIFF_ENDINGS), keys(".npy")
    named = keys(*arrays.NAMED_ENDINGS)
    kinds = {
        "rtdc": keys(*rtdc.RTDC_ENDINGS),
        "ifcb": keys(*ifcb.IFCB_ENDINGS) if ".adc" in endings else [],
        "tars": keys(".tar"),
        "tiff": [],
        "images": keys(".jpg", ".jpeg", ".png"),
        "arrays": named,
        "imagestream": keys(*_IMAGESTREAM),
    }
    kinds["tiff" if montages or _any(root, tiffs, tiff_stacks.has_many_pages) else "images"] += tiffs
    if _any(root, npys, arrays.is_array_stack):
        kinds["arrays"] += npys
    elif kinds["images"] or not any(kinds.values()):  # else they are no images, but labels or features
        kinds["images"] += npys
    return kinds


def _keys(root: Path, ending: str) -> list[str]:
    return [key for name, key in walk_files(root) if ending_of(name) == ending and not name.startswith(".")]


def _mixed(root: Path, found: dict[str, list[str]]) -> DataError:
    listed = ", ".join(f"{name} ({len(keys):,} files, e.g. {min(keys)})" for name, keys in found.items())
    return DataError(
        f"{storable(str(root))} must hold files of one format, got {storable(listed)}. Choose the format to read with "
        f"--format {' or --format '.join(found)}, or pack the others from folders of their own."
    )


def _any(root: Path, keys: Sequence[str], holds: Callable[[str], bool]) -> bool:
    """Return True if `holds` is true for one of the files; at most 64 evenly spaced files are checked."""
    keys = sorted(keys)
    places = np.unique(np.linspace(0, len(keys) - 1, _LOOKED_AT).astype(np.int64)).tolist() if keys else []
    return any(holds(f"{root}/{keys[place]}") for place in places)


def ending_of(name: str) -> str:
    """Return the extension of a file name in lower case, with its dot; empty without one."""
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def _imagestream(what: str) -> DataError:
    return DataError(
        f"SRC must be in an open format, got {storable(what)} of ImageStream. Export the images from IDEAS: Tools, "
        "Export .TIF Images, one channel (bright field is Ch1 or Ch9), 16-bit raw; then pack that folder with --window."
    )
