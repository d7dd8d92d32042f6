"""What keeps a waiting message from being claimed, besides its turn."""

from typing import Any

from sqlmodel import Session

from notifyctl.models.operations import BreakerState
from notifyctl.store import breakers, pauses


def held_by(session: Session, message: Any) -> list[str]:
    """In words; empty when nothing holds it."""
    held = []
    for row in pauses.everything(session):
        scope = pauses.scope_of(row)
        if scope.fits(message):
            held.append(f"a pause of {scope} ({row.reason})")
    breaker = breakers.get(session, message.channel)
    if breaker is not None and breaker.state != BreakerState.CLOSED:
        held.append(f"the circuit breaker of {message.channel} ({breaker.reason})")
    return held
