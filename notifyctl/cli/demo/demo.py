"""`notifyctl demo`: the main job from end to end, on a database and a sandbox of its own."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from textwrap import shorten
from time import perf_counter
from typing import Annotated

import typer
from rich.text import Text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.cli import output, terminal
from notifyctl.cli.demo.data import CLIENTS, Case, CodeCase, accepted, backlog, refused, urgent, welcome
from notifyctl.cli.demo.stripe import CLIENT, post_events, served
from notifyctl.cli.messages.explanation import print_explanation
from notifyctl.clients import csv_import
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientFields
from notifyctl.clock import Stopwatch, machine_stopwatch, system_clock
from notifyctl.db import migrations
from notifyctl.db.database import open_database
from notifyctl.delivery import outbox
from notifyctl.http.pages import links
from notifyctl.models.enums import Channel, MessageStatus, OtpAction
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.operations import limits
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.explain import explain_message
from notifyctl.orchestrator.message_store import MessageFilter, count_by_status
from notifyctl.orchestrator.requests import Blocked, Decision, Duplicate
from notifyctl.providers.registry import build_senders
from notifyctl.sandbox import Email, InboxMessage, Sandbox, Sms
from notifyctl.settings import Settings
from notifyctl.stopping import interrupt_on_signal
from notifyctl.templates import catalogue
from notifyctl.text.durations import duration, plural
from notifyctl.worker.worker import Worker

DEMO_LIMIT = 20
GIST = 46
"""Characters of a message that are shown."""
app = typer.Typer()


class DemoClock:
    """Real time, which the demo may turn ahead so that nobody waits for a backoff."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead

    @property
    def stopwatch(self) -> Stopwatch:
        real = machine_stopwatch()
        return Stopwatch(real.origin, lambda: real.read() + self.ahead.total_seconds())


def run_demo(folder: Path, *, stay: bool) -> None:
    clock = DemoClock()
    with (
        Sandbox() as sandbox,
        _runtime(folder, sandbox.url, clock) as runtime,
        served(runtime) as server,
    ):
        _set_up(runtime, sandbox.url, server)
        retried = _send_accepted(runtime)
        _send_refused(runtime)
        _deliver(runtime, clock)
        _hear_stripe(runtime, server)
        _show_inbox(sandbox)
        _meet_the_limit(runtime, clock, sandbox)
        _explain(runtime, retried)
        if stay:
            _stay(runtime, sandbox.url, server, folder)


@contextmanager
def _runtime(folder: Path, url: str, clock: DemoClock) -> Iterator[Runtime]:
    """Settings of the demo's own: nothing of the caller's environment or .env is used."""
    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{folder / 'notifyctl.db'}",
            "notification_secret_key": token_hex(32),
            "otp_pepper": token_hex(32),
            "otp_allowed_countries": "DE,GB,US,FI,NO,NL",
            "brand_name": "Acme Cloud",
            "brand_url": "https://cloud.example",
            "brand_address": "1 Harbour Street, London E1 6AN",
            "email_sender": "hello@cloud.example",
            "email_reply_to": "support@cloud.example",
            "postmark_server_token": "sandbox",
            "postmark_api_url": url,
            "twilio_account_sid": "ACsandbox",
            "twilio_auth_token": "sandbox",
            "twilio_from_number": "+15005550006",
            "twilio_api_url": url,
            "stripe_webhook_secret": f"whsec_{token_hex(16)}",
            "quiet_hours": "00:00-00:00",
        }
    )
    database = open_database(settings, create=True)
    runtime = open_runtime(settings, clock=clock, stopwatch=clock.stopwatch, database=database)
    try:
        yield runtime
    finally:
        runtime.close()


def _set_up(runtime: Runtime, url: str, server: str) -> None:
    revision = migrations.upgrade(runtime.database).revision
    with runtime.database.transaction() as session:
        files = catalogue.files_of(runtime.settings)
        catalogue.seed(session, files, settings=runtime.settings, now=runtime.clock(), actor="demo")
    clients = _import_clients(runtime)
    _title(1, "An installation of its own")
    terminal.listing(
        [
            ("db upgrade", f"a new SQLite file, at revision {revision}"),
            ("templates seed", f"{plural(len(files), 'template')}"),
            ("clients import", f"{plural(clients, 'client')}, of both plans, in every state of provisioning"),
            ("sandbox", f"stands in for Postmark, Twilio and Stripe at {url}"),
            ("serve", f"answers at {server}"),
        ]
    )


