"""Reasons why a cell is quarantined, and the rows of `quarantine.parquet`.

A cell is quarantined if a `BadCell` error is raised for it. The error comes from the checks of its bytes and decoded
pixels (`fastcell.dataset.decode`, `fastcell.dataset.image_headers`, `fastcell.dataset.tiff`), from the source that
reads it, or from the list that names it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from fastcell.dataset.schema import QUARANTINE_SCHEMA, make_table
from fastcell.sources.base import Listing
from fastcell.system.text import one_name

_MOST_LISTED = 3  # reasons in a message

QUARANTINE_REASONS = {
    # any file
    r"empty file": "no bytes",
    r"all bytes zero": "e.g. after a crash of the file system",
    r"not an image": "the first bytes are not those of JPEG, PNG, TIFF or NPY",
    r"not a kind of image that can be read": "a list names a file with another extension",
    r"truncated": "the file ends before its last pixel",
    r"truncated: \d+ x \d+ pixels in \d+ bytes": "more pixels than the encoding can hold in so few bytes",
    r"truncated: .+ images in .+ bytes": "the same for an ImageJ stack",
    r"too large: .+": "more than 2^26 pixels or 2^29 bytes, or pieces of a TIFF that take so much memory",
    r"no pixels": "height or width 0",
    r"array of \d+ axes, .+": "the array is not a single grey image",
    r"pixels of type .+, not uint8 or uint16": "values other than grey levels of 8 or 16 bits",
    r"\d+-bit (jpg|tif.*)": "a depth that is not read",
    r"tif (with|of) .+, which is not read; save .+": "a compression, a predictor or a kind of colour",
    r"tif of .+; save .+": "samples that differ in depth, volumes, or axes that do not fit the images",
    r"tif of \d+ images, not of one cell": "the file holds several images of one channel",
    r"tif with \d+ channels in .+": "several channels, and --channel is not given",
    r"tif without a channel .+": "the channel of --channel is not in the file",
    r"no tif, of which a channel could be chosen": "--channel is given, and the file is no TIFF",
    r"16 bit without window": "grey levels of 16 bits, and no --window was given",
    # damage
    r"damaged (jpg|png|npy|tif) header": "the header violates its format",
    r"damaged: .+": "a checksum, a decoder's message about the pixel data, or a strip or tile of a TIFF",
    r"tif without the data of all strips or tiles": "reading it would invent pixels",
    r"(jpg|png) that cannot be decoded": "the decoder gives no image",
    r"jpg with two EXIF blocks": "decoders differ in which one they apply",
    r"jpg of \d+ scans": "decoding takes as long as that many images",
    r"jpg without image data": "ends before its first scan",
    r"not a TIFF": "the file was changed after it was listed",
    r"its pages form a circle": "the same",
    # sources
    r"cannot be read: .+": "the message of the operating system",
    r"link or sparse file in the tar": "the member is no regular file",
    r"file is missing": "the list names a file that does not exist",
    r"no such cell": "the table names a cell that does not exist",
    r"listed twice, .+": "the second of two rows in a list",
    r"named twice, .+": "the second of two rows in a table",
    r"row of the \.adc that cannot be read": "its numbers violate the format of IFCB",
    r"tif of \d+ pages, where \d+ pages are the channels of a cell": "other channels than in the TIFF files beside it",
    r"no \w+ in the file": "the file may hold many cells and holds none",
    r"file that cannot be used: .+": "a file of many cells that is damaged or violates its format",
    r"no such cell; .+": "the table names the cell in other upper and lower case",
    r"its chunk was never written": "HDF5 of an interrupted acquisition",
    r"its \.roi is missing": "an IFCB bin without its images",
    r"lies outside of its \.roi": "an IFCB image that its file does not hold",
}
"""Maps the pattern of each reason that `quarantine.parquet` can contain to the condition under which it is given."""


def quarantine_row(
    key: str, source: str, class_name: str | None, group: str | None, collection: str | None, reason: str
) -> tuple[Any, ...]:
    """Return a row of `QUARANTINE_SCHEMA` for a quarantined cell, without cell_id; its texts are in form NFC."""
    return (None, *map(one_name, (key, source, class_name, group, collection, reason)))


def quarantine_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Return rows made by `quarantine_row` as a table of `QUARANTINE_SCHEMA`."""
    return make_table(rows, QUARANTINE_SCHEMA)


def rejected_cells(listing: Listing, collection: str | None = None) -> pa.Table:
    """Return rows of `QUARANTINE_SCHEMA` for the cells that the scan of a source rejected.

    Args:
        listing: what the scan found.
        collection: collection of the cells that have none.
    """
    return quarantine_table(
        [
            quarantine_row(item.key, source, item.class_name, item.group, item.collection or collection, reason)
            for item, source, reason in listing.rejected
        ]
    )


def describe_reasons(quarantine: pa.Table) -> str:
    """Summarize a quarantine table by its most frequent reasons: `412 bad cells: truncated (400), no pixels (12)`.

    Args:
        quarantine: rows of `QUARANTINE_SCHEMA`.
    """
    if not quarantine.num_rows:
        return "none found"
    counts = Counter(quarantine.column("reason").to_pylist()).most_common()
    listed = ", ".join(f"{reason} ({count:,})" for reason, count in counts[:_MOST_LISTED])
    rest = sum(count for _, count in counts[_MOST_LISTED:])
    cells = "cell" if quarantine.num_rows == 1 else "cells"
    return f"{quarantine.num_rows:,} bad {cells}: {listed}" + (f", others ({rest:,})" if rest else "")
