"""A host application that shares the database: the examples of docs/python.md, as they stand."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from sqlalchemy import Connection, event, text
from uvicorn import Config, Server

from notifyctl import (
    Channel,
    ClientsSet,
    InvalidInput,
    NotFound,
    NotifyctlError,
    OtpAction,
    PauseScope,
    pause,
    reset_limit,
    set_clients,
    set_limit,
)
from notifyctl.bootstrap import Runtime
from notifyctl.db.wakeup import Watcher
from tests.support.clients import a_client
from tests.support.messages import all_messages
from tests.support.otp_codes import PHONE, code_in, wrong
from tests.support.processes import Environment
from tests.support.runtimes import open_shared

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"

PlaceOrder = Callable[..., str]


@pytest.fixture
def host(runtime: Runtime, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the example defines, run against this test's database."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with runtime.database.transaction() as session:
        session.execute(text("CREATE TABLE shop_order (id TEXT PRIMARY KEY, client_id TEXT NOT NULL)"))
    defined: dict[str, Any] = {}
    _run_example("outbox", defined)
    yield defined
    defined["runtime"].close()


def _run_example(name: str, defined: dict[str, Any]) -> None:
    """A block of the page, in the names that `defined` holds."""
    block = re.search(rf"<!-- {name}:.*?-->\n```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    exec(compile(block[1], str(PAGE), "exec"), defined)


def _orders(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM shop_order")).scalar_one())


def test_an_order_and_its_mail_are_committed_together(runtime: Runtime, host: dict[str, Any]) -> None:
    a_client(runtime)
    said = host["place_order"]("1", "acme", stock=1)

    assert said.startswith("queued as ")
    assert _orders(runtime) == 1
    with runtime.database.read() as session:
        [message] = all_messages(session)
    assert (message.source, message.source_ref) == ("shop", "1")


def test_an_order_that_is_rolled_back_has_sent_nothing(runtime: Runtime, host: dict[str, Any]) -> None:
    a_client(runtime)
    with pytest.raises(LookupError):
        host["place_order"]("1", "acme", stock=0)

    assert _orders(runtime) == 0
    with runtime.database.read() as session:
        assert not all_messages(session)


def test_a_refusal_leaves_the_order_and_is_on_record(runtime: Runtime, host: dict[str, Any]) -> None:
    assert host["place_order"]("1", "nobody", stock=1).startswith("refused by CLIENT_UNKNOWN")
    assert _orders(runtime) == 1
    with runtime.database.read() as session:
        assert len(all_messages(session)) == 1


def test_many_are_sent_at_once_and_the_refused_are_named(runtime: Runtime, host: dict[str, Any]) -> None:
    a_client(runtime)
    _run_example("many", host)

    assert host["welcome"](["acme", "nobody"]) == {"nobody": "CLIENT_UNKNOWN"}
    with runtime.database.read() as session:
        assert sorted((message.client_id, message.status) for message in all_messages(session)) == [
            ("acme", "QUEUED"),
            ("nobody", "BLOCKED"),
        ]


def test_a_client_whose_provisioning_is_completed_from_python_is_welcomed(runtime: Runtime) -> None:
    opened = open_shared(runtime.settings.model_copy(update={"login_url": "https://shop.example/login"}))
    _run_example("clients", {"runtime": opened})
    opened.close()

    with runtime.database.read() as session:
        [message] = all_messages(session)
    assert (message.template_key, message.client_id, message.status) == ("WELCOME_EMAIL", "acme", "QUEUED")


def test_clients_are_set_and_it_is_said_what_came_of_it(runtime: Runtime) -> None:
    a_client(runtime, "ann", provisioning_status="IN_PROGRESS")
    with runtime.database.transaction() as session:
        saved = set_clients(
            runtime,
            session,
            {"ann": {"provisioning_status": "COMPLETED", "sms_enabled": False, "plan": None}, "ben": {"name": "Ben"}},
            actor="shop",
        )
    [warning] = saved.warnings
    assert saved == ClientsSet(created=1, changed=1, unchanged=0, welcomed=0, alerted=0, warnings=(warning,))
    assert "LOGIN_URL is not set" in warning


def test_every_value_of_a_client_that_is_no_good_is_named_and_nothing_is_written(runtime: Runtime) -> None:
    wrong_values = {"ann": {"email": "nobody"}, "ben": {"plan": "GOLD"}}
    with runtime.database.transaction() as session:
        with pytest.raises(InvalidInput, match=r"^client 'ann': email: .*; client 'ben': plan: 'GOLD' is not in"):
            set_clients(runtime, session, wrong_values, actor="shop")
        with pytest.raises(
            InvalidInput, match=r"^client 'ann': no field mail; did you mean email\? There are name, email, phone, "
        ):
            set_clients(runtime, session, {"ann": {"mail": "a@b.example"}}, actor="shop")


def test_one_stripe_customer_for_two_clients_of_one_call_is_refused_by_their_names(runtime: Runtime) -> None:
    same: dict[str, Any] = {"ann": {"stripe_customer_id": "cus_1"}, "ben": {"stripe_customer_id": "cus_1"}}
    with (
        pytest.raises(InvalidInput, match=r"^stripe_customer_id 'cus_1' is given to clients 'ann' and 'ben'; keep one"),
        runtime.database.transaction() as session,
    ):
        set_clients(runtime, session, same, actor="shop")


NOT_TYPED: Any = None
"""What a caller whose types nobody has checked may hand in."""
BY = {"actor": "shop"}
Wrong = Callable[[Runtime, Any], object]
WRONG: dict[str, tuple[Wrong, type[NotifyctlError], str]] = {
    "an action that is none": (
        lambda runtime, _: runtime.otp.send(PHONE, "PHONE_VERIFI", **BY),  # type: ignore[arg-type]
        InvalidInput,
        "action 'PHONE_VERIFI' is unknown; did you mean PHONE_VERIFY? It is one of PHONE_VERIFY, SENSITIVE_ACTION",
    ),
    "an action to check": (
        lambda runtime, _: runtime.otp.verify(PHONE, NOT_TYPED, "123456", **BY),
        InvalidInput,
        "action None is unknown; it is one of PHONE_VERIFY, SENSITIVE_ACTION",
    ),
    "a code that is a number": (
        lambda runtime, _: runtime.otp.verify(PHONE, OtpAction.PHONE_VERIFY, 123456, **BY),  # type: ignore[arg-type]
        InvalidInput,
        "code must be a string, got an integer",
    ),
    "no phone": (
        lambda runtime, _: runtime.otp.send(NOT_TYPED, OtpAction.PHONE_VERIFY, **BY),
        InvalidInput,
        "phone must be a string, got null",
    ),
    "a channel without a limit": (
        lambda runtime, session: set_limit(session, "FAX", 1, now=runtime.clock(), **BY),  # type: ignore[arg-type]
        InvalidInput,
        "channel 'FAX' is unknown; it is one of EMAIL, SMS",
    ),
    "a limit to take back": (
        lambda runtime, session: reset_limit(session, "FAX", now=runtime.clock(), **BY),  # type: ignore[arg-type]
        InvalidInput,
        "channel 'FAX' is unknown; it is one of EMAIL, SMS",
    ),
    "a limit of nothing": (
        lambda runtime, session: set_limit(session, Channel.SMS, 0, now=runtime.clock(), **BY),
        InvalidInput,
        "a limit is at least 1 a minute, got 0; to hold SMS back, pause it",
    ),
    "a channel to pause": (
        lambda runtime, session: pause(session, PauseScope(channel="FAX"), reason="x", now=runtime.clock(), **BY),
        InvalidInput,
        "channel 'FAX' is unknown; it is one of EMAIL, SMS",
    ),
    "nothing to pause": (
        lambda runtime, session: pause(session, PauseScope(), reason="x", now=runtime.clock(), **BY),
        InvalidInput,
        "a pause is of nothing; name a channel, a template or a client",
    ),
    "no reason to pause": (
        lambda runtime, session: pause(session, PauseScope(channel=Channel.SMS), reason=" ", now=runtime.clock(), **BY),
        InvalidInput,
        "a pause has no reason; say why, for those who will ask",
    ),
    "a template to pause": (
        lambda runtime, session: pause(
            session, PauseScope(template_key="WELCOM_EMAIL"), reason="x", now=runtime.clock(), **BY
        ),
        NotFound,
        "there is no template 'WELCOM_EMAIL'; did you mean WELCOME_EMAIL? `notifyctl templates list` shows those there",
    ),
    "an id that is a number": (
        lambda runtime, session: set_clients(runtime, session, {7: {}}, **BY),  # type: ignore[dict-item]
        InvalidInput,
        "a client's id must be a string, got an integer",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_a_caller_without_types_gets_wrong_is_an_error_of_ours_that_names_it(
    runtime: Runtime, call: Wrong, error: type[NotifyctlError], words: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(words)}"), runtime.database.transaction() as session:
        call(runtime, session)


def test_codes_are_sent_and_verified_from_python(runtime: Runtime) -> None:
    defined: dict[str, Any] = {"runtime": runtime}
    _run_example("codes", defined)
    defined["ask_for_code"](PHONE)
    with runtime.database.read() as session:
        [message] = all_messages(session)
    code = code_in(runtime, message.id)

    assert not defined["is_right"](PHONE, wrong(code))
    assert defined["is_right"](PHONE, code)
    assert not defined["is_right"](PHONE, code)


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    """As a host application is, with its lifespan. Its URL."""
    server = Server(Config(app, port=0, log_config=None, lifespan="on"))
    thread = Thread(target=server.run, name="shop")
    thread.start()
    deadline = monotonic() + 30
    while not server.started and monotonic() < deadline:
        sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_a_fastapi_application_queues_in_its_dependency(runtime: Runtime, host: dict[str, Any]) -> None:
    a_client(runtime)
    _run_example("fastapi", host)

    def fail(_connection: Connection) -> None:
        raise RuntimeError("not committed")

    with _served(host["app"]) as url:
        answers = [requests.post(f"{url}/clients/{name}/welcome", timeout=30) for name in ("acme", "nobody")]
        event.listen(host["runtime"].database.engine, "commit", fail)
        # Nobody is told that something is queued, and then it is not.
        assert requests.post(f"{url}/clients/acme/welcome", timeout=30).status_code == 500
    assert [answer.json()["status"] for answer in answers] == ["QUEUED", "BLOCKED"]
    with runtime.database.read() as session:
        assert {message.id for message in all_messages(session)} == {answer.json()["id"] for answer in answers}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_an_async_application_queues_in_its_own_session_and_wakes_a_worker(
    runtime: Runtime, host: dict[str, Any]
) -> None:
    a_client(runtime)
    for name in ("fastapi", "async"):
        _run_example(name, host)
    watcher = Watcher(runtime.database)
    with _served(host["app"]) as url:
        taken = requests.post(f"{url}/orders/1?client_id=acme", timeout=30)
        again = requests.post(f"{url}/orders/1?client_id=acme", timeout=30)
    asyncio.run(host["engine"].dispose())
    assert watcher.wait(30)
    watcher.close()
    assert (taken.status_code, taken.json()["status"], again.status_code) == (202, "QUEUED", 500)
    assert _orders(runtime) == 1
    with runtime.database.read() as session:
        [message] = all_messages(session)
    assert message.id == taken.json()["id"]


def test_what_operators_do_is_done_from_python(runtime: Runtime, host: dict[str, Any]) -> None:
    a_client(runtime)
    _run_example("operators", host)
    host["place_order"]("1", "acme", stock=1)

    assert host["close_shop"]("acme") == 1
    with runtime.database.transaction() as session:
        [message] = all_messages(session)
        assert message.status == "CANCELED"
        session.execute(text("UPDATE message_log SET status = 'FAILED', reason = 'UNKNOWN'"))
    assert host["open_again"]("acme") == 1
    with runtime.database.read() as session:
        [message] = all_messages(session)
        actions = session.execute(text("SELECT action FROM audit_log WHERE actor = 'shop' ORDER BY id")).scalars()
        assert list(actions)[-5:] == ["PAUSED", "NOTIFICATION_CANCELED", "RESUMED", "LIMIT_CHANGED", "OPERATOR_ACTION"]
    assert message.status == "QUEUED"
