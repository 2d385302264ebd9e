"""Numba options of the compiled loops, and a cache on disk that notices a change in any file that they are made of.

A compiled function holds the code of all functions that it calls and the values of all constants that it names.
Numba's cache compares the file of the function itself and no other, so after a change in an imported file the old code
would still run. Functions decorated with `entry` are compared by the contents of every module of this package that
their module imports, directly or through others.

Files of the cache lie where numba puts them: ``$NUMBA_CACHE_DIR``, else ``__pycache__`` beside the source, else, for an
installation that cannot be written to, the user's cache folder. Each function has one index and one file a signature,
which a changed source overwrites.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache

#: Of every loop: no interpreter lock is held, and a division by zero gives infinity or NaN.
OPTIONS = {"nogil": True, "error_model": "numpy"}

#: Of functions that only compiled code calls.
ALLOCATING = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

#: Of those that make no arrays: they need not count who holds one. Counts per row took 30 % of the time of a resize.
INTERNAL = {**ALLOCATING, "_nrt": False}

#: Of those that are part of each caller, also of one in another module.
INLINE = {**INTERNAL, "forceinline": True}

#: Lets sums be reordered, for vectors. NaN stays a value, so the compiler may not assume that there is none.
FAST = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}}

_ROOT = __name__.partition(".")[0]


def entry(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that Python calls and keep it on disk, with all that it calls inside.

    Args:
        options: of `numba.njit`, but for ``cache``.

    Returns:
        A decorator for functions at the top level of a module.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        dispatcher._cache = _LoopCache(function)
        return dispatcher

    return decorate


def source_modules(module: str) -> set[str]:
    """Return the names of the modules of this package that the loops of a module can be made of.

    Args:
        module: full name of a module that was imported, or that is being imported and is past its imports.

    Returns:
        The module and all that it imports at its top level, directly or through others.
    """
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _read(name)[1] - found
    return found


def source_stamp(module: str) -> str:
    """Return a hash of the contents of `source_modules`, which changes with each of them.

    Args:
        module: as for `source_modules`.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    parts = [f"{name} {_read(name)[0]}" for name in sorted(source_modules(module))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def _read(module: str) -> tuple[str, frozenset[str]]:
    """Hash of a module's source, and the modules of this package that it imports at its top level."""
    spec = sys.modules[module].__spec__
    source = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
    names = {name for node in ast.parse(source).body for name in _imported(node)}
    inside = frozenset(name for name in names if name.partition(".")[0] == _ROOT)
    return hashlib.sha256(source).hexdigest(), inside


def _imported(statement: ast.stmt) -> Iterator[str]:
    """Modules that a statement imports; a package counts where a name is its own and not that of a module in it."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            inner = f"{statement.module}.{alias.name}"
            yield inner if inner in sys.modules else str(statement.module)


class _Locator:
    """Where numba keeps a function, with all sources for a stamp and names of files that no line number is part of.

    A name with a line number, as numba's own, would leave a file behind whenever lines move.
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


class _LoopCache(FunctionCache):  # type: ignore[misc]
    _impl_class = _LoopCacheImpl
