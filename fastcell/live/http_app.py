"""HTTP side of a server: batches of images and arrays, a page about it, health, and metrics for Prometheus."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcell import __version__
from fastcell.inference.unlike.reasons import UnlikeScores, reasons
from fastcell.live.cell_block import CellBlock
from fastcell.live.drop_log import DropLog
from fastcell.live.http_cells import MOST_CELLS_OF_REQUEST, BodyCells, BodyError, read_parts
from fastcell.live.live_classifier import LiveClassifier
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.micro_batches import MicroBatches, WhenFull
from fastcell.live.openapi import describe_api, page_of
from fastcell.live.protocol import UNLIKE_FLAG, UNSURE_FLAG, AnswerStatus, Frames
from fastcell.runs.prediction_columns import NOT_FINITE, UNSURE, below_confidence
from fastcell.system.optional_packages import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_FORM = "multipart/form-data"


@dataclass(frozen=True)
class HttpService:
    """HTTP service of a classifier.

    Attributes:
        live: the classifier.
        batches: queue, shared with the stream clients.
        metrics: counts of the server.
        drops: log for the numbers of the cells of a request that found the queue full.
        when_full: reaction to a request that finds the queue full.
        about: further facts for the page and /health, such as the run and its backend.
    """

    live: LiveClassifier
    batches: MicroBatches
    metrics: LiveMetrics
    drops: DropLog
    when_full: WhenFull
    about: dict[str, str]

    def app(self) -> Starlette:
        """Return the application.

        Raises:
            FastcellError: starlette or python-multipart is not installed.
        """
        require("python_multipart", "serve")
        applications, routing = require("starlette.applications", "serve"), require("starlette.routing", "serve")
        routes = [
            routing.Route("/", self._page),
            routing.Route("/openapi.json", self._openapi),
            routing.Route("/health", self._health),
            routing.Route("/metrics", self._metrics),
            routing.Route("/classify", self._classify, methods=["POST"]),
        ]
        return applications.Starlette(routes=routes)  # type: ignore[no-any-return]

    async def _page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        return HTMLResponse(page_of(describe_api(self.live.classes), self.about))

    async def _openapi(self, request: Request) -> Response:
        return _json(describe_api(self.live.classes))

    async def _health(self, request: Request) -> Response:
        state = {"status": "ok", "fastcell": __version__, "classes": self.live.classes, **self.about}
        return _json({**state, "waiting": self.batches.waiting, "clients": self.metrics.clients})

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse

        text = self.metrics.to_text(self.batches.waiting, self.batches.most_waiting)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _classify(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse

        try:
            pitch = _pitch(request.query_params.get("um_per_px"))
            parts = await _parts_of(request)
            body = await run_in_threadpool(read_parts, parts)
            rows = await run_in_threadpool(self._rows, body, pitch)
        except BodyError as error:
            return _json({"error": str(error)}, 400)
        if rows is None:
            text = f"the queue has no room for {len(body.keys):,} cells. Send them again, or fewer at a time."
            return _json({"error": text}, 503, headers={"Retry-After": "1"})
        if "text/csv" in request.headers.get("accept", ""):
            return PlainTextResponse(_csv(rows, self.live.classes), media_type="text/csv")
        return _json({"classes": self.live.classes, "cells": rows})

    def _rows(self, body: BodyCells, pitch: float) -> list[dict[str, Any]] | None:
        """Return the answers; None if the queue has no room."""
        cells = [cell for cell in body.cells if cell is not None]
        num = len(cells)
        ids = np.arange(num, dtype=np.uint64)
        frames = Frames(cells, ids, np.zeros(num, np.uint64), np.full(num, pitch, np.float32))
        blocks = self.batches.answer(frames, self.when_full)
        if blocks is None:
            self.drops.add("http", ids, "queue full")
            return None
        answers = self._answers(blocks)
        return [
            self._unread(key, str(reason)) if cell is None else {"key": key, **next(answers)}
            for key, cell, reason in zip(body.keys, body.cells, body.reasons, strict=True)
        ]

    def _unread(self, key: str, reason: str) -> dict[str, Any]:
        empty = dict.fromkeys(("class", "confidence", "probabilities", "unlike_training", "unlike_score"))
        return {"key": key, **empty, "unlike_reason": None, "unsure": False, "reason": reason}

    def _answers(self, blocks: list[CellBlock]) -> Iterator[dict[str, Any]]:
        for block in blocks:
            words = reasons(UnlikeScores(block.answers["unlike_score"], block.unlike_off)).tolist()
            for row, cell, word in zip(block.answers, block.frames.cells, words, strict=True):
                yield self._answer(row, cell, word)

    def _answer(self, row: np.ndarray, cell: np.ndarray, unlike_reason: str) -> dict[str, Any]:
        answered, unsure = row["status"] == AnswerStatus.ANSWERED, bool(row["flags"] & UNSURE_FLAG)
        reason = below_confidence(self.live.min_confidence) if unsure else None
        if not answered:
            deep = cell.dtype != np.uint8 and self.live.window is None
            reason = "16 bit, and there is no window of grey levels" if deep else NOT_FINITE
        scored = answered and not math.isnan(row["unlike_score"])
        name = self.live.classes[int(row["class"])] if answered else None
        return {
            "class": UNSURE if unsure else name,
            "confidence": _short(row["p"].max()) if answered else None,
            "probabilities": [_short(value) for value in row["p"]] if answered else None,
            "unlike_training": bool(row["flags"] & UNLIKE_FLAG) if scored else None,
            "unlike_score": _short(row["unlike_score"]) if scored else None,
            "unlike_reason": unlike_reason or None,
            "unsure": unsure,
            "reason": reason,
        }


async def _parts_of(request: Request) -> list[tuple[str, bytes]]:
    """Return name and bytes of each file of a request.

    Raises:
        BodyError: the form is damaged, or there is no file.
    """
    if not request.headers.get("content-type", "").startswith(_FORM):
        data = await request.body()
        if not data:
            raise BodyError("the body must be a .npy array or an image, got nothing.")
        return [("", data)]
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    try:
        async with request.form(max_files=MOST_CELLS_OF_REQUEST, max_fields=100) as form:
            files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
            parts = [(file.filename or "", await file.read()) for file in files]
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise BodyError(f"the form cannot be read: {error.detail}") from None
    if not parts:
        raise BodyError("the form must have at least one file, got none.")
    return parts


def _pitch(text: str | None) -> float:
    if text is None:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BodyError(f"um_per_px must be a number above 0, got {text!r}.")
    return value


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in JSON that a terminal can show: control characters of names are escaped."""
    from starlette.responses import Response

    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("\x7f", "\\u007f")
    return Response(text, status, headers, "application/json")


def _short(value: Any) -> float:
    """Return a float32 as the shortest number that identifies it."""
    return float(str(np.float32(value)))


def _csv(rows: list[dict[str, Any]], classes: list[str]) -> str:
    out = io.StringIO()
    names = [name for name in (rows[0] if rows else {}) if name != "probabilities"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *(f"p_{name}" for name in classes)])
    for row in rows:
        values = row["probabilities"] or [None] * len(classes)
        writer.writerow([_text(row[name]) for name in names] + [_text(value) for value in values])
    return out.getvalue()


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
