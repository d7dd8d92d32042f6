"""The OpenAPI document, and the page /docs that shows it to a person without scripts.

Both are for admins only, unless HTTP_DOCS is set.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from notifyctl.http.auth import require
from notifyctl.models.access import Scope

PAGES = Path(__file__).parent / "pages"


def reference_router(*, open_to_all: bool) -> APIRouter:
    guard = [] if open_to_all else [Depends(require(Scope.ADMIN))]
    router = APIRouter(include_in_schema=False, dependencies=guard)
    router.add_api_route("/openapi.json", _document, methods=["GET"])
    router.add_api_route("/docs", _page, methods=["GET"])
    return router


def _document(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


def _page(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    pages = Environment(loader=FileSystemLoader(PAGES / "templates"), autoescape=True, undefined=StrictUndefined)
    page = pages.get_template("reference.html").render(info=document["info"], style=_style(), groups=_groups(document))
    return HTMLResponse(page, headers={"Content-Security-Policy": _policy()})


@cache
def _style() -> str:
    return (PAGES / "static/reference.css").read_text(encoding="utf-8")


@cache
def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _groups(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Operations by their tag, each with its tables of fields."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shown = {
                "method": method.upper(),
                "path": path,
                "about": operation.get("description", ""),
                "tables": list(_tables(document, operation)),
                "refusals": _refusals(operation),
            }
            groups.setdefault(operation.get("tags", [""])[0], []).append(shown)
    return groups


def _tables(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    parameters = [
        _field(one["name"], one["schema"] | {"description": one.get("description", "")}, one.get("required", False))
        for one in operation.get("parameters", [])
    ]
    if parameters:
        yield "Parameters", parameters
    if body := _fields(document, operation.get("requestBody", {})):
        yield "Body", body
    for status, answer in operation["responses"].items():
        if status.startswith("2") and (fields := _fields(document, answer)):
            yield f"Answer {status}", fields


def _fields(document: Mapping[str, Any], content: Mapping[str, Any]) -> list[dict[str, Any]]:
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    named = schema.get("$ref", "").rpartition("/")[2]
    model = document["components"]["schemas"][named] if named else schema
    required = model.get("required", [])
    return [_field(name, field, name in required) for name, field in model.get("properties", {}).items()]


def _field(name: str, schema: Mapping[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "type": _type(schema), "required": required, "about": schema.get("description", "")}


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return f'"{schema["const"]}"'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "any")


def _refusals(operation: Mapping[str, Any]) -> str:
    return ", ".join(status for status in operation["responses"] if not status.startswith("2"))
