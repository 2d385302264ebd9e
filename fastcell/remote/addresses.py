"""Addresses of data sets: which texts are addresses that can be read, and where an object below an address is."""

from __future__ import annotations

import posixpath
import re

from fastcell.errors import invalid

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?=[^/])")
_WITH_PASSWORD = re.compile(r"[^/?#]*:[^/?#]*@")
WEB = ("http", "https")

HINT_CREDENTIALS = "Leave credentials to the environment or the files of the store's own library"


def scheme_of(text: str) -> str | None:
    """Return the scheme of an address such as ``s3://bucket/cells`` in lower case; None if the text is not an address.

    A path of this machine, also one written as ``file:///data``, is not an address.
    """
    found = _SCHEME.match(text)
    return None if found is None or found[1].lower() == "file" else found[1].lower()


def check_address(name: str, text: str) -> str:
    """Check an address, and return it with a scheme in lower case and without a slash at its end.

    Args:
        name: the argument, as the user wrote it.
        text: the address.

    Raises:
        ArgumentError: the address holds a password or a query, which would be written into runs and messages, a
            control character, or ``::``.
    """
    scheme = scheme_of(text) or ""
    rest = text[len(scheme) + 3 :]
    shown = text if text.isprintable() else ascii(text)[1:-1]
    if not text.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise invalid(name, "an address of printable characters", shown, "Escape others with %")
    if _WITH_PASSWORD.match(rest) or (scheme in WEB and "@" in rest.split("/", 1)[0]):
        raise invalid(name, "an address without a password", f"{scheme}://...", HINT_CREDENTIALS)
    if scheme in WEB and re.search("[?#]", rest):
        raise invalid(name, "an address without ? and #", re.split("[?#]", shown)[0] + "?...", HINT_CREDENTIALS)
    if "::" in rest:
        raise invalid(name, "an address without ::", shown, "fsspec takes it for a chain of file systems")
    return f"{scheme}://{rest}".rstrip("/")


def join_address(address: str, name: str) -> str:
    """Return the address of an object below an address; ``..`` in its name goes up, but not above the host or bucket.

    A name that is an address itself is returned as it is.
    """
    if scheme_of(name) is not None:
        return name
    scheme, _, rest = address.partition("://")
    host, _, folder = rest.partition("/")
    path = posixpath.normpath(posixpath.join("/", folder, name)).lstrip("/")
    return f"{scheme}://{host}/{path}"
