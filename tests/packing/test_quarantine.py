"""The reasons that send a cell to the quarantine: all of them are listed, and each of the list is given somewhere."""

import ast
import re
from pathlib import Path

import fastcell
from fastcell.dataset.decode import NeedsWindow
from fastcell.dataset.schema import QUARANTINE_SCHEMA, make_table
from fastcell.packing.quarantine import QUARANTINE_REASONS, describe_reasons, quarantine_row, quarantine_table

# What stands for an expression inside of an f-string, where a number would not fit its reason.
VALUES = {"encoding": "png", "error": "why", "error.strerror": "why", "kind.decode('ascii', 'replace')": "IDAT"}
ROOMS = ("dataset", "sources", "packing")  # those of a data set in the making


def texts(node):
    """Reasons that an expression can be, with a number or a word for each part that is computed."""
    match node:
        case ast.Constant(value=str()):
            return [node.value]
        case ast.JoinedStr():
            parts = [
                part.value if isinstance(part, ast.Constant) else VALUES.get(ast.unparse(part.value), "7")
                for part in node.values
            ]
            return ["".join(parts)]
        case ast.IfExp():
            return [*texts(node.body), *texts(node.orelse)]
        case ast.BinOp(left=ast.Constant(value=str())):
            return [node.left.value + "why"]
    return []


def given_reasons():
    found = set()
    root = Path(fastcell.__file__).parent
    for path in (path for room in ROOMS for path in (root / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
                found.update(texts(node.value))
            if not isinstance(node, ast.Call):
                continue
            place = {"BadCell": 0, "Rejected": 2, "reject": 2}.get(ast.unparse(node.func).rpartition(".")[2])
            if place is not None and len(node.args) > place:
                found.update(texts(node.args[place]))
    return found | {NeedsWindow(0, 1).reason}


def test_every_reason_that_is_given_is_listed_and_every_listed_one_is_given():
    given = given_reasons()
    assert len(given) >= len(QUARANTINE_REASONS)
    assert [
        reason for reason in sorted(given) if not any(re.fullmatch(pattern, reason) for pattern in QUARANTINE_REASONS)
    ] == []
    assert [
        pattern for pattern in QUARANTINE_REASONS if not any(re.fullmatch(pattern, reason) for reason in given)
    ] == []


def test_rows_hold_texts_of_any_file_name():
    rows = [quarantine_row("a\udcff.png", "in", None, "G1", None, "truncated")]
    (row,) = quarantine_table(rows).to_pylist()
    assert row["key"].encode().startswith(b"a")
    assert [row[name] for name in ("cell_id", "source", "class", "group", "collection", "reason")] == [
        None, "in", None, "G1", None, "truncated",
    ]  # fmt: skip
    assert quarantine_table([]).schema == QUARANTINE_SCHEMA


def test_reasons_in_words():
    rows = [(None, "k", "s", None, None, None, reason) for reason in ["a"] * 3 + ["b"] * 2 + ["c", "d"]]
    assert describe_reasons(make_table(rows, QUARANTINE_SCHEMA)) == "7 bad cells: a (3), b (2), c (1), others (1)"
    assert describe_reasons(QUARANTINE_SCHEMA.empty_table()) == "none found"
