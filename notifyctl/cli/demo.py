"""`notifyctl demo`: the main job from end to end, on a database and a sandbox of its own."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import shorten
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifyctl.cli import output

if TYPE_CHECKING:
    from notifyctl.bootstrap import Runtime
    from notifyctl.orchestrator.requests import Decision, SendRequest
    from notifyctl.providers.sandbox import Sandbox

CLIENTS = """\
id,name,email,phone,plan,provisioning_status,subscription_status,sms_enabled,timezone
acme,Acme GmbH,ops@acme.example,+4915112345678,PRO,COMPLETED,active,yes,Europe/Berlin
beacon,Beacon Ltd,hello@beacon.example,+447700900123,SOLO,COMPLETED,active,yes,Europe/London
cedar,Cedar Inc,team@cedar.example,+12025550143,PRO,PENDING,trialing,yes,America/New_York
dune,Dune SARL,bonjour@dune.example,,PRO,IN_PROGRESS,none,no,Europe/Paris
elm,Elm Oy,terve@elm.example,+358401234567,PRO,FAILED,canceled,yes,Europe/Helsinki
fjord,Fjord AS,busy-1@fjord.example,+4740123456,SOLO,COMPLETED,past_due,no,Europe/Oslo
grove,Grove BV,inactive@grove.example,+31612345678,PRO,COMPLETED,active,no,Europe/Amsterdam
harbor,Harbor Co,,,SOLO,COMPLETED,active,no,UTC
"""
"""Both plans and all provisioning states. fjord's mailbox fails once, and grove's is inactive, in the sandbox."""

GIST = 46
"""Characters of an arrival that are shown."""


class _Clock:
    """Real time, which the demo may turn ahead so that nobody waits for a backoff."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        from notifyctl.clock import system_clock

        return system_clock() + self.ahead


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Keep the inbox and a worker up until Ctrl-C.")] = False,
) -> None:
    """See the main job once: clients, templates, every gate, a retry, a hard failure, and the explanation of one."""
    from notifyctl.providers.sandbox import Sandbox

    logging.getLogger("notifyctl").addHandler(logging.NullHandler())  # what the worker logs is told in the sections
    clock = _Clock()
    with (
        tempfile.TemporaryDirectory(prefix="notifyctl-demo-") as folder,
        Sandbox() as sandbox,
        _runtime(Path(folder), sandbox.url, clock) as runtime,
    ):
        _set_up(runtime, sandbox.url)
        watched = _send_accepted(runtime)
        _send_refused(runtime)
        _deliver(runtime, clock)
        _show_arrivals(sandbox)
        _explain(runtime, watched)
        if stay:
            _stay(runtime, sandbox.url, Path(folder))
    if not stay:
        output.say()
        output.say("Nothing of it is kept. `notifyctl demo --stay` keeps the inbox open.")


@contextmanager
def _runtime(folder: Path, url: str, clock: _Clock) -> Iterator["Runtime"]:
    """Settings of the demo's own: nothing of the caller's environment or .env is used."""
    from secrets import token_hex

    from notifyctl.bootstrap import open_runtime
    from notifyctl.settings import Settings

    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{folder / 'notifyctl.db'}",
            "notification_secret_key": token_hex(32),
            "otp_pepper": token_hex(32),
            "otp_allowed_countries": "DE,GB,US,FI,NO,NL",
            "email_sender": "Acme Cloud <hello@cloud.example>",
            "email_reply_to": "support@cloud.example",
            "postmark_server_token": "sandbox",
            "postmark_api_url": url,
            "twilio_account_sid": "ACsandbox",
            "twilio_auth_token": "sandbox",
            "twilio_from_number": "+15005550006",
            "twilio_api_url": url,
        }
    )
    runtime = open_runtime(settings, clock=clock)
    try:
        yield runtime
    finally:
        runtime.close()


def _set_up(runtime: "Runtime", url: str) -> None:
    from notifyctl.orchestrator import catalogue
    from notifyctl.store import migrations

    revision = migrations.upgrade(runtime.database).revision
    with runtime.database.transaction() as session:
        files = catalogue.load(catalogue.templates_dir())
        catalogue.seed(session, files, settings=runtime.settings, now=runtime.clock(), actor="demo")
    clients = _import_clients(runtime)
    _title(1, "An installation of its own")
    output.listing(
        [
            ("db upgrade", f"a new SQLite file, at revision {revision}"),
            ("templates seed", f"{len(files)} templates"),
            ("clients import", f"{clients} clients, of both plans, in every state of provisioning"),
            ("sandbox", f"stands in for Postmark and Twilio at {url}"),
        ]
    )


