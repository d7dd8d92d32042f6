"""Working on one stored event, in one transaction: its state, its mail, its own row and the audit commit together.

A later event may show that an earlier one of the same subscription should have brought a mail, another mail or none.
The mails that still wait are therefore updated in its transaction, with the client's row locked, so that what is sent
is the same in every order of the events. Events that another process works on are skipped: it sees this one when it
goes on.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.billing.event import Event, read_event
from notifyctl.billing.event_context import (
    ACTOR,
    Change,
    EventContext,
    EventOutcome,
    HandlerResult,
    MailFate,
    MailOutcome,
    ignored,
    withdraw_mails,
)
from notifyctl.billing.handlers import EVENTS, current_mail
from notifyctl.billing.ledger import Ledger
from notifyctl.billing.mails import BillingMail
from notifyctl.billing.store import EventSummary, StoredEvent
from notifyctl.clients.plans import PlanRegistry
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.models.enums import AuditAction, Origin
from notifyctl.models.stripe_event import SETTLED
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.drafts import STRIPE
from notifyctl.orchestrator.message_store import MessageFilter, UntriedMessage
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, Queued, SendRequest
from notifyctl.settings import Settings

NEWS_FOR = timedelta(hours=72)
"""An event that happened longer ago is no news to anybody any more."""
MAIL_WAITS = timedelta(seconds=20)
"""So long a mail waits for the event that completes it. Stripe sends what belongs together within a few seconds."""


@dataclass(frozen=True, slots=True)
class BillingServices:
    """What everybody who works on events needs."""

    settings: Settings
    database: Database
    clock: Clock
    orchestrator: NotificationOrchestrator
    plans: PlanRegistry


@dataclass(frozen=True, slots=True)
class ProcessingOptions:
    """By whom and how an event is to be worked on."""

    actor: str
    mail_old: bool
    """Whether an event of more than 72 h ago may still bring about a mail."""
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Processed:
    outcome: EventOutcome
    has_linked: bool
    """Others that matched nobody can be matched now."""


def open_ledger(services: BillingServices, session: Session) -> Ledger:
    return Ledger(session, services.clock(), livemode=services.settings.stripe_livemode, types=EVENTS)


def process(services: BillingServices, ledger: Ledger, stored: StoredEvent, options: ProcessingOptions) -> Processed:
    """`stored` is locked, in the ledger. Whatever it raises, the caller must roll back."""
    now = services.clock()
    context, result = _handle(services, ledger, stored, now)
    client_id = context.client.id if context and context.client is not None else None
    mail = None
    if result.mail is not None and client_id is not None:
        mailer = EventMailer(ledger, services.orchestrator, stored, client_id, now)
        mail = mailer.enqueue_mail(result.mail, mail_old=options.mail_old)
    outcome = EventOutcome(
        event_id=stored.id,
        type=stored.type,
        created=stored.created,
        status=result.status,
        reason=result.reason,
        client_id=client_id,
        changes=tuple(context.changes) if context else (),
        mail=mail,
    )
    _settle(ledger, stored, outcome, now)
    if result.is_of_erased:
        ledger.blank(stored)
    _record(ledger, stored, outcome, options, now)
    if context is None or client_id is None or result.is_of_erased:
        return Processed(outcome, has_linked=context is not None and context.has_linked)
    reopened = [_reopen(services, ledger, other, options, now) for other in _failures_without_mail(ledger, context)]
    changes = [*outcome.changes, *_withdraw_own_mail(ledger, stored, context, result, now)]
    changes += _update_waiting_mails(services, ledger, context, now)
    if mail is not None and mail.fate is MailFate.QUEUED:
        ledger.forget_mails(client_id)  # not before: all that waited beside its own was known
    return Processed(replace(outcome, changes=tuple(changes), reopened=tuple(reopened)), context.has_linked)


def was_just_delivered(event: EventSummary, now: datetime) -> bool:
    """Whether a mail may come of it however long ago it happened."""
    return event.origin == Origin.WEBHOOK and now - event.received_at <= NEWS_FOR


def repeated(event: EventSummary) -> EventOutcome:
    return EventOutcome(
        event.id, event.type, event.created, event.status, event.reason, event.client_id, is_repeated=True
    )


def _handle(
    services: BillingServices, ledger: Ledger, stored: StoredEvent, now: datetime
) -> tuple[EventContext | None, HandlerResult]:
    if not stored.body:
        return None, ignored("what it said is no longer kept")
    event = read_event(stored.body, stored.received_at)
    if why := _not_ours(event, is_live=services.settings.stripe_livemode):
        return None, ignored(why)
    if event.type not in EVENTS:
        return None, ignored("events of this type do nothing here")
    context = EventContext(ledger, event, services.plans, now)
    return context, EVENTS[event.type].handle(context)


def _not_ours(event: Event, *, is_live: bool) -> str | None:
    if event.is_thin:
        return "a thin event, which names an object without showing it"
    if event.account is not None:
        return "it belongs to a connected account"
    if event.livemode is not is_live:
        kind = "a live" if event.livemode else "a test"
        return f"{kind} event, while STRIPE_LIVEMODE is {str(is_live).lower()}"
    return None


def _settle(ledger: Ledger, stored: StoredEvent, outcome: EventOutcome, now: datetime) -> None:
    """It has been worked on, with this result; `attempts` counts it. A client or mail that is None stays as it was."""
    mail = outcome.mail
    is_told = mail is not None and mail.fate in (MailFate.QUEUED, MailFate.DUPLICATE)
    settled = replace(
        stored,
        status=outcome.status,
        reason=_reason(stored, outcome),
        error=None,
        processed_at=now,
        next_attempt_at=None,
        attempts=stored.attempts + 1,
        client_id=outcome.client_id or stored.client_id,
        message_id=(mail.message_id if mail is not None and is_told else None) or stored.message_id,
    )
    ledger.save_event(settled)


def _reason(stored: StoredEvent, outcome: EventOutcome) -> str | None:
    """Where a mail has come of it, a replay that brings no other keeps the reason of then."""
    if stored.message_id is not None and stored.status is outcome.status:
        return stored.reason or None
    return outcome.reason or _why_no_mail(outcome.mail)


def _why_no_mail(mail: MailOutcome | None) -> str | None:
    if mail is None or mail.fate is MailFate.QUEUED:
        return None
    return f"{mail.template_key} {mail.fate}" + (f" ({mail.detail})" if mail.detail else "")


def _record(
    ledger: Ledger, stored: StoredEvent, outcome: EventOutcome, options: ProcessingOptions, now: datetime
) -> None:
    details: dict[str, object] = {"event_id": stored.id, "type": stored.type, "status": outcome.status}
    if outcome.reason:
        details["reason"] = outcome.reason
    if outcome.mail:
        details |= {"template_key": outcome.mail.template_key, "mail": outcome.mail.fate}
    actions = [AuditAction.STRIPE_EVENT_REPLAYED] if options.is_replay else []
    if stored.status not in SETTLED:
        actions.append(AuditAction.STRIPE_EVENT_PROCESSED)
    message_id = outcome.mail.message_id if outcome.mail else None
    ledger.audit(
        audit_log.entry(
            action, actor=options.actor, now=now, client_id=outcome.client_id, message_id=message_id, details=details
        )
        for action in actions
    )


@dataclass(frozen=True, slots=True)
class EventMailer:
    """Hands the mails of one event to the orchestrator, once for each piece of news."""

    ledger: Ledger
    orchestrator: NotificationOrchestrator
    event: StoredEvent
    client_id: str
    now: datetime

    def enqueue_mail(self, mail: BillingMail, *, mail_old: bool) -> MailOutcome:
        """The key is looked up first: where the same is written already, the mail that waits is written anew.

        Nobody can take the key in between, since the client's row is locked.
        """
        if self.event.message_id is not None:
            self._rewrite_if_waiting(mail, self.event.message_id)
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, self.event.message_id)
        if not mail_old and self.now - self.event.created > NEWS_FOR:
            hours = NEWS_FOR // timedelta(hours=1)
            return MailOutcome(MailFate.WITHHELD, mail.template_key, None, f"the event is older than {hours} h")
        if earlier := self._earlier(mail.key):
            self._record_duplicate(mail, earlier)
            self._rewrite_if_waiting(mail, earlier)
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, earlier)
        return self._send(mail)

    def _earlier(self, key: str) -> str | None:
        """The id of the message that holds the key."""
        for message in self.ledger.waiting(self.client_id):
            if message.idempotency_key == key:
                return message.id
        found = message_store.by_idempotency_keys(self.ledger.session, [key]).get(key)
        return found.id if found else None

    def rewrite(self, message: UntriedMessage, mail: BillingMail, *, source: str) -> None:
        """Gives `message`, which waits for its first attempt, the words of `mail`; what is whole may go at once.

        `source` is the event whose news that is. The log keeps it.
        """
        session = self.ledger.session
        if not self.ledger.says(message.id, mail.context):
            if self.orchestrator.rewrite(session, message.id, message.fingerprint, self._request(mail)):
                self._record_duplicate(mail, message.id, detail=f"written anew, with what {source} tells")
            self.ledger.written(message.id, mail.context)
            self.ledger.forget_mails(self.client_id)
        if mail.is_whole and message.next_attempt_at > self.now:
            message_store.set_due(session, message.id, self.now)
            self.ledger.forget_mails(self.client_id)

    def _rewrite_if_waiting(self, mail: BillingMail, message_id: str) -> None:
        for message in self.ledger.waiting(self.client_id):
            if message.id == message_id:
                self.rewrite(message, mail, source=self.event.id)

    def _send(self, mail: BillingMail) -> MailOutcome:
        self.ledger.flush_clients()
        decision = self.orchestrator.send(self.ledger.session, self._request(mail))
        if isinstance(decision, Queued):
            self.ledger.written(decision.message_id, mail.context)
        match decision:
            case Queued(message_id=message_id) if mail.is_whole:
                return MailOutcome(MailFate.QUEUED, mail.template_key, message_id)
            case Queued(message_id=message_id):
                message_store.set_due(self.ledger.session, message_id, self.now + MAIL_WAITS)
                detail = f"waits {MAIL_WAITS.seconds} s at most for the event that completes it"
                return MailOutcome(MailFate.QUEUED, mail.template_key, message_id, detail)
            case Blocked(message_id=message_id, reason=reason, detail=detail):
                return MailOutcome(MailFate.BLOCKED, mail.template_key, message_id, f"{reason}: {detail}")
            case decision:
                return MailOutcome(MailFate.DUPLICATE, mail.template_key, decision.message_id)

    def _request(self, mail: BillingMail) -> SendRequest:
        return SendRequest(
            template_key=mail.template_key,
            client_id=self.client_id,
            context=mail.context,
            idempotency_key=mail.key,
            source=STRIPE,
            source_ref=self.event.id,
        )

    def _record_duplicate(self, mail: BillingMail, message_id: str, **more: str) -> None:
        entry = audit_log.entry(
            AuditAction.NOTIFICATION_DUPLICATE,
            actor=ACTOR,
            now=self.now,
            client_id=self.client_id,
            message_id=message_id,
            details={"template_key": mail.template_key, "idempotency_key": mail.key, **more},
        )
        self.ledger.audit([entry])


def _failures_without_mail(ledger: Ledger, context: EventContext) -> list[StoredEvent]:
    """Failed payments that were taken for a checkout's, of a subscription that is known only now to have been live."""
    if not context.came_alive or context.subscription_id is None or context.client is None:
        return []
    failures = ledger.failures_without_mail(context.subscription_id, context.client.id)
    return [failure for failure in failures if failure.id != context.event.id]


