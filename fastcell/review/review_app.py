"""The page's server as a Starlette application, with one route per kind of request."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fastcell.dataset.marks.cell_ranges import write_ranges
from fastcell.errors import ArgumentError, DataError, FastcellError
from fastcell.review.cell_facts import CellFacts, rows_of, words_of
from fastcell.review.cell_query import CellQuery
from fastcell.review.distributions import histogram, scatter
from fastcell.review.mark_table import mark_table, table_as_csv
from fastcell.review.next_to_label import ChoiceName
from fastcell.review.review_set import ReviewSet
from fastcell.review.thumbnails import SHEET_CELLS, SIZES, Look

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PAGE_DIR = Path(__file__).parent / "page"
_PAGE_FILES = {"": "review.html"} | {file.name: file.name for file in PAGE_DIR.glob("*.*s")}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_MOST_ROWS = 2_000
_MOST_CHANGED = 4_000
_MOST_NEXT = 10_000
_OCCLUSION_PLACES = 16


class ReviewApp:
    """Handler of the requests of the page.

    Args:
        data: the data set.
    """

    def __init__(self, data: ReviewSet) -> None:
        self._data = data
        self._facts = CellFacts(data)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [Route(f"/{name}", partial(self._file, file)) for name, file in _PAGE_FILES.items()]
        routes += [
            Route("/sheet/{view}/{block:int}", self._sheet),
            Route("/cell/{cell:int}.png", self._picture),
            Route("/marks.csv", self._export),
            Route("/api/points", self._points, methods=["POST"]),
        ]
        answers: dict[str, Callable[[Any], Any]] = {
            "set": self._set,
            "view": self._view,
            "rows": self._rows,
            "ids": self._ids,
            "place": self._place,
            "cell": lambda asked: self._facts.of(self._cell(asked.get("cell"))),
            "occlusion": self._occlusion,
            "histograms": self._histograms,
            "mark": self._mark,
            "back": self._back,
            "classes": self._classes,
            "changes": self._changes,
            "progress": lambda asked: self._data.progress(),
            "next": self._next,
            "embed": self._embed,
        }
        routes += [Route(f"/api/{name}", _json(answer), methods=["POST"]) for name, answer in answers.items()]
        return Starlette(routes=routes)

    def warm_up(self) -> None:
        """Read the columns that the first cells of the page show, and the order of the recording."""
        for name in self._data.columns.category_names():
            self._data.columns.category(name)
        self._facts.order()

    async def _file(self, name: str, request: Request) -> Response:
        from starlette.responses import Response

        path = PAGE_DIR / name
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix])

    def _sheet(self, request: Request) -> Response:
        from starlette.responses import Response

        view = self._data.named_view(request.path_params["view"])
        asked = request.query_params
        size = int(asked.get("size", "0")) if asked.get("size", "").isdecimal() else 0
        if view is None or size not in SIZES:
            return Response("no such view", 404)
        common = self._data.thumbnails.common_side() if asked.get("common") == "1" else 0
        look = Look(size, asked.get("stretch") == "1", common)
        first = request.path_params["block"] * SHEET_CELLS
        ids = view.rows[first : first + SHEET_CELLS].astype(np.int64)
        if not len(ids):
            return Response("no such cells", 404)
        picture = self._data.thumbnails.sheet(f"{view.name} {first} {look}", ids, look)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=600"})

    def _picture(self, request: Request) -> Response:
        from starlette.responses import Response

        cell = request.path_params["cell"]
        if cell >= len(self._data.manifest):
            return Response("no such cell", 404)
        picture = self._data.thumbnails.picture(cell, request.query_params.get("stretch") == "1")
        if picture is None:
            return Response("the cell cannot be read", 404)
        return Response(picture, media_type="image/png", headers={"cache-control": "private, max-age=600"})

    def _export(self, request: Request) -> Response:
        from starlette.responses import Response

        self._data.marking.follow()
        table = mark_table(self._data.manifest, self._data.columns.marked, self._data.columns.drop)
        headers = {"content-disposition": 'attachment; filename="marks.csv"'}
        return Response(table_as_csv(table), media_type="text/csv", headers=headers)

    async def _points(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse, Response

        try:
            asked = await _asked(request)
            view = self._named(asked)
            names = (str(asked.get("x")), str(asked.get("y")))
            data = await run_in_threadpool(scatter, self._data.columns, names, view)
        except FastcellError as error:
            return JSONResponse({"error": str(error)}, 410 if isinstance(error, _ForgottenError) else 400)
        return Response(data, media_type="application/octet-stream")

    def _set(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the data that the page needs at its start and after a change of the columns."""
        data = self._data
        options, columns = data.options, data.columns
        return {
            "name": data.manifest.info.name,
            "path": data.manifest.place,
            "cells": len(data.manifest),
            "run": None if options.run is None else str(options.run),
            "classes": columns.classes,
            "codes": columns.category("class").names,
            "categories": columns.category_names(),
            "numbers": columns.number_names(),
            "who": options.who,
            "query": options.query,
            "writable": data.marking.writable,
            "sequence": data.marking.follow(),
            "version": columns.version,
            "common_side": data.thumbnails.common_side(),
            "tags": list(columns.marked.tags),
            "sizes": SIZES,
            "sheet_cells": SHEET_CELLS,
            "embedding": self._job(),
        }

    def _job(self) -> dict[str, Any]:
        job = self._data.job
        state = "ready" if job.result is not None else "error" if job.error else "running" if job.running else "none"
        return {"state": state, "done": job.done, "total": job.total, "error": job.error[:300]}

    def _view(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._data.marking.follow()
        view = self._data.view(CellQuery(asked.get("terms", []), asked.get("sort", "")))
        return {"view": view.name, "count": len(view.rows), "sequence": self._data.marking.sequence}

    def _named(self, asked: dict[str, Any]) -> np.ndarray:
        view = self._data.named_view(str(asked.get("view")))
        if view is None:
            raise _ForgottenError("view must be one that the server knows. Load it again.")
        return view.rows

    def _rows(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "cells" in asked:
            ids = self._data.chosen_cells(asked["cells"])[:_MOST_ROWS]
        else:
            first, count = _whole(asked, "first"), min(_whole(asked, "count"), _MOST_ROWS)
            ids = self._named(asked)[first : first + count].astype(np.int64)
        return dict(rows_of(self._data, ids))

    def _ids(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the cells between two positions of a view, as ranges."""
        first, last = _whole(asked, "first"), _whole(asked, "last")
        return {"cells": write_ranges(self._named(asked)[first : last + 1].astype(np.int64))}

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the position of a cell in a view; -1 if the view lacks it."""
        found = np.flatnonzero(self._named(asked) == self._cell(asked.get("cell")))
        return {"place": int(found[0]) if len(found) else -1}

    def _cell(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(self._data.manifest):
            raise ArgumentError("cell must be a cell_id of the data set.")
        return value

    def _occlusion(self, asked: dict[str, Any]) -> dict[str, Any]:
        cell = self._cell(asked.get("cell"))
        if self._data.options.run is None:
            raise ArgumentError("an occlusion map needs a run. Start fastcell review DATA RUN.")
        found = self._facts.occlusion(cell, _OCCLUSION_PLACES)
        if found is None:
            raise DataError("the cell cannot be read. Run fastcell verify.")
        return found

    def _histograms(self, asked: dict[str, Any]) -> dict[str, Any]:
        rows, names = self._named(asked), asked.get("columns")
        if not isinstance(names, list) or len(names) > 100:
            raise ArgumentError("columns must be a list of at most 100 names.")
        return {str(name): histogram(self._data.columns, str(name), rows) for name in names}

    def _mark(self, asked: dict[str, Any]) -> dict[str, Any]:
        cells, said = self._data.chosen_cells(asked.get("cells")), asked.get("said")
        if not isinstance(said, dict):
            raise ArgumentError("said must be an object.")
        sequence = self._data.marking.mark(cells, asked.get("who", ""), said)
        return {"sequence": sequence, "marked": len(cells), "classes": self._data.columns.classes}

    def _back(self, asked: dict[str, Any]) -> dict[str, Any]:
        mark = self._data.marking.step_back(asked.get("who", ""), asked.get("redo") is True)
        num, said = (0, "") if mark is None else (len(mark.cells), words_of(mark))
        return {"sequence": self._data.marking.sequence, "marked": num, "said": said}

    def _classes(self, asked: dict[str, Any]) -> dict[str, Any]:
        names = asked.get("names")
        if not isinstance(names, list) or not 0 < len(names) <= 1_000:
            raise ArgumentError("names must be a list of class names.")
        sequence = self._data.marking.name_classes(names, asked.get("who", ""))
        return {"sequence": sequence, "classes": self._data.columns.classes}

    def _changes(self, asked: dict[str, Any]) -> dict[str, Any]:
        sequence = self._data.marking.follow()
        touched = self._data.marking.touched_since(_whole(asked, "since"))
        few = touched is not None and len(touched) <= _MOST_CHANGED
        return {
            "sequence": sequence,
            "cells": touched.tolist() if few and touched is not None else None,
            "version": self._data.columns.version,
            "embedding": self._job(),
        }

    def _next(self, asked: dict[str, Any]) -> dict[str, Any]:
        num, how = _whole(asked, "num"), asked.get("how", "mixture")
        if not 1 <= num <= _MOST_NEXT or how not in get_args(ChoiceName):
            raise ArgumentError(
                f"num must be from 1 to {_MOST_NEXT:,} and how one of {', '.join(get_args(ChoiceName))}."
            )
        self._data.marking.follow()
        return {"cells": self._data.next_cells(num, how)}

    def _embed(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._data.start_embedding()
        return self._job()


class _ForgottenError(FastcellError):
    """Raised if the server no longer has a view; the page then requests it again."""


def _whole(asked: dict[str, Any], name: str) -> int:
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name} must be a whole number of at least 0.")
    return value


async def _asked(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        ArgumentError: the request is not a JSON object, or its header does not declare JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0]
    try:
        asked = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        asked = None
    if kind != "application/json" or not isinstance(asked, dict):
        raise ArgumentError("a request must be a JSON object.")
    return asked


def _json(answer: Callable[[dict[str, Any]], Any]) -> Callable[[Request], Any]:
    """Return an endpoint that receives and returns JSON; errors are returned as ``{"error": ...}``."""

    async def endpoint(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse

        try:
            return JSONResponse(await run_in_threadpool(answer, await _asked(request)))
        except FastcellError as error:
            return JSONResponse({"error": str(error)}, 410 if isinstance(error, _ForgottenError) else 400)
        except OSError as error:
            reason = error.strerror or os.strerror(error.errno or 0)
            return JSONResponse({"error": f"the mark could not be stored: {reason}. Nothing has changed."}, 507)

    return endpoint