def _import_clients(runtime: Runtime) -> int:
    file = csv_import.parse(CLIENTS.encode(), "the demo's clients")
    changes = csv_import.check(file, file.records, ClientFields(runtime.plans)).changes
    with runtime.database.transaction() as session:
        return set_clients(session, changes, actor="demo", now=runtime.clock()).created


def _send_accepted(runtime: Runtime) -> str:
    """Returns the id of the message that will need a retry."""
    _title(2, "Messages are asked for, and go into the queue")
    decisions = _send(runtime, list(accepted()))
    return next(decision.message_id for case, decision in decisions if _client_of(case) == "fjord")


def _send_refused(runtime: Runtime) -> None:
    _title(3, "Others are refused, each by another gate")
    _send(runtime, list(refused()))


def _client_of(case: Case | CodeCase) -> str | None:
    return case.request.client_id if isinstance(case, Case) else None


def _send(runtime: Runtime, cases: Sequence[Case | CodeCase]) -> list[tuple[Case | CodeCase, Decision]]:
    decisions = [(case, _decide(runtime, case)) for case in cases]
    terminal.listing([_decision_cells(case, decision) for case, decision in decisions])
    return decisions


def _decide(runtime: Runtime, case: Case | CodeCase) -> Decision:
    if isinstance(case, CodeCase):
        return runtime.otp.send(case.number, OtpAction.PHONE_VERIFY, actor="demo")
    with runtime.database.transaction() as session:
        return runtime.orchestrator.send(session, case.request)


def _decision_cells(case: Case | CodeCase, decision: Decision) -> tuple[terminal.Cell, ...]:
    if isinstance(decision, Duplicate):
        return case.what, ("duplicate", "cyan"), "same idempotency key, no second message"
    template_key = case.request.template_key if isinstance(case, Case) else OTP_TEMPLATE
    result = decision.reason.value if isinstance(decision, Blocked) else template_key
    return case.what, _coloured(decision.status), result


def _coloured(status: str) -> tuple[str, str]:
    return str(status), terminal.STATUS_STYLES[status]


def _deliver(runtime: Runtime, clock: DemoClock) -> None:
    _title(4, "A worker sends what was accepted")
    first = _drain(runtime)
    clock.ahead += timedelta(seconds=31)
    second = _drain(runtime)
    terminal.listing([("worker --once", *first), ("31 s later, by the demo's clock", *second)])
    _title(5, "The dead mailbox is suppressed now")
    _send(runtime, [welcome("another mail to it", "grove")])


def _drain(runtime: Runtime, of: str | None = None, since: datetime | None = None) -> tuple[terminal.Cell, ...]:
    """How it stands after it, for one template or all, and how long it took."""
    started = perf_counter()
    _worker(runtime, once=True).run()
    seconds = perf_counter() - started
    with runtime.database.read() as session:
        counts = count_by_status(session, MessageFilter(template_key=of, since=since))
    shown = (
        MessageStatus.SENT,
        MessageStatus.DEFERRED_THROTTLED,
        MessageStatus.RETRY_SCHEDULED,
        MessageStatus.FAILED,
    )
    statuses = [Text.assemble(f"{counts[status]} ", _coloured(status)) for status in shown if status in counts]
    return Text(", ").join(statuses), duration(seconds)


def _worker(runtime: Runtime, *, once: bool) -> Worker:
    return Worker(runtime, build_senders(runtime.settings, list(Channel), concurrency=20), once=once)


def _hear_stripe(runtime: Runtime, server: str) -> None:
    _title(6, "Stripe posts its events, signed, to the webhook")
    post_events(runtime, server)
    rows = [(f"worker --once, {key}", *_drain(runtime, of=key)) for key in ("SUBSCRIPTION_CONFIRMED", "PAYMENT_FAILED")]
    output.say()
    terminal.listing(rows)


def _show_inbox(sandbox: Sandbox) -> None:
    _title(7, "What arrived in the sandbox")
    terminal.listing(
        [
            (message.channel.value, _to(message), shorten(_gist(message), GIST, placeholder=" …"))
            for message in sandbox.messages()
        ]
    )


