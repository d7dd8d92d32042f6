"""When a claim of many stumbles over one of them: it is found, and fails alone.

A row that somebody wrote by hand, a template that was deleted, a client without a real time zone: whatever it is, the
next worker would stumble over it as well, and the whole channel would stand still.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlmodel import Session

from notifyctl import errors
from notifyctl.audit import log as audit_log
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery import quarantine_store
from notifyctl.delivery.claims import DEFERRED_AT_ONCE, Claim, Claimer, QueueSnapshot
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import AuditAction, FailureReason
from notifyctl.orchestrator import payload_store

log = logging.getLogger("notifyctl.delivery")

Load = Callable[[Session, Sequence[Claim]], None]


class _Sound(Exception):
    """Ends a trial, so that nothing of it is written."""


def set_aside(
    database: Database, clock: Clock, claimer: Claimer, snapshot: QueueSnapshot, owner: str, *, load: Load
) -> int:
    """Tries what is due one by one and fails what cannot be claimed. Returns how many. Raises DatabaseError.

    `load` is what is done with claimed messages in the same transaction.
    """
    now = clock()
    count = 0
    for queue in snapshot.due:
        with database.read() as session:
            most, paused = DEFERRED_AT_ONCE, snapshot.paused
            ids = quarantine_store.due_ids(session, claimer.channel, queue, now=now, most=most, paused=paused)
        for message_id in ids:
            try:
                with database.transaction() as session:
                    load(session, claimer.try_one(session, queue, message_id, now))
                    raise _Sound
            except _Sound:
                continue
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001  that is what we are looking for
                errors.report(log, "message cannot be used", error, message_id=message_id)
                count += _fail(database, message_id, errors.describe(error), owner, now)
    return count


def _fail(database: Database, message_id: str, why: str, owner: str, now: datetime) -> bool:
    reason, error = FailureReason.RENDER_ERROR, f"It cannot be used: {why}"
    with database.transaction() as session:
        failed = quarantine_store.fail(session, message_id, reason=reason, error=error, now=now)
        if failed is None:
            return False
        payload_store.erase_sealed(session, [message_id])
        details = {"reason": reason, "error": error, "attempts": failed.attempts}
        entry = audit_log.for_message(AuditAction.NOTIFICATION_FAILED, failed, actor=owner, now=now, details=details)
        audit_log.write_many(session, [entry])
    return True
