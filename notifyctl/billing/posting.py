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
from notifyctl.orchestrator.orchestrator import STRIPE, NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, Queued, SendRequest
from notifyctl.store import audit, messages

OLD_AFTER = timedelta(hours=72)
"""So old an event is no news to anybody any more."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Of the mails of one event."""

    session: Session
    orchestrator: NotificationOrchestrator
    event: Row[Any]
    client_id: str
    now: datetime

    def post(self, mail: Mail, *, mail_old: bool) -> MailOutcome:
        """The key is looked up first: of two events that tell the same, each has its own words for it.

        Nobody can take the key in between, since the client's row is locked.
        """
        if self.event.message_id is not None:
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, self.event.message_id)
        if not mail_old and self.now - self.event.created > OLD_AFTER:
            hours = OLD_AFTER // timedelta(hours=1)
            return MailOutcome(MailFate.WITHHELD, mail.template_key, None, f"the event is older than {hours} h")
        if earlier := messages.by_idempotency_keys(self.session, [mail.key]).get(mail.key):
            self._record_duplicate(mail, earlier.id)
            return MailOutcome(MailFate.DUPLICATE, mail.template_key, earlier.id)
        return self._send(mail)

    def _send(self, mail: Mail) -> MailOutcome:
        request = SendRequest(
            template_key=mail.template_key,
            client_id=self.client_id,
            context=mail.context,
            idempotency_key=mail.key,
            source=STRIPE,
            source_ref=self.event.id,
        )
        match self.orchestrator.send(self.session, request):
            case Queued(message_id=message_id):
                return MailOutcome(MailFate.QUEUED, mail.template_key, message_id)
            case Blocked(message_id=message_id, reason=reason, detail=detail):
                return MailOutcome(MailFate.BLOCKED, mail.template_key, message_id, f"{reason}: {detail}")
            case decision:
                return MailOutcome(MailFate.DUPLICATE, mail.template_key, decision.message_id)

    def _record_duplicate(self, mail: Mail, message_id: str) -> None:
        audit.write(
            self.session,
            AuditAction.NOTIFICATION_DUPLICATE,
            actor=ACTOR,
            now=self.now,
            client_id=self.client_id,
            message_id=message_id,
            details={"template_key": mail.template_key, "idempotency_key": mail.key},
        )
