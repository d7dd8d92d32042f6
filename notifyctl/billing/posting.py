"""Handing a billing mail to the orchestrator, once for each piece of news."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.billing.case import ACTOR
from notifyctl.billing.mails import Mail
from notifyctl.billing.outcome import MailFate, MailOutcome
from notifyctl.models.audit import AuditAction
from notifyctl.models.stripe_event import Origin
from notifyctl.orchestrator.orchestrator import STRIPE, NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, Queued, SendRequest
from notifyctl.store import audit, messages

OLD_AFTER = timedelta(hours=72)
"""So old an event is no news to anybody any more."""
WAITS = timedelta(seconds=20)
"""So long a mail waits for the event that completes it. Stripe sends what belongs together within a few seconds."""


def is_news(event: Row[Any], now: datetime) -> bool:
    """Whether a mail may come of it however long ago it happened: it was delivered, and not long ago."""
    return bool(event.origin == Origin.WEBHOOK and now - event.received_at <= OLD_AFTER)


@dataclass(frozen=True, slots=True)
class Sender:
    """Of the mails of one event."""

    session: Session
    orchestrator: NotificationOrchestrator
    event: Row[Any]
    client_id: str
    now: datetime

    def post(self, mail: Mail, *, mail_old: bool) -> MailOutcome:
        """The key is looked up first: where the same has been told before, the mail that waits is written anew.

        Nobody can take the key in between, since the client's row is locked.
        """
        if self.event.message_id is not None:
            self._amend_what_waits(mail, self.event.message_id)
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, self.event.message_id)
        if not mail_old and self.now - self.event.created > OLD_AFTER:
            hours = OLD_AFTER // timedelta(hours=1)
            return MailOutcome(MailFate.WITHHELD, mail.template_key, None, f"the event is older than {hours} h")
        if earlier := messages.by_idempotency_keys(self.session, [mail.key]).get(mail.key):
            self._record_duplicate(mail, earlier.id)
            self._amend_what_waits(mail, earlier.id)
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, earlier.id)
        return self._send(mail)

    def amend(self, message: Row[Any], mail: Mail, *, told_by: str) -> None:
        """Gives `message`, which waits for its first attempt, the words of `mail`; what is whole may go at once.

        `told_by` is the event whose news that is. The log keeps it.
        """
        if self.orchestrator.rewrite(self.session, message.id, message.fingerprint, self._request(mail)):
            self._record_duplicate(mail, message.id, detail=f"written anew, with what {told_by} tells")
        if mail.is_whole and message.next_attempt_at > self.now:
            messages.set_due(self.session, message.id, self.now)

    def _amend_what_waits(self, mail: Mail, message_id: str) -> None:
        for message in messages.untried(self.session, self.client_id, [mail.template_key], ids=[message_id]):
            self.amend(message, mail, told_by=self.event.id)

    def _send(self, mail: Mail) -> MailOutcome:
        match self.orchestrator.send(self.session, self._request(mail)):
            case Queued(message_id=message_id) if mail.is_whole:
                return MailOutcome(MailFate.QUEUED, mail.template_key, message_id)
            case Queued(message_id=message_id):
                messages.set_due(self.session, message_id, self.now + WAITS)
                detail = f"waits {WAITS.seconds} s at most for the event that completes it"
                return MailOutcome(MailFate.QUEUED, mail.template_key, message_id, detail)
            case Blocked(message_id=message_id, reason=reason, detail=detail):
                return MailOutcome(MailFate.BLOCKED, mail.template_key, message_id, f"{reason}: {detail}")
            case decision:
                return MailOutcome(MailFate.DUPLICATE, mail.template_key, decision.message_id)

    def _request(self, mail: Mail) -> SendRequest:
        return SendRequest(
            template_key=mail.template_key,
            client_id=self.client_id,
            context=mail.context,
            idempotency_key=mail.key,
            source=STRIPE,
            source_ref=self.event.id,
        )

    def _record_duplicate(self, mail: Mail, message_id: str, **more: str) -> None:
        audit.write(
            self.session,
            AuditAction.NOTIFICATION_DUPLICATE,
            actor=ACTOR,
            now=self.now,
            client_id=self.client_id,
            message_id=message_id,
            details={"template_key": mail.template_key, "idempotency_key": mail.key, **more},
        )
