import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psycopg
import pytest
import requests
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Connection, event, text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.http.server import create_app
from notifyctl.http.strict_json import JsonRoute
from notifyctl.recovery import store as recovery_store
from tests.support.api import Api, serving
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

PARAMETER = re.compile(r"{\w+}")


def test_probes_answer_without_a_key(api: Api) -> None:
    assert [(api.get(path).status_code, api.get(path).json()) for path in ("/healthz", "/readyz")] == [
        (200, {"status": "ok"}),
        (200, {"status": "ready"}),
    ]


@pytest.fixture
def bare(empty_database_url: str) -> Iterator[tuple[Runtime, str]]:
    """On a database without tables."""
    runtime = open_runtime(make_settings(database_url=empty_database_url), database=Database(empty_database_url))
    with serving(create_app(runtime)) as url:
        yield runtime, url
    runtime.close()


def test_it_is_not_ready_before_the_database_is_migrated_and_the_templates_are_seeded(
    bare: tuple[Runtime, str],
) -> None:
    runtime, url = bare
    first = requests.get(f"{url}/readyz", timeout=30)
    assert (first.status_code, first.json()["error"], "migrated" in first.text) == (503, "not_ready", True)
    migrations.upgrade(runtime.database)
    second = _until(url, lambda answer: answer.text != first.text)
    assert (second.status_code, second.json()["error"], "template" in second.text) == (503, "not_ready", True)
    seed_templates(runtime)
    assert _until(url, lambda answer: answer.text != second.text).json() == {"status": "ready"}
    assert requests.get(f"{url}/healthz", timeout=30).status_code == 200


def test_it_is_not_ready_while_the_database_is_to_be_recovered(bare: tuple[Runtime, str]) -> None:
    runtime, url = bare
    migrations.upgrade(runtime.database)
    seed_templates(runtime)
    with runtime.database.transaction() as session:
        recovery_store.mark_restored(session, runtime.clock(), "restored")
    answer = _until(url, lambda answer: answer.status_code == 503)
    assert answer.json()["message"] == "The database has gone back in time: nothing is sent before it is recovered."


def _until(url: str, condition: Callable[[requests.Response], bool]) -> requests.Response:
    """The first answer of which it is true: each is repeated for a second."""
    deadline = monotonic() + 30
    while not condition(answer := requests.get(f"{url}/readyz", timeout=30)):
        assert monotonic() < deadline, answer.text
    return answer


def test_it_is_not_ready_while_nothing_can_be_written_and_says_why(api: Api) -> None:
    database = api.runtime.database
    assert api.get("/readyz").json() == {"status": "ready"}
    if not database.is_sqlite:
        with psycopg.connect(api.runtime.settings.database_url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
        database.drop_connections()
        why = "it is set read-only (default_transaction_read_only)"
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        Path(str(database.url.database)).chmod(0o400)
        why = f"{database.url.database} may not be written"
    answer = _until(api.url, lambda answer: answer.status_code != 200)
    assert answer.json() == {"error": "not_ready", "message": f"The database cannot be written: {why}."}


def test_however_many_ask_the_database_is_asked_once_a_second(api: Api) -> None:
    asked = []

    def count(connection: Connection) -> None:
        asked.append(connection)

    api.get("/readyz")
    event.listen(api.runtime.database.engine, "begin", count)
    began = monotonic()
    statuses = {api.get("/readyz").status_code for _ in range(30)}
    seconds = monotonic() - began
    event.remove(api.runtime.database.engine, "begin", count)
    assert statuses == {200}
    assert len(asked) <= 2 * (seconds + 1)  # the schema, and the rest


def test_it_is_not_ready_when_the_database_is_newer_than_the_program(api: Api) -> None:
    with api.runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999', oldest_code = '9998'"))

    assert _until(api.url, lambda answer: answer.status_code != 200).status_code == 503


def test_a_database_that_is_away_is_told_without_its_address() -> None:
    runtime = open_runtime(make_settings(database_url="postgresql://someone:hunter2@127.0.0.1:1/n"))
    with serving(create_app(runtime)) as url:
        answer = requests.get(f"{url}/readyz", timeout=30)
    runtime.close()

    assert answer.status_code == 503
    assert answer.json() == {"error": "not_ready", "message": "The database cannot be used."}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_reference_is_for_admins(api: Api, admin: str, sender: str, path: str) -> None:
    assert [api.get(path, key).status_code for key in (None, sender, admin)] == [401, 403, 200]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_reference_is_for_everyone_where_the_settings_say_so(database_url: str, path: str) -> None:
    runtime = open_runtime(make_settings(database_url=database_url, http_docs=True))
    with serving(create_app(runtime)) as url:
        assert requests.get(f"{url}{path}", timeout=30).status_code == 200
    runtime.close()


def test_the_page_shows_every_endpoint_and_loads_nothing(api: Api, app: FastAPI, admin: str) -> None:
    answer = api.get("/docs", admin)

    for path in app.openapi()["paths"]:
        assert path in answer.text
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


def test_whatever_a_type_is_called_is_explained_on_the_page(api: Api, app: FastAPI, admin: str) -> None:
    page = api.get("/docs", admin).text
    explained = re.findall(r'id="([\w-]+)"', page)

    assert set(app.openapi()["components"]["schemas"]) | set(re.findall(r'href="#([\w-]+)"', page)) <= set(explained)
    assert len(explained) == len(set(explained))
    assert "Body: SendToClient" in page
    assert ">.</td>" not in page
    assert "<code>SENSITIVE_ACTION</code>" in page


def test_who_has_signed_in_finds_the_reference_and_the_way_back(api: Api, admin: str) -> None:
    headers = {"Origin": api.url, "Accept": "text/html"}
    api.session.post(f"{api.url}/admin/login", data={"key": admin}, headers=headers, timeout=30)

    assert 'href="/docs"' in api.session.get(f"{api.url}/admin/notification-health", timeout=30).text
    page = api.session.get(f"{api.url}/docs", timeout=30).text
    assert "Sign out" in page
    assert 'href="/admin/notification-health"' in page


def test_a_browser_is_told_on_a_page_why_there_is_no_reference(api: Api, app: FastAPI, admin: str) -> None:
    gone = open_runtime(make_settings(database_url="postgresql://nobody@127.0.0.1:9/none"))
    app.state.runtime = gone
    answer = api.get("/docs", admin, headers={"Accept": "text/html"})
    app.state.runtime = api.runtime
    gone.close()

    assert (answer.status_code, "<h1>No database</h1>" in answer.text) == (503, True)


def test_every_refusal_is_documented_in_our_shape(app: FastAPI) -> None:
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refusals = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
            assert {"500", "503"} <= set(refusals), (method, path)
            for status, answer in refusals.items():
                schema = answer["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith(("/Error", "/NotVerified")), (method, path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"


def test_every_json_body_is_read_strictly(app: FastAPI) -> None:
    found = [
        route
        for included in app.router.routes
        for route in getattr(getattr(included, "original_router", None), "routes", [included])
        if isinstance(route, APIRoute) and route.body_field is not None
    ]

    assert len(found) >= 4
    assert [route.path for route in found if not isinstance(route, JsonRoute)] == []


def test_every_endpoint_is_in_the_written_reference(app: FastAPI) -> None:
    written = (Path(__file__).parents[2] / "docs/http.md").read_text()
    endpoints = [
        f"{method.upper()} {PARAMETER.sub('{id}', path)}"
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    ]

    assert [endpoint for endpoint in endpoints if f"`{endpoint}`" not in written] == []
