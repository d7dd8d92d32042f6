"""What the page has to show: rows as they would stand after hours of traffic, good and bad."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from notifyctl.alerts.spikes import store as spike_store
from notifyctl.alerts.spikes.store import SpikeMemory
from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.client import Client
from notifyctl.models.columns import new_message_id, table
from notifyctl.models.enums import AuditAction, Channel, Lane, MessageStatus, OtpAction, OtpState, SpikeLevel
from notifyctl.models.message import FINAL, MessageLog
from notifyctl.models.otp import OtpChallenge
from notifyctl.operations import breakers, heartbeats, job_runs, pauses
from notifyctl.operations.job_runs import TIMETABLE
from notifyctl.operations.pauses import PauseScope

S = MessageStatus
EMAIL = {
    "PAYMENT_FAILED": 5,
    "SUBSCRIPTION_CONFIRMED": 6,
    "WELCOME_EMAIL": 3,
    "COMPLIANCE_EXPIRY_REMINDER": 9,
    "PASSWORD_RESET": 4,
}
SMS = {"OTP_CODE_SMS": 12, "COMPLIANCE_EXPIRY_REMINDER_SMS": 4}
CLIENTS = ("acme", "northwind", "globex", "initech", "umbrella-health", "stark-logistics", "wayne-foods")
FAULTS = {
    "RECIPIENT_INVALID": ("300", "Invalid 'To' address: it has no domain that takes mail"),
    "RECIPIENT_UNREACHABLE": ("30003", "Unreachable destination handset"),
    "BLOCKED_BY_CARRIER": ("30007", "Message filtered"),
    "PROVIDER_UNAVAILABLE": ("503", "The service is down for maintenance"),
    "RECIPIENT_OPTED_OUT": ("406", "The recipient is inactive: it bounced or complained before"),
}

PASSED = (
    "TEMPLATE_DISABLED", "CONTEXT_INVALID", "RECIPIENT_MISSING", "RECIPIENT_INVALID", "COUNTRY_NOT_ALLOWED",
    "PROVISIONING_INCOMPLETE", "RATE_LIMITED",
)  # fmt: skip
"""The gates that a welcome mail is let through by."""


def a_message(now: datetime, **fields: Any) -> dict[str, Any]:
    """A row of message_log, delivered a moment ago unless told otherwise."""
    made = fields.get("created_at", now - timedelta(seconds=5))
    status = fields.get("status", S.DELIVERED)
    gone = status in (S.SENT, S.DELIVERED, S.BOUNCED)
    sent = made + timedelta(milliseconds=340) if gone else None
    channel = fields.get("channel", Channel.EMAIL)
    to = "anna.schmidt@acme.example" if channel is Channel.EMAIL else "+4915112345678"
    values = {
        "id": new_message_id(), "channel": channel, "audience": "CLIENT", "client_id": "acme",
        "template_key": "WELCOME_EMAIL", "template_version": 1, "source": "api", "recipient": to,
        "rate_subject": "", "status": status, "attempts": 1 if gone else 0, "reason": None, "error": None,
        "error_code": None, "lane": Lane.TRANSACTIONAL, "lease_generation": 0, "created_at": made,
        "next_attempt_at": None if status in FINAL else made, "last_attempt_at": None, "throttled_at": None,
        "sent_at": sent, "delivered_at": sent + timedelta(seconds=3) if sent and status is S.DELIVERED else None,
        "finished_at": made + timedelta(seconds=2) if status in FINAL and status is not S.SENT else None,
        "provider": "postmark" if channel is Channel.EMAIL else "twilio", "subject": "Welcome, Anna",
    }  # fmt: skip
    return values | fields


def write(runtime: Runtime, rows: Sequence[Mapping[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: row["created_at"])
    # The ids of messages sort by when they were made.
    for row, number in zip(rows, sorted(row["id"] for row in rows), strict=True):
        row["id"] = number  # type: ignore[index]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(MessageLog), rows)


def a_worker(runtime: Runtime, name: str = "app-1:4711", seen_ago: timedelta = timedelta()) -> None:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        heartbeats.beat(
            session, worker=name, now=now - seen_ago, stopping=False, host="app-1", pid=4711, version="0.1.0",
            started_at=now - timedelta(hours=9),
        )  # fmt: skip


def a_good_day(runtime: Runtime, size: int = 2_400, hours: float = 4) -> None:
    """Some hours of traffic with the failures that a good day has."""
    now = runtime.clock()
    dice = random.Random(7)
    rows = list(_traffic(dice, now, size, timedelta(hours=hours)))
    write(runtime, rows)
    used = [row for row in rows if row["template_key"] == "OTP_CODE_SMS" and row["sent_at"] and dice.random() < 0.86]
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(OtpChallenge), [_used_code(row) for row in used])
    a_worker(runtime)
    a_worker(runtime, "app-2:4712")
    with runtime.database.transaction() as session:
        for one in TIMETABLE:
            due_at = one.due_at(now)
            job_runs.add_done(session, name=one.name, due_at=due_at, worker="app-1:4711", summary="", now=now)


def _used_code(row: Mapping[str, Any]) -> dict[str, Any]:
    made = row["created_at"]
    return {
        "id": row["id"], "phone_hash": row["id"], "prefix_hash": "", "action": OtpAction.PHONE_VERIFY, "code_hash": "",
        "key_id": "", "state": OtpState.USED, "message_id": row["id"], "created_at": made,
        "expires_at": made + timedelta(minutes=10), "finished_at": row["sent_at"] + timedelta(seconds=9),
    }  # fmt: skip


def _traffic(dice: random.Random, now: datetime, size: int, span: timedelta) -> Iterator[dict[str, Any]]:
    for _ in range(size):
        channel = dice.choices(list(Channel), [2, 1])[0]
        keys = EMAIL if channel is Channel.EMAIL else SMS
        key = dice.choices(list(keys), list(keys.values()))[0]
        made = now - span * dice.betavariate(1.1, 1.5)
        yield _one(dice, now, channel, key, made)


def _one(dice: random.Random, now: datetime, channel: Channel, key: str, made: datetime) -> dict[str, Any]:
    name = dice.choice(["anna", "ben", "chloe", "deniz", "emil", "farah"])
    client = dice.choice(CLIENTS)
    to = f"{name}@{client}.example" if channel is Channel.EMAIL else f"+49151{dice.randrange(10**7, 10**8)}"
    fate = dice.random()
    common = {"channel": channel, "template_key": key, "created_at": made, "client_id": client, "recipient": to}
    waited = timedelta(seconds=dice.lognormvariate(-0.8, 0.7))
    if fate < 0.015:
        reason = dice.choice(list(FAULTS))
        code, error = FAULTS[reason]
        return a_message(
            now, **common, status=S.FAILED, reason=reason, error_code=code, error=error, attempts=dice.randint(1, 3),
            finished_at=made + waited,
        )  # fmt: skip
    if fate < 0.022:
        code, error = FAULTS["RECIPIENT_INVALID"]
        return a_message(now, **common, status=S.BOUNCED, reason="RECIPIENT_INVALID", error_code=code, error=error)
    if fate < 0.05:
        own = "SMS_DISABLED" if channel is Channel.SMS else "PROVISIONING_INCOMPLETE"
        reason = dice.choice(["RATE_LIMITED", own, "SUPPRESSED", own])
        return a_message(now, **common, status=S.BLOCKED, reason=reason)
    if fate < 0.09 and now - made < timedelta(hours=1):
        return a_message(now, **common, status=S.SENT, sent_at=made + waited)
    throttled = made + timedelta(milliseconds=5) if dice.random() < 0.06 else None
    if throttled:
        waited += timedelta(seconds=dice.uniform(5, 70))
    sent = min(made + waited, now)
    return a_message(now, **common, sent_at=sent, throttled_at=throttled, delivered_at=sent + timedelta(seconds=2))


def a_bad_hour(runtime: Runtime) -> None:
    """On top of a good day: email fails, its breaker is open, SMS is throttled, and something is paused."""
    a_good_day(runtime)
    now = runtime.clock()
    dice = random.Random(8)
    code, error = FAULTS["PROVIDER_UNAVAILABLE"]
    rows = []
    for _ in range(140):
        made = now - timedelta(minutes=22) * dice.random()
        key = dice.choices(list(EMAIL), list(EMAIL.values()))[0]
        about = {"template_key": key, "created_at": made, "error_code": code, "error": error, "attempts": 3}
        status = dice.choices([S.FAILED, S.RETRY_SCHEDULED, S.IN_DOUBT], [6, 4, 1])[0]
        reason = "PROVIDER_UNAVAILABLE" if status is S.FAILED else None
        due = {"next_attempt_at": now + timedelta(seconds=90), "last_attempt_at": now} if reason is None else {}
        rows.append(a_message(now, **about, status=status, reason=reason, client_id=dice.choice(CLIENTS), **due))
    for number in range(420):
        made = now - timedelta(minutes=9) * dice.random()
        turn = now + timedelta(seconds=2 * number)
        rows.append(
            a_message(
                now, channel=Channel.SMS, template_key="COMPLIANCE_EXPIRY_REMINDER_SMS", created_at=made,
                status=S.DEFERRED_THROTTLED, throttled_at=made, next_attempt_at=turn, lane=Lane.BULK,
                client_id=dice.choice(CLIENTS), recipient="+4915112345678",
            )
        )  # fmt: skip
    write(runtime, rows)
    trouble(runtime, now)


def trouble(runtime: Runtime, now: datetime) -> None:
    with runtime.database.transaction() as session:
        spike_store.lock(session, Channel.EMAIL)
        memory = SpikeMemory(
            level=SpikeLevel.CRITICAL,
            told=SpikeLevel.CRITICAL,
            problem="85 of 214 failed (39.7%)",
            raised_at=now - timedelta(minutes=17),
        )
        spike_store.save(session, Channel.EMAIL, memory)
        breakers.open_(
            session, Channel.EMAIL, reason="503: The service is down for maintenance", now=now - timedelta(minutes=4),
            probe_at=now + timedelta(seconds=20),
        )  # fmt: skip
        pauses.add(
            session, PauseScope(template_key="COMPLIANCE_EXPIRY_REMINDER_SMS"),
            reason="wrong renewal link in version 3", actor="cli:mira", now=now - timedelta(minutes=12),
        )  # fmt: skip


def a_story(runtime: Runtime, **fields: Any) -> str:
    """A message that failed twice, was sent, and arrived, with its trail. Returns its id."""
    now = runtime.clock()
    made = now - timedelta(minutes=3)
    sent, arrived = made + timedelta(seconds=152), made + timedelta(seconds=155)
    about = {"attempts": 3, "sent_at": sent, "delivered_at": arrived, "finished_at": arrived}
    row = a_message(now, created_at=made, provider_message_id="0f6b9c1e-5d2a-4c1b", **about | fields)
    write(runtime, [row])
    trail: list[tuple[float, AuditAction, dict[str, Any]]] = [
        (0, AuditAction.NOTIFICATION_QUEUED, {"passed": list(PASSED)}),
        (1, AuditAction.NOTIFICATION_RETRY_SCHEDULED, {
            "attempt": 1, "error_code": "100", "error": "The API is down for maintenance", "seconds": 0.21,
            "next_attempt_at": (made + timedelta(seconds=31)).isoformat(),
        }),
        (31, AuditAction.NOTIFICATION_RETRY_SCHEDULED, {
            "attempt": 2, "error_code": "100", "error": "The API is down for maintenance", "seconds": 0.18,
            "next_attempt_at": (made + timedelta(seconds=152)).isoformat(),
        }),
        (152, AuditAction.NOTIFICATION_SENT, {
            "attempt": 3, "provider_message_id": "0f6b9c1e-5d2a-4c1b", "seconds": 0.17,
        }),
        (155, AuditAction.NOTIFICATION_DELIVERED, {"detail": "smtp;250 2.0.0 OK"}),
    ]  # fmt: skip
    with runtime.database.transaction() as session:
        for seconds, action, details in trail:
            actor = "key:backend" if seconds == 0 else "worker app-1:4711"
            at = made + timedelta(seconds=seconds)
            audit_log.write(
                session, action, actor=actor, now=at, client_id=row["client_id"], message_id=row["id"], details=details
            )
    return str(row["id"])


def a_client(runtime: Runtime, client_id: str, name: str) -> None:
    now = runtime.clock()
    with runtime.database.transaction() as session:
        session.add(Client(id=client_id, name=name, created_at=now, updated_at=now))
