"""Who gets an admin mail: each of ADMIN_ALERT_EMAILS, else OPS_ALERT_EMAIL; one message a recipient."""

from collections.abc import Mapping, Sequence

from sqlmodel import Session

from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Decision, SendRequest


def tell_admins(
    session: Session,
    orchestrator: NotificationOrchestrator,
    recipients: Sequence[str],
    template_key: str,
    context: Mapping[str, object],
    *,
    source: str,
    source_ref: str | None = None,
) -> list[Decision]:
    """`recipients` are Settings.admin_recipients; an address that stands there twice gets one message.

    Empty when there is nobody to tell.
    """
    requests = for_admins(recipients, template_key, context, source=source, source_ref=source_ref)
    return orchestrator.send_many(session, requests)


def for_admins(
    recipients: Sequence[str],
    template_key: str,
    context: Mapping[str, object],
    *,
    source: str,
    source_ref: str | None = None,
) -> list[SendRequest]:
    """The requests of one mail to the admins, for whoever sends many."""
    return [
        SendRequest(
            template_key=template_key, recipient=recipient, context=context, source=source, source_ref=source_ref
        )
        for recipient in {address.lower(): address for address in recipients}.values()
    ]
