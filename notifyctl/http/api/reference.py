"""The OpenAPI document, and the page /docs that shows it to a person without scripts.

Both are for admins only, unless HTTP_DOCS is set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse

from notifyctl.http.auth import Caller, Presented, RuntimeDep, authenticate
from notifyctl.http.pages.page import HEADERS, render
from notifyctl.http.pages.sessions import Operator, operator_of, sign_in_first
from notifyctl.models.enums import Scope

POLICY = "Content-Security-Policy"
# The page has no script, so none may run.
_HEADERS = HEADERS | {POLICY: HEADERS[POLICY].replace("script-src 'self'; ", "").replace("connect-src 'self'; ", "")}

# The parts of an OpenAPI document that are shown.
Schema = TypedDict(
    "Schema",
    {
        "$ref": str,
        "anyOf": list["Schema"],
        "const": str,
        "description": str,
        "enum": list[str],
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
class TypePart:
    text: str
    shape: str = ""
    """Where on the page it is explained."""


@dataclass(frozen=True, slots=True)
class ShownField:
    name: str
    type: list[TypePart]
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What fields have for a type that has a name."""

    name: str
    fields: list[ShownField]
    values: list[str]
    choices: list[TypePart]


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
        request.state.caller = operator
        return operator
    if presented is None and "text/html" in request.headers.get("accept", ""):
        raise sign_in_first(request)
    return authenticate(request, Scope.ADMIN)


def _document(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


def _page(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    schemas: dict[str, Schema] = document["components"]["schemas"]
    caller = getattr(request.state, "caller", None)
    return render(
        "reference.html",
        200,
        _HEADERS,
        info=document["info"],
        groups=_groups(document["paths"], schemas),
        shapes=[_shape(name, schema) for name, schema in sorted(schemas.items())],
        **({"caller": caller} if isinstance(caller, Operator) else {}),
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
                refusals=", ".join(sorted(status for status in operation["responses"] if not status.startswith("2"))),
            )
            groups.setdefault(operation.get("tags", [""])[0], []).append(shown)
    return groups


def _tables(operation: Operation, schemas: dict[str, Schema]) -> Iterator[tuple[str, list[ShownField]]]:
    parameters = [
        ShownField(each["name"], list(_type(each["schema"])), each.get("required", False), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if parameters:
        yield "Parameters", parameters
    yield from _bodies("Body", operation.get("requestBody", {}), schemas)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield from _bodies(f"Answer {status}", answer, schemas)


def _bodies(title: str, content: JsonContent, schemas: dict[str, Schema]) -> Iterator[tuple[str, list[ShownField]]]:
    """One; where it may be one of several, each of them."""
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    model = schemas[_name(schema)] if "$ref" in schema else schema
    for choice in model.get("anyOf", []):
        yield f"{title}: {_name(choice)}", _fields(schemas[_name(choice)])
    if "anyOf" not in model and (fields := _fields(model)):
        yield title, fields


def _shape(name: str, schema: Schema) -> Shape:
    choices = list(_type(schema)) if "anyOf" in schema else []
    return Shape(name, _fields(schema), schema.get("enum", []), choices)


def _fields(model: Schema) -> list[ShownField]:
    required = model.get("required", [])
    return [
        ShownField(name, list(_type(field)), name in required, field.get("description", ""))
        for name, field in model.get("properties", {}).items()
    ]


def _type(schema: Schema) -> Iterator[TypePart]:
    if "anyOf" in schema:
        for number, each in enumerate(schema["anyOf"]):
            if number:
                yield TypePart(" or ")
            yield from _type(each)
    elif "$ref" in schema:
        yield TypePart(_name(schema), _name(schema))
    elif "const" in schema:
        yield TypePart(f'"{schema["const"]}"')
    elif schema.get("type") == "array":
        yield TypePart("list of ")
        yield from _type(schema["items"])
    else:
        yield TypePart(schema.get("format") or schema.get("type") or "any")


def _name(schema: Schema) -> str:
    return schema["$ref"].rpartition("/")[2]
