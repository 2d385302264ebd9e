"""Numba options of the compiled loops, and a disk cache that detects changes in every source file of a loop.

A compiled function contains the code of all functions that it calls and the values of all constants that it uses.
Numba's own cache checks only the file of the function itself, so old code would still run after a change in an
imported file. For functions decorated with `entry`, the cache checks the contents of every module of this package that
their module imports, directly or indirectly.

Cache files are stored where numba stores them: ``$NUMBA_CACHE_DIR`` if set, else ``__pycache__`` next to the source,
else, for a read-only installation, the user's cache folder. Each function has one index file and one file per
signature, which are replaced when the source changes. Each ends with a hash of its content: a damaged file is not
used, and its function is compiled again. Processes may compile at the same time.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

#: Options of every loop: release the interpreter lock; a division by zero gives infinity or NaN.
OPTIONS = {"nogil": True, "error_model": "numpy"}

#: Options of functions that are called only from compiled code. They count references whatever their caller does.
ALLOCATING = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": True}

#: Options of functions that create no arrays, so no reference counts. Counting per row took 30 % of a resize.
INTERNAL = {**ALLOCATING, "_nrt": False}

#: Options of entries that create no arrays.
WITHOUT_ARRAYS = {**OPTIONS, "_nrt": False}

#: Options of functions that are inlined into every caller, including callers in other modules.
INLINE = {**INTERNAL, "forceinline": True}

#: Options of functions with a single caller, which become a part of it before it is compiled. That takes less time than
#: compiling them alone, as long as the caller is short; a loop from one array to another may become three times slower.
INLINED = {**INTERNAL, "inline": "always"}

#: Allow sums to be reordered for vector instructions. The compiler must not assume that NaN does not occur.
FAST = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}}

logger = logging.getLogger(__name__)

_ROOT = __name__.partition(".")[0]
_HASH_BYTES = 16
_BLAS = "scipy.linalg.cython_blas"


def entry(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that Python calls, and cache it on disk together with everything it calls.

    Args:
        options: options of `numba.njit`, except ``cache``.

    Returns:
        A decorator for functions at the top level of a module.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options, no_cfunc_wrapper=True)(function)  # for calls from C, of which there are none
        dispatcher._cache = _LoopCache(function)
        dispatcher._compiler = _Compiler(dispatcher._compiler)
        return dispatcher

    return decorate


def is_compiled(function: Any) -> bool:
    """Return whether a function decorated with `entry` has been compiled for any signature, here or on disk."""
    return bool(function.overloads or function._cache._cache_file._load_index())


def source_modules(module: str) -> set[str]:
    """Return the names of all modules of this package that can contribute code to the loops of a module.

    Args:
        module: full name of a module whose import statements have already run.

    Returns:
        The module and everything it imports at its top level, directly or indirectly.
    """
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _read(name)[1] - found
    return found


def source_stamp(module: str) -> str:
    """Return a hash of the contents of `source_modules`, which changes if any of them changes.

    Args:
        module: as for `source_modules`.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    parts = [f"{name} {_read(name)[0]}" for name in sorted(source_modules(module))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def _read(module: str) -> tuple[str, frozenset[str]]:
    """Return the hash of a module's source and the modules of this package that it imports at its top level."""
    spec = sys.modules[module].__spec__
    source = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
    names = {name for node in ast.parse(source).body for name in _imported(node)}
    inside = frozenset(name for name in names if name.partition(".")[0] == _ROOT)
    return hashlib.sha256(source).hexdigest(), inside


def _imported(statement: ast.stmt) -> Iterator[str]:
    """Yield the modules that a statement imports; ``from package import name`` may mean the package or a submodule."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            inner = f"{statement.module}.{alias.name}"
            yield inner if inner in sys.modules else str(statement.module)


class _Locator:
    """Numba cache locator whose stamp covers all sources and whose file names contain no line number.

    Numba's own file names contain the line number, so every shift of lines would leave an orphaned file.
    """

    def __init__(self, inner: Any, module: str) -> None:
        self._inner, self._module = inner, module
        self.get_cache_path, self.ensure_cache_path = inner.get_cache_path, inner.ensure_cache_path

    def get_source_stamp(self) -> str:
        return source_stamp(self._module)

    def get_disambiguator(self) -> str:
        return "loops"


class _LoopCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        self._module = function.__module__
        super().__init__(function)

    @property
    def locator(self) -> _Locator:
        return _Locator(self._locator, self._module)


class _CheckedFile(IndexDataCacheFile):  # type: ignore[misc]
    """Files of a function's cache with a hash at the end of each.

    Numba numbers the files of the signatures and writes the index first. Of two processes that compile different
    signatures at the same time, one may then overwrite the code of the other, and a process that starts while a file of
    older source is replaced may load it. Here the name of a file follows from the signature, the file holds the stamp
    of its source, and it is written before the index.
    """

    def save(self, key: Any, data: Any) -> None:
        signature = _hash(repr(key[:2]).encode())  # without the hash of the code, so that older code is overwritten
        name = self._data_name(int.from_bytes(signature[:6], "little"))
        self._save_data(name, (self._source_stamp, data))
        self._save_index({**self._load_index(), key: name})

    def _load_index(self) -> Any:
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        if not _is_whole(self._data_path(name)):
            raise OSError(f"{name} is damaged")  # numba then compiles
        stamp, data = super()._load_data(name)
        if stamp != self._source_stamp:
            raise OSError(f"{name} is of other source code")
        return data

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + _hash(content.getvalue()))


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def _is_whole(path: str) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return len(content) > _HASH_BYTES and _hash(content[:-_HASH_BYTES]) == content[-_HASH_BYTES:]


@functools.cache
def _load_numba_without_scipy() -> None:
    """Load the part of numba that looks for the BLAS of SciPy, without SciPy.

    Otherwise the first call of a loop imports ``scipy.linalg``, which takes 0.2 s. No loop multiplies matrices; a
    function of other packages that does finds SciPy when it is compiled.
    """
    if _BLAS in sys.modules:
        return
    sys.modules[_BLAS] = None  # type: ignore[assignment]  # imports of it fail
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[_BLAS]


class _LoopCache(FunctionCache):  # type: ignore[misc]
    _impl_class = _LoopCacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        _load_numba_without_scipy()
        found = super().load_overload(sig, target_context)
        if found is None:
            _announce()
        return found


class _Compiler:
    """Compiler of a function that does not collect garbage meanwhile, which takes a tenth of the time.

    Args:
        inner: numba's compiler of the function.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def compile(self, *args: Any) -> Any:
        """Compile for a signature, as numba does."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._inner.compile(*args)
        finally:
            if collects:
                gc.enable()


@functools.cache
def _announce() -> None:
    """Log once in a process that code is compiled now."""
    logger.info("compiling code for this processor; this takes some seconds, once")
