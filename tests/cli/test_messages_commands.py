import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options
from notifyctl.cli.main import main
from notifyctl.clients.suppressions import suppress
from notifyctl.delivery.requeue import Requeue
from notifyctl.errors import ExitCode
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.operations import breakers
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.gates import ASKED_AGAIN
from tests.support.clients import a_client
from tests.support.messages import CODE, REMINDER_SMS, RESET, WELCOME, actions, fail, message, send
from tests.support.processes import Environment

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def run(
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> Run:
    """Runs a command in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return command


def test_send_prints_the_message_and_exits_0(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    code, out, _ = run("send", "WELCOME_EMAIL", "--client", "acme", *_set(WELCOME), "--format", "json")
    answer = json.loads(out)
    assert code == ExitCode.DONE
    assert answer == {"id": answer["id"], "status": "QUEUED", "reason": None, "duplicate_of": None}
    assert message(runtime, answer["id"]).source == "cli"
    _, listed, _ = run("audit", "list", "--message", answer["id"], "--actor", options.actor(), "--format", "json")
    assert [entry["action"] for entry in json.loads(listed)] == ["NOTIFICATION_QUEUED"]


def test_send_prints_status_and_id_for_people_and_for_read(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    code, out, err = run("send", "WELCOME_EMAIL", "--client", "acme", *_set(WELCOME))
    status, message_id = out.split()
    assert (code, status, err) == (0, "QUEUED", "")
    assert message(runtime, message_id).status == "QUEUED"
    code, out, err = run("send", "WELCOME_EMAIL", "--client", "acme", *_set(WELCOME))
    assert (code, out.split()[0]) == (ExitCode.REFUSED, "BLOCKED")
    assert err == "notifyctl: refused by RATE_LIMITED: 1 of at most 1 send in the last 24 h\n"


def test_a_repeated_key_prints_the_first_message_and_says_so(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    command = ["send", "PASSWORD_RESET", "--client", "acme", *_set(RESET), "--idempotency-key", "k"]
    _, first, _ = run(*command)
    code, again, err = run(*command)
    assert (code, again) == (0, first)
    assert err == "That idempotency key has been used before: this is its message, and no other was made.\n"


def test_last_is_the_newest_message(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    newest = send(runtime, "PASSWORD_RESET", RESET)
    assert json.loads(run("messages", "show", "last", "-f", "json")[1])["id"] == newest.message_id
    assert newest.message_id in run("messages", "explain", "last")[1]
    assert run("messages", "cancel", "last", "--yes")[2] == "1 message canceled.\n"
    assert message(runtime, newest.message_id).status == "CANCELED"
    a_client(runtime, "beacon")
    fail(runtime, send(runtime, "WELCOME_EMAIL", WELCOME, client_id="beacon").message_id)
    assert run("messages", "retry", "last", "--yes")[2] == "1 message queued again.\n"


def _set(context: dict[str, Any]) -> list[str]:
    return [word for name, value in context.items() for word in ("--set", f"{name}={value}")]


def test_send_turns_text_into_the_declared_types(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    code, _, err = run("send", "PASSWORD_RESET", "--client", "acme", *_set(RESET))
    assert code == 0, err
    code, _, err = run("send", "PASSWORD_RESET", "--client", "acme", *_set(RESET | {"valid_minutes": "soon"}))
    assert code == ExitCode.REFUSED
    assert err.startswith("notifyctl: refused by CONTEXT_INVALID: valid_minutes")


def test_a_refused_send_exits_3_says_why_and_is_on_record(runtime: Runtime, run: Run) -> None:
    code, out, err = run("send", "WELCOME_EMAIL", "--client", "nobody", *_set(WELCOME), "--format", "json")
    assert code == ExitCode.REFUSED
    assert err == "notifyctl: refused by CLIENT_UNKNOWN: there is no client nobody\n"
    answer = json.loads(out)
    assert (answer["status"], answer["reason"]) == ("BLOCKED", "CLIENT_UNKNOWN")
    assert message(runtime, answer["id"]).status == "BLOCKED"


def test_a_repeated_key_names_the_first_message(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    command = [
        "send",
        "WELCOME_EMAIL",
        "--client",
        "acme",
        *_set(WELCOME),
        "--idempotency-key",
        "k",
        "-f",
        "json",
    ]
    first = json.loads(run(*command)[1])
    code, out, _ = run(*command)
    assert code == 0
    assert json.loads(out)["duplicate_of"] == first["id"]
    code, _, err = run(*command, "--set", "client_name=Other")
    assert code == ExitCode.USAGE
    command[5] = "client_name=Other"
    code, _, err = run(*command)
    assert code == ExitCode.FAILED
    assert "'k' belongs to message" in err


def test_a_dry_run_shows_every_gate_and_writes_nothing(runtime: Runtime, run: Run) -> None:
    a_client(runtime, provisioning_status="PENDING")
    code, out, err = run("send", "WELCOME_EMAIL", "--client", "acme", *_set(WELCOME), "--dry-run", "-f", "json")
    verdicts = {row["gate"]: row["verdict"] for row in json.loads(out)}
    assert code == ExitCode.REFUSED
    assert len(verdicts) == 13
    assert verdicts["PROVISIONING_INCOMPLETE"] == "refused"
    assert "refused by PROVISIONING_INCOMPLETE" in err
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM message_log")).scalar_one() == 0


def test_where_no_template_is_there_yet_one_is_told_how_to_seed_them(runtime: Runtime, run: Run) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("DELETE FROM notification_template_version"))
        session.execute(text("DELETE FROM notification_template"))
    code, _, err = run("send", "WELCOME_EMAIL", "--client", "acme")
    told = "there is no template 'WELCOME_EMAIL', nor any other yet; run `notifyctl templates seed`"
    assert (code, err) == (ExitCode.NOT_FOUND, f"notifyctl: {told}\n")


BAD_INPUT = {
    "an unknown template": (["send", "NOPE", "--client", "acme"], 4, "there is no template 'NOPE'"),
    "neither client nor address": (["send", "WELCOME_EMAIL"], 2, "give --client or --to"),
    "both": (["send", "WELCOME_EMAIL", "--client", "a", "--to", "b@c.example"], 2, "give --client or --to"),
    "not NAME=VALUE": (["send", "WELCOME_EMAIL", "--client", "a", "--set", "x"], 2, "NAME=VALUE"),
    "header injection": (
        ["send", "PASSWORD_RESET", "--to", "a@b.example\r\nBcc: c@d.example", *_set(RESET)], 3,
        "refused by CLIENT_UNKNOWN",
    ),
    "header injection into an address": (
        ["send", "COMPLIANCE_SLA_ALERT", "--to", "a@b.example\r\n", "--set", "subject=x", "--set", "details=y",
         "--set", "count=1"], 3, "RECIPIENT_INVALID",
    ),
    "a code": (["send", "OTP_CODE_SMS", "--to", "+4915112345678", *_set(CODE)], 2, "POST /api/otp/send"),
    "an id that is none": (["messages", "show", "17"], 2, "'17' is not a message id"),
    "an unknown id": (["messages", "explain", "0198c7b2-0000-7000-8000-000000000000"], 4, "there is no message"),
    "the last of none": (["messages", "explain", "last"], 4, "there is no message yet"),
    "an unknown status": (["messages", "list", "--status", "LOST"], 2, "QUEUED"),
    "a bad time": (["messages", "list", "--since", "yesterday"], 2, "'yesterday' is not a time"),
    "retry of nothing in particular": (["messages", "retry"], 2, "or --reason, --channel, --template, --client, "),
    "cancel of nothing in particular": (["messages", "cancel"], 2, "ids, or --status, --reason, --channel, "),
    "a span with nothing in it": (["messages", "list", "--since", "1h", "--until", "2h"], 2, "is not before --until ("),
    "no client's id": (["send", "WELCOME_EMAIL", "--client", ""], 2, "--client is empty"),
    "no address": (["send", "WELCOME_EMAIL", "--to", ""], 2, "--to is empty"),
    "cancel of nothing that waits": (["messages", "cancel", "--client", "acme"], 4, "no waiting message"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_bad_input_is_one_line_and_a_documented_code(runtime: Runtime, run: Run, case: tuple[Any, ...]) -> None:
    arguments, expected, words = case
    code, _, err = run(*arguments)
    assert code == expected
    assert len(err.splitlines()) == 1
    assert err.startswith("notifyctl: ")
    assert words in err


def test_the_list_filters_masks_and_speaks_every_format(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    _, out, _ = run("messages", "list", "--format", "json")
    assert [row["status"] for row in json.loads(out)] == ["QUEUED", "BLOCKED", "QUEUED"]
    assert "acme@client.example" not in out
    assert "+4915112345678" not in out
    _, out, _ = run("messages", "list", "--status", "blocked", "--reveal", "--since", "1h", "-f", "jsonl")
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert (row["reason"], row["recipient"]) == ("RATE_LIMITED", "acme@client.example")
    _, out, _ = run("messages", "list", "--to", "+49 151 12345678", "--reveal", "-f", "csv")
    assert out.splitlines()[1].count(",+4915112345678,") == 1
    for form in ("table", "tsv", "github"):
        assert "OTP_CODE_SMS" in run("messages", "list", "--template", "OTP_CODE_SMS", "-f", form)[1]


def test_explain_tells_the_gate_that_refused(runtime: Runtime, run: Run) -> None:
    a_client(runtime, provisioning_status="PENDING")
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    code, out, _ = run("messages", "explain", decision.message_id)
    assert code == 0
    assert "It was not sent: the gate PROVISIONING_INCOMPLETE refused (provisioning is PENDING, not COMPLETED)." in out
    assert (
        "To lift that: `notifyctl clients set acme --provisioning COMPLETED`, once they are. Then send it anew" in out
    )
    assert re.search(r"Z  BLOCKED  PROVISIONING_INCOMPLETE: ", out)
    assert re.search(r"\nGates: \d passed, PROVISIONING_INCOMPLETE refused, \d not asked; --gates shows each\n$", out)
    _, out, _ = run("messages", "explain", decision.message_id, "-f", "json")
    told = json.loads(out)
    assert told["gates"][8] == {
        "gate": "PROVISIONING_INCOMPLETE", "verdict": "refused", "detail": "provisioning is PENDING, not COMPLETED",
    }  # fmt: skip
    assert [step["action"] for step in told["timeline"]] == ["NOTIFICATION_BLOCKED"]


def test_explain_names_each_gate_by_what_must_hold_and_leaves_no_blanks(runtime: Runtime, run: Run) -> None:
    a_client(runtime, provisioning_status="PENDING")
    for command in (
        ["send", "WELCOME_EMAIL", "--client", "acme", *_set(WELCOME), "--dry-run"],
        ["messages", "explain", send(runtime, "WELCOME_EMAIL", WELCOME).message_id, "--gates"],
    ):
        lines = run(*command)[1].splitlines()
        assert "  ok  template enabled           TEMPLATE_DISABLED" in lines
        assert "  --  billing comes from Stripe  BILLING_ONLY_FROM_STRIPE" in lines
        refusal = "provisioning is PENDING, not COMPLETED"
        assert f"  no  provisioning completed     PROVISIONING_INCOMPLETE   {refusal}" in lines
        assert [line for line in lines if line != line.rstrip()] == []


def test_explain_says_when_no_worker_is_running(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    _, out, _ = run("messages", "explain", decision.message_id)
    assert "no worker is running, start one with `notifyctl worker`" in out


def test_a_cause_that_the_message_has_met_with_is_told_once(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    decision, now = send(runtime, "WELCOME_EMAIL", WELCOME), runtime.clock()
    with runtime.database.transaction() as session:
        breakers.open_(session, Channel.EMAIL, reason="HTTP 503: down", now=now, probe_at=now)
    _, out, _ = run("messages", "explain", "last")
    held = "held by the circuit breaker of EMAIL (HTTP 503: down)"
    assert f"{held}.\nit goes out by itself once a worker finds the provider up again" in out
    with runtime.database.transaction() as session:
        session.execute(
            text("UPDATE message_log SET status = 'RETRY_SCHEDULED', attempts = 1, error = 'HTTP 503: down'")
        )
    _, out, _ = run("messages", "explain", decision.message_id)
    assert out.count("HTTP 503") == 1
    assert "held by the circuit breaker of EMAIL.\n" in out


def test_retry_asks_first_and_queues_failed_messages_again(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    fail(runtime, decision.message_id)
    code, _, err = run("messages", "retry", decision.message_id)
    assert code == ExitCode.USAGE
    assert "Send 1 message again? There is no terminal to ask on; say --yes" in err
    code, _, err = run("messages", "retry", "--template", "WELCOME_EMAIL", "--yes")
    assert (code, err) == (0, "1 message queued again.\n")
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason, row.attempts) == ("QUEUED", None, 0)
    assert actions(runtime, decision.message_id)[-1] == "OPERATOR_ACTION"


def test_retry_refuses_what_has_expired_and_what_was_erased(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    expired = send(runtime, "WELCOME_EMAIL", WELCOME)
    erased = send(runtime, "PASSWORD_RESET", RESET)
    for decision in (expired, erased):
        fail(runtime, decision.message_id)
    late = runtime.clock() - timedelta(seconds=1)
    with runtime.database.transaction() as session:
        stored = str(late)[:26] if runtime.database.is_sqlite else late
        session.execute(
            text("UPDATE message_log SET expires_at = :late WHERE template_key = 'WELCOME_EMAIL'"),
            {"late": stored},
        )
        session.execute(text("DELETE FROM message_payload WHERE sealed IS NOT NULL"))
    code, _, err = run("messages", "retry", "--client", "acme", "--yes")
    assert code == ExitCode.NOT_FOUND
    assert "1 will not be sent again: their send-by time has passed." in err
    assert "1 will not be sent again: their context was erased." in err
    assert message(runtime, expired.message_id).status == "FAILED"


def test_a_message_that_is_named_in_vain_is_told_with_its_status(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    waits, failed = send(runtime, "PASSWORD_RESET", RESET), send(runtime, "PASSWORD_RESET", RESET)
    fail(runtime, failed.message_id)
    short, other = waits.message_id[-8:], failed.message_id[-8:]
    left_alone = f"{short} is QUEUED: only FAILED messages can be sent again"
    assert run("messages", "retry", short) == (4, "", f"notifyctl: {left_alone}\n")
    code, _, err = run("messages", "retry", short, other, "--yes")
    assert (code, err) == (0, f"{left_alone}.\n1 message queued again.\n")
    fail(runtime, failed.message_id)
    left_alone = f"{other} is FAILED: only waiting messages can be canceled"
    assert run("messages", "cancel", other) == (4, "", f"notifyctl: {left_alone}\n")
    code, _, err = run("messages", "cancel", short, other, "--yes")
    assert (code, err) == (0, f"{left_alone}.\n1 message canceled.\n")


def test_cancel_withdraws_what_waits_and_leaves_what_is_being_sent(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    first, second = send(runtime, "PASSWORD_RESET", RESET), send(runtime, "PASSWORD_RESET", RESET)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'SENDING' WHERE id = :id"), {"id": second.message_id})
    code, _, err = run("messages", "cancel", "--client", "acme", "--yes")
    assert (code, err) == (0, "1 message canceled.\n")
    assert [message(runtime, decision.message_id).status for decision in (first, second)] == [
        "CANCELED",
        "SENDING",
    ]
    assert actions(runtime, first.message_id)[-1] == "NOTIFICATION_CANCELED"


def _refuse(runtime: Runtime, gate: str) -> dict[str, str]:
    """Makes this gate refuse client acme; the environment in which it does."""
    changes = {
        "SMS_DISABLED": "UPDATE client SET sms_enabled = false",
        "PROVISIONING_INCOMPLETE": "UPDATE client SET provisioning_status = 'PENDING'",
        "SUBSCRIPTION_INACTIVE": "UPDATE client SET subscription_status = 'CANCELED'",
        "PLAN_FEATURE_MISSING": "UPDATE client SET plan = 'SOLO'",
        "TEMPLATE_DISABLED": "UPDATE notification_template SET enabled = false",
        "CLIENT_UNKNOWN": "UPDATE client SET erased_at = created_at",
    }
    with runtime.database.transaction() as session:
        if gate in changes:
            session.execute(text(changes[gate].replace("'CANCELED'", "'canceled'")))
        elif gate == "SUPPRESSED":
            for channel, address in ((Channel.EMAIL, "acme@client.example"), (Channel.SMS, "+4915112345678")):
                suppress(
                    session, runtime.keys, channel, address,
                    reason=SuppressionReason.INACTIVE, actor="postmark", now=runtime.clock(),
                )  # fmt: skip
    return {"SMS_ENABLED": "false"} if gate == "NO_SMS" else {}


REFUSALS = {
    "SUPPRESSED": (
        "WELCOME_EMAIL",
        "`notifyctl suppressions remove EMAIL ADDRESS` (see `notifyctl suppressions list --reveal`)",
    ),
    "TEMPLATE_DISABLED": ("WELCOME_EMAIL", "`notifyctl templates enable WELCOME_EMAIL`"),
    "PROVISIONING_INCOMPLETE": (
        "WELCOME_EMAIL", "`notifyctl clients set acme --provisioning COMPLETED`, once they are",
    ),
    "CLIENT_UNKNOWN": ("WELCOME_EMAIL", "`notifyctl clients set acme --name NAME --email ADDRESS`"),
    "SMS_DISABLED": ("COMPLIANCE_EXPIRY_REMINDER_SMS", "`notifyctl clients set acme --sms`, once they have consented"),
    "NO_SMS": ("COMPLIANCE_EXPIRY_REMINDER_SMS", "SMS_ENABLED=true"),
    "SUBSCRIPTION_INACTIVE": (
        "COMPLIANCE_EXPIRY_REMINDER_SMS",
        "`notifyctl clients set acme --subscription active`, or `notifyctl stripe reconcile`",
    ),
    "PLAN_FEATURE_MISSING": ("COMPLIANCE_EXPIRY_REMINDER_SMS", "`notifyctl clients set acme --plan PLAN`"),
}  # fmt: skip


@pytest.mark.parametrize(("gate", "template", "remedy"), [(gate, *case) for gate, case in REFUSALS.items()])
def test_what_a_gate_would_refuse_stays_failed_and_is_told_with_what_lifts_it(
    runtime: Runtime, run: Run, monkeypatch: pytest.MonkeyPatch, gate: str, template: str, remedy: str
) -> None:
    a_client(runtime)
    context = WELCOME if template == "WELCOME_EMAIL" else REMINDER_SMS
    decision = send(runtime, template, context)
    fail(runtime, decision.message_id)
    for name, value in _refuse(runtime, gate).items():
        monkeypatch.setenv(name, value)

    code, _, err = run("messages", "retry", "--client", "acme", "--yes")

    reason = "SMS_DISABLED" if gate == "NO_SMS" else gate
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == f"1 would be refused by {reason} now and stays FAILED; to lift that: {remedy}"
    row = message(runtime, decision.message_id)
    assert (row.status, row.reason) == ("FAILED", "UNKNOWN")
    assert "OPERATOR_ACTION" not in actions(runtime, decision.message_id)


def test_every_gate_that_is_asked_again_is_asked_before_queueing_again() -> None:
    assert set(REFUSALS) - {"NO_SMS"} == set(ASKED_AGAIN)


def test_the_preview_counts_by_reason_and_by_template_and_queues_the_rest(runtime: Runtime, run: Run) -> None:
    for number in range(4):
        a_client(runtime, f"c{number}")
        fail(runtime, send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}").message_id)
    reset = send(runtime, "PASSWORD_RESET", RESET, client_id="c3").message_id
    fail(runtime, reset)
    for address in ("c0@client.example", "c1@client.example"):
        with runtime.database.transaction() as session:
            suppress(
                session, runtime.keys, Channel.EMAIL, address,
                reason=SuppressionReason.INACTIVE, actor="postmark", now=runtime.clock(),
            )  # fmt: skip

    code, _, err = run("messages", "retry", "--since", "1h", "--yes")

    assert code == 0
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "2 would be refused by SUPPRESSED now and stay FAILED",
        "To be sent again: 1 PASSWORD_RESET, 2 WELCOME_EMAIL",
        "3 messages queued again.",
    ]
    with runtime.database.read() as session:
        counts = message_store.count_by_status(session, message_store.MessageFilter())
    assert counts == {"FAILED": 2, "QUEUED": 3}
    assert run("suppressions", "remove", "EMAIL", "c0@client.example")[0] == 0
    assert run("messages", "retry", "--client", "c0", "--yes")[2] == "1 message queued again.\n"


def test_who_is_suppressed_while_the_question_is_asked_stays_failed_too(runtime: Runtime) -> None:
    a_client(runtime)
    decision = send(runtime, "WELCOME_EMAIL", WELCOME)
    fail(runtime, decision.message_id)
    again = Requeue(runtime.keys, runtime.plans, sms_enabled=True)
    with runtime.database.read() as session:
        chosen = again.choose(session, message_store.MessageFilter(), runtime.clock())
    assert list(chosen.ids) == [decision.message_id]
    _refuse(runtime, "SUPPRESSED")
    with runtime.database.transaction() as session:
        assert again.queue(session, chosen.ids, actor="cli", now=runtime.clock()) == 0
    assert message(runtime, decision.message_id).status == "FAILED"
