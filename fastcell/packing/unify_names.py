"""Bring keys, classes and groups into one Unicode form: names that differ only in their form are the same name.

File systems and keyboards write `é` as one character (form NFC) or as two (NFD). A data set stores NFC; files on disk
keep their names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from fastcell.errors import DataError
from fastcell.sources.base import Listing, SourceItem
from fastcell.sources.listings.item_columns import ItemColumns
from fastcell.system.text import natural_sorted, one_name, storable

_MOST_SHOWN = 3


def unify_names(listing: Listing) -> Listing:
    """Return a listing whose classes, groups and collections are in Unicode form NFC; its keys stay as on disk.

    The items of the listing that is returned are `ItemColumns`.

    Raises:
        DataError: If two cells have the same key in two forms.
    """
    columns = ItemColumns.of(listing.items)
    if columns.is_ascii and all(map(str.isascii, listing.classes)):
        return replace(listing, items=columns)
    seen: dict[str, str] = {}
    for item in columns:
        if not item.key.isascii():
            other = seen.setdefault(one_name(item.key), item.key)
            if other != item.key:
                raise DataError(
                    f"{storable(item.key)!r} is the name of two cells, which differ only in Unicode form "
                    f"({other!a} and {item.key!a}). Rename one of the files or folders."
                )
    classes = list(dict.fromkeys(map(one_name, listing.classes)))
    return replace(listing, items=ItemColumns.of(map(_unified, columns)), classes=classes)


def similar_names(listing: Listing) -> list[str]:
    """Return notes on classes, and on groups, that differ only in upper and lower case or in blanks."""
    groups = [name for name in ItemColumns.of(listing.items).different("group") if name is not None]
    notes = []
    for title, names in (("classes", listing.classes), ("groups", groups)):
        alike = _alike(names)
        if alike:
            shown = "; ".join(", ".join(map(repr, same)) for same in alike[:_MOST_SHOWN])
            notes.append(
                f"{title} whose names differ only in upper and lower case or blanks count as different: {shown}"
                f"{'; ...' if len(alike) > _MOST_SHOWN else ''}."
            )
    return notes


def _unified(item: SourceItem) -> SourceItem:
    return item._replace(
        class_name=one_name(item.class_name), group=one_name(item.group), collection=one_name(item.collection)
    )


def _alike(names: Iterable[str]) -> list[list[str]]:
    found = defaultdict(list)
    for name in names:
        found["".join(name.casefold().split())].append(name)
    return [natural_sorted(same) for _, same in sorted(found.items()) if len(same) > 1]
