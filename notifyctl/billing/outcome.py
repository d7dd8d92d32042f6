"""What came of an event, or would come of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from notifyctl.models.stripe_event import StripeEventStatus


class MailFate(StrEnum):
    QUEUED = "queued"
    DUPLICATE = "duplicate"
    """The same news has been written already."""
    BLOCKED = "blocked"
    """A gate refused; `detail` says which and why."""
    WITHHELD = "withheld"
    """The event is too old to be news."""


@dataclass(frozen=True, slots=True)
class MailOutcome:
    fate: MailFate
    template_key: str
    message_id: str | None
    """In a rehearsal, of a message that is not kept."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """`what` is `client ID`, `subscription ID`, or `message ID` of a mail that is withdrawn."""

    what: str
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    event_id: str
    type: str
    created: datetime
    status: StripeEventStatus
    reason: str | None = None
    """Why it was ignored, matched nobody or failed; of one that was processed, why no mail came of it."""
    client_id: str | None = None
    changes: tuple[Change, ...] = ()
    mail: MailOutcome | None = None
    is_repeated: bool = False
    """It had been settled before, and nothing was done."""
    matched: tuple["Outcome", ...] = ()
    """Of others that had matched nobody, and now matched the client that this one linked."""
    woken: tuple["Outcome", ...] = ()
    """Of failed payments taken for a checkout's, until this one told that their subscription had been live."""

    def everything(self) -> Iterator["Outcome"]:
        """This, and whatever came of others by it."""
        yield self
        for other in (*self.matched, *self.woken):
            yield from other.everything()
