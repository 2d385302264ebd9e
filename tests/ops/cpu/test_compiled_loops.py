"""The cache of compiled loops: kept between processes, and given up when any file that they are made of changes."""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

import fastcell
from fastcell.ops.cpu.compiled_loops import _CheckedFile, _LoopCache, source_modules, source_stamp

PACKAGE = Path(fastcell.__file__).resolve().parent


class Change(NamedTuple):
    """A change of a file, and a program whose first line tells it: it prints values, then hits and misses."""

    path: str
    old: str
    new: str
    program: str


STATS = """
hits, misses = (sum(count.values()) for count in (loop.stats.cache_hits, loop.stats.cache_misses))
print("hits", hits, "misses", misses)
"""
CHANGES = {
    "a formula of a function that is called": Change(
        "ops/philox.py",
        "(q >> _HALF) ^ x1 ^ key_low",
        "(q >> _HALF) ^ x1 ^ key_high",
        """
import numpy as np
from fastcell.ops.random_draws import _fill_words as loop, change_words
print(change_words(1, 2, np.arange(2)).tolist())
""",
    ),
    "a constant of another module": Change(
        "quality/loops/grid.py",
        "SIDE = 64\n",
        "SIDE = 60\n",
        """
import numpy as np
from fastcell.quality.loops.spectrum import measure_ghosts as loop
out, correlation = np.ones((1, 22), np.float32), np.zeros((1, 64, 33), np.complex64)
correlation[0, 0, 0], correlation[0, 60, 3] = 1, 0.5  # a peak four lines above
loop(correlation, out)
print(out.tolist())
""",
    ),
    "the order of columns that are named": Change(
        "simulator/parameter_columns.py",
        "    debris_x = auto()\n    debris_y = auto()\n",
        "    debris_y = auto()\n    debris_x = auto()\n",
        """
import numpy as np
from fastcell.simulator.parameter_columns import F
from fastcell.simulator.render import draw_debris as loop
layer, row = np.zeros((40, 50), np.float32), np.zeros(len(F))
first = min(F.debris_x, F.debris_y)
row[F.debris], row[first], row[first + 1] = 50.0, 0.3, 0.6
loop(row, layer)
print(np.unravel_index(layer.argmin(), layer.shape))
""",
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if number else ()) for number, kind in enumerate(CHANGES)]
)
def test_a_change_of_an_inner_file_is_seen_and_nothing_else_compiles(kind, tmp_path):
    change, package, cache = CHANGES[kind], tmp_path / "fastcell", tmp_path / "cache"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(cache)}

    def run():
        command = [sys.executable, "-c", change.program + STATS]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def files():
        return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}

    first = run()
    assert first[1] == "hits 0 misses 1"
    kept = files()
    assert kept
    assert run() == [first[0], "hits 1 misses 0"]
    assert files() == kept
    for path in kept:  # a damaged file is compiled anew, not run
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    assert run() == [first[0], "hits 0 misses 1"]
    assert run() == [first[0], "hits 1 misses 0"]

    path = package / change.path
    source = path.read_text(encoding="utf-8")
    assert source.count(change.old) == 1
    path.write_text(source.replace(change.old, change.new), encoding="utf-8")
    changed = run()
    assert changed[1] == "hits 0 misses 1"
    assert changed[0] != first[0]
    assert set(files()) == set(kept)  # written over, not beside


def test_damage_of_a_cache_file_is_a_miss(tmp_path):
    """At 300 places of index and data: nothing is loaded, and never something else."""
    cache = _CheckedFile(str(tmp_path), "loop", "stamp")
    cache.save("first", list(range(300)))
    cache.save("second", "other code")
    assert (cache.load("first"), cache.load("second")) == (list(range(300)), "other code")
    rng, paths = random.Random(0), sorted(tmp_path.iterdir())
    assert len(paths) == 3
    for number in range(300):
        path = paths[number % 3]
        content = path.read_bytes()
        hurt = bytearray(content)
        hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
        path.write_bytes(hurt[: rng.randrange(len(hurt))] if number % 5 == 0 else hurt)
        assert cache.load("first") in (None, list(range(300)))
        assert cache.load("second") in (None, "other code")
        assert None in (cache.load("first"), cache.load("second"))
        path.write_bytes(content)
    paths[0].unlink()
    assert _CheckedFile(str(tmp_path), "loop", "stamp").load("third") is None