def _meet_the_limit(runtime: Runtime, clock: DemoClock, sandbox: Sandbox) -> None:
    """Twenty emails a minute, forty reminders, and one who cannot wait for them."""
    _title(8, f"A backlog of 40 meets a limit of {DEMO_LIMIT} emails a minute")
    clock.ahead += timedelta(seconds=61)  # what was sent before no longer counts, and a signature is still good
    since = runtime.clock()
    with runtime.database.transaction() as session:
        limits.set_per_minute(session, Channel.EMAIL, DEMO_LIMIT, actor="demo", now=since)
        runtime.orchestrator.send_many(session, [case.request for case in backlog()])
    rows = [("worker --once", *_drain(runtime, of="COMPLIANCE_EXPIRY_REMINDER", since=since))]
    before = len(sandbox.messages())
    with runtime.database.transaction() as session:
        runtime.orchestrator.send(session, urgent().request)
    rows.append(("then a password link", *_drain(runtime, of="PASSWORD_RESET", since=since)))
    overtook = [email.tag for email in sandbox.messages()[before:] if isinstance(email, Email)] == ["PASSWORD_RESET"]
    seconds, step = 0, 3
    while _is_waiting(runtime) and seconds < 300:
        seconds += step
        clock.ahead += timedelta(seconds=step)
        last = _drain(runtime, of="COMPLIANCE_EXPIRY_REMINDER", since=since)
    rows.append((f"{seconds} s later, by its clock", *last))
    terminal.listing(rows)
    output.say()
    if overtook:
        output.say("  The link left at once; the reminders followed one by one, and used up no retry.")


def _is_waiting(runtime: Runtime) -> bool:
    with runtime.database.read() as session:
        return outbox.count_waiting(session, Channel.EMAIL) > 0


def _explain(runtime: Runtime, message_id: str) -> None:
    _title(9, f"notifyctl messages explain {message_id}")
    with runtime.database.read() as session:
        message = message_store.get(session, message_id)
        assert message is not None  # the demo itself sent it
        rows = audit_log.of_message(session, message_id)
    print_explanation(message, explain_message(message, rows, now=runtime.clock(), workers=1), gates=True)


def _to(message: InboxMessage) -> str:
    return message.to if isinstance(message, Sms) else ", ".join(address.email for address in message.to)


def _gist(message: InboxMessage) -> str:
    return message.subject if isinstance(message, Email) and message.subject else message.text.split("\n")[0]


def _stay(runtime: Runtime, url: str, server: str, folder: Path) -> None:
    with runtime.database.transaction() as session:
        link = links.make(session, actor="demo", now=runtime.clock())
    _title(10, "A server and a worker are running. Ctrl-C ends the demo.")
    output.say(f"Page:   {server}/admin{link}")
    output.say(f"Inbox:  {url}")
    output.say()
    output.say("Send to it from another terminal, as")
    output.say()
    command = f"  notifyctl --env-file {_env_file(runtime, url, server, folder)}"
    output.say(f"{command} send WELCOME_EMAIL --client beacon \\")
    output.say("    --set client_name=Beacon --set login_url=https://cloud.example/beacon")
    output.say(f"{command} sandbox stripe trigger invoice.paid --client {CLIENT} --attempt 2")
    worker = _worker(runtime, once=False)
    worker.stop_on_signals()
    worker.run()


def _env_file(runtime: Runtime, url: str, server: str, folder: Path) -> Path:
    settings = runtime.settings
    path = folder / "demo.env"
    path.touch(mode=0o600)
    values = {
        "NOTIFICATION_SECRET_KEY": settings.notification_secret_key[0].get_secret_value(),
        "OTP_PEPPER": settings.otp_pepper[0].get_secret_value(),
        "QUIET_HOURS": settings.quiet_hours,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secret[0].get_secret_value(),
        "STRIPE_API_URL": url,
        "PUBLIC_BASE_URL": server,
    }
    lines = [f"DATABASE_URL={settings.database_url}", *(f"{name}={value}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _title(number: int, text: str) -> None:
    console = terminal.console()
    if number > 1:
        console.print()
    console.print(f"{number}  {text}", style="bold", markup=False)


@app.command()
def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep the inbox, the server and a worker up until Ctrl-C.")
    ] = False,
) -> None:
    """See the main job once: clients, templates, every gate, a retry, Stripe's webhooks, a backlog, an explanation."""
    interrupt_on_signal()  # its folder has keys in it, and is to be gone whatever ends it
    logging.getLogger("notifyctl").addHandler(logging.NullHandler())  # what the worker logs is shown in the sections
    with tempfile.TemporaryDirectory(prefix="notifyctl-demo-") as folder:
        run_demo(Path(folder), stay=stay)
    if not stay:
        output.say()
        output.say("Nothing of it is kept. `notifyctl demo --stay` keeps the inbox open.")
