"""Licence identifiers of the Hugging Face Hub, for the header of a model card."""

from __future__ import annotations

import re

HUB_LICENCES = (
    "apache-2.0", "mit", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0",
    "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "isc", "zlib", "unlicense", "wtfpl", "artistic-2.0", "afl-3.0",
    "bsl-1.0", "ecl-2.0", "ms-pl", "ncsa", "ofl-1.1", "osl-3.0", "postgresql", "pddl", "odbl", "odc-by", "openrail",
    "bigscience-openrail-m", "creativeml-openrail-m", "openrail++",
)  # fmt: skip
"""Source: https://huggingface.co/docs/hub/repositories-licenses; ``other`` and ``unknown`` stand for the rest."""


def licence_fields(licence: str) -> dict[str, str]:
    """Return the header fields of a model card for a licence.

    Args:
        licence: identifier of the Hub in any case, such as ``CC-BY-4.0``, or another name; empty if none is given.

    Examples:
        >>> licence_fields("CC BY 4.0")
        {'license': 'cc-by-4.0'}
        >>> licence_fields("Our lab's licence")
        {'license': 'other', 'license_name': 'our-lab-s-licence'}
        >>> licence_fields("")
        {'license': 'unknown'}
    """
    if not licence.strip():
        return {"license": "unknown"}
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    if name in HUB_LICENCES:
        return {"license": name}
    short = re.sub(r"[^a-z0-9.+]+", "-", name).strip("-.")
    return {"license": "other", "license_name": short or "other"}
