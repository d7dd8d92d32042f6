"""`notifyctl demo`: the main job from end to end, on a database and a sandbox of its own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifyctl.cli import options, output

if TYPE_CHECKING:
    from notifyctl.bootstrap import Runtime
    from notifyctl.orchestrator.requests import SendRequest
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

    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="notifyctl-demo-") as folder, Sandbox() as sandbox:
        with _runtime(Path(folder), sandbox.url, clock) as runtime:
            _title(f"A database in {folder}, and a sandbox for Postmark and Twilio at {sandbox.url}")
            _set_up(runtime)
            watched = _send_mix(runtime)
            _deliver(runtime, clock)
            _send_to_the_suppressed(runtime)
            _show(runtime, sandbox, watched)
            if stay:
                _stay(runtime, sandbox.url, Path(folder))
    if not stay:
        output.say(
            "\nNothing of it is kept. `notifyctl demo --stay` keeps the inbox open; README.md goes on from here."
        )


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


def _set_up(runtime: "Runtime") -> None:
    from notifyctl.orchestrator import catalogue
    from notifyctl.store import migrations

    revision = migrations.upgrade(runtime.database).revision
    with runtime.database.transaction() as session:
        files = catalogue.load(catalogue.templates_dir())
        catalogue.seed(session, files, settings=runtime.settings, now=runtime.clock(), actor="demo")
    clients = _import_clients(runtime)
    _line("db upgrade", f"revision {revision}")
    _line("templates seed", f"{len(files)} templates")
    _line("clients import", f"{clients} clients of both plans, in all states of provisioning")


def _import_clients(runtime: "Runtime") -> int:
    from notifyctl.orchestrator import client_files
    from notifyctl.orchestrator.client_fields import ClientFields
    from notifyctl.orchestrator.clients import set_clients

    file = client_files.parse(CLIENTS.encode(), "the demo's clients")
    changes = client_files.check(file, file.records, ClientFields(runtime.plans)).changes
    with runtime.database.transaction() as session:
        return set_clients(session, changes, actor="demo", now=runtime.clock()).created


def _send_mix(runtime: "Runtime") -> str:
    """Returns the id of the message that will need a retry."""
    from notifyctl.orchestrator.requests import Queued

    _title("Messages are asked for; the gates decide")
    rows, watched = [], ""
    for what, request in _mix():
        with runtime.database.transaction() as session:
            decision = runtime.orchestrator.send(session, request)
        if request.client_id == "fjord" and isinstance(decision, Queued):
            watched = watched or decision.message_id
        rows.append(_decision_row(what, request, decision))
    output.rows(
        rows,
        options.OutputFormat.TABLE,
        columns=("what", "template", "to", "decision", "why"),
        styles=_STYLES,
    )
    return watched


_STYLES = {
    "QUEUED": "green", "SENT": "green", "BLOCKED": "yellow", "duplicate": "cyan", "FAILED": "bold red",
    "RETRY_SCHEDULED": "cyan",
}  # fmt: skip


def _decision_row(what: str, request: "SendRequest", decision: Any) -> dict[str, Any]:
    from notifyctl.orchestrator.requests import Blocked, Duplicate

    return {
        "what": what,
        "template": request.template_key,
        "to": request.client_id or request.recipient,
        "decision": "duplicate" if isinstance(decision, Duplicate) else decision.status.value,
        "why": f"{decision.reason}: {decision.detail}" if isinstance(decision, Blocked) else "",
    }


def _mix() -> Iterator[tuple[str, "SendRequest"]]:
    from notifyctl.orchestrator.requests import SendRequest

    def ask(template: str, client: str | None, context: dict[str, Any], **more: Any) -> SendRequest:
        return SendRequest(template_key=template, client_id=client, context=context, source="demo", **more)

    def welcome(client: str) -> SendRequest:
        name = client.capitalize()
        return ask("WELCOME_EMAIL", client, {"client_name": name, "login_url": f"https://cloud.example/{client}"})

    def reminder(template: str, client: str) -> SendRequest:
        context = {
            "item_name": "Trade licence",
            "item_reference": "TL-20",
            "expires_on": "2027-01-15",
            "days_left": 30,
        }
        if template == "COMPLIANCE_EXPIRY_REMINDER":
            context |= {"client_name": client.capitalize(), "renew_url": "https://cloud.example/renew/TL-20"}
        return ask(template, client, context)

    def code(number: str) -> SendRequest:
        return ask("OTP_CODE_SMS", None, {"code": "493027", "valid_minutes": 10}, recipient=number)

    reset = {"client_name": "Acme", "reset_url": "https://cloud.example/reset/x", "valid_minutes": 60}
    yield "a new client is ready", welcome("acme")
    yield "the same again", welcome("acme")
    yield "not provisioned yet", welcome("cedar")
    yield "no email address", welcome("harbor")
    yield "a client nobody knows", welcome("zenith")
    yield "a password link", ask("PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield "the caller tries twice", ask("PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield "a variable is missing", ask("PASSWORD_RESET", "beacon", {"client_name": "Beacon"})
    yield "a reminder, plan PRO", reminder("COMPLIANCE_EXPIRY_REMINDER_SMS", "acme")
    yield "a reminder, plan SOLO", reminder("COMPLIANCE_EXPIRY_REMINDER_SMS", "beacon")
    yield "no consent to SMS", reminder("COMPLIANCE_EXPIRY_REMINDER_SMS", "grove")
    yield "subscription ended", reminder("COMPLIANCE_EXPIRY_REMINDER", "elm")
    yield "a busy mailbox", reminder("COMPLIANCE_EXPIRY_REMINDER", "fjord")
    yield "a dead mailbox", reminder("COMPLIANCE_EXPIRY_REMINDER", "grove")
    yield "not from Stripe", ask("PAYMENT_FAILED", "acme", {})
    yield "a one-time code", code("+4915112345678")
    yield "not a number", code("0800-CALL-ME")
    yield "a country not served", code("+33612345678")
    yield (
        "a template switched off",
        ask("OPS_ALERT_SMS", None, {"summary": "Email is failing"}, recipient="+12025550143"),
    )


def _deliver(runtime: "Runtime", clock: _Clock) -> None:
    _title("A worker sends what was accepted")
    _drain(runtime, "worker --once")
    clock.ahead += timedelta(seconds=31)
    _drain(runtime, "31 seconds later, by the demo's clock")


def _drain(runtime: "Runtime", what: str) -> None:
    from notifyctl.models.message import MessageStatus
    from notifyctl.store.messages import Filter, count_by_status

    started = perf_counter()
    _worker(runtime, once=True).run()
    with runtime.database.read() as session:
        counts = count_by_status(session, Filter())
    shown = (MessageStatus.SENT, MessageStatus.RETRY_SCHEDULED, MessageStatus.FAILED)
    found = ", ".join(f"{counts[status]} {status}" for status in shown if status in counts)
    _line(what, f"{found}  ({perf_counter() - started:.1f} s)")


def _worker(runtime: "Runtime", *, once: bool) -> Any:
    from notifyctl.models.template import Channel
    from notifyctl.providers.senders import build_senders
    from notifyctl.worker.daemon import Worker

    return Worker(runtime, build_senders(runtime.settings, list(Channel), concurrency=20), once=once)


def _send_to_the_suppressed(runtime: "Runtime") -> None:
    from notifyctl.orchestrator.requests import SendRequest

    context = {"client_name": "Grove", "login_url": "https://cloud.example/grove"}
    request = SendRequest(template_key="WELCOME_EMAIL", client_id="grove", context=context, source="demo")
    with runtime.database.transaction() as session:
        decision = runtime.orchestrator.send(session, request)
    row = _decision_row("the dead mailbox again", request, decision)
    output.rows(
        [row],
        options.OutputFormat.TABLE,
        columns=("what", "template", "to", "decision", "why"),
        styles=_STYLES,
    )


def _show(runtime: "Runtime", sandbox: "Sandbox", watched: str) -> None:
    from notifyctl.cli.messages import print_explanation
    from notifyctl.orchestrator.explain import explain
    from notifyctl.store import audit, messages

    _title("What arrived in the sandbox")
    for arrival in sandbox.messages():
        _line(arrival.channel.value, f"{_to(arrival):<26} {_gist(arrival)}")
    _title(f"notifyctl messages explain {watched}")
    with runtime.database.read() as session:
        message = messages.get(session, watched)
        rows = audit.of_message(session, watched)
    print_explanation(message, explain(message, rows, now=runtime.clock(), workers=1))


def _to(arrival: Any) -> str:
    return arrival.to if isinstance(arrival.to, str) else ", ".join(address.email for address in arrival.to)


def _gist(arrival: Any) -> str:
    return str(getattr(arrival, "subject", "") or arrival.text.split("\n")[0])


def _stay(runtime: "Runtime", url: str, folder: Path) -> None:
    _title(f"Inbox at {url}; a worker is running. Ctrl-C ends the demo.")
    output.say("Send to it from another terminal, as\n")
    output.say(f"  notifyctl --env-file {_env_file(runtime, folder)} send WELCOME_EMAIL --client beacon \\")
    output.say("    --set client_name=Beacon --set login_url=https://cloud.example/beacon\n")
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


def _title(text: str) -> None:
    console = output.console()
    console.print()
    console.print(text, style="bold", markup=False)


def _line(name: str, text: str) -> None:
    output.console().print(f"  {name:<16} {text}", markup=False)
