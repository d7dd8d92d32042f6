"""Reminders of what expires: once for each item, expiry date and window, however often this runs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from sqlmodel import Session

from notifyctl.alerts.compliance import store
from notifyctl.alerts.compliance.items import days_left, reminder_keys
from notifyctl.alerts.compliance.store import ExpiringItem, ItemRow, ReminderMark
from notifyctl.clients import store as client_store
from notifyctl.clients.plans import SMS_REMINDERS, PlanRegistry
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, SendRequest
from notifyctl.settings import Settings
from notifyctl.text.durations import plural

CHUNK = 1_000
DAY = timedelta(days=1)
EMAIL_TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER"
SMS_TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER_SMS"
SOURCE = "job"


@dataclass(frozen=True, slots=True)
class ReminderCounts:
    emails: int = 0
    sms: int = 0
    refused: int = 0

    def __add__(self, other: "ReminderCounts") -> "ReminderCounts":
        return ReminderCounts(self.emails + other.emails, self.sms + other.sms, self.refused + other.refused)

    def __str__(self) -> str:
        refused = f", {self.refused} refused by a gate" if self.refused else ""
        return f"{plural(self.emails, 'reminder')} queued by email, {self.sms} by SMS{refused}"


@dataclass(frozen=True, slots=True)
class _Due:
    item: ItemRow
    client_name: str
    wants_sms: bool
    window: int
    days_left: int
    keys: Mapping[Channel, str]


class Reminders:
    def __init__(
        self,
        *,
        database: Database,
        orchestrator: NotificationOrchestrator,
        plans: PlanRegistry,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._plans = plans
        self._settings = settings
        self._clock = clock
        self._windows = settings.expiry_windows

    def run(self, stopping: Callable[[], bool] = lambda: False) -> ReminderCounts:
        """In a transaction for each thousand items. What it leaves off when `stopping`, the next run takes up."""
        now, after, counts = self._clock(), 0, ReminderCounts()
        # A day more on both sides: somewhere it is tomorrow already, or still yesterday.
        first, last = now.date() - DAY, now.date() + DAY * (self._windows[0] + 1)
        while not stopping():
            with self._database.read() as session:
                items = store.expiring(session, first, last, after=after, most=CHUNK)
            if not items:
                break
            after = items[-1].id
            due = [item for item in items if self._window(item, item.timezone, item.client_updated_at, now) is not None]
            if due:
                with self._database.transaction() as session:
                    counts += self._remind(session, due, now)
        return counts

    def _window(
        self, item: ItemRow | ExpiringItem, zone: str, client_updated_at: datetime, now: datetime
    ) -> int | None:
        """The window that an item is to be reminded for now; None when it is not."""
        left = days_left(item.expires_on, zone, now)
        if not 0 <= left <= self._windows[0]:
            return None
        window = min([days for days in self._windows if left <= days])
        if item.asked_for != item.expires_on or item.asked_window is None or item.asked_window > window:
            return window
        if item.reminded or item.asked_at is None:
            return None
        # Refused then, because of something that may be otherwise now.
        return window if client_updated_at > item.asked_at else None

    def _remind(self, session: Session, items: Sequence[ExpiringItem], now: datetime) -> ReminderCounts:
        due = self._lock_due(session, items, now)
        requests = {request.idempotency_key: request for request in self._requests(due)}
        # A key that is known has its message. Its context may be of another day, so it is not asked for again.
        accepted_before = message_store.by_idempotency_keys(session, [key for key in requests if key])
        new = [request for key, request in requests.items() if key not in accepted_before]
        decisions = self._orchestrator.send_many(session, new)
        accepted = [request for request, one in zip(new, decisions, strict=True) if not isinstance(one, Blocked)]
        held = accepted_before.keys() | {request.idempotency_key for request in accepted}
        store.mark_reminded(session, [_mark(one, held, now) for one in due])
        emails = sum(request.template_key == EMAIL_TEMPLATE for request in accepted)
        return ReminderCounts(emails, len(accepted) - emails, len(new) - len(accepted))

    def _lock_due(self, session: Session, items: Sequence[ExpiringItem], now: datetime) -> list[_Due]:
        """Asked again under the lock: another run may have been first."""
        clients = client_store.get_many(session, {item.client_id for item in items}, lock=True)
        due = []
        for item in store.lock(session, [item.id for item in items]):
            client = clients[item.client_id]
            window = self._window(item, client.timezone, client.updated_at, now)
            if window is not None:
                left = days_left(item.expires_on, client.timezone, now)
                keys = reminder_keys(item, item.expires_on, window)
                # Nobody asked for an SMS that the plan lacks or the client does not want: it is none to be refused.
                wants_sms = self._has_sms(client.plan) and client.sms_enabled and bool(client.phone_e164)
                due.append(_Due(item, client.name, wants_sms, window, left, keys))
        return due

    def _requests(self, due: Sequence[_Due]) -> Iterator[SendRequest]:
        """One template after the other: rows that are alike are written faster."""
        for reminder in due:
            context = _context(reminder) | {"client_name": reminder.client_name}
            if url := self._renew_url(reminder.item):
                context["renew_url"] = url
            yield _request(reminder, EMAIL_TEMPLATE, Channel.EMAIL, context)
        for reminder in due:
            if reminder.wants_sms:
                yield _request(reminder, SMS_TEMPLATE, Channel.SMS, _context(reminder))

    def _has_sms(self, plan: str | None) -> bool:
        return self._settings.sms_enabled and self._plans.has_feature(plan, SMS_REMINDERS)

    def _renew_url(self, item: ItemRow) -> str | None:
        url = self._settings.compliance_renew_url
        if url is None:
            return None
        return url.replace("{reference}", quote(item.reference, safe="")).replace(
            "{client_id}", quote(item.client_id, safe="")
        )


def _context(due: _Due) -> dict[str, object]:
    item = due.item
    return {
        "item_name": item.name,
        "item_reference": item.reference,
        "expires_on": item.expires_on.isoformat(),
        "days_left": due.days_left,
    }


def _request(due: _Due, template_key: str, channel: Channel, context: dict[str, object]) -> SendRequest:
    return SendRequest(
        template_key=template_key,
        client_id=due.item.client_id,
        context=context,
        idempotency_key=due.keys[channel],
        source=SOURCE,
        source_ref="compliance_expiry_reminders",
    )


def _mark(due: _Due, held: Collection[str | None], now: datetime) -> ReminderMark:
    return ReminderMark(due.item.id, due.item.expires_on, due.window, now, due.keys[Channel.EMAIL] in held)