def _reopen(
    services: BillingServices, ledger: Ledger, failure: StoredEvent, options: ProcessingOptions, now: datetime
) -> EventOutcome:
    mail_old = options.mail_old or was_just_delivered(failure, now)
    return process(services, ledger, failure, ProcessingOptions(options.actor, mail_old, is_replay=True)).outcome


def _withdraw_own_mail(
    ledger: Ledger, stored: StoredEvent, context: EventContext, result: HandlerResult, now: datetime
) -> list[Change]:
    """Of what this event brought when it was worked on before."""
    if not result.withdraws_mail or stored.message_id is None or context.client is None:
        return []
    waiting = [message for message in ledger.waiting(context.client.id) if message.id == stored.message_id]
    return _withdraw_mail(ledger, stored.id, result, waiting[0], now) if waiting else []


def _update_waiting_mails(
    services: BillingServices, ledger: Ledger, context: EventContext, now: datetime
) -> list[Change]:
    """Writes the mails anew that wait and that other events about the same subscription brought."""
    if context.client is None or context.subscription_id is None:
        return []
    waiting = ledger.waiting(context.client.id)
    others = {message.source_ref: message for message in waiting if message.source_ref != context.event.id}
    changes: list[Change] = []
    for event_id, stored in ledger.lock_free(others).items():
        if stored.subscription_id == context.subscription_id:
            changes += _update_mail(services, ledger, stored, others[event_id], context.event.id, now)
    return changes


