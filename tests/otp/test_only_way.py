"""OTP_CODE_SMS is sent by the OTP endpoints and the OTP API alone: no way leads past a phone's lock and limits."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import BlockReason
from notifyctl.orchestrator.requests import Queued, SendRequest
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, WELCOME, all_messages, code_pipe, message
from tests.support.otp_codes import PHONE, VERIFY, code_in, sent_code, sms, wrong

ASKED = SendRequest(template_key="OTP_CODE_SMS", recipient=PHONE, context=CODE)
AS_THE_OTP_API = replace(
    ASKED,
    source="otp",
    actor="key:backend",
    metadata={"action": "PHONE_VERIFY", "phone_hash": "0" * 64, "attempt_count": 0},
    objections={BlockReason.SUPPRESSED: ""},
)
TO_A_CLIENT = replace(ASKED, recipient=None, client_id="acme", idempotency_key="k")


def _lock(runtime: Runtime) -> None:
    code = sent_code(runtime)
    for number in range(5):
        assert not runtime.otp.verify(PHONE, VERIFY, wrong(code, number + 1))
    assert runtime.otp.status(PHONE).is_locked


@pytest.mark.parametrize("asked", [ASKED, AS_THE_OTP_API, TO_A_CLIENT], ids=["plain", "as the OTP API", "to a client"])
def test_the_orchestrator_sends_no_code_whatever_the_request_says(runtime: Runtime, asked: SendRequest) -> None:
    a_client(runtime)
    welcome = SendRequest(template_key="WELCOME_EMAIL", client_id="acme", context=WELCOME)
    with pytest.raises(InvalidInput, match="/api/otp/send"), runtime.database.transaction() as session:
        runtime.orchestrator.send(session, asked)
    with pytest.raises(InvalidInput, match="/api/otp/send"), runtime.database.transaction() as session:
        runtime.orchestrator.send_many(session, [welcome, asked])
    with pytest.raises(InvalidInput, match="/api/otp/send"), runtime.database.read() as session:
        runtime.orchestrator.preview(session, asked)

    with runtime.database.read() as session:
        assert not all_messages(session)


def test_the_pipe_of_codes_carries_nothing_else(runtime: Runtime) -> None:
    a_client(runtime)
    with pytest.raises(InvalidInput, match="WELCOME_EMAIL"), runtime.database.transaction() as session:
        code_pipe(runtime).send(session, SendRequest(template_key="WELCOME_EMAIL", client_id="acme", context=WELCOME))


def test_the_command_line_sends_no_code_to_a_locked_phone(runtime: Runtime, notifyctl: CommandLine) -> None:
    _lock(runtime)
    before = sms(runtime)
    asked = ["send", "OTP_CODE_SMS", "--to", PHONE, "--set", "code=493027", "--set", "valid_minutes=10"]
    for arguments in (asked, [*asked, "--dry-run"], [*asked, "--dry-run", "--format", "json"]):
        ran = notifyctl(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("notifyctl: OTP_CODE_SMS is sent for POST /api/otp/send")
        assert len(ran.err.splitlines()) == 1
    assert sms(runtime) == before


def test_a_code_that_failed_is_not_queued_again(runtime: Runtime, notifyctl: CommandLine) -> None:
    """What a code was is gone when its message is done, so an operator's retry is no way round the limits either."""
    decision = runtime.otp.send(PHONE, VERIFY)
    assert isinstance(decision, Queued)
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_payload"))
        session.execute(text("UPDATE message_log SET status = 'FAILED', next_attempt_at = NULL"))
    ran = notifyctl("messages", "retry", "--template", "OTP_CODE_SMS", "--yes")

    assert "erased" in ran.out + ran.err
    assert message(runtime, decision.message_id).status == "FAILED"


def test_the_otp_api_sends_as_before(runtime: Runtime) -> None:
    decision = runtime.otp.send(PHONE, VERIFY)
    assert isinstance(decision, Queued)
    assert runtime.otp.verify(PHONE, VERIFY, code_in(runtime, decision.message_id))
    assert message(runtime, decision.message_id).source == "otp"