def _import_clients(runtime: "Runtime") -> int:
    from notifyctl.orchestrator import client_files
    from notifyctl.orchestrator.client_fields import ClientFields
    from notifyctl.orchestrator.clients import set_clients

    file = client_files.parse(CLIENTS.encode(), "the demo's clients")
    changes = client_files.check(file, file.records, ClientFields(runtime.plans)).changes
    with runtime.database.transaction() as session:
        return set_clients(session, changes, actor="demo", now=runtime.clock()).created


@dataclass(frozen=True, slots=True)
class _Case:
    what: str
    request: "SendRequest"


def _send_accepted(runtime: "Runtime") -> str:
    """Returns the id of the message that will need a retry."""
    _title(2, "Messages are asked for, and go into the queue")
    decisions = _send(runtime, list(_accepted()))
    return next(decision.message_id for case, decision in decisions if case.request.client_id == "fjord")


def _send_refused(runtime: "Runtime") -> None:
    _title(3, "Others are refused, each by another gate")
    _send(runtime, list(_refused()))


def _send(runtime: "Runtime", cases: "Sequence[_Case]") -> "list[tuple[_Case, Decision]]":
    decisions = []
    for case in cases:
        with runtime.database.transaction() as session:
            decisions.append((case, runtime.orchestrator.send(session, case.request)))
    output.listing([_decision_cells(case, decision) for case, decision in decisions])
    return decisions


def _decision_cells(case: _Case, decision: "Decision") -> tuple[output.Cell, ...]:
    from notifyctl.orchestrator.requests import Blocked, Duplicate

    if isinstance(decision, Duplicate):
        return case.what, ("duplicate", "cyan"), "same idempotency key, no second message"
    told = decision.reason.value if isinstance(decision, Blocked) else case.request.template_key
    return case.what, _coloured(decision.status), told


def _coloured(status: str) -> tuple[str, str]:
    return str(status), output.STATUS_STYLES[status]


def _ask(what: str, template: str, client: str | None, context: dict[str, Any], **more: Any) -> _Case:
    from notifyctl.orchestrator.requests import SendRequest

    return _Case(what, SendRequest(template_key=template, client_id=client, context=context, source="demo", **more))


def _welcome(what: str, client: str) -> _Case:
    context = {"client_name": client.capitalize(), "login_url": f"https://cloud.example/{client}"}
    return _ask(what, "WELCOME_EMAIL", client, context)


def _reminder(what: str, template: str, client: str) -> _Case:
    context = {"item_name": "Trade licence", "item_reference": "TL-20", "expires_on": "2027-01-15", "days_left": 30}
    if template == "COMPLIANCE_EXPIRY_REMINDER":
        context |= {"client_name": client.capitalize(), "renew_url": "https://cloud.example/renew/TL-20"}
    return _ask(what, template, client, context)


def _code(what: str, number: str) -> _Case:
    return _ask(what, "OTP_CODE_SMS", None, {"code": "493027", "valid_minutes": 10}, recipient=number)


