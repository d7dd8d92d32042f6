"""What keeps a waiting message from being claimed, besides its turn."""

from datetime import datetime

from sqlmodel import Session

from notifyctl.models.enums import BreakerState, Lane
from notifyctl.models.message import WAITING
from notifyctl.orchestrator.quiet_hours import QuietHours
from notifyctl.store import breakers, clients, pauses
from notifyctl.store.messages import MessageRow


def held_by(session: Session, message: MessageRow, quiet: QuietHours, now: datetime) -> list[str]:
    """In words; empty when nothing holds it."""
    held = []
    if words := _quiet_hours(session, message, quiet, now):
        held.append(words)
    for row in pauses.everything(session):
        scope = pauses.scope_of(row)
        if scope.fits(message):
            held.append(f"a pause of {scope} ({row.reason})")
    breaker = breakers.get(session, message.channel)
    if breaker is not None and breaker.state != BreakerState.CLOSED:
        held.append(f"the circuit breaker of {message.channel} ({breaker.reason})")
    return held


def _quiet_hours(session: Session, message: MessageRow, quiet: QuietHours, now: datetime) -> str | None:
    if message.lane != Lane.BULK or message.client_id is None or message.status not in WAITING:
        return None
    client = clients.get(session, message.client_id)
    if client is None or quiet.end_of(now, client.timezone) is None:
        return None
    return f"its client's quiet hours ({quiet} in {client.timezone})"
