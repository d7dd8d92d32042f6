"""What nobody would write on purpose, and attackers do: it is refused, or blocked and on record, on both databases."""

import io
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from notifyctl.bootstrap import Runtime
from notifyctl.clients import csv_import
from notifyctl.clients.fields import ClientFields
from notifyctl.errors import InvalidInput
from notifyctl.keyring import SealedContext
from notifyctl.models.message import MessagePayload
from notifyctl.orchestrator.requests import Blocked
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, REMINDER, RESET, WELCOME, all_messages, message, send


def nested(depth: int) -> dict[str, Any]:
    outer: dict[str, Any] = {}
    inner = outer
    for _ in range(depth):
        inner["a"] = {}
        inner = inner["a"]
    return outer


REFUSED = {
    "recipient surrogate and key": ("OTP_CODE_SMS", {"recipient": "\ud800", "idempotency_key": "k"}),
    "recipient NUL": ("OTP_CODE_SMS", {"recipient": "+49\0"}),
    "recipient of 10 MB": ("OTP_CODE_SMS", {"recipient": "1" * 10_000_000}),
    "client id beyond an index row": ("WELCOME_EMAIL", {"client_id": "x" * 9_000}),
    "source ref of 10 MB": ("OTP_CODE_SMS", {"recipient": "+4915112345678", "source_ref": "x" * 10_000_000}),
    "metadata NaN": ("OTP_CODE_SMS", {"recipient": "+4915112345678", "metadata": {"a": float("nan")}}),
    "metadata NUL": ("OTP_CODE_SMS", {"recipient": "+4915112345678", "metadata": {"a": "\0"}}),
    "metadata Decimal": ("OTP_CODE_SMS", {"recipient": "+4915112345678", "metadata": {"a": Decimal(1)}}),
    "metadata surrogate": ("OTP_CODE_SMS", {"recipient": "+4915112345678", "metadata": {"a": "\udcff"}}),
}


@pytest.mark.parametrize(("template", "more"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_request_is_refused_before_anything_is_written(
    runtime: Runtime, template: str, more: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        send(runtime, template, CODE if template == "OTP_CODE_SMS" else WELCOME, **more)
    with runtime.database.read() as session:
        assert all_messages(session) == []


@pytest.mark.parametrize("data", [b"id,name\na\0b,x\n", b"id,name\nok,x\0y\n"], ids=["in the id", "in a name"])
def test_a_nul_in_an_import_is_a_bad_row(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clients.csv"
    path.write_bytes(data)
    ran = notifyctl("clients", "import", str(path))
    assert ran.code == 2
    assert " line 2, " in ran.err
    assert "another character that cannot be kept; take it out" in ran.err
    assert len(ran.err.splitlines()) == 2


def test_a_row_with_a_bad_id_is_not_looked_up(runtime: Runtime) -> None:
    file = csv_import.parse(b"id,name\na\0b,x\n,y\nok,z\n", "f.csv")
    checked = csv_import.check(file, file.records, ClientFields(runtime.plans))
    assert [change.id for change in checked.changes] == ["ok"]
    assert [fault.line for fault in checked.faults] == [2, 3]


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar_are_refused_in_one_line(
    runtime: Runtime, notifyctl: CommandLine, option: str, moment: str
) -> None:
    ran = notifyctl("messages", "list", option, moment)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"notifyctl: {option} '{moment}' is not a time in the years 1970 to 9998; write a nearer one\n"


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("moment", ["1970-01-01T00:00+14:00", "9998-12-31T23:59-14:00"])
def test_what_is_far_off_is_a_time(runtime: Runtime, notifyctl: CommandLine, option: str, moment: str) -> None:
    ran = notifyctl("messages", "list", option, moment)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "\udcff\udcfe", "--client", "a"],
        ["send", "WELCOME_EMAIL", "--client", "a", "--set", "client_name=\udcff"],
        ["messages", "list", "--template", "\udcff"],
        ["clients", "set", "\udcff", "--name", "x"],
        ["--env-file", "\udcff", "config"],
        ["\udcff"],
        ["clients", "show", "a\0b"],
    ],
    ids=ascii,
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_argument_that_is_no_text_is_one_line_and_exit_2(notifyctl: CommandLine, arguments: list[str]) -> None:
    ran = notifyctl(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("notifyctl: the argument '")
    assert ran.err.endswith(" is not UTF-8; write it in UTF-8\n")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_secret_is_sent_without_standing_on_the_command_line(
    runtime: Runtime, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{RESET['reset_url']}\n".encode())))
    a_client(runtime)
    to = ["send", "PASSWORD_RESET", "--client", "acme", "--set", "client_name=Acme", "--set", "valid_minutes=60"]
    ran = notifyctl(*to, "--set", "reset_url=@-")
    assert ran.code == 0, ran.err
    message_id = ran.out.split()[1]
    with runtime.database.read() as session:
        sealed = session.execute(select(MessagePayload).where(MessagePayload.message_id == message_id)).scalar_one()
    context = runtime.keys.open(SealedContext(sealed.key_id, sealed.sealed), message_id=message_id)
    assert context == RESET


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_help_of_send_says_how_a_secret_is_given(notifyctl: CommandLine) -> None:
    told = " ".join(notifyctl("send", "--help").out.split())
    assert "NAME=@FILE" in told
    assert "NAME=@-" in told
    assert "secret" in told


@pytest.mark.parametrize(
    "item",
    ["\ud800", "a\0b", 10**5000, "x" * 10_000_000, nested(100_000)],
    ids=["surrogate", "NUL", "huge", "long", "deep"],
)
def test_a_value_that_cannot_be_kept_is_blocked_and_on_record(runtime: Runtime, item: object) -> None:
    a_client(runtime)
    decision = send(runtime, "COMPLIANCE_EXPIRY_REMINDER", REMINDER | {"item_reference": item})
    assert isinstance(decision, Blocked)
    assert decision.reason == "CONTEXT_INVALID"
    assert len(message(runtime, decision.message_id).rate_subject) <= 200


@pytest.mark.parametrize("z", [10**5000, nested(100_000), float("nan")], ids=["huge", "deep", "NaN"])
def test_a_context_that_has_no_fingerprint_is_refused(runtime: Runtime, z: object) -> None:
    a_client(runtime)
    with pytest.raises(InvalidInput):
        send(runtime, "WELCOME_EMAIL", WELCOME | {"z": z}, idempotency_key="k")
