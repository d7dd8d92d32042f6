"""Earlier events about a subscription, looked at again once a later one has told more of it.

Whatever a mail says and whether it is written at all is thereby the same in every order of the events, as long as the
mail has not gone out. It happens in the transaction of the later event, with the client's row locked. Of the earlier
events those that somebody else works on are passed over: whoever does sees what has been told as soon as he may go on.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.billing.case import ACTOR, Case, Finding
from notifyctl.billing.desk import Desk
from notifyctl.billing.envelope import read_event
from notifyctl.billing.events import EVENTS
from notifyctl.billing.handlers import restated
from notifyctl.billing.mails import TEMPLATES
from notifyctl.billing.outcome import Change
from notifyctl.billing.posting import Sender
from notifyctl.orchestrator.withdrawal import withdraw
from notifyctl.store import messages, stripe_events

FAILURE = "invoice.payment_failed"


def silent_failures(session: Session, case: Case) -> list[Row[Any]]:
    """Failed payments that were taken for a checkout's, of a subscription that is known only now to have been live."""
    if not case.came_alive or case.subscription_id is None or case.client is None:
        return []
    found = stripe_events.lock_without_mail(session, case.subscription_id, FAILURE, str(case.client.id))
    return [row for row in found if row.id != case.event.id]


def amend_mails(desk: Desk, session: Session, case: Case, now: datetime) -> list[Change]:
    """Writes the mails anew that wait and that other events about the same subscription brought."""
    if case.client is None or case.subscription_id is None:
        return []
    waiting = messages.untried(session, str(case.client.id), TEMPLATES)
    others = {message.source_ref: message for message in waiting if message.source_ref != case.event.id}
    if not others:
        return []
    changes: list[Change] = []
    for event_id, event in stripe_events.lock_free(session, others).items():
        if event.subscription_id == case.subscription_id:
            changes += _amended(desk, session, event, others[event_id], case.event.id, now)
    return changes


def _amended(
    desk: Desk, session: Session, event: Row[Any], message: Row[Any], told_by: str, now: datetime
) -> list[Change]:
    case = Case(session, read_event(event.body, event.received_at), desk.plans, now)
    finding = EVENTS[event.type](case)
    if finding.takes_back:
        return case.changes + take_back(session, event, finding, [message], now)
    if case.client is not None and case.client.erased_at is None:
        mail = restated(case, message.idempotency_key)
        if mail is not None:
            sender = Sender(session, desk.orchestrator, event, str(case.client.id), now)
            sender.amend(message, mail, told_by=told_by)
    return case.changes


def take_back(
    session: Session, event: Row[Any], finding: Finding, waiting: list[Row[Any]], now: datetime
) -> list[Change]:
    """Withdraws what is about nothing, if it waits. It may yet be written: a third event can tell otherwise."""
    ids = [message.id for message in waiting]
    wanted = messages.Filter(ids=ids, client_id=waiting[0].client_id)
    moved = withdraw(session, wanted, finding.reason or "", actor=ACTOR, now=now)
    messages.give_key_back(session, [row.id for row in moved])
    if moved:
        stripe_events.take_mail_back(session, event.id, finding.reason)
    return [Change(f"message {row.id}", "status", "waiting", "CANCELED") for row in moved]


def own_mail(session: Session, event: Row[Any], case: Case) -> list[Row[Any]]:
    """What this event brought when it was worked on before, if it waits."""
    if event.message_id is None or case.client is None:
        return []
    return list(messages.untried(session, str(case.client.id), TEMPLATES, ids=[event.message_id]))