def test_processes_that_save_at_the_same_time_never_load_other_code(tmp_path, monkeypatch):
    """A process that has read the index, and then writes after another one has; and files of older source."""
    one, other = (_CheckedFile(str(tmp_path), "loop", "stamp") for _ in range(2))
    save_data, save_index = one._save_data, one._save_index
    for first, second in ((save_data, "b"), (save_index, "c")):

        def overtaken(*arguments, then=first, key=second):
            other.save((key, "cpu", "code"), f"code of {key}")
            then(*arguments)

        monkeypatch.setattr(one, first.__name__, overtaken)
        one.save(("a", "cpu", "code"), "code of a")
        monkeypatch.undo()
        for key in "abc":
            for cache in (one, other):
                assert cache.load((key, "cpu", "code")) in (None, f"code of {key}")
        assert one.load(("a", "cpu", "code")) == "code of a"
    newer = _CheckedFile(str(tmp_path), "loop", "newer")
    newer._save_index({("a", "cpu", "code"): one._load_index()["a", "cpu", "code"]})
    assert newer.load(("a", "cpu", "code")) is None


def modules_with_entries():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search(r"^@entry\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.append(".".join(("fastcell", *path.relative_to(PACKAGE).with_suffix("").parts)))
    return found


def test_no_loop_has_numbas_own_cache():
    users = [path for path in PACKAGE.rglob("*.py") if re.search(r"jit\(.*cache=", path.read_text(encoding="utf-8"))]
    assert users == []


def names_of(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_of(constant)


def reached(function):
    """Modules of all functions of this package that a function names, directly or through others."""
    found = set()
    waiting, seen = [function], set()
    while waiting:
        one = waiting.pop()
        plain = getattr(one, "py_func", None) or getattr(one, "_defn", None) or one  # of a loop, of an intrinsic
        if not isinstance(plain, types.FunctionType) or plain in seen:
            continue
        seen.add(plain)
        if plain.__module__.startswith("fastcell."):
            found.add(plain.__module__)
            waiting += [plain.__globals__[name] for name in names_of(plain.__code__) if name in plain.__globals__]
    return found


@pytest.mark.parametrize("name", modules_with_entries())
def test_sources_hold_every_function_that_is_compiled_in(name):
    values = vars(importlib.import_module(name)).values()
    entries = [value for value in values if isinstance(getattr(value, "_cache", None), _LoopCache)]
    assert any(value.__module__ == name for value in entries)
    for value in entries:
        assert reached(value) <= source_modules(name)


def test_sources_of_a_loop():
    name = "fastcell.ops.cpu.jpeg.decode"
    importlib.import_module(name)
    inner = {f"fastcell.ops.cpu.{part}" for part in ("llvm", "jpeg.decode", "jpeg.huffman", "jpeg.idct")}
    assert source_modules(name) == inner | {"fastcell.ops.cpu.compiled_loops"}
    assert source_stamp(name) != source_stamp("fastcell.ops.cpu.llvm")


def test_loops_run_without_scipy_and_others_still_find_it():
    code = (
        "import sys, numpy as np\n"
        "from fastcell.ops.cpu.copy import copy_cells\n"
        "copy_cells(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8))\n"
        "assert 'scipy.linalg' not in sys.modules\n"
        "from numba.np.linalg import ensure_blas\n"
        "ensure_blas()\n"
        "assert sys.modules['scipy.linalg.cython_blas'] is not None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