def _accepted() -> Iterator[_Case]:
    reset = {"client_name": "Acme", "reset_url": "https://cloud.example/reset/x", "valid_minutes": 60}
    yield _welcome("a new client is ready", "acme")
    yield _ask("a password link", "PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield _ask("the caller tries it twice", "PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield _code("a one-time code", "+4915112345678")
    yield _reminder("a reminder, plan PRO", "COMPLIANCE_EXPIRY_REMINDER_SMS", "acme")
    yield _reminder("to a busy mailbox", "COMPLIANCE_EXPIRY_REMINDER", "fjord")
    yield _reminder("to a dead mailbox", "COMPLIANCE_EXPIRY_REMINDER", "grove")


def _refused() -> Iterator[_Case]:
    """In the order of the gates, but for SUPPRESSED: nobody is, before the first delivery."""
    alert = {"summary": "Email is failing"}
    yield _ask("a template switched off", "OPS_ALERT_SMS", None, alert, recipient="+12025550143")
    yield _ask("a billing mail, not from Stripe", "PAYMENT_FAILED", "acme", {})
    yield _welcome("a client nobody knows", "zenith")
    yield _ask("a variable is missing", "PASSWORD_RESET", "beacon", {"client_name": "Beacon"})
    yield _welcome("a client without an address", "harbor")
    yield _code("letters for a number", "0800-CALL-ME")
    yield _code("a country not served", "+33612345678")
    yield _reminder("no consent to SMS", "COMPLIANCE_EXPIRY_REMINDER_SMS", "grove")
    yield _welcome("not provisioned yet", "cedar")
    yield _reminder("subscription ended", "COMPLIANCE_EXPIRY_REMINDER", "elm")
    yield _reminder("a reminder, plan SOLO", "COMPLIANCE_EXPIRY_REMINDER_SMS", "beacon")
    yield _welcome("a second welcome", "acme")


def _deliver(runtime: "Runtime", clock: _Clock) -> None:
    _title(4, "A worker sends what was accepted")
    first = _drain(runtime)
    clock.ahead += timedelta(seconds=31)
    second = _drain(runtime)
    output.listing([("worker --once", *first), ("31 s later, by the demo's clock", *second)])
    _title(5, "The dead mailbox is suppressed now")
    _send(runtime, [_welcome("another mail to it", "grove")])


def _drain(runtime: "Runtime") -> tuple[output.Cell, ...]:
    """How it stands after it, and how long it took."""
    from rich.text import Text

    from notifyctl.models.message import MessageStatus
    from notifyctl.orchestrator.words import took
    from notifyctl.store.messages import Filter, count_by_status

    started = perf_counter()
    _worker(runtime, once=True).run()
    seconds = perf_counter() - started
    with runtime.database.read() as session:
        counts = count_by_status(session, Filter())
    shown = (MessageStatus.SENT, MessageStatus.RETRY_SCHEDULED, MessageStatus.FAILED)
    found = [Text.assemble(f"{counts[status]} ", _coloured(status)) for status in shown if status in counts]
    return Text(", ").join(found), took(seconds)


def _worker(runtime: "Runtime", *, once: bool) -> Any:
    from notifyctl.models.template import Channel
    from notifyctl.providers.senders import build_senders
    from notifyctl.worker.daemon import Worker

    return Worker(runtime, build_senders(runtime.settings, list(Channel), concurrency=20), once=once)


def _show_arrivals(sandbox: "Sandbox") -> None:
    _title(6, "What arrived in the sandbox")
    arrivals = sandbox.messages()
    output.listing(
        [(arrival.channel.value, _to(arrival), shorten(_gist(arrival), GIST, placeholder=" …")) for arrival in arrivals]
    )


def _explain(runtime: "Runtime", message_id: str) -> None:
    from notifyctl.cli.explanation import print_explanation
    from notifyctl.orchestrator.explain import explain
    from notifyctl.store import audit, messages

    _title(7, f"notifyctl messages explain {message_id}")
    with runtime.database.read() as session:
        message = messages.get(session, message_id)
        rows = audit.of_message(session, message_id)
    print_explanation(message, explain(message, rows, now=runtime.clock(), workers=1))


def _to(arrival: Any) -> str:
    return arrival.to if isinstance(arrival.to, str) else ", ".join(address.email for address in arrival.to)


def _gist(arrival: Any) -> str:
    return str(getattr(arrival, "subject", "") or arrival.text.split("\n")[0])


def _stay(runtime: "Runtime", url: str, folder: Path) -> None:
    _title(8, f"Inbox at {url}; a worker is running. Ctrl-C ends the demo.")
    output.say("Send to it from another terminal, as")
    output.say()
    output.say(f"  notifyctl --env-file {_env_file(runtime, folder)} send WELCOME_EMAIL --client beacon \\")
    output.say("    --set client_name=Beacon --set login_url=https://cloud.example/beacon")
    worker = _worker(runtime, once=False)
    worker.stop_on_signals()
    worker.run()


def _env_file(runtime: "Runtime", folder: Path) -> Path:
    settings = runtime.settings
    path = folder / "demo.env"
    path.touch(mode=0o600)
    secrets = {
        "NOTIFICATION_SECRET_KEY": settings.notification_secret_key[0].get_secret_value(),
        "OTP_PEPPER": settings.otp_pepper[0].get_secret_value(),
    }
    lines = [f"DATABASE_URL={settings.database_url}", *(f"{name}={value}" for name, value in secrets.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def _title(number: int, text: str) -> None:
    console = output.console()
    if number > 1:
        console.print()
    console.print(f"{number}  {text}", style="bold", markup=False)
