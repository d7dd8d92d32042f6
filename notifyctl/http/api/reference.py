"""The OpenAPI document, and the page /docs that shows it to a person without scripts.

Both are for admins only, unless HTTP_DOCS is set.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from notifyctl.http.auth import Caller, Presented, RuntimeDep, authenticate
from notifyctl.http.pages.sessions import operator_of, sign_in_first
from notifyctl.models.enums import Scope

PAGES = Path(__file__).parents[1] / "pages"

# The parts of an OpenAPI document that are shown.
Schema = TypedDict(
    "Schema",
    {
        "$ref": str,
        "anyOf": list["Schema"],
        "const": str,
        "description": str,
        "format": str,
        "items": "Schema",
        "properties": dict[str, "Schema"],
        "required": list[str],
        "type": str,
    },
    total=False,
)


class MediaType(TypedDict):
    schema: NotRequired[Schema]


class JsonContent(TypedDict):
    content: NotRequired[dict[str, MediaType]]


class Parameter(TypedDict):
    name: str
    schema: Schema
    description: NotRequired[str]
    required: NotRequired[bool]


class Operation(TypedDict):
    description: NotRequired[str]
    tags: NotRequired[list[str]]
    parameters: NotRequired[list[Parameter]]
    requestBody: NotRequired[JsonContent]
    responses: dict[str, JsonContent]


@dataclass(frozen=True, slots=True)
class ShownField:
    name: str
    type: str
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class ShownOperation:
    method: str
    path: str
    about: str
    tables: list[tuple[str, list[ShownField]]]
    refusals: str


def reference_router(*, open_to_all: bool) -> APIRouter:
    guard = [] if open_to_all else [Depends(_admin)]
    router = APIRouter(include_in_schema=False, dependencies=guard)
    router.add_api_route("/openapi.json", _document, methods=["GET"])
    router.add_api_route("/docs", _page, methods=["GET"])
    return router


def _admin(request: Request, runtime: RuntimeDep, presented: Presented) -> Caller:
    """By a key, or by the cookie of the page: a browser sends no header of one's own."""
    if operator := operator_of(request, runtime):
        return operator
    if presented is None and "text/html" in request.headers.get("accept", ""):
        raise sign_in_first(request)
    return authenticate(request, Scope.ADMIN)


def _document(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


def _page(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    groups = _groups(document["paths"], document["components"]["schemas"])
    pages = Environment(loader=FileSystemLoader(PAGES / "templates"), autoescape=True, undefined=StrictUndefined)
    page = pages.get_template("reference.html").render(info=document["info"], style=_style(), groups=groups)
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


def _groups(paths: dict[str, dict[str, Operation]], schemas: dict[str, Schema]) -> dict[str, list[ShownOperation]]:
    """Operations by their tag, each with its tables of fields."""
    groups: dict[str, list[ShownOperation]] = {}
    for path, operations in paths.items():
        for method, operation in operations.items():
            shown = ShownOperation(
                method=method.upper(),
                path=path,
                about=operation.get("description", ""),
                tables=list(_tables(operation, schemas)),
                refusals=", ".join(status for status in operation["responses"] if not status.startswith("2")),
            )
            groups.setdefault(operation.get("tags", [""])[0], []).append(shown)
    return groups


def _tables(operation: Operation, schemas: dict[str, Schema]) -> Iterator[tuple[str, list[ShownField]]]:
    parameters = [
        ShownField(each["name"], _type(each["schema"]), each.get("required", False), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if parameters:
        yield "Parameters", parameters
    if body := _fields(operation.get("requestBody", {}), schemas):
        yield "Body", body
    for status, answer in operation["responses"].items():
        if status.startswith("2") and (fields := _fields(answer, schemas)):
            yield f"Answer {status}", fields


def _fields(content: JsonContent, schemas: dict[str, Schema]) -> list[ShownField]:
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    model = schemas[_name(schema)] if "$ref" in schema else schema
    required = model.get("required", [])
    return [
        ShownField(name, _type(field), name in required, field.get("description", ""))
        for name, field in model.get("properties", {}).items()
    ]


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return _name(schema)
    if "const" in schema:
        return f'"{schema["const"]}"'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return schema.get("format") or schema.get("type") or "any"


def _name(schema: Schema) -> str:
    return schema["$ref"].rpartition("/")[2]
