"""The composition root: Settings -> Runtime. The only place where the parts meet."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from notifyctl.clients.plans import PlanRegistry, load_plans
from notifyctl.clock import Clock, Stopwatch, machine_stopwatch
from notifyctl.db.database import Database, open_database
from notifyctl.keyring import KeyRing
from notifyctl.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from notifyctl.billing.replay.replay import Replayed
    from notifyctl.billing.stripe_events import StripeEvents
    from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
    from notifyctl.otp.one_time_codes import OneTimeCodes


@dataclass(frozen=True)
class Runtime:
    """What every command and host application works with. Nothing is connected until it is used."""

    settings: Settings
    database: Database
    clock: Clock
    keys: KeyRing
    plans: PlanRegistry
    stopwatch: Stopwatch

    @cached_property
    def orchestrator(self) -> "NotificationOrchestrator":
        from notifyctl.orchestrator.orchestrator import NotificationOrchestrator

        return NotificationOrchestrator(settings=self.settings, keys=self.keys, plans=self.plans, clock=self.clock)

    @cached_property
    def otp(self) -> "OneTimeCodes":
        from notifyctl.otp.one_time_codes import OneTimeCodes

        return OneTimeCodes(
            settings=self.settings, database=self.database, keys=self.keys, plans=self.plans, clock=self.clock
        )

    @cached_property
    def billing(self) -> "StripeEvents":
        from notifyctl.billing.processing import BillingServices
        from notifyctl.billing.stripe_events import StripeEvents

        return StripeEvents(BillingServices(self.settings, self.database, self.clock, self.orchestrator, self.plans))

    def replay_stripe(self, since: "datetime", actor: str) -> "Iterator[Replayed]":
        from notifyctl.billing.replay.replay import replay_since

        return replay_since(
            since,
            settings=self.settings,
            database=self.database,
            clock=self.clock,
            billing=self.billing,
            actor=actor,
        )

    def close(self) -> None:
        self.database.close()


def open_runtime(
    settings: Settings,
    *,
    clock: Clock | None = None,
    stopwatch: Stopwatch | None = None,
    database: Database | None = None,
) -> Runtime:
    """`clock` is for tests; by default the database's own (PostgreSQL) or the host's (SQLite).

    So is `stopwatch`: to turn the clock alone is to set it wrong, and to turn both is to let time pass.

    `database` is one that was opened in a way of its own; else a file must be there when it is first used.
    """
    database = database or open_database(settings)
    return Runtime(
        settings=settings,
        database=database,
        clock=clock or database.clock,
        keys=KeyRing(settings.notification_secret_key),
        plans=load_plans(settings.notification_plan_registry),
        stopwatch=stopwatch or machine_stopwatch(),
    )
