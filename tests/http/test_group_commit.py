"""Requests for messages that share a transaction: each keeps its own answer, whatever befalls another."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
import requests
from fastapi import Request
from sqlalchemy import Connection, event, text

from notifyctl.bootstrap import Runtime
from notifyctl.errors import IdempotencyConflict
from notifyctl.http import api_keys
from notifyctl.http.api.notifications import Acceptance, Asked, SendNotification
from notifyctl.http.errors import ApiError
from notifyctl.models.enums import Scope
from tests.http.test_serve import Serve, serve  # noqa: F401  a fixture
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import CODE, SPIKE, WELCOME, all_messages

SEND = "/api/notifications"
CLIENTS = [f"c{number:02}" for number in range(16)]


def welcome(client_id: str = "acme", **more: Any) -> dict[str, Any]:
    return {"template_key": "WELCOME_EMAIL", "client_id": client_id, "context": WELCOME, **more}


@pytest.fixture
def key(runtime: Runtime) -> str:
    with runtime.database.transaction() as session:
        return api_keys.create(session, "test", [Scope.SEND], expires_at=None, actor="test", now=runtime.clock())


@pytest.fixture
def accept(runtime: Runtime, key: str) -> Callable[..., list[Any]]:
    """One group of these bodies, each with a good key unless it has one of its own."""
    acceptance = Acceptance(runtime)

    def group(*bodies: dict[str, Any]) -> list[Any]:
        asked = []
        for body in bodies:
            presented = body.pop("presented", key.encode())
            scope = {"type": "http", "method": "POST", "path": SEND, "headers": []}
            asked.append(Asked(Request(scope), presented, SendNotification(**body)))
        return list(acceptance.together(asked))

    return group


@pytest.fixture
def commits(runtime: Runtime) -> Iterator[list[object]]:
    seen: list[object] = []

    def note(connection: Connection) -> None:
        seen.append(connection)

    event.listen(runtime.database.engine, "commit", note)
    yield seen
    event.remove(runtime.database.engine, "commit", note)


def test_a_group_is_one_commit_and_each_has_its_own_answer(
    runtime: Runtime, accept: Callable[..., list[Any]], commits: list[object]
) -> None:
    a_client(runtime)
    a_client(runtime, "bolt")
    commits.clear()
    found = accept(
        welcome(idempotency_key="k"),
        welcome("bolt", presented=b"nfy_0000000000_wrong"),
        welcome("bolt", presented=None),
        welcome("nobody"),
        welcome(idempotency_key="k"),
        welcome("bolt", template_key="NO_SUCH"),
        welcome("bolt", locale="c4n4ry"),
        {"template_key": "OPS_ALERT_SMS", "recipient": "+4915112345678", "context": SPIKE},
        {"template_key": "OTP_CODE_SMS", "recipient": "+4915112345678", "context": CODE},
        welcome("bolt"),
        welcome("bolt", idempotency_key="other"),
    )

    assert len(commits) == 1
    assert [(one.status, one.code) if isinstance(one, ApiError) else (one.status, one.reason) for one in found] == [
        ("QUEUED", None),
        (401, "unauthorized"),
        (401, "unauthorized"),
        ("BLOCKED", "CLIENT_UNKNOWN"),
        ("QUEUED", None),
        (404, "unknown_template"),
        (422, "invalid_request"),
        (403, "forbidden"),
        (403, "forbidden"),
        ("QUEUED", None),
        ("BLOCKED", "RATE_LIMITED"),
    ]
    assert (found[4].id, found[4].duplicate_of) == (found[0].id, found[0].id)
    with runtime.database.read() as session:
        assert sorted(row.client_id for row in all_messages(session)) == ["acme", "bolt", "bolt", "nobody"]


def test_strangers_do_not_wait_for_the_write_lock(runtime: Runtime, accept: Callable[..., list[Any]]) -> None:
    with runtime.database.transaction() as session:
        session.connection()
        found = accept(welcome(presented=b"nfy_0000000000_wrong"), welcome(presented=None))

    assert [one.status for one in found] == [401, 401]


def test_a_conflict_sends_each_back_and_leaves_nothing(runtime: Runtime, accept: Callable[..., list[Any]]) -> None:
    a_client(runtime)
    a_client(runtime, "bolt")

    assert accept(welcome("bolt"), welcome(idempotency_key="k"), welcome("bolt", idempotency_key="k")) == [None] * 3
    with runtime.database.read() as session:
        assert all_messages(session) == []


def test_who_was_alone_has_its_error_at_once(runtime: Runtime, accept: Callable[..., list[Any]]) -> None:
    a_client(runtime)
    a_client(runtime, "bolt")
    accept(welcome(idempotency_key="k"))

    (found,) = accept(welcome("bolt", idempotency_key="k"))
    assert isinstance(found, IdempotencyConflict)


def _post_all(api: Api, key: str, bodies: Sequence[dict[str, Any]]) -> list[requests.Response]:
    barrier = Barrier(len(bodies))

    def ask(body: dict[str, Any]) -> requests.Response:
        barrier.wait(30)
        return requests.post(f"{api.url}{SEND}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, bodies))


def test_one_key_at_once_for_different_messages_makes_one_and_conflicts_and_others_are_taken(
    api: Api, key: str
) -> None:
    for client in CLIENTS:
        a_client(api.runtime, client)
    asked = [
        welcome(client, **({"idempotency_key": "k"} if number % 2 else {})) for number, client in enumerate(CLIENTS)
    ]
    codes = [answer.status_code for answer in _post_all(api, key, asked)]

    assert codes[::2] == [202] * 8
    assert sorted(codes[1::2]) == [202, *[409] * 7]
    with api.runtime.database.read() as session:
        assert len(all_messages(session)) == 9


POISON = {
    "sqlite": "CREATE TRIGGER poison {when} message_log FOR EACH ROW WHEN NEW.client_id = 'c07' BEGIN {body}; END",
    "postgresql": "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.client_id = 'c07' THEN"
    " {body}; END IF; RETURN NEW; END $$; CREATE TRIGGER poison {when} message_log FOR EACH ROW"
    " EXECUTE FUNCTION poison()",
}


@pytest.fixture
def poison(runtime: Runtime) -> Iterator[Callable[[str, str], None]]:
    """The database itself refuses what is for client c07."""
    kind = "sqlite" if runtime.database.is_sqlite else "postgresql"

    def make(when: str, body: str) -> None:
        with runtime.database.transaction() as session:
            session.connection().exec_driver_sql(POISON[kind].format(when=when, body=body))

    yield make
    with runtime.database.transaction() as session:
        session.execute(text("DROP TRIGGER poison" + ("" if kind == "sqlite" else " ON message_log")))
        if kind == "postgresql":
            session.execute(text("DROP FUNCTION poison"))


def test_what_the_database_refuses_fails_alone(api: Api, key: str, poison: Callable[[str, str], None]) -> None:
    for client in CLIENTS:
        a_client(api.runtime, client)
    is_sqlite = api.runtime.database.is_sqlite
    poison("BEFORE INSERT ON", "SELECT RAISE(ABORT, 'no')" if is_sqlite else "RAISE EXCEPTION 'no'")
    answers = _post_all(api, key, [welcome(client) for client in CLIENTS])

    refused = [client for client, answer in zip(CLIENTS, answers, strict=True) if answer.status_code >= 500]
    assert refused == ["c07"]
    assert {answer.status_code for answer in answers} - {500, 503} == {202}
    with api.runtime.database.read() as session:
        rows = {row.client_id: row.id for row in all_messages(session)}
    assert rows == {
        client: answer.json()["id"] for client, answer in zip(CLIENTS, answers, strict=True) if client != "c07"
    }


def test_what_fails_at_the_commit_is_not_tried_again(
    runtime: Runtime, accept: Callable[..., list[Any]], poison: Callable[[str, str], None], commits: list[object]
) -> None:
    """It might be committed after all."""
    for client in ("c01", "c07"):
        a_client(runtime, client)
    with runtime.database.transaction() as session:
        session.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        session.execute(text("CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"))
    poison("AFTER INSERT ON", "INSERT INTO child VALUES (1)")
    try:
        found = accept(welcome("c01"), welcome("c07"))
    finally:
        with runtime.database.transaction() as session:
            session.execute(text("DROP TABLE child"))
            session.execute(text("DROP TABLE parent"))

    assert len(found) == 2
    assert all(isinstance(one, Exception) for one in found)


def test_a_client_that_somebody_has_locked_holds_up_nobody_else(api: Api, key: str) -> None:
    for client in CLIENTS[:4]:
        a_client(api.runtime, client)
    if api.runtime.database.is_sqlite:
        pytest.skip("SQLite locks no rows")
    with ThreadPoolExecutor(4) as pool:
        with api.runtime.database.transaction() as session:
            session.execute(text("SELECT id FROM client WHERE id = 'c00' FOR UPDATE"))
            held = pool.submit(api.post, SEND, key, json=welcome("c00"))
            others = list(pool.map(lambda client: _post_all(api, key, [welcome(client)])[0], CLIENTS[1:4]))
            assert [answer.status_code for answer in others] == [202] * 3
            assert not held.done()
        assert held.result(30).status_code == 202


def test_what_was_answered_is_committed_when_the_server_is_killed(
    runtime: Runtime,
    key: str,
    serve: Serve,  # noqa: F811  the fixture
) -> None:
    for number in range(400):
        a_client(runtime, f"k{number:03}")
    server = serve("--port", "0")
    url, numbers, answered = server.url, iter(range(400)), []

    def client(_number: int) -> None:
        with requests.Session() as session, suppress(requests.RequestException):
            session.headers["Authorization"] = f"Bearer {key}"
            for number in numbers:
                answer = session.post(f"{url}{SEND}", json=welcome(f"k{number:03}"), timeout=60)
                assert answer.status_code == 202
                answered.append(answer.json()["id"])
                if len(answered) == 60:
                    server.process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    server.process.wait(30)

    assert 60 <= len(answered) < 400
    with runtime.database.read() as session:
        ids = {row.id for row in all_messages(session)}
    assert set(answered) <= ids
