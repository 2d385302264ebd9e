"""Description of the HTTP interface in OpenAPI 3.1, and a page made from it."""

from __future__ import annotations

from typing import Any

from fastcell import __version__
from fastcell.system.text import html_text

_CELL: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"type": "string"}, "name of the file, or number of the cell in its array"),
    "class": ({"type": ["string", "null"]}, "most probable class; unsure below the wanted confidence"),
    "confidence": ({"type": ["number", "null"]}, "probability of the most probable class"),
    "probabilities": ({"type": ["array", "null"], "items": {"type": "number"}}, "calibrated, in the order of classes"),
    "unlike_training": ({"type": ["boolean", "null"]}, "the cell looks unlike those of training; null if unknown"),
    "unlike_score": ({"type": ["number", "null"]}, "above 1 for a cell unlike those of training"),
    "unlike_reason": ({"type": ["string", "null"]}, "how the cell differs"),
    "unsure": ({"type": "boolean"}, "the confidence is below the wanted one"),
    "reason": ({"type": ["string", "null"]}, "why there is no class"),
}  # fmt: skip


def describe_api(classes: list[str]) -> dict[str, Any]:
    """Return the description as plain values.

    Args:
        classes: K class names.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "schema": {
            "type": "object",
            "properties": {"cells": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    }
    answer = {
        "type": "object",
        "properties": {
            "classes": {"type": "array", "items": {"type": "string"}, "examples": [classes]},
            "cells": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {name: {**kind, "description": about} for name, (kind, about) in _CELL.items()},
                },
            },
        },
    }
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    problem = {"content": {"application/json": {"schema": error}}}
    classify = {
        "summary": "Classify a batch of cells",
        "description": (
            "The body is a .npy array (N, H, W) or (H, W) of uint8 or uint16, one image (PNG, JPEG, TIFF), or a form "
            "with several files of these kinds. The order is kept. An image that cannot be read gets a reason instead "
            "of a class. With the header Accept: text/csv, the answer is a table."
        ),
        "parameters": [
            {
                "name": "um_per_px",
                "in": "query",
                "required": False,
                "schema": {"type": "number", "exclusiveMinimum": 0},
                "description": "micrometres per pixel, for a run with the fit scale",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": binary, "image/*": binary, "multipart/form-data": form},
        },
        "responses": {
            "200": {
                "description": "answers",
                "content": {"application/json": {"schema": answer}, "text/csv": {"schema": {"type": "string"}}},
            },
            "400": {"description": "the body holds no cells", **problem},
            "413": {"description": "the body is too large"},
            "503": {"description": "the queue is full, and the server drops cells", **problem},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastcell serve", "version": __version__, "summary": "Classes of single cells as they come"},
        "paths": {
            "/classify": {"post": classify},
            "/health": {"get": _plain("State of the server", "application/json")},
            "/metrics": {"get": _plain("Counts and latencies for Prometheus", "text/plain")},
            "/openapi.json": {"get": _plain("This description", "application/json")},
        },
    }


def _plain(summary: str, kind: str) -> dict[str, Any]:
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {kind: {"schema": schema}}}},
    }


def page_of(api: dict[str, Any], about: dict[str, str]) -> str:
    """Return the description as an HTML page without scripts and styles.

    Args:
        api: from `describe_api`.
        about: facts about the server, by name.
    """
    facts = "".join(f"<tr><th>{html_text(name)}</th><td>{html_text(text)}</td></tr>" for name, text in about.items())
    parts = [_operation(path, verb, of) for path, verbs in api["paths"].items() for verb, of in verbs.items()]
    title = html_text(api["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<p>{html_text(api['info']['summary'])}. Machine-readable: "
        f'<a href="/openapi.json">/openapi.json</a>, <a href="/metrics">/metrics</a>, <a href="/health">/health</a>.'
        f"<table>{facts}</table>{''.join(parts)}</html>"
    )


def _operation(path: str, verb: str, of: dict[str, Any]) -> str:
    body = "".join(f"<li>{html_text(kind)}" for kind in of.get("requestBody", {}).get("content", {}))
    parameters = "".join(
        f"<li>{html_text(one['name'])}: {html_text(one['description'])}" for one in of.get("parameters", [])
    )
    answers = "".join(f"<li>{status}: {html_text(answer['description'])}" for status, answer in of["responses"].items())
    found = of["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {})
    cells = found.get("properties", {}).get("cells", {}).get("items", {}).get("properties", {})
    rows = "".join(f"<tr><td>{name}</td><td>{html_text(one['description'])}</td></tr>" for name, one in cells.items())
    sections = (("parameters", parameters), ("body", body), ("answers", answers))
    lists = "".join(f"<h3>{name}</h3><ul>{items}</ul>" for name, items in sections if items)
    table = f"<h3>of each cell</h3><table>{rows}</table>" if rows else ""
    text = html_text(of.get("description", ""))
    return f"<h2>{verb.upper()} {html_text(path)}</h2><p>{html_text(of['summary'])}. {text}</p>{lists}{table}"
