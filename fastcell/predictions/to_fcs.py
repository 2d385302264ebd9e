"""Write FCS 3.1, the list-mode file of flow cytometry: one event per cell, one linear float parameter per column.

Source: Spidlen et al., "Data File Standard for Flow Cytometry, version FCS 3.1", Cytometry A 77A:97 (2010), doi
10.1002/cyto.a.20825.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_HEADER_BYTES = 256
_MOST_HEADER_OFFSET = 99_999_999  # eight digits; the header holds 0 for a larger offset, which is then only in the text
_DELIMITER = "\f"
_CHUNK_ROWS = 65_536


def write_fcs(
    path: Path,
    columns: Mapping[str, np.ndarray],
    ranges: Mapping[str, tuple[float, float]] | None = None,
    keywords: Mapping[str, str] | None = None,
) -> list[str]:
    """Write an FCS file with one event per row.

    Args:
        path: file to be written.
        columns: (N,) finite numbers for each parameter, at least one parameter; stored as float32.
        ranges: display range (low, high) of a parameter; without one, from its smallest to its largest value.
        keywords: further entries of the text segment; the values must not be empty.

    Returns:
        The short names of the parameters ($PnN). They contain no comma and no control character and are unique. If a
        short name differs from the column name, $PnS holds the column name.
    """
    names = short_names(list(columns))
    values = list(columns.values())
    num_events = len(values[0])
    shown = [(ranges or {}).get(name) or _extent(column) for name, column in columns.items()]
    text = {
        "$BEGINANALYSIS": "0",
        "$ENDANALYSIS": "0",
        "$BEGINSTEXT": "0",
        "$ENDSTEXT": "0",
        "$BYTEORD": "1,2,3,4",
        "$DATATYPE": "F",
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(len(names)),
        "$TOT": str(num_events),
    }
    for number, (name, label, (low, high)) in enumerate(zip(names, columns, shown, strict=True), 1):
        text[f"$P{number}N"] = name
        if name != label and _printable(label):
            text[f"$P{number}S"] = _printable(label)
        text[f"$P{number}B"] = "32"
        text[f"$P{number}E"] = "0,0"
        text[f"$P{number}R"] = str(max(1, math.ceil(high)))
        text[f"$P{number}D"] = f"Linear,{low:.9g},{high:.9g}"
    text |= {name: _printable(value) for name, value in (keywords or {}).items()}
    header, segment = _segments(text, 4 * num_events * len(names))
    with open(path, "wb") as file:
        file.write(header.ljust(_HEADER_BYTES) + segment)
        for begin in range(0, num_events, _CHUNK_ROWS):
            rows = [np.asarray(column[begin : begin + _CHUNK_ROWS], "<f4") for column in values]
            file.write(np.stack(rows, axis=1).tobytes())
        file.write(b"00000000")  # no checksum
    return names


def short_names(labels: Sequence[str]) -> list[str]:
    """Return a valid $PnN for each label: no comma, no control character, unique regardless of case."""
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        stem = _printable(label).replace(",", ";") or "parameter"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _printable(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()


def _extent(column: np.ndarray) -> tuple[float, float]:
    if not len(column):
        return 0.0, 1.0
    low, high = float(column.min()), float(column.max())
    return (low, high) if high > low else (low, low + 1.0)


def _segments(text: dict[str, str], data_bytes: int) -> tuple[bytes, bytes]:
    """Return header and text segment; the text holds the offset of the data, which depends on its own length."""
    begin = 0
    while True:
        entries = {**text, "$BEGINDATA": str(begin), "$ENDDATA": str(begin + data_bytes - 1)}
        body = _DELIMITER + "".join(f"{name}{_DELIMITER}{value}{_DELIMITER}" for name, value in entries.items())
        segment = body.encode("utf-8")
        place = _HEADER_BYTES + len(segment)
        if place == begin:
            break
        begin = place
    end = begin + data_bytes - 1
    data = (begin, end) if end <= _MOST_HEADER_OFFSET else (0, 0)
    places = (_HEADER_BYTES, _HEADER_BYTES + len(segment) - 1, *data, 0, 0)
    return ("FCS3.1    " + "".join(f"{number:>8}" for number in places)).encode("ascii"), segment
