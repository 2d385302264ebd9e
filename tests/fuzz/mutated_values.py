"""From a healthy data set or checkpoint to a hostile one: its bytes, and the values inside of files that are valid."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from mutations import mutate_bytes

NUMBERS = (-1, 0, 1, 511, 513, 2**15, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", ".", "..", "../../x", "/etc/passwd", "a\0b", "\x1b[2J", "é" * 300, "x" * 100_000, "a\nb", "raw", "CON")
ODD = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    [],
    [1],
    {},
    {"a": 1},
    [[[]]],
    "9" * 5000,
)


def mutate_dataset(rng, files):
    """One file of a data set changed: its bytes, or values inside of it."""
    names = [name for name in files if not name.endswith(".tar")]
    name = rng.choice((*names, "manifest.parquet", "manifest.parquet", "dataset.json"))
    data = files[name]
    change: Callable[[random.Random, bytes], bytes]
    if rng.random() < 0.3:
        return {**files, name: mutate_bytes(rng, data, files[rng.choice(names)])}
    change = {"parquet": _table, "json": _info, "csv": _csv}[name.rpartition(".")[2]]
    return {**files, name: change(rng, data)}


def _table(rng, data):
    table = pq.read_table(io.BytesIO(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        table = _one_change(rng, table)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _one_change(rng, table):
    place = rng.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    what = rng.randrange(10)
    if what == 0:
        return table.take([rng.randrange(table.num_rows) for _ in range(table.num_rows)]) if table.num_rows else table
    if what == 1:
        return table.drop_columns([name])
    if what == 2:
        kind = rng.choice(
            (pa.string(), pa.float64(), pa.int64(), pa.uint64(), pa.list_(pa.int64()), pa.binary(), pa.bool_())
        )
        try:
            return table.set_column(
                place, name, pa.nulls(table.num_rows, kind) if rng.random() < 0.3 else column.cast(kind)
            )
        except pa.ArrowException:
            return table
    if what == 3:
        rows = (0, 1, table.num_rows + 5)
        return pa.concat_tables([table] * 3).slice(0, rng.choice(rows))
    values = column.to_pylist()
    rows = range(len(values)) if rng.random() < 0.2 else [rng.randrange(len(values))] if values else []
    value = _value(rng, column.type)
    for row in rows:
        values[row] = value
    try:
        return table.set_column(place, name, pa.array(values, column.type))
    except (pa.ArrowException, OverflowError, ValueError):
        return table


def _value(rng, kind):
    if rng.random() < 0.15:
        return None
    if pa.types.is_string(kind):
        return rng.choice((*TEXTS, "train", "a", "shard-000001.tar", "npy"))
    if pa.types.is_floating(kind):
        return rng.choice((float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e-38, 3e38, 256.0))
    if pa.types.is_fixed_size_binary(kind):
        return bytes(16)
    if pa.types.is_integer(kind):
        return rng.choice(
            [number for number in NUMBERS if -(2 ** (kind.bit_width - 1)) <= number < 2 ** (kind.bit_width - 1)]
        )
    return None


def _info(rng, data):
    values = json.loads(data)
    target = values
    if rng.random() < 0.4:
        target = rng.choice(values["shards"])
    key = rng.choice(list(target))
    what = rng.random()
    if what < 0.1:
        del target[key]
    elif what < 0.2:
        return rng.choice(
            (b"[" * 100_000, b"{}", b"null", b"1", b'{"format_version": 1, "name": ' + b"[" * 5000, b"\xff\xfe")
        )
    elif key == "name" and target is not values:
        target[key] = rng.choice((*TEXTS, "../x.tar", "/dev/zero", "shard-000001.tar"))
    elif key == "window":
        target[key] = rng.choice(
            ([0, 1], [1, 0], [0.0], [None, 1], [0, 1e400], [0, float("nan")], [-(10**400), 1], {"a": 1})
        )
    else:
        target[key] = rng.choice((*ODD, *NUMBERS, *TEXTS))
    return json.dumps(values).encode("utf-8", "surrogateescape")


def _csv(rng, data):
    ids = ("-1", "0", "5", "999999", "1e3", "", "nan", "99999999999999999999", "x", '"')
    lines = [
        f"{rng.choice(ids)},{rng.choice(('keep', 'drop', '', 'DROP', chr(27)))}" for _ in range(rng.randrange(1, 5))
    ]
    return ("cell_id,verdict\n" + "\n".join(lines) + rng.choice(("", "\n"))).encode()


def mutate_checkpoint(rng, data, other):
    """The archive's bytes, the pickle inside of it, or values of its content."""
    what = rng.random()
    if what < 0.3:
        return mutate_bytes(rng, data, other)
    if what < 0.6:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(
            [name for name in parts if name.endswith(("data.pkl", "data.pkl", "version", "byteorder", "data/0"))]
        )
        parts[name] = rng.choice((mutate_bytes(rng, parts[name], other), parts[name], b"big", b""))
        file = io.BytesIO()
        with zipfile.ZipFile(
            file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        ) as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
        return file.getvalue()
    content = torch.load(io.BytesIO(data), weights_only=True)
    target = content
    while True:
        key = rng.choice(list(target))
        if not isinstance(target[key], dict) or not target[key] or rng.random() < 0.2:
            break
        target = target[key]
    if rng.random() < 0.15:
        del target[key]
    elif isinstance(target[key], torch.Tensor) and rng.random() < 0.8:
        target[key] = _tensor(rng, target[key])
    else:
        target[key] = rng.choice(
            (*ODD, *NUMBERS, [], ["a"] * 3000, [1, 2], ["a", "a"], torch.zeros(2), 10**9, "cellnet-wide")
        )
    if rng.random() < 0.1:
        target[rng.choice((1, "x", ("a",), None, "network.x"))] = rng.choice(ODD)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _tensor(rng, tensor):
    return rng.choice(
        (
            lambda: torch.zeros(1).expand(1 << 20, 1 << 20),
            lambda: torch.zeros(1).expand(tensor.shape) if tensor.ndim else tensor[None],
            lambda: tensor.to(torch.complex64),
            lambda: tensor.to(torch.int8),
            lambda: tensor.flatten()[:-1],
            lambda: torch.full_like(tensor.float(), float("nan")),
            lambda: tensor.to_sparse() if tensor.ndim else tensor[None],
            lambda: tensor.to("meta"),
            lambda: torch.zeros(0),
        )
    )()
