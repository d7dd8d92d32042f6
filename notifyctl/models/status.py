"""Which status may follow which. The one table; updates name their starting points from it."""

from notifyctl.models.enums import MessageStatus
from notifyctl.models.enums import MessageStatus as S

FOLLOWERS: dict[MessageStatus, frozenset[MessageStatus]] = {
    S.QUEUED: frozenset({S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED}),
    S.DEFERRED_THROTTLED: frozenset({S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED}),
    S.RETRY_SCHEDULED: frozenset(
        {S.SENDING, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED, S.FAILED}
    ),
    S.SENDING: frozenset(
        {
            S.SENT, S.RETRY_SCHEDULED, S.FAILED, S.IN_DOUBT,
            # before the call only
            S.QUEUED, S.DEFERRED_THROTTLED, S.BLOCKED, S.EXPIRED, S.CANCELED,
        }
    ),
    S.IN_DOUBT: frozenset({S.SENT, S.DELIVERED, S.BOUNCED, S.QUEUED, S.RETRY_SCHEDULED, S.FAILED}),
    S.SENT: frozenset({S.DELIVERED, S.BOUNCED}),
    S.DELIVERED: frozenset({S.BOUNCED}),
    S.BOUNCED: frozenset(),
    # QUEUED by an operator; the others by a late receipt when it was held in doubt
    S.FAILED: frozenset({S.QUEUED, S.SENT, S.DELIVERED, S.BOUNCED}),
    S.BLOCKED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELED: frozenset(),
}  # fmt: skip


def predecessors(status: MessageStatus) -> tuple[MessageStatus, ...]:
    """From where `status` can be reached."""
    return tuple(before for before, after in FOLLOWERS.items() if status in after)


def may_become(before: MessageStatus, after: MessageStatus) -> bool:
    return after in FOLLOWERS[before]
