"""A host application that shares the database: the example of docs/python.md, as it stands."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from codes import PHONE, code_in, wrong
from conftest import Environment
from factories import a_client, all_messages
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.models.otp import OtpAction

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"<!-- outbox:.*?-->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

PlaceOrder = Callable[..., str]


@pytest.fixture
def host(runtime: Runtime, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the example defines, run against this test's database."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with runtime.database.transaction() as session:
        session.execute(text("CREATE TABLE shop_order (id TEXT PRIMARY KEY, client_id TEXT NOT NULL)"))
    example = BLOCK.search(PAGE.read_text())
    assert example is not None
    defined: dict[str, Any] = {}
    exec(compile(example[1], str(PAGE), "exec"), defined)
    yield defined
    defined["runtime"].close()


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


def test_codes_are_sent_and_verified_from_python(runtime: Runtime) -> None:
    decision = runtime.otp.send(PHONE, OtpAction.PHONE_VERIFY)
    code = code_in(runtime, str(decision.message_id))

    assert not runtime.otp.verify(PHONE, OtpAction.PHONE_VERIFY, wrong(code))
    assert runtime.otp.verify(PHONE, OtpAction.PHONE_VERIFY, code)