def _update_mail(
    services: BillingServices,
    ledger: Ledger,
    stored: StoredEvent,
    message: UntriedMessage,
    source: str,
    now: datetime,
) -> list[Change]:
    context = EventContext(ledger, read_event(stored.body, stored.received_at), services.plans, now)
    result = EVENTS[stored.type].handle(context)
    if result.withdraws_mail:
        return context.changes + _withdraw_mail(ledger, stored.id, result, message, now)
    if context.client is not None and context.client.erased_at is None:
        mail = current_mail(context, message.idempotency_key)
        if mail is not None:
            mailer = EventMailer(ledger, services.orchestrator, stored, context.client.id, now)
            mailer.rewrite(message, mail, source=source)
    return context.changes


def _withdraw_mail(
    ledger: Ledger, event_id: str, result: HandlerResult, waiting: UntriedMessage, now: datetime
) -> list[Change]:
    """Withdraws what is about nothing, if it waits. Its key is free again: a third event may show otherwise."""
    criteria = MessageFilter(ids=[waiting.id], client_id=waiting.client_id)
    withdrawn = withdraw_mails(ledger, waiting.client_id, criteria, result.reason or "", now=now)
    if withdrawn:
        message_store.give_key_back(ledger.session, [waiting.id])
        stored = ledger.event(event_id)
        assert stored is not None
        ledger.save_event(replace(stored, message_id=None, reason=result.reason))
    return withdrawn
