"""Numbers in fields of text: decimal point or comma, thousands, booleans, and words for a missing value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Fields that mean no value in a column of numbers. In a column of names they are names.
MISSING = ["", "NA", "N/A", "#N/A", "n/a", "<NA>", "NaN", "nan", "NAN", "-nan", "null", "NULL", "Null", "None", "none"]
MISSING += ["-", ".", "?", "#DIV/0!", "#VALUE!", "#NUM!", "#REF!", "#NAME?", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN"]

_POINT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_COMMA = r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"
_COMMA_AND_POINTS = r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+$"
_POINT_AND_COMMAS = r"^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]+$"
_THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+$"
_MILLIONS = r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3}){2,}$"
_SIGN = r"[<>~=\x{2264}\x{2265}\x{2248}]?\s*[+-]?"
_DIGITS = r"[0-9][0-9.,' \x{a0}\x{202f}]*([eE][+-]?[0-9]+)?"
_UNIT = r"(%|[a-zA-Z\x{b5}\x{3bc}]{1,3}[23\x{b2}\x{b3}]?)?"
_LIKE = rf"^{_SIGN}{_DIGITS}\s*{_UNIT}$"


def parse_numbers(column: pa.ChunkedArray, decimal_comma: bool) -> np.ndarray | None:
    """Return the numbers of a column of texts.

    Args:
        column: N texts.
        decimal_comma: read `1,500` as 1.5. If False, a column that has only such numbers is not read, because `1,500`
            may mean 1500.

    Returns:
        (N,) float64 with NaN for a missing value; None if a field is something else, the fields may mean different
        numbers, or no field is a number.
    """
    texts = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    known = pc.invert(pc.is_in(texts, value_set=pa.array(MISSING))).fill_null(False)
    values = texts.filter(known)
    if not len(values):
        return None
    plain = _mend(values, decimal_comma)
    if plain is None:
        return None
    out = np.full(len(texts), np.nan)
    out[known.to_numpy(zero_copy_only=False)] = plain
    return out


def looks_numeric(column: pa.ChunkedArray) -> bool:
    """Return True if more than half of the fields that are not missing look like a number, perhaps with a unit."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    values = texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(MISSING))).fill_null(False))
    return len(values) > 0 and 2 * int(pc.sum(pc.match_substring_regex(values, _LIKE)).as_py()) > len(values)


def _mend(values: pa.StringArray, decimal_comma: bool) -> np.ndarray | None:
    """Return (n,) float64 if all texts are numbers in the same notation; else None."""
    if _all(values, r"(?i)^(true|false)$"):
        return pc.equal(pc.utf8_lower(values), "true").to_numpy(zero_copy_only=False).astype(float)  # type: ignore[no-any-return]
    if _all(values, _POINT, _INFINITE):
        return _cast(values)
    thousands = pc.match_substring_regex(values, _THOUSANDS)
    with_comma = pc.match_substring(values, ",")
    if _all(values, _POINT_AND_COMMAS, _THOUSANDS, _POINT) and _any(values, _POINT_AND_COMMAS, _MILLIONS):
        return _cast(pc.replace_substring(values, ",", ""))
    whole = r"^[+-]?[0-9]+$"
    if _all(values, _COMMA, _COMMA_AND_POINTS, whole, _INFINITE) and (
        decimal_comma or not pc.all(pc.or_(thousands, pc.invert(with_comma))).as_py()
    ):
        return _cast(pc.replace_substring(pc.replace_substring(values, ".", ""), ",", "."))
    return None


def _cast(values: pa.StringArray) -> np.ndarray:
    stripped = pc.utf8_ltrim(values, "+")
    return stripped.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _all(values: pa.StringArray, *patterns: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, "|".join(patterns))).as_py())


def _any(values: pa.StringArray, *patterns: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(values, "|".join(patterns))).as_py())
