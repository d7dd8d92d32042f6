"""Working on one stored event, in one transaction: its state, its mail, its own row and the audit commit together."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.billing.case import Case, Finding, ignored
from notifyctl.billing.desk import Desk
from notifyctl.billing.envelope import Event, read_event
from notifyctl.billing.events import EVENTS
from notifyctl.billing.outcome import Change, MailFate, MailOutcome, Outcome
from notifyctl.billing.posting import Sender, is_news
from notifyctl.billing.second_look import amend_mails, own_mail, silent_failures, take_back
from notifyctl.models.audit import AuditAction
from notifyctl.models.stripe_event import SETTLED
from notifyctl.store import audit
from notifyctl.store import stripe_events as store


@dataclass(frozen=True, slots=True)
class Order:
    """By whom and how an event is to be worked on."""

    actor: str
    mail_old: bool
    """Whether an event of more than 72 h ago may still bring about a mail."""
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Processed:
    outcome: Outcome
    has_linked: bool
    """Others that matched nobody can be matched now."""


def process(desk: Desk, session: Session, row: Row[Any], order: Order) -> Processed:
    """`row` is locked. Whatever it raises, the caller must roll back."""
    now = desk.clock()
    case, finding = _found(desk, session, row, now)
    client_id = case.client.id if case and case.client is not None else None
    mail = None
    if finding.mail is not None and client_id is not None:
        sender = Sender(session, desk.orchestrator, row, client_id, now)
        mail = sender.post(finding.mail, mail_old=order.mail_old)
    outcome = Outcome(
        event_id=row.id,
        type=row.type,
        created=row.created,
        status=finding.status,
        reason=finding.reason,
        client_id=client_id,
        changes=tuple(case.changes) if case else (),
        mail=mail,
    )
    _settle(session, row, outcome, now)
    if finding.is_of_erased:
        store.blank(session, row.id)
    _record(session, row, outcome, order, now)
    if case is None or client_id is None or finding.is_of_erased:
        return Processed(outcome, has_linked=case is not None and case.has_linked)
    woken = [_woken(desk, session, other, order, now) for other in silent_failures(session, case)]
    changes = [*outcome.changes, *_taken_back(session, row, case, finding, now)]
    changes += amend_mails(desk, session, case, now)
    return Processed(replace(outcome, changes=tuple(changes), woken=tuple(woken)), has_linked=case.has_linked)


def _woken(desk: Desk, session: Session, row: Row[Any], order: Order, now: datetime) -> Outcome:
    mail_old = order.mail_old or is_news(row, now)
    return process(desk, session, row, Order(order.actor, mail_old, is_replay=True)).outcome


def _taken_back(session: Session, row: Row[Any], case: Case, finding: Finding, now: datetime) -> list[Change]:
    own = own_mail(session, row, case) if finding.takes_back else []
    return take_back(session, row, finding, own, now) if own else []


def repeated(row: Row[Any]) -> Outcome:
    return Outcome(row.id, row.type, row.created, row.status, row.reason, row.client_id, is_repeated=True)


def _found(desk: Desk, session: Session, row: Row[Any], now: datetime) -> tuple[Case | None, Finding]:
    if not row.body:
        return None, ignored("what it said is no longer kept")
    event = read_event(row.body, row.received_at)
    if why := _not_ours(event, is_live=desk.settings.stripe_livemode):
        return None, ignored(why)
    handler = EVENTS.get(event.type)
    if handler is None:
        return None, ignored("events of this type do nothing here")
    case = Case(session, event, desk.plans, now)
    return case, handler(case)


def _not_ours(event: Event, *, is_live: bool) -> str | None:
    if event.is_thin:
        return "a thin event, which names an object without showing it"
    if event.account is not None:
        return "it belongs to a connected account"
    if event.livemode is not is_live:
        kind = "a live" if event.livemode else "a test"
        return f"{kind} event, while STRIPE_LIVEMODE is {str(is_live).lower()}"
    return None


def _settle(session: Session, row: Row[Any], outcome: Outcome, now: datetime) -> None:
    values: dict[str, Any] = {"status": outcome.status, "reason": _reason(row, outcome)}
    if outcome.client_id is not None:
        values["client_id"] = outcome.client_id
    if outcome.mail is not None and outcome.mail.fate in (MailFate.QUEUED, MailFate.DUPLICATE):
        values["message_id"] = outcome.mail.message_id
    store.settle(session, row.id, values, now=now)


def _reason(row: Row[Any], outcome: Outcome) -> str | None:
    """Where a mail has come of it, a replay that brings no other leaves standing what was said then."""
    if row.message_id is not None and row.status is outcome.status:
        return str(row.reason) if row.reason else None
    return outcome.reason or _why_no_mail(outcome.mail)


def _why_no_mail(mail: MailOutcome | None) -> str | None:
    if mail is None or mail.fate is MailFate.QUEUED:
        return None
    return f"{mail.template_key} {mail.fate}" + (f" ({mail.detail})" if mail.detail else "")


def _record(session: Session, row: Row[Any], outcome: Outcome, order: Order, now: datetime) -> None:
    details: dict[str, Any] = {"event_id": row.id, "type": row.type, "status": outcome.status}
    if outcome.reason:
        details["reason"] = outcome.reason
    if outcome.mail:
        details |= {"template_key": outcome.mail.template_key, "mail": outcome.mail.fate}
    actions = [AuditAction.STRIPE_EVENT_REPLAYED] if order.is_replay else []
    if row.status not in SETTLED:
        actions.append(AuditAction.STRIPE_EVENT_PROCESSED)
    message_id = outcome.mail.message_id if outcome.mail else None
    entries = [
        audit.entry(
            action, actor=order.actor, now=now, client_id=outcome.client_id, message_id=message_id, details=details
        )
        for action in actions
    ]
    audit.write_many(session, entries)
