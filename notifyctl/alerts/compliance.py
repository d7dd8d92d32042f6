"""Reminders of what expires: once for each item, expiry date and window, however often this runs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.alerts.compliance_items import days_left, reminder_keys
from notifyctl.clock import Clock
from notifyctl.models.template import Channel
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.plans import SMS_REMINDERS, PlanRegistry
from notifyctl.orchestrator.requests import Blocked, SendRequest
from notifyctl.settings import Settings
from notifyctl.store import clients, messages
from notifyctl.store import compliance as store
from notifyctl.store.clients import ClientRow
from notifyctl.store.database import Database

CHUNK = 1_000
DAY = timedelta(days=1)
EMAIL_TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER"
SMS_TEMPLATE = "COMPLIANCE_EXPIRY_REMINDER_SMS"
SOURCE = "job"


@dataclass(frozen=True, slots=True)
class Reminded:
    emails: int = 0
    sms: int = 0
    refused: int = 0

    def __add__(self, other: "Reminded") -> "Reminded":
        return Reminded(self.emails + other.emails, self.sms + other.sms, self.refused + other.refused)

    def __str__(self) -> str:
        refused = f", {self.refused} refused by a gate" if self.refused else ""
        return f"{self.emails} reminders queued by email, {self.sms} by SMS{refused}"


@dataclass(frozen=True, slots=True)
class _Due:
    item: Row[Any]
    client: ClientRow
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

    def run(self, stopping: Callable[[], bool] = lambda: False) -> Reminded:
        """In a transaction for each thousand items. What it leaves off when `stopping`, the next run takes up."""
        now, after, reminded = self._clock(), 0, Reminded()
        # A day more on both sides: somewhere it is tomorrow already, or still yesterday.
        first, last = now.date() - DAY, now.date() + DAY * (self._windows[0] + 1)
        while not stopping():
            with self._database.read() as session:
                seen = store.expiring(session, first, last, after=after, most=CHUNK)
            if not seen:
                break
            after = seen[-1].id
            due = [row for row in seen if self._window(row, row.timezone, row.client_updated_at, now) is not None]
            if due:
                with self._database.transaction() as session:
                    reminded += self._remind(session, due, now)
        return reminded

    def _window(self, item: Any, zone: str, client_updated_at: datetime, now: datetime) -> int | None:
        """The window that an item is to be reminded for now; None when it is not."""
        left = days_left(item.expires_on, zone, now)
        if not 0 <= left <= self._windows[0]:
            return None
        window = min([days for days in self._windows if left <= days])
        if item.asked_for != item.expires_on or item.asked_window > window:
            return window
        # Refused then, because of something that may be otherwise now.
        return window if not item.reminded and client_updated_at > item.asked_at else None

    def _remind(self, session: Session, seen: Sequence[Row[Any]], now: datetime) -> Reminded:
        due = self._lock_due(session, seen, now)
        requests = {request.idempotency_key: request for request in self._requests(due)}
        # A key that is known has its message. Its context may be of another day, so it is not asked for again.
        known = messages.by_idempotency_keys(session, [key for key in requests if key])
        asked = [request for key, request in requests.items() if key not in known]
        decisions = self._orchestrator.send_many(session, asked)
        accepted = [request for request, one in zip(asked, decisions, strict=True) if not isinstance(one, Blocked)]
        held = known.keys() | {request.idempotency_key for request in accepted}
        store.mark(session, [_mark(one, held, now) for one in due])
        emails = sum(request.template_key == EMAIL_TEMPLATE for request in accepted)
        return Reminded(emails, len(accepted) - emails, len(asked) - len(accepted))

    def _lock_due(self, session: Session, seen: Sequence[Row[Any]], now: datetime) -> list[_Due]:
        """Asked again under the lock: another run may have been first."""
        known = clients.get_many(session, {row.client_id for row in seen}, lock=True)
        found = []
        for item in store.lock(session, [row.id for row in seen]):
            client = known[item.client_id]
            window = self._window(item, client.timezone, client.updated_at, now)
            if window is not None:
                left = days_left(item.expires_on, client.timezone, now)
                keys = reminder_keys(item, item.expires_on, window)
                found.append(_Due(item, client, window, left, keys))
        return found

    def _requests(self, due: Sequence[_Due]) -> Iterator[SendRequest]:
        """One template after the other: rows that are alike are written faster."""
        for one in due:
            context = _context(one) | {"client_name": one.client.name}
            if url := self._renew_url(one.item):
                context["renew_url"] = url
            yield _request(one, EMAIL_TEMPLATE, Channel.EMAIL, context)
        for one in due:
            if self._wants_sms(one.client):
                yield _request(one, SMS_TEMPLATE, Channel.SMS, _context(one))

    def _wants_sms(self, client: ClientRow) -> bool:
        """Nobody asked for an SMS that the plan lacks or the client does not want: it is no message to be refused."""
        entitled = self._plans.has_feature(client.plan, SMS_REMINDERS)
        return entitled and self._settings.sms_enabled and client.sms_enabled and bool(client.phone_e164)

    def _renew_url(self, item: Row[Any]) -> str | None:
        url = self._settings.compliance_renew_url
        if url is None:
            return None
        return url.replace("{reference}", quote(item.reference, safe="")).replace(
            "{client_id}", quote(item.client_id, safe="")
        )


def _context(due: _Due) -> dict[str, Any]:
    item = due.item
    return {
        "item_name": item.name,
        "item_reference": item.reference,
        "expires_on": item.expires_on.isoformat(),
        "days_left": due.days_left,
    }


def _request(due: _Due, template_key: str, channel: Channel, context: dict[str, Any]) -> SendRequest:
    return SendRequest(
        template_key=template_key,
        client_id=due.item.client_id,
        context=context,
        idempotency_key=due.keys[channel],
        source=SOURCE,
        source_ref="compliance_expiry_reminders",
    )


def _mark(due: _Due, held: Collection[str | None], now: datetime) -> dict[str, Any]:
    return {
        "id": due.item.id,
        "asked_for": due.item.expires_on.isoformat(),
        "asked_window": due.window,
        "asked_at": now,
        "reminded": due.keys[Channel.EMAIL] in held,
    }
