"""Result files: one JSON a result, a line a column of its rows, numbers of six digits.

A file holds the fields of `harness.Result`, but in place of its rows ``columns``, the values of all rows by name, which
compress better. Six significant digits are more than any spread between rounds or seeds leaves certain. A result of
more than `MOST_BYTES` is compressed; ``xzcat`` shows it. Machine and versions of many results are the same: they are
in a file of their own, ``environment-HASH.json.xz`` beside the results that name its hash.
"""

import hashlib
import json
import lzma
from collections.abc import Mapping

DIGITS = 6
MOST_BYTES = 300
OF_ONE_RUN = ("commit", "load_average_start", "load_average_end")  # of what `harness.describe_machine` says


def write_result(path, result):
    """Write a result whose ``rows`` are mappings of the same keys; the file appears whole or not at all.

    Args:
        path: ``NAME.json``; a large result gets the name ``NAME.json.xz``.
        result: fields of `harness.Result`.

    Returns:
        The path of the file.

    Raises:
        ValueError: rows differ in their keys.
    """
    rows = result["rows"]
    names = list(rows[0]) if rows else []
    if any(list(row) != names for row in rows):
        raise ValueError(f"All rows of {path.name} must have the keys {names} in this order.")
    rest = {key: value for key, value in result.items() if key != "rows"}
    if "environment" in rest:
        rest["environment"] = _write_environment(path.parent, rest["environment"])
    head = [f"{_dump(key)}: {_dump(value)}" for key, value in rest.items()]
    columns = ",\n".join(f"{_dump(name)}: {_dump([row[name] for row in rows])}" for name in names)
    text = ",\n".join([*head, f'"columns": {{\n{columns}\n}}'])
    content = f"{{\n{text}\n}}\n".encode()
    path = path.with_name(path.name.removesuffix(".xz"))
    if len(content) > MOST_BYTES:
        content, path = lzma.compress(content, preset=9), path.with_name(f"{path.name}.xz")
    _write(path, content)
    return path


def _write(path, content):
    fresh = path.with_suffix(".new")  # a run that is cut off here leaves no half of a result
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _write_environment(folder, environment):
    """Write what many runs share to its file, unless it is there; return the rest, with the hash of the file."""
    shared = {key: value for key, value in environment.items() if key not in OF_ONE_RUN}
    if not shared or "shared" in shared:
        return environment
    content = (_dump(shared) + "\n").encode()
    name = hashlib.sha256(content).hexdigest()[:8]
    path = folder / f"environment-{name}.json.xz"
    if not path.exists():
        _write(path, lzma.compress(content, preset=9))
    return {"shared": name} | {key: environment[key] for key in OF_ONE_RUN if key in environment}


def read_result(path):
    """Return the result in a file, with ``rows`` as dictionaries, and the whole environment."""
    result = _read(path)
    columns = result.pop("columns")
    result["rows"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    environment = result.get("environment", {})
    if name := environment.pop("shared", None):
        result["environment"] = _read(path.with_name(f"environment-{name}.json.xz")) | environment
    return result


def _read(path):
    content = path.read_bytes()
    return json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)


def result_paths(folder, pattern="*"):
    """Return the result files of a folder whose names without ``.json`` match `pattern`, sorted by name."""
    paths = (path for end in (".json", ".json.xz") for path in folder.glob(pattern + end))
    return sorted(path for path in paths if not path.name.startswith("environment-"))


def _dump(value):
    return json.dumps(_rounded(value), ensure_ascii=False, separators=(",", ":"))


def _rounded(value):
    """Round floats, also within lists and dictionaries."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
