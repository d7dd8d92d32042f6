"""Stripe's events of a time that the database has forgotten, fetched from Stripe and worked on once more."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from notifyctl.billing.replay.replay import Replay, Replayed
from notifyctl.billing.replay.sources import CLOCKS_DIFFER_BY, MissingEvent, ReplayItem, SourceFilter, fetch_events
from notifyctl.billing.stripe_events import StripeEvents
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.models.enums import Origin
from notifyctl.providers.stripe import build_stripe_api
from notifyctl.settings import Settings


def replay_since(
    since: datetime, *, settings: Settings, database: Database, clock: Clock, billing: StripeEvents, actor: str
) -> Iterator[Replayed]:
    """Each event is committed before the next one begins. Raises DatabaseError and ProviderError."""
    with build_stripe_api(settings) as api:
        fetched = fetch_events(api, SourceFilter(since=since - CLOCKS_DIFFER_BY), clock())
        items = (
            ReplayItem(event.id, event.created, Origin.API, partial(bytes, raw))
            for event, raw in (each for each in fetched if not isinstance(each, MissingEvent))
        )
        yield from Replay(billing, database, actor=actor, mail_old=False).run(items)
